//! A store that a Nix serves, asked like a cache: by threads that wait for it, each on a connection
//! of its own. Questions go before downloads, and all that wait are one question.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use windrow_components::store_path::StorePath;
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::mutex::lock;
use windrow_sys::threads::spawn;

use super::Question;
use super::archive::PartialDir;
use super::event::Event;
use crate::client::{Client, Excused};
use crate::error::{Kind, NetError};
use crate::narinfo::NarInfo;
use crate::peer::{ASKED_AT_ONCE, Options, Peer};
use crate::remote::Partial;
use crate::store_url::StoreUrl;

/// How many connections there are where the URL does not say, as for Nix.
const CONNECTIONS: NonZero<u16> = NonZero::<u16>::MIN;

/// A download that is to be made.
pub(super) struct Fetch {
    pub(super) number: u64,
    pub(super) info: Arc<NarInfo>,
    pub(super) partial: Partial,
    /// Where it is counted how many bytes are here.
    pub(super) received: Arc<AtomicU64>,
    /// Ends it.
    pub(super) stop: Stop,
}

/// How a store is reached, and who is told.
struct Way {
    cache: usize,
    url: StoreUrl,
    options: Options,
    /// Knows how fast downloads may be, if there is a limit.
    client: Option<Client>,
    /// Until when the store need not say anything: something of a download has come then.
    excused: Excused,
    own: Sender<Event>,
}

/// The threads.
pub(super) struct Peers {
    shared: Arc<Shared>,
    most: usize,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    way: Way,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// What is to be done, and what is being done.
#[derive(Default)]
struct Queue {
    /// Whether a connection is to be made without a question.
    open: bool,
    questions: Vec<Question>,
    /// Those that were wished for first come first: they are the largest.
    fetches: VecDeque<Fetch>,
    /// Ends all asking that was begun.
    asking: Stop,
    /// What is being downloaded.
    fetching: HashMap<u64, Stop>,
    /// How many threads have nothing to do.
    idle: usize,
    is_over: bool,
}

/// What a thread does next.
enum Job {
    Open(Stop),
    Ask(Vec<Question>, Stop),
    Fetch(Fetch),
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.shared.way.url.to_string();
        f.debug_tuple("Peers").field(&url).finish()
    }
}

impl Peers {
    /// Nothing is begun yet. `client` is there if downloads may not be as fast as they can.
    pub(super) fn new(
        (cache, url): (usize, StoreUrl),
        options: Options,
        client: Option<Client>,
        own: Sender<Event>,
    ) -> Self {
        let most = url.params.login.max_connections.unwrap_or(CONNECTIONS);
        let way = Way {
            cache,
            url,
            options,
            client,
            excused: Excused::default(),
            own,
        };
        let shared = Shared {
            way,
            queue: Mutex::default(),
            wake: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            most: usize::from(most.get()),
            threads: Vec::new(),
        }
    }

    /// Until when the store need not answer: its answers may wait behind a download.
    pub(super) fn excused_until(&self) -> Option<Instant> {
        self.shared.way.excused.until()
    }

    /// Has a connection made, of which it is told by [`Event::Reached`].
    ///
    /// # Errors
    /// When there are no threads left.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.begin(|queue| queue.open = true)
    }

    /// Asks. The answers are [`Event::Told`] each, and [`Event::Lost`] for those that do not come.
    ///
    /// # Errors
    /// When there are no threads left.
    pub(super) fn ask(&mut self, questions: Vec<Question>) -> io::Result<()> {
        self.begin(|queue| queue.questions.extend(questions))
    }

    /// Downloads, which [`Event::Downloaded`] tells the end of.
    ///
    /// # Errors
    /// When there are no threads left.
    pub(super) fn fetch(&mut self, fetch: Fetch) -> io::Result<()> {
        self.begin(|queue| queue.fetches.push_back(fetch))
    }

    /// Takes out of the queue what was called off before it was begun.
    pub(super) fn forget_cancelled(&self) {
        let mut queue = lock(&self.shared.queue);
        let fetches = std::mem::take(&mut queue.fetches).into_iter();
        let (cancelled, wanted): (VecDeque<Fetch>, _) =
            fetches.partition(|fetch| fetch.stop.is_set());
        queue.fetches = wanted;
        drop(queue);
        cancelled
            .into_iter()
            .for_each(|fetch| abandon(fetch.partial));
    }

    /// Nobody waits for the answers to what was asked.
    pub(super) fn give_up(&self) {
        let mut queue = lock(&self.shared.queue);
        queue.open = false;
        queue.questions.clear();
        std::mem::take(&mut queue.asking).set();
    }

    fn begin(&mut self, what: impl FnOnce(&mut Queue)) -> io::Result<()> {
        let mut queue = lock(&self.shared.queue);
        // One that has been woken and does not know it yet has its job among those that wait.
        if queue.waiting() >= queue.idle && self.threads.len() < self.most {
            let shared = Arc::clone(&self.shared);
            match spawn("peer", move || shared.work()) {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        what(&mut queue);
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Queue {
    /// How many jobs wait.
    fn waiting(&self) -> usize {
        let questions = usize::from(!self.questions.is_empty());
        usize::from(self.open) + questions + self.fetches.len()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        {
            let mut queue = lock(&self.shared.queue);
            queue.is_over = true;
            queue.asking.set();
            queue.fetching.values().for_each(Stop::set);
        }
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let left = std::mem::take(&mut lock(&self.shared.queue).fetches);
        left.into_iter().for_each(|fetch| abandon(fetch.partial));
    }
}

/// Throws away what there is of an archive: there is no going on in the middle of one.
fn abandon(mut partial: Partial) {
    let path = partial.path().to_owned();
    let _ = partial.clear();
    drop(partial);
    PartialDir::remove_empty(&path);
}

impl Shared {
    /// The life of a thread.
    fn work(&self) {
        let mut peer = None;
        while let Some(job) = self.next() {
            match job {
                Job::Open(stop) => self.open(&mut peer, &stop),
                Job::Ask(questions, stop) => self.ask(&mut peer, questions, &stop),
                Job::Fetch(fetch) => self.fetch(&mut peer, fetch),
            }
        }
    }

    /// What is to be done next, waited for; none at the end.
    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_over {
                return None;
            }
            if std::mem::take(&mut queue.open) {
                return Some(Job::Open(queue.asking.clone()));
            }
            if !queue.questions.is_empty() {
                let count = queue.questions.len().min(ASKED_AT_ONCE);
                let questions = queue.questions.drain(..count).collect();
                return Some(Job::Ask(questions, queue.asking.clone()));
            }
            if let Some(fetch) = queue.fetches.pop_front() {
                queue.fetching.insert(fetch.number, fetch.stop.clone());
                return Some(Job::Fetch(fetch));
            }
            queue.idle += 1;
            let woken = self.wake.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens at the end.
        let _ = self.way.own.send(event);
    }

    fn open(&self, peer: &mut Option<Peer>, stop: &Stop) {
        let _entered = stop.enter();
        let result = self.way.on(peer, &mut |peer| peer.can_tell());
        let cache = self.way.cache;
        self.tell(Event::Reached { cache, result });
    }

    fn ask(&self, peer: &mut Option<Peer>, questions: Vec<Question>, stop: &Stop) {
        let _entered = stop.enter();
        let cache = self.way.cache;
        let questions = questions.into_iter();
        let mut left: HashMap<StorePath, u32> = questions.map(|it| (it.path, it.token)).collect();
        let asked = self.way.on(peer, &mut |peer| {
            let paths: Vec<StorePath> = left.keys().cloned().collect();
            peer.infos(&paths, |path, info| {
                if let Some(token) = left.remove(path) {
                    self.tell(Event::Told { cache, token, info });
                }
            })
        });
        if let Err(error) = asked {
            let mut tokens: Vec<u32> = left.into_values().collect();
            tokens.sort_unstable();
            self.tell(Event::Lost {
                cache,
                tokens,
                error,
            });
        }
    }

    fn fetch(&self, peer: &mut Option<Peer>, fetch: Fetch) {
        let Fetch {
            number,
            info,
            mut partial,
            received,
            stop,
        } = fetch;
        let _entered = stop.enter();
        let mut get = |peer: &mut Peer| {
            let mut target = Target {
                partial: &mut partial,
                received: &received,
                excused: &self.way.excused,
                client: self.way.client.as_ref(),
                is_empty: false,
            };
            peer.nar(&info, &mut target)
        };
        // One that was called off before it was begun costs no connection.
        let fetched = match stop.is_set() {
            true => Err(NetError::cancelled(&self.way.url.to_string())),
            false => self.way.on(peer, &mut get),
        };
        let result = match fetched {
            Ok(()) => Ok(partial),
            Err(error) => {
                abandon(partial);
                Err(error)
            }
        };
        lock(&self.queue).fetching.remove(&number);
        self.tell(Event::Downloaded { number, result });
    }
}

impl Way {
    /// Does something on the connection, or on a new one. The other side may have ended one that
    /// was there already, so that is tried again.
    fn on(
        &self,
        peer: &mut Option<Peer>,
        work: &mut dyn FnMut(&mut Peer) -> Result<(), NetError>,
    ) -> Result<(), NetError> {
        if let Some(known) = peer {
            let result = work(known);
            if known.is_broken() {
                *peer = None;
            }
            match result {
                Err(error) if matches!(error.kind(), Kind::Reset) => {}
                result => return result,
            }
        }
        let new = peer.insert(Peer::connect(&self.url, &self.options)?);
        let result = work(new);
        if new.is_broken() {
            *peer = None;
        }
        result
    }
}

/// Where an archive is put.
struct Target<'a> {
    partial: &'a mut Partial,
    received: &'a AtomicU64,
    excused: &'a Excused,
    client: Option<&'a Client>,
    /// What was there before is gone.
    is_empty: bool,
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.is_empty, true) {
            self.partial.clear()?;
        }
        self.partial.append(bytes)?;
        (self.received).store(self.partial.length(), Ordering::Relaxed);
        self.excused.for_time(Duration::ZERO);
        if let Some(client) = self.client {
            let due = client.transport().speed.due_now(bytes.len());
            while let Some(wait) = due.checked_duration_since(Instant::now()) {
                interrupt::check()?;
                std::thread::sleep(wait.min(interrupt::SLICE));
                self.excused.for_time(Duration::ZERO);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
