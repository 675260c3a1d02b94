//! The thread that asks: takes questions and the answers of caches one by one, as they come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use windrow_components::store_path::StorePath;

use super::cache::{Cache, Reach, State, is_for};
use super::event::Event;
use super::hold::Hold;
use super::local::Local;
use super::transfers::Transfers;
use super::{Answer, Archive, Config, Failing, Question, Wish};
use crate::cache_info::CacheInfo;
use crate::client::Client;
use crate::error::{self, NetError};
use crate::lookup::{CacheRow, Known, Lookup};
use crate::narinfo::NarInfo;
use crate::remote::Remote;
use crate::store_url::{Kind, StoreUrl};

/// How long the file that a cache has about itself may be, in bytes.
const CACHE_INFO_MAX: u64 = 64 << 10;

/// How long a narinfo file may be, in bytes. There are paths with thousands of references.
const NARINFO_MAX: u64 = 4 << 20;

/// How many questions are answered from memory at once.
const LOOKED_UP_TOGETHER: usize = 1000;

/// How many answers are written down at once.
const WRITTEN_TOGETHER: usize = 500;

/// All that the thread has.
pub(super) struct Desk<T> {
    pub(super) config: Config,
    pub(super) caches: Vec<Cache>,
    /// Made when something is first asked.
    client: Option<Client>,
    /// Opened with the first cache.
    lookup: Option<Lookup>,
    pub(super) transfers: Transfers,
    pub(super) own: Sender<Event>,
    events: Receiver<Event>,
    pub(super) tell: T,
}

impl<T: Fn(Answer)> Desk<T> {
    pub(super) fn new(
        config: Config,
        caches: Vec<StoreUrl>,
        (own, events): (Sender<Event>, Receiver<Event>),
        tell: T,
    ) -> Self {
        Self {
            transfers: Transfers::new(config.downloads_dir.clone(), own.clone()),
            config,
            caches: caches.into_iter().map(Cache::new).collect(),
            client: None,
            lookup: None,
            own,
            events,
            tell,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let event = match self.events.try_recv() {
                Ok(event) => event,
                Err(_) => {
                    // What is owed comes one by one, and each time would cost as much as all.
                    self.write_down(|cache| !cache.owes());
                    match self.next() {
                        Some(event) => event,
                        None => continue,
                    }
                }
            };
            match event {
                Event::Ask { cache, questions } => self.ask(cache, questions),
                Event::Forget { cache, path } => self.forget(cache, &path),
                Event::Download(wish) => self.download(wish),
                Event::Cancel(token, left) => self.cancel(token, left),
                Event::Opened { cache, file } => self.opened(cache, file),
                Event::Heard { cache, token, file } => self.heard(cache, token, file),
                Event::Reached { cache, result } => self.reached(cache, result),
                Event::Told { cache, token, info } => self.heard_told(cache, token, info),
                Event::Lost {
                    cache,
                    tokens,
                    error,
                } => self.lost(cache, tokens, &error),
                Event::Downloaded { number, result } => {
                    if let Some(answer) = self.transfers.ended(number, result) {
                        (self.tell)(answer);
                    }
                }
                Event::Stop => break,
            }
        }
        self.write_down(|_| true);
    }

    /// The next event; none if a cache has been silent for too long meanwhile.
    fn next(&mut self) -> Option<Event> {
        let Some(at) = self.next_silence() else {
            return Some(self.events.recv().unwrap_or(Event::Stop));
        };
        match self.events.recv_deadline(at) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
            Err(RecvTimeoutError::Timeout) => {
                self.end_silence();
                None
            }
        }
    }

    /// When a cache will have said nothing for too long.
    fn next_silence(&self) -> Option<Instant> {
        let owing = self.caches.iter().filter(|cache| cache.owes());
        owing
            .map(|cache| cache.silent_since() + self.config.silence)
            .min()
    }

    /// Gives up caches that owe answers and have said nothing for too long.
    fn end_silence(&mut self) {
        let silence = self.config.silence;
        for nth in 0..self.caches.len() {
            let cache = &self.caches[nth];
            // A time that is still to come has not elapsed at all.
            if cache.owes() && cache.silent_since().elapsed() >= silence {
                let reason = format!("it has not answered for {}", seconds(silence));
                self.give_up(nth, reason, Failing::Dead);
            }
        }
    }

    /// Waits for no answer of a cache that can't be reached, says nothing at all, or wants to be
    /// left alone.
    pub(super) fn give_up(&mut self, nth: usize, reason: String, failing: Failing) {
        let tokens = self.caches[nth].give_up();
        (self.tell)(Answer::Failed {
            cache: nth,
            tokens,
            reason,
            failing,
        });
    }

    fn ask(&mut self, nth: usize, questions: Vec<Question>) {
        match &self.caches[nth].state {
            State::Open(row) => {
                let row = row.clone();
                self.ask_open(nth, row.as_ref(), questions);
            }
            State::Opening(_) => self.caches[nth].waiting.extend(questions),
            State::Closed => {
                self.caches[nth].waiting.extend(questions);
                self.open(nth);
            }
            State::Useless => {
                for Question { token, .. } in questions {
                    (self.tell)(Answer::Lacks { cache: nth, token });
                }
            }
        }
    }

    /// Begins to open a cache. One that was asked in an earlier run need not be asked what it is.
    fn open(&mut self, nth: usize) {
        if let Err(reason) = self.reach(nth) {
            return self.useless(nth, reason);
        }
        if self.caches[nth].is_remembered() {
            self.open_lookup();
        }
        let store_dir = self.config.trust.store_dir.as_str();
        let key = self.caches[nth].url.key();
        let lookup = self.lookup.as_mut();
        let lookup = lookup.filter(|_| self.caches[nth].is_remembered());
        let known = lookup.and_then(|lookup| lookup.cache(&key));
        if let Some(row) = known
            && is_for(&row.info, store_dir).is_ok()
        {
            let info = row.info.clone();
            return self.is_open(nth, &info, Some(row));
        }
        let own = self.own.clone();
        let cache = &mut self.caches[nth];
        let remote = match &cache.reach {
            Some(Reach::Remote(remote)) => remote,
            Some(Reach::Local(_)) => return self.is_open(nth, &CacheInfo::default(), None),
            Some(Reach::Served(_)) => return self.connect(nth),
            None => return,
        };
        let ticket = remote.get(CacheInfo::NAME, CACHE_INFO_MAX, move |file| {
            let _ = own.send(Event::Opened { cache: nth, file });
        });
        if !cache.owes() {
            cache.heard = Instant::now();
        }
        cache.state = State::Opening(Hold::Ticket(ticket));
    }

    /// Finds out how a cache is reached.
    fn reach(&mut self, nth: usize) -> Result<(), String> {
        if self.caches[nth].reach.is_some() {
            return Ok(());
        }
        let reach = match &self.caches[nth].url.kind {
            Kind::Local(places) => {
                let local = Local::open(places, &self.config.trust.store_dir)?;
                Reach::Local(Box::new(local))
            }
            Kind::Ssh(_) | Kind::SshNg(_) | Kind::Daemon { .. } => Reach::Served(self.served(nth)?),
            Kind::Http(_) | Kind::File(_) | Kind::S3 { .. } => {
                let client = self.client()?;
                let remote = Remote::open(&self.caches[nth].url, &client);
                Reach::Remote(remote.map_err(|error| error.to_string())?)
            }
        };
        self.caches[nth].reach = Some(reach);
        Ok(())
    }

    /// The client, made when it is first needed.
    pub(super) fn client(&mut self) -> Result<Client, String> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => {
                let client = Client::new(self.config.client.clone());
                let client = client.map_err(|error| error.to_string())?;
                Ok(self.client.insert(client).clone())
            }
        }
    }

    fn open_lookup(&mut self) {
        if self.lookup.is_none()
            && let Some(dir) = &self.config.lookup_dir
        {
            let store_dir = &self.config.trust.store_dir;
            self.lookup = Some(Lookup::open(dir, store_dir, self.config.ttl));
            self.warn();
        }
    }

    /// Tells what the file of answers warns of.
    fn warn(&mut self) {
        let lookup = self.lookup.as_mut();
        let warnings = lookup.map(Lookup::take_warnings).unwrap_or_default();
        warnings
            .into_iter()
            .for_each(|text| (self.tell)(Answer::Warning(text)));
    }

    /// What a cache says of itself has come.
    fn opened(&mut self, nth: usize, file: Result<Option<Vec<u8>>, NetError>) {
        let cache = &mut self.caches[nth];
        if !matches!(cache.state, State::Opening(_)) || is_cancelled(&file) {
            return;
        }
        cache.heard = Instant::now();
        let failing = Failing::of(&file).unwrap_or(Failing::Dead);
        let store_dir = self.config.trust.store_dir.as_str();
        match cache.understand(file, store_dir) {
            Ok(Ok(info)) => {
                let key = cache.url.key();
                let lookup = self.lookup.as_mut().filter(|_| cache.is_remembered());
                let row = lookup.map(|lookup| lookup.put_cache(&key, &info));
                self.is_open(nth, &info, row);
            }
            Ok(Err(reason)) => self.useless(nth, reason),
            Err(reason) => self.give_up(nth, reason, failing),
        }
    }

    pub(super) fn is_open(&mut self, nth: usize, info: &CacheInfo, row: Option<CacheRow>) {
        let cache = &mut self.caches[nth];
        let priority = cache.priority(info);
        cache.state = State::Open(row.clone());
        let waiting = std::mem::take(&mut cache.waiting);
        (self.tell)(Answer::Opened {
            cache: nth,
            priority,
        });
        self.ask_open(nth, row.as_ref(), waiting);
    }

    pub(super) fn useless(&mut self, nth: usize, reason: String) {
        let cache = &mut self.caches[nth];
        cache.state = State::Useless;
        let tokens = cache.give_up();
        (self.tell)(Answer::Useless { cache: nth, reason });
        for token in tokens {
            (self.tell)(Answer::Lacks { cache: nth, token });
        }
    }

    /// Answers from memory what it can, and asks the cache for the rest.
    fn ask_open(&mut self, nth: usize, row: Option<&CacheRow>, mut questions: Vec<Question>) {
        // Of many the first are worked on while the next are looked up.
        while questions.len() > LOOKED_UP_TOGETHER {
            let rest = questions.split_off(LOOKED_UP_TOGETHER);
            self.ask_some(nth, row, std::mem::replace(&mut questions, rest));
        }
        self.ask_some(nth, row, questions);
    }

    fn ask_some(&mut self, nth: usize, row: Option<&CacheRow>, questions: Vec<Question>) {
        let parts: Vec<&str> = questions.iter().map(|it| it.path.hash_part()).collect();
        let known = match (&mut self.lookup, row) {
            (Some(lookup), Some(row)) => lookup.narinfos(row, &parts),
            _ => vec![Known::Unknown; questions.len()],
        };
        let mut unknown = Vec::new();
        for (question, known) in questions.into_iter().zip(known) {
            let info = match known {
                Known::Present(info) if info.store_path == question.path => Some(info),
                _ => None,
            };
            let trusted = self.caches[nth].url.params.trusted;
            match info {
                // One that was signed since is asked for again.
                Some(info) if self.config.trust.check(&info, trusted).is_ok() => {
                    (self.tell)(Answer::Has {
                        cache: nth,
                        token: question.token,
                        info: Arc::from(info),
                        remembered: true,
                    });
                }
                _ => unknown.push(question),
            }
        }
        match &self.caches[nth].reach {
            Some(Reach::Served(_)) if !unknown.is_empty() => self.ask_served(nth, unknown),
            _ => unknown
                .into_iter()
                .for_each(|question| self.ask_cache(nth, question)),
        }
        self.warn();
    }

    fn ask_cache(&mut self, nth: usize, Question { token, path }: Question) {
        let cache = &mut self.caches[nth];
        let remote = match &cache.reach {
            Some(Reach::Remote(remote)) => remote,
            Some(Reach::Local(local)) => {
                let info = local.info(&path);
                let info = info.map_err(|reason| (reason, Failing::Once));
                return self.told(nth, (token, &path), info);
            }
            Some(Reach::Served(_)) | None => return,
        };
        let own = self.own.clone();
        let name = format!("{}.narinfo", path.hash_part());
        let ticket = remote.get(&name, NARINFO_MAX, move |file| {
            let _ = own.send(Event::Heard {
                cache: nth,
                token,
                file,
            });
        });
        cache.asked(token, path, Hold::Ticket(ticket));
    }

    /// What a cache says of a path has come.
    fn heard(&mut self, nth: usize, token: u32, file: Result<Option<Vec<u8>>, NetError>) {
        let cache = &mut self.caches[nth];
        // Of what was given up the path may have been asked for again.
        if is_cancelled(&file) {
            return;
        }
        let Some(open) = cache.open.remove(&token) else {
            return;
        };
        cache.heard = Instant::now();
        let path = &open.path;
        let store_dir = &self.config.trust.store_dir;
        let about = |reason: String| {
            let path = store_dir.display(path);
            format!("what it says of '{path}' can't be: {reason}")
        };
        let failing = Failing::of(&file).unwrap_or(Failing::Once);
        let info = file.map_err(|error| error.to_string()).and_then(|bytes| {
            let parse = |bytes: Vec<u8>| NarInfo::parse(&bytes, store_dir, path.hash_part());
            let info = bytes.map(parse).transpose();
            match info.map_err(|error| about(error.to_string()))? {
                Some(info) if info.store_path != *path => {
                    let other = store_dir.display(&info.store_path);
                    Err(about(format!("it is about '{other}'")))
                }
                info => Ok(info),
            }
        });
        let info = info.map_err(|reason| (reason, failing));
        self.told(nth, (token, path), info);
    }

    /// What a cache knows of a path is known, or why it is not.
    pub(super) fn told(
        &mut self,
        nth: usize,
        (token, path): (u32, &StorePath),
        info: Result<Option<NarInfo>, (String, Failing)>,
    ) {
        let info = match info {
            Ok(Some(info)) => info,
            Ok(None) => return (self.tell)(Answer::Lacks { cache: nth, token }),
            Err((reason, failing)) => {
                return (self.tell)(Answer::Failed {
                    cache: nth,
                    tokens: vec![token],
                    reason,
                    failing,
                });
            }
        };
        debug_assert!(info.store_path == *path);
        let cache = &mut self.caches[nth];
        if let Err(reason) = self.config.trust.check(&info, cache.url.params.trusted) {
            return (self.tell)(Answer::Distrusted {
                cache: nth,
                token,
                reason,
            });
        }
        let info = Arc::new(info);
        cache.unwritten.push(Arc::clone(&info));
        (self.tell)(Answer::Has {
            cache: nth,
            token,
            info,
            remembered: false,
        });
        if self.caches[nth].unwritten.len() >= WRITTEN_TOGETHER {
            self.write_down(|_| true);
        }
    }

    /// Writes down what such caches have said.
    fn write_down(&mut self, is_meant: impl Fn(&Cache) -> bool) {
        let Some(lookup) = &mut self.lookup else {
            return;
        };
        for cache in self.caches.iter_mut().filter(|cache| is_meant(cache)) {
            let infos = std::mem::take(&mut cache.unwritten);
            if let State::Open(Some(row)) = &cache.state
                && !infos.is_empty()
            {
                let rows = infos
                    .iter()
                    .map(|info| (info.store_path.hash_part(), Some(&**info)));
                lookup.put(row, &rows.collect::<Vec<_>>());
            }
        }
        self.warn();
    }

    fn forget(&mut self, nth: usize, path: &StorePath) {
        // What has not been written is not to be written afterwards.
        self.write_down(|_| true);
        if let (Some(lookup), State::Open(Some(row))) = (&mut self.lookup, &self.caches[nth].state)
        {
            lookup.forget(row, path.hash_part());
        }
    }

    fn download(&mut self, wish: Wish) {
        let cache = &mut self.caches[wish.cache];
        let answer = match &mut cache.reach {
            Some(Reach::Remote(remote)) => self.transfers.begin(wish, &cache.url, remote),
            Some(Reach::Served(peers)) => self.transfers.fetch(wish, peers),
            Some(Reach::Local(local)) => Some(Answer::Downloaded {
                cache: wish.cache,
                token: wish.token,
                result: Ok(Archive::Tree(local.place(&wish.info.store_path))),
            }),
            // Only an open one has said that it has something.
            None => None,
        };
        if let Some(answer) = answer {
            (self.tell)(answer);
        }
    }
}

/// Whether nobody wanted it any more.
fn is_cancelled(file: &Result<Option<Vec<u8>>, NetError>) -> bool {
    let error = file.as_ref().err();
    error.is_some_and(|error| error.kind() == error::Kind::Cancelled)
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        1 => "a second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}
