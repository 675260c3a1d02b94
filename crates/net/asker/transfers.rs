//! Downloads that are under way.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::archive::{Archive, PartialDir};
use super::desk::Event;
use super::{Answer, DownloadError, Left, Wish};
use crate::client::Ticket;
use crate::error::{Kind, NetError};
use crate::narinfo::resolve;
use crate::remote::{Partial, Remote};
use crate::store_url::{self, StoreUrl};

/// A download.
struct Transfer {
    /// The number of the wish.
    token: u32,
    cache: usize,
    /// Where it is put.
    path: PathBuf,
    /// Dropped, it cancels.
    _ticket: Ticket,
}

/// All of them, by their own numbers: what was cancelled may be wished for again before it has
/// ended.
pub(super) struct Transfers {
    dir: PartialDir,
    own: Sender<Event>,
    running: HashMap<u64, Transfer>,
    last: u64,
    /// When something last came of a download, for each cache, in milliseconds since `began`.
    heard: HashMap<usize, Arc<AtomicU64>>,
    began: Instant,
}

impl Transfers {
    pub(super) fn new(dir: PathBuf, own: Sender<Event>) -> Self {
        Self {
            dir: PartialDir(dir),
            own,
            running: HashMap::new(),
            last: 0,
            heard: HashMap::new(),
            began: Instant::now(),
        }
    }

    /// When something last came of a download from a cache.
    pub(super) fn heard(&self, cache: usize) -> Option<Instant> {
        let heard = self.heard.get(&cache)?.load(Ordering::Relaxed);
        Some(self.began + Duration::from_millis(heard))
    }

    /// Begins to download. What is there already, or can't be had, is the answer at once.
    pub(super) fn begin(&mut self, wish: Wish, url: &StoreUrl, remote: &Remote) -> Option<Answer> {
        let Wish { token, cache, info } = wish;
        let answer = |result| {
            Some(Answer::Downloaded {
                cache,
                token,
                result,
            })
        };
        let failed = |message: String| {
            answer(Err(DownloadError {
                message,
                is_the_caches: false,
            }))
        };
        let base = match &url.kind {
            store_url::Kind::Http(base) => base.as_str(),
            _ => "",
        };
        let name = match resolve(base, &info.url) {
            Ok(name) => name,
            Err(error) => return failed(format!("what '{url}' says of it can't be: {error}")),
        };
        match remote.local_file(&name) {
            Ok(Some(path)) => return answer(Ok(Archive::InPlace(path))),
            Ok(None) => {}
            Err(error) => return failed(error.to_string()),
        }
        let partial = match self.dir.open(&info) {
            Ok(partial) => partial,
            Err(error) => {
                let dir = self.dir.0.display();
                return failed(format!("cannot make a file in '{dir}': {error}"));
            }
        };
        self.last += 1;
        let (own, number) = (self.own.clone(), self.last);
        let done = move |result| {
            let _ = own.send(Event::Downloaded { number, result });
        };
        let path = partial.path().to_owned();
        let (heard, began) = (Arc::clone(self.heard.entry(cache).or_default()), self.began);
        let progress = move |_| {
            let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            heard.store(now, Ordering::Relaxed);
        };
        let ticket = remote.download(&name, partial, info.file_size, progress, done);
        let transfer = Transfer {
            token,
            cache,
            path,
            _ticket: ticket,
        };
        self.running.insert(number, transfer);
        None
    }

    /// A download has ended; nothing if nobody wants it any more.
    pub(super) fn ended(
        &mut self,
        number: u64,
        result: Result<Partial, NetError>,
    ) -> Option<Answer> {
        let ended = self.running.remove(&number)?;
        let Transfer {
            token, cache, path, ..
        } = ended;
        if result.is_err() {
            PartialDir::remove_empty(&path);
        }
        let result = result.map(Archive::Downloaded);
        Some(Answer::Downloaded {
            cache,
            token,
            result: result.map_err(|error| DownloadError {
                is_the_caches: is_the_caches(&error),
                message: error.to_string(),
            }),
        })
    }

    /// Ends a download.
    pub(super) fn cancel(&mut self, token: u32, left: Left) {
        self.running.retain(|_, transfer| {
            let is_meant = transfer.token == token;
            if is_meant && left == Left::Discarded {
                // Who writes to it finds out when it has its name no more.
                let _ = std::fs::remove_file(&transfer.path);
            }
            !is_meant
        });
    }
}

/// Whether a failure says something of the cache as a whole.
fn is_the_caches(error: &NetError) -> bool {
    !matches!(
        error.kind(),
        Kind::Status(403 | 404 | 410 | 416)
            | Kind::TooLarge
            | Kind::Short
            | Kind::BadAddress
            | Kind::BadRedirect
            | Kind::TooManyRedirects
            | Kind::Io
            | Kind::Cancelled
    )
}
