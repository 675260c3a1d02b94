//! Asks binary caches for many paths at once, and downloads from them: a thread that owns the
//! caches, takes questions and wishes, and hands its answers back through a channel.
//!
//! What comes back of a path is to be believed: signatures are checked before anything is told, so
//! that nothing is downloaded that could not be used. What caches have is remembered over runs
//! ([`Lookup`](crate::lookup::Lookup)); what they lack is not, for somebody may be about to add it.

mod archive;
mod cache;
mod desk;
mod event;
mod hold;
mod local;
mod peers;
mod served;
#[cfg(test)]
mod tests;
mod transfers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use windrow_components::store_path::StorePath;
use windrow_sys::threads::spawn;

use crate::client;
use crate::error::NetError;
use crate::lookup::Ttl;
use crate::narinfo::NarInfo;
use crate::store_url::StoreUrl;
use crate::trust::{Distrust, Trust};

pub use archive::{Archive, OpenArchive, PartialDir};
use desk::Desk;
use event::Event;

/// What an [`Asker`] is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// How caches are reached.
    pub client: client::Config,
    /// Who is believed.
    pub trust: Trust,
    /// The directory with what caches said in earlier runs; nothing is remembered without one.
    pub lookup_dir: Option<PathBuf>,
    /// How long that is believed.
    pub ttl: Ttl,
    /// Where downloads are put, and go on that an earlier run did not finish.
    pub downloads_dir: PathBuf,
    /// How long a cache that owes answers may say nothing at all, unless it has said when it wants
    /// to be asked again.
    pub silence: Duration,
}

/// A path that a cache is asked for, with a number of the asker's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The number that the answer has.
    pub token: u32,
    /// The path.
    pub path: StorePath,
}

/// A path that is to be downloaded.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The number that the answer has.
    pub token: u32,
    /// From which cache, by its place in the list.
    pub cache: usize,
    /// What that said of it.
    pub info: Arc<NarInfo>,
    /// Where it is counted how many bytes are here.
    pub received: Arc<AtomicU64>,
}

/// What becomes of a part of a download that is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// A later one goes on with it.
    Kept,
    /// It is thrown away.
    Discarded,
}

/// What it says of a cache that it could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nothing of what else it is asked.
    Once,
    /// It can't be reached, or says nothing at all.
    Dead,
    /// It wants to be left alone for so long, which is too long to wait for it.
    Busy(Duration),
}

impl Failing {
    /// What the cache itself says of it.
    fn of<T>(answer: &Result<T, NetError>) -> Option<Self> {
        let time = answer.as_ref().err()?.retry_after()?;
        (!time.is_zero()).then_some(Self::Busy(time))
    }
}

/// What comes back. Caches go by their places in the list.
#[derive(Debug)]
pub enum Answer {
    /// A cache can be asked, and has this priority: the smallest comes first.
    Opened {
        /// Which cache.
        cache: usize,
        /// Its own, or what its URL says.
        priority: i64,
    },
    /// A cache is of no use for this store. What it was asked for it does not have.
    Useless {
        /// Which cache.
        cache: usize,
        /// Why.
        reason: String,
    },
    /// A cache has a path.
    Has {
        /// Which cache.
        cache: usize,
        /// The number of the question.
        token: u32,
        /// What it says of it.
        info: Arc<NarInfo>,
        /// Whether it said so in an earlier run.
        remembered: bool,
    },
    /// A cache does not have a path.
    Lacks {
        /// Which cache.
        cache: usize,
        /// The number of the question.
        token: u32,
    },
    /// A cache has a path that must not be taken from it.
    Distrusted {
        /// Which cache.
        cache: usize,
        /// The number of the question.
        token: u32,
        /// Why not.
        reason: Distrust,
    },
    /// A cache could not answer.
    Failed {
        /// Which cache.
        cache: usize,
        /// The numbers of the questions.
        tokens: Vec<u32>,
        /// Why not.
        reason: String,
        /// What that says of the cache.
        failing: Failing,
    },
    /// A download is complete, or has failed.
    Downloaded {
        /// Which cache.
        cache: usize,
        /// The number of the wish.
        token: u32,
        /// What has come.
        result: Result<Archive, DownloadError>,
    },
    /// Something that people should know.
    Warning(String),
}

/// Why nothing was downloaded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct DownloadError {
    /// One line with the address.
    pub message: String,
    /// Who is at fault.
    pub at_fault: AtFault,
}

/// Who is at fault when nothing was downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtFault {
    /// The cache as a whole.
    Cache,
    /// What it has of this path.
    Archive,
    /// Something on this machine, such as a full disk, or nobody.
    Here,
}

/// Asks caches. When it is dropped, all that is under way is cancelled.
pub struct Asker {
    events: Sender<Event>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Starts the thread. Nothing is opened or asked before the first question. `wake` is called
    /// after an answer is there to be taken where none was; who takes them takes all.
    ///
    /// # Errors
    /// When there are no threads left.
    pub fn new(
        config: Config,
        caches: Vec<StoreUrl>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (events, received) = unbounded();
        let (tell, answers) = unbounded();
        let own = events.clone();
        let thread = spawn("caches", move || {
            let tell = move |answer| {
                // While others are there, whoever takes them has been woken.
                if tell.send(answer).is_ok() && tell.len() == 1 {
                    wake();
                }
            };
            Desk::new(config, caches, (own, received), tell).run();
        })?;
        Ok(Self {
            events,
            answers,
            thread: Some(thread),
        })
    }

    /// Asks a cache. Each question has one answer.
    pub fn ask(&self, cache: usize, questions: Vec<Question>) {
        self.send(Event::Ask { cache, questions });
    }

    /// What a cache said of a path has proved wrong: the next question about it goes to the cache
    /// itself.
    pub fn forget(&self, cache: usize, path: StorePath) {
        self.send(Event::Forget { cache, path });
    }

    /// Downloads a path. Of a cache in a directory it is there at once.
    pub fn download(&self, wish: Wish) {
        self.send(Event::Download(wish));
    }

    /// Nobody wants a download any more. It has no answer, unless that is on its way. What there is
    /// of it stays for later, unless it is of no more use.
    pub fn cancel(&self, token: u32, left: Left) {
        self.send(Event::Cancel(token, left));
    }

    /// An answer that has come, if there is one.
    pub fn take(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Whether none is left to be taken.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// An answer, waited for as long as that at most.
    pub fn wait(&self, time: Duration) -> Option<Answer> {
        self.answers.recv_timeout(time).ok()
    }

    fn send(&self, event: Event) {
        // Its thread ends after this only, or with a panic that its join tells of.
        let _ = self.events.send(event);
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
