//! Pushes while builds run: a thread for each cache, from the first build on. A cache that fails is
//! warned of once and left alone for the rest of the run. When the run ends, so do they; what is
//! left waits in the queue.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use windrow_components::settings::Settings;
use windrow_net::copy::{CopyError, Event as CopyEvent};
use windrow_net::store_url::StoreUrl;
use windrow_store::local::LocalStore;
use windrow_store::own::OwnDatabase;
use windrow_store::own::uploads::{PushLock, UploadQueue};
use windrow_store::{DatabaseOptions, Layout, Result as StoreResult};
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::limits::{give_way, no_thread};
use windrow_sys::mutex::lock;
use windrow_systems::report::{Event, Level, Reporter};

use super::batch::{Batches, Pushed};
use super::open;
use super::outbox::Outbox;
use super::targets::caches;
use crate::outcome::quoted;
use crate::session::Session;

/// How often is looked whether another process has done with a cache.
const LOCKED: Duration = Duration::from_secs(1);

/// Has what is built in a store pushed to the caches that the session's settings name, and what
/// goes wrong there told to the reporter. When the reporter is dropped, the run has ended.
pub(crate) fn while_building(
    session: &Session,
    store: &mut LocalStore,
    reporter: Box<dyn Reporter>,
) -> Box<dyn Reporter> {
    let caches = caches(&session.settings);
    if caches.is_empty() {
        return reporter;
    }
    let (layout, options) = (session.layout.clone(), session.database_options());
    let background = Arc::new(Background {
        layout: layout.clone(),
        options: options.clone(),
        settings: session.settings.clone(),
        caches: caches.clone(),
        stop: Stop::default(),
        said: Mutex::default(),
        threads: Mutex::default(),
    });
    let outbox = Outbox::new(layout, options, &caches, Arc::clone(&background));
    store.built = Some(Box::new(outbox));
    Box::new(Telling {
        shown: reporter,
        background,
    })
}

/// The threads of one run.
pub(super) struct Background {
    layout: Layout,
    options: DatabaseOptions,
    settings: Settings,
    caches: Vec<StoreUrl>,
    stop: Stop,
    /// What is yet to be told.
    said: Mutex<Vec<(Level, String)>>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    started: bool,
    running: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Background {
    /// Has a message told by the run's reporter.
    pub(super) fn say(&self, level: Level, text: String) {
        lock(&self.said).push((level, text));
    }

    /// Something more waits. Starts the threads the first time.
    pub(super) fn wake(this: &Arc<Self>) {
        let mut threads = lock(&this.threads);
        if !threads.started {
            threads.started = true;
            let started = this.caches.iter().filter_map(|url| Self::start(this, url));
            threads.running = started.collect();
        }
        for (wake, _) in &threads.running {
            // One that has ended has said why.
            let _ = wake.send(());
        }
    }

    fn start(this: &Arc<Self>, url: &StoreUrl) -> Option<(Sender<()>, JoinHandle<()>)> {
        let (wake, woken) = channel();
        let (own, url) = (Arc::clone(this), url.clone());
        let thread = std::thread::Builder::new().name("pusher".to_owned());
        match thread.spawn(move || own.work(&url, &woken)) {
            Ok(thread) => Some((wake, thread)),
            Err(error) => {
                let text = format!("nothing is pushed: {}", no_thread("pusher", &error));
                this.say(Level::Warn, text);
                None
            }
        }
    }

    /// Pushes to one cache until the run ends, or the cache fails.
    fn work(&self, url: &StoreUrl, woken: &Receiver<()>) {
        let _entered = self.stop.enter();
        // Builds come first, on all processors.
        give_way();
        let pushed = self.push_when_woken(url, woken);
        if let Err(error) = pushed
            && !interrupt::has_come()
        {
            let key = url.key();
            let text = format!("cannot push to '{key}': {error}; try 'windrow push' later");
            self.say(Level::Warn, text);
        }
    }

    fn push_when_woken(&self, url: &StoreUrl, woken: &Receiver<()>) -> Result<(), CopyError> {
        if woken.recv().is_err() {
            return Ok(());
        }
        let (key, silent) = (url.key(), Arc::new(|_: &_, _| ()));
        let queue = UploadQueue::new(OwnDatabase::open(&self.layout, &self.options)?);
        let mut opened = None;
        let mut failed = HashSet::new();
        loop {
            while woken.try_recv().is_ok() {}
            let lock = PushLock::try_take(&self.layout, &key)?;
            if lock.is_some() {
                let batches = match opened.take() {
                    Some(batches) => batches,
                    None => Batches {
                        queue: &queue,
                        layout: &self.layout,
                        key: &key,
                        to: open(url, &self.settings, &self.layout, silent.clone())?,
                        there: HashSet::new(),
                    },
                };
                self.push_all(opened.insert(batches), &mut failed)?;
            }
            let has_waited = match lock {
                Some(lock) => {
                    drop(lock);
                    woken.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                None => woken.recv_timeout(LOCKED),
            };
            if has_waited == Err(RecvTimeoutError::Disconnected) {
                return Ok(());
            }
        }
    }

    /// Pushes all that waits for a cache by now, but for what has `failed` before.
    fn push_all(
        &self,
        batches: &mut Batches<'_>,
        failed: &mut HashSet<String>,
    ) -> Result<(), CopyError> {
        let mut tried = failed.clone();
        loop {
            let mut waiting = batches.queue.waiting(batches.key)?;
            waiting.retain(|path| !tried.contains(path));
            if waiting.is_empty() {
                return Ok(());
            }
            let (mut warn, key) = (failed.is_empty(), batches.key);
            let mut tell = |event: CopyEvent<'_>| match event {
                CopyEvent::Failed { path, error } if warn => {
                    warn = false;
                    let path = &path.path;
                    let text = format!(
                        "cannot push '{path}' to '{key}': {error}; it waits for 'windrow push'"
                    );
                    self.say(Level::Warn, text);
                }
                _ => {}
            };
            let Pushed {
                gone,
                left,
                outcome,
            } = batches.push(&waiting, &mut tell)?;
            if let Some(text) = not_pushed_for_they_are_gone(key, &gone) {
                self.say(Level::Info, text);
            }
            if let Some(error) = outcome.ended_by {
                return Err(error);
            }
            failed.extend(left);
            tried.extend(waiting);
        }
    }

    /// Ends all threads, and says what is left.
    fn end(&self) {
        self.stop.set();
        let mut threads = lock(&self.threads);
        for (wake, thread) in threads.running.drain(..) {
            drop(wake);
            // One that panicked has said so.
            let _ = thread.join();
        }
        // A run that built nothing has nothing to say.
        if !threads.started {
            return;
        }
        match self.count() {
            Ok(0) => {}
            Ok(1) => self.say(Level::Info, "1 path waits for 'windrow push'".to_owned()),
            Ok(count) => {
                let text = format!("{count} paths wait for 'windrow push'");
                self.say(Level::Info, text);
            }
            Err(error) => self.say(Level::Warn, format!("what is to be pushed: {error}")),
        }
    }

    /// How many paths wait for any of the caches.
    fn count(&self) -> StoreResult<usize> {
        let Some(queue) = UploadQueue::open_read_only(&self.layout)? else {
            return Ok(0);
        };
        let mut waiting = BTreeSet::new();
        for url in &self.caches {
            waiting.extend(queue.waiting(&url.key())?);
        }
        Ok(waiting.len())
    }
}

/// What to say of paths that waited for a cache and are not in the store any more.
pub(super) fn not_pushed_for_they_are_gone(key: &str, gone: &[String]) -> Option<String> {
    let (is, it) = match gone.len() {
        0 => return None,
        1 => ("is", "it is"),
        _ => ("are", "they are"),
    };
    let gone = quoted(gone);
    Some(format!(
        "{gone} {is} not in the store any more: {it} not pushed to '{key}'"
    ))
}

/// A reporter that also tells what the threads have to say.
struct Telling {
    shown: Box<dyn Reporter>,
    background: Arc<Background>,
}

impl Telling {
    fn tell(&mut self) {
        let said = std::mem::take(&mut *lock(&self.background.said));
        for (level, text) in said {
            let text = &*text;
            self.shown.report(&Event::Message { level, text });
        }
    }
}

impl Reporter for Telling {
    fn is_behind(&self) -> bool {
        self.shown.is_behind()
    }

    fn wants_builds(&self) -> bool {
        self.shown.wants_builds()
    }

    fn report(&mut self, event: &Event<'_>) {
        self.tell();
        self.shown.report(event);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.background.end();
        self.tell();
    }
}
