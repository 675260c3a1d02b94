//! Downloads that are under way.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;
use tokio::sync::Semaphore;
use windrow_sys::interrupt::Stop;

use super::archive::{Archive, PartialDir};
use super::event::Event;
use super::hold::Hold;
use super::peers::{Fetch, Peers};
use super::{Answer, AtFault, DownloadError, Left, Wish};
use crate::error::{Kind, NetError};
use crate::narinfo::resolve;
use crate::remote::{Expected, FilePath, Partial, Remote};
use crate::store_url::{self, StoreUrl};

/// How much memory small downloads take together at most, in bytes: those that wait to be unpacked
/// as well.
const MEMORY: usize = 16 << 20;

/// A download.
struct Transfer {
    /// The number of the wish.
    token: u32,
    cache: usize,
    /// Where it is put, if that is a file by now.
    place: FilePath,
    /// Dropped, it cancels.
    _hold: Hold,
}

/// All of them, by their own numbers: what was cancelled may be wished for again before it has
/// ended.
pub(super) struct Transfers {
    dir: PartialDir,
    /// What small ones may take of it, in bytes.
    memory: Arc<Semaphore>,
    own: Sender<Event>,
    running: HashMap<u64, Transfer>,
    last: u64,
}

impl Transfers {
    pub(super) fn new(dir: PathBuf, own: Sender<Event>) -> Self {
        Self {
            dir: PartialDir(dir),
            memory: Arc::new(Semaphore::new(MEMORY)),
            own,
            running: HashMap::new(),
            last: 0,
        }
    }

    /// Begins to download. What is there already, or can't be had, is the answer at once.
    pub(super) fn begin(&mut self, wish: Wish, url: &StoreUrl, remote: &Remote) -> Option<Answer> {
        let base = match &url.kind {
            store_url::Kind::Http(base) => base.as_str(),
            _ => "",
        };
        let name = match resolve(base, &wish.info.url) {
            Ok(name) => name,
            Err(error) => {
                let text = format!("what '{url}' says of it can't be: {error}");
                return Some(failed(&wish, text, AtFault::Archive));
            }
        };
        match remote.local_file(&name) {
            Ok(Some(path)) => return Some(answer(&wish, Ok(Archive::InPlace(path)))),
            Ok(None) => {}
            Err(error) => return Some(failed(&wish, error.to_string(), AtFault::Archive)),
        }
        let partial = self.dir.begin(&wish.info, &self.memory);
        let (number, partial) = match self.prepare(&wish, partial) {
            Ok(prepared) => prepared,
            Err(answer) => return Some(answer),
        };
        let own = self.own.clone();
        let done = move |result| {
            let _ = own.send(Event::Downloaded { number, result });
        };
        let place = Arc::clone(partial.place());
        let expected = Expected {
            size: wish.info.file_size,
            hash: wish.info.file_hash,
        };
        let received = Arc::clone(&wish.received);
        let count = move |bytes| received.store(bytes, Ordering::Relaxed);
        let ticket = remote.download(&name, partial, expected, count, done);
        self.keep(number, &wish, place, Hold::Ticket(ticket));
        None
    }

    /// The same from a store that a Nix serves.
    pub(super) fn fetch(&mut self, wish: Wish, peers: &mut Peers) -> Option<Answer> {
        let partial = self.dir.open(&wish.info);
        let (number, partial) = match self.prepare(&wish, partial) {
            Ok(prepared) => prepared,
            Err(answer) => return Some(answer),
        };
        let (stop, place) = (Stop::default(), Arc::clone(partial.place()));
        let fetch = Fetch {
            number,
            info: Arc::clone(&wish.info),
            partial,
            received: Arc::clone(&wish.received),
            stop: stop.clone(),
        };
        if let Err(error) = peers.fetch(fetch) {
            return Some(failed(&wish, error.to_string(), AtFault::Here));
        }
        self.keep(number, &wish, place, Hold::of(&stop));
        None
    }

    /// The number of a download and the file for it, or an answer that says why there is none.
    fn prepare(
        &mut self,
        wish: &Wish,
        partial: io::Result<Partial>,
    ) -> Result<(u64, Partial), Answer> {
        let partial = partial.map_err(|error| {
            let dir = self.dir.0.display();
            let text = format!("cannot make a file in '{dir}': {error}");
            failed(wish, text, AtFault::Here)
        })?;
        self.last += 1;
        Ok((self.last, partial))
    }

    fn keep(&mut self, number: u64, wish: &Wish, place: FilePath, hold: Hold) {
        let transfer = Transfer {
            token: wish.token,
            cache: wish.cache,
            place,
            _hold: hold,
        };
        self.running.insert(number, transfer);
    }

    /// A download has ended; nothing if nobody wants it any more.
    pub(super) fn ended(
        &mut self,
        number: u64,
        result: Result<Partial, NetError>,
    ) -> Option<Answer> {
        let ended = self.running.remove(&number)?;
        let Transfer {
            token,
            cache,
            place,
            ..
        } = ended;
        if result.is_err()
            && let Some(path) = place.get()
        {
            PartialDir::remove_empty(path);
        }
        let result = result.map(Archive::of_download);
        Some(Answer::Downloaded {
            cache,
            token,
            result: result.map_err(|error| DownloadError {
                at_fault: at_fault(&error),
                message: error.to_string(),
            }),
        })
    }

    /// Ends a download.
    pub(super) fn cancel(&mut self, token: u32, left: Left) {
        self.running.retain(|_, transfer| {
            let is_meant = transfer.token == token;
            if is_meant
                && left == Left::Discarded
                && let Some(path) = transfer.place.get()
            {
                // Who writes to it finds out when it has its name no more.
                let _ = std::fs::remove_file(path);
            }
            !is_meant
        });
    }
}

fn answer(wish: &Wish, result: Result<Archive, DownloadError>) -> Answer {
    Answer::Downloaded {
        cache: wish.cache,
        token: wish.token,
        result,
    }
}

fn failed(wish: &Wish, message: String, at_fault: AtFault) -> Answer {
    answer(wish, Err(DownloadError { message, at_fault }))
}

/// Who is at fault for a failure.
fn at_fault(error: &NetError) -> AtFault {
    match error.kind() {
        Kind::Status(403 | 404 | 410 | 416)
        | Kind::TooLarge
        | Kind::Short
        | Kind::BadAddress
        | Kind::BadRedirect
        | Kind::TooManyRedirects
        | Kind::Refused => AtFault::Archive,
        Kind::Io | Kind::Cancelled => AtFault::Here,
        _ => AtFault::Cache,
    }
}
