//! A store that a Nix serves, as what paths are copied into: in the order of their references, over
//! one connection.

use std::cell::RefCell;

use windrow_store::nar::digest::hash_nar;
use windrow_store::signer::Signer;
use windrow_store::{Layout, PathInfo};
use windrow_sys::interrupt;

use super::archive::{self, Failure};
use super::state::{Waiting, in_order};
use super::{Config, CopyError, Destination, Event, Outcome};
use crate::error::NetError;
use crate::peer::{Options, Peer, Signatures};
use crate::store_url::StoreUrl;

/// How many paths are sent at once, after which it is known that they are there.
const SENT_AT_ONCE: usize = 200;

/// How large they may be together, as archives, unless it is one; in bytes.
const SENT_AT_ONCE_SIZE: u64 = 64 << 20;

/// A store that a Nix serves, which can be written.
pub struct ServedStore {
    url: StoreUrl,
    options: Options,
    signatures: Signatures,
    signer: Signer,
    peer: Peer,
}

impl ServedStore {
    /// Connects to the store of that URL. Its parameters say who signs; people may be asked for a
    /// password.
    ///
    /// # Errors
    /// When it can't be reached, or a key can't be used.
    pub fn open(
        url: &StoreUrl,
        config: &Config,
        signatures: Signatures,
    ) -> Result<Self, CopyError> {
        let mut signer = Signer::new(&url.params.secret_keys);
        signer.load()?;
        let options = Options {
            store_dir: config.store_dir.clone(),
            write: true,
            may_ask: true,
            limits: config.client.limits.clone(),
        };
        let peer = Peer::connect(url, &options).map_err(reason)?;
        Ok(Self {
            url: url.clone(),
            options,
            signatures,
            signer,
            peer,
        })
    }

    /// Which of the paths the store has. It keeps all of them as long as the connection lasts.
    fn valid(&mut self, paths: &[&str]) -> Result<Vec<bool>, CopyError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let dir = &self.options.store_dir;
        let names: Result<Vec<_>, _> = paths.iter().map(|path| dir.parse(path)).collect();
        let names = names?;
        let valid = self.peer.valid_paths(&names).map_err(reason)?;
        let is_there = |name| valid.binary_search(name).is_ok();
        Ok(names.iter().map(is_there).collect())
    }

    /// Sends all paths that can be sent.
    ///
    /// # Errors
    /// What keeps the rest from being sent.
    fn send_all(
        &mut self,
        lacking: Vec<(usize, String)>,
        course: &mut Course<'_>,
        from: &Layout,
    ) -> Result<(), CopyError> {
        let paths = course.paths;
        for (at, reference) in lacking {
            course.failed(at, &CopyError::Reference(reference))?;
        }
        let order = in_order(paths);
        let mut order = order.into_iter().peekable();
        while order.peek().is_some() {
            let (mut batch, mut size) = (Vec::new(), 0);
            while let Some(at) = order.next_if(|&at| {
                let sum = paths[at].nar_size.saturating_add(size);
                batch.is_empty() || (batch.len() < SENT_AT_ONCE && sum <= SENT_AT_ONCE_SIZE)
            }) {
                size = paths[at].nar_size.saturating_add(size);
                batch.push(at);
            }
            self.send(&batch, course, from)?;
        }
        Ok(())
    }

    /// Sends some paths. One that is not what was registered fails, and the rest is sent over
    /// another connection, for on this one the store waits for the end of that.
    ///
    /// # Errors
    /// As [`ServedStore::send_all`].
    fn send(
        &mut self,
        batch: &[usize],
        course: &mut Course<'_>,
        from: &Layout,
    ) -> Result<(), CopyError> {
        loop {
            let (mut sent, mut infos) = (Vec::new(), Vec::new());
            for &at in batch {
                if course.waiting.has_ended(at) {
                    continue;
                }
                match self.info(&course.paths[at], from) {
                    Ok(info) => {
                        sent.push(at);
                        infos.push(info);
                    }
                    Err(error) => course.failed(at, &error)?,
                }
            }
            if infos.is_empty() {
                return Ok(());
            }
            match self.add((&sent, &infos), course, from) {
                Ok(()) => return Ok(()),
                Err(NotAdded::Store(error)) => return Err(reason(error)),
                Err(NotAdded::Path(at, error)) => course.failed(at, &error.into())?,
            }
            self.peer = Peer::connect(&self.url, &self.options).map_err(reason)?;
            let names: Vec<&str> = infos.iter().map(|info| &*info.path).collect();
            let has = self.valid(&names)?;
            let there = sent.iter().zip(has).filter(|(_, has)| *has);
            there.for_each(|(&at, _)| course.copied(at));
        }
    }

    fn add(
        &mut self,
        (sent, infos): (&[usize], &[PathInfo]),
        course: &mut Course<'_>,
        from: &Layout,
    ) -> Result<(), NotAdded> {
        let failure = Failure::default();
        let course = RefCell::new(course);
        let (mut begun, mut there) = (sent.iter(), sent.iter());
        let mut last = None;
        let open = |info: &PathInfo| {
            last = begun.next().copied();
            last.iter().for_each(|&at| course.borrow_mut().begun(at));
            archive::open(info, from.real_path(&info.path), &failure)
        };
        let done = |_: &PathInfo| {
            there
                .next()
                .iter()
                .for_each(|&&at| course.borrow_mut().copied(at));
        };
        let added = self.peer.add(infos, self.signatures, open, done);
        added.map_err(|error| match (last, failure.take()) {
            (Some(at), Some(error)) => NotAdded::Path(at, error),
            _ => NotAdded::Store(error),
        })
    }

    /// What the store is to know of a path: that it was built there is not among it.
    fn info(&mut self, info: &PathInfo, from: &Layout) -> Result<PathInfo, CopyError> {
        let mut info = PathInfo {
            ultimate: false,
            ..info.clone()
        };
        // Databases of old Nixes do not have everything.
        if info.nar_hash == [0; 32] || info.nar_size == 0 {
            (info.nar_hash, info.nar_size) = hash_nar(&from.real_path(&info.path))?;
        }
        self.signer.sign(&mut info)?;
        Ok(info)
    }
}

/// Why paths were not added.
enum NotAdded {
    /// This one can't be read, or is not what was registered.
    Path(usize, windrow_store::Error),
    /// The other store can't be used, or does not want it.
    Store(NetError),
}

/// An interruption is told as what it is: what runs at the terminal ends by itself then.
fn reason(error: NetError) -> CopyError {
    CopyError::from(error).or_interrupted()
}

impl Destination for ServedStore {
    fn has(&mut self, paths: &[&str]) -> Result<Vec<bool>, CopyError> {
        self.valid(paths)
    }

    fn take(
        &mut self,
        paths: &[PathInfo],
        lacking: Vec<(usize, String)>,
        from: &Layout,
        outcome: &mut Outcome,
        tell: &mut dyn FnMut(Event<'_>),
    ) {
        let mut course = Course {
            paths,
            waiting: Waiting::new(paths),
            outcome,
            tell,
        };
        let sent = self.send_all(lacking, &mut course, from);
        for at in 0..paths.len() {
            course.give_up(at);
        }
        outcome.ended_by = sent.err();
    }
}

/// What has become of the paths.
struct Course<'c> {
    paths: &'c [PathInfo],
    waiting: Waiting,
    outcome: &'c mut Outcome,
    tell: &'c mut dyn FnMut(Event<'_>),
}

impl Course<'_> {
    fn begun(&mut self, at: usize) {
        (self.tell)(Event::Begun(&self.paths[at]));
    }

    fn copied(&mut self, at: usize) {
        if self.waiting.has_ended(at) {
            return;
        }
        self.waiting.told(at);
        let path = &self.paths[at];
        self.outcome.copied += 1;
        self.outcome.sent += path.nar_size;
        (self.tell)(Event::Copied {
            path,
            sent: path.nar_size,
        });
    }

    /// A path can't be copied, nor what refers to it.
    ///
    /// # Errors
    /// When that is because all is to end.
    fn failed(&mut self, at: usize, error: &CopyError) -> Result<(), CopyError> {
        interrupt::check().map_err(CopyError::Interrupted)?;
        if !self.waiting.has_ended(at) {
            let path = &self.paths[at];
            (self.tell)(Event::Failed { path, error });
            self.give_up(at);
        }
        Ok(())
    }

    /// Gives up a path that is not there, and all that refers to it.
    fn give_up(&mut self, at: usize) {
        for at in self.waiting.give_up(at) {
            self.outcome.left.push(self.paths[at].path.clone());
        }
    }
}
