//! Pushes while builds run: a thread for each cache, from the first build on. A cache that fails is
//! warned of once, and pushed to again after a pause, when something else is built. When the run
//! ends, so do they; what is left waits in the queue.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use windrow_components::settings::Settings;
use windrow_net::copy::{CopyError, Event as CopyEvent};
use windrow_net::store_url::StoreUrl;
use windrow_store::local::LocalStore;
use windrow_store::own::OwnDatabase;
use windrow_store::own::uploads::{PushLock, UploadQueue};
use windrow_store::{DatabaseOptions, Layout, Result as StoreResult};
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::mutex::lock;
use windrow_sys::threads::{give_way, spawn};
use windrow_systems::report::{Event, Level, Reporter};

use super::batch::{Batches, Pushed};
use super::open;
use super::outbox::Outbox;
use super::targets::caches;
use crate::outcome::quoted;
use crate::session::Session;

/// How often is looked whether another process has done with a cache.
const LOCKED: Duration = Duration::from_secs(1);

/// How long a cache is left alone that has failed once, and at most after many failures in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

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
        pushers: Mutex::default(),
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
    /// One for each cache, from the first build on.
    pushers: Mutex<Vec<Pusher>>,
}

/// Who pushes to a cache.
struct Pusher {
    url: StoreUrl,
    running: Option<Running>,
    /// How long the cache is left alone after the next failure.
    pause: Duration,
    /// Until when it is, after the last one.
    alone_until: Option<Instant>,
}

/// A thread that pushes, and what wakes it.
struct Running {
    wake: Sender<()>,
    thread: JoinHandle<Option<Failed>>,
}

/// That a thread has ended because its cache failed.
struct Failed {
    at: Instant,
    /// Whether something was pushed before.
    had_pushed: bool,
}

impl Pusher {
    fn new(url: StoreUrl) -> Self {
        Self {
            url,
            running: None,
            pause: FIRST_PAUSE,
            alone_until: None,
        }
    }

    /// Looks whether the thread has ended.
    fn look(&mut self) {
        let Some(Running { thread, .. }) = self.running.take_if(|it| it.thread.is_finished())
        else {
            return;
        };
        // One that panicked has said so.
        if let Ok(Some(Failed { at, had_pushed })) = thread.join() {
            self.failed(at, had_pushed);
        }
    }

    fn failed(&mut self, at: Instant, had_pushed: bool) {
        if had_pushed {
            self.pause = FIRST_PAUSE;
        }
        self.alone_until = Some(at + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Whether its cache may be tried at that moment, and nobody pushes to it.
    fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.alone_until.is_none_or(|until| now >= until)
    }
}

impl Background {
    /// Has a message told by the run's reporter.
    pub(super) fn say(&self, level: Level, text: String) {
        lock(&self.said).push((level, text));
    }

    /// Something more waits. Starts the threads that are not there.
    pub(super) fn wake(this: &Arc<Self>) {
        let mut pushers = lock(&this.pushers);
        if pushers.is_empty() {
            pushers.extend(this.caches.iter().cloned().map(Pusher::new));
        }
        let now = Instant::now();
        for pusher in &mut *pushers {
            pusher.look();
            if pusher.is_due(now) {
                Self::start(this, pusher);
            }
            if let Some(Running { wake, .. }) = &pusher.running {
                // One that has ended just now is looked at the next time.
                let _ = wake.send(());
            }
        }
    }

    fn start(this: &Arc<Self>, pusher: &mut Pusher) {
        let (wake, woken) = channel();
        let (own, url) = (Arc::clone(this), pusher.url.clone());
        // What has been told once is not told again before it was otherwise.
        let is_news = pusher.pause == FIRST_PAUSE;
        match spawn("pusher", move || own.work(&url, &woken, is_news)) {
            Ok(thread) => pusher.running = Some(Running { wake, thread }),
            Err(error) => {
                if is_news {
                    this.say(Level::Warn, format!("nothing is pushed: {error}"));
                }
                pusher.failed(Instant::now(), false);
            }
        }
    }

    /// Pushes to one cache until the run ends, or the cache fails.
    fn work(&self, url: &StoreUrl, woken: &Receiver<()>, is_news: bool) -> Option<Failed> {
        let _entered = self.stop.enter();
        // Builds come first, on all processors.
        give_way();
        let mut had_pushed = false;
        let error = self.push_when_woken(url, woken, &mut had_pushed).err()?;
        let at = Instant::now();
        if (is_news || had_pushed) && !interrupt::has_come() {
            let key = url.key();
            let text = format!(
                "cannot push to '{key}': {error}; what waits is tried again after later builds, or by \
                 'windrow push'"
            );
            self.say(Level::Warn, text);
        }
        Some(Failed { at, had_pushed })
    }

    fn push_when_woken(
        &self,
        url: &StoreUrl,
        woken: &Receiver<()>,
        had_pushed: &mut bool,
    ) -> Result<(), CopyError> {
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
                self.push_all(opened.insert(batches), &mut failed, had_pushed)?;
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
        had_pushed: &mut bool,
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
            *had_pushed |= outcome.copied > 0;
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
        let pushers = std::mem::take(&mut *lock(&self.pushers));
        // A run that built nothing has nothing to say.
        if pushers.is_empty() {
            return;
        }
        for Running { wake, thread } in pushers.into_iter().filter_map(|it| it.running) {
            drop(wake);
            // One that panicked has said so.
            let _ = thread.join();
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
    fn wants_outlook(&self) -> bool {
        self.shown.wants_outlook()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_fails_is_left_alone_for_longer_each_time() {
        let url = StoreUrl::parse("http://h").unwrap();
        let (mut pusher, start) = (Pusher::new(url), Instant::now());
        assert!(pusher.is_due(start));
        for (had_pushed, seconds) in [(false, 1), (false, 2), (false, 4), (true, 1), (false, 2)] {
            pusher.failed(start, had_pushed);
            let pause = Duration::from_secs(seconds);
            assert!(!pusher.is_due(start + pause / 2) && pusher.is_due(start + pause));
        }
        for _ in 0..20 {
            pusher.failed(start, false);
        }
        assert!(pusher.is_due(start + LONGEST_PAUSE));
    }
}
