//! Binary caches in simulated time: what they have, how long they take to say so and to send it,
//! and how they fail. Whom to ask, whom to believe and what to do then is decided by the same table
//! and systems as in a real build.

mod link;
mod model;
pub(crate) mod systems;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bevy_ecs::prelude::World;
use hashbrown::HashMap;
use windrow_components::graph::BuildGraph;
use windrow_components::hash::Hash;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::store_path::StorePath;
use windrow_components::substitution::SubstituteInfo;
use windrow_components::task_graph::TaskGraph;
use windrow_net::asker::Left;
use windrow_net::compression::Compression;
use windrow_net::narinfo::NarInfo;

pub use self::model::{ALL, Cache, CacheSet, Fetch, Fetched};

use self::link::Link;
use crate::helpers::choice::BuildTimes;
use crate::helpers::{Offer, Substituters};
use crate::policy::draw;
use crate::spawn::downloads::Carrier;
use crate::world::Parts;

/// After how long a cache that says nothing at all is given up, as a real one is by default.
const SILENCE: Duration = Duration::from_secs(20);

/// A question or a download.
#[derive(Debug, Clone, Copy)]
struct Request {
    path: PathId,
    /// How many bytes come, if it is a download.
    bytes: Option<u64>,
    fails: bool,
    connection: u32,
    start: u64,
}

/// What happens at an instant, beside the ends of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The answer to the request with that number begins.
    Begins(u64),
    /// A cache has been silent for too long.
    Silence,
}

/// What a cache has said or sent.
#[derive(Debug)]
pub(crate) enum News {
    /// An answer to a question, unless that failed.
    Answered { path: PathId, fails: bool },
    /// The end of a download.
    Downloaded { path: PathId, fails: bool },
    /// Nothing at all of these paths, for too long.
    Silent(Vec<PathId>),
}

/// A cache at work.
#[derive(Debug)]
struct Server {
    cache: Cache,
    link: Link<Request>,
    waiting: VecDeque<Request>,
    /// Requests that have a connection, and whose answers have not begun.
    asked: BTreeMap<u64, Request>,
    begun: u64,
    /// Connections that are not in use, the first at the top, and how many were ever opened.
    free: BinaryHeap<Reverse<u32>>,
    opened: u32,
    /// What it is asked for and never answers.
    unheard: Vec<PathId>,
    is_open: bool,
}

/// All caches at work.
#[derive(Debug)]
pub(crate) struct SimulatedCaches {
    servers: Vec<Server>,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    sizes: Vec<u64>,
    references: u32,
    seed: u64,
    attempts: HashMap<(usize, PathId, bool), u64>,
    /// What was said of a path of some size, which is mostly that of the next as well.
    last: Option<Arc<NarInfo>>,
    record: bool,
    now: u64,
    /// How many bytes have come, and how many downloads did not.
    bytes: u64,
    failures: u64,
    last_end: u64,
    fetches: Vec<Fetch>,
}

/// Adds caches to a simulated world, with the seed of what is drawn, and whether downloads are
/// recorded.
pub(super) fn plug_in(
    world: &mut World,
    caches: &CacheSet,
    (seed, record): (u64, bool),
    tasks: &TaskGraph,
) {
    assert_eq!(caches.sizes.len(), tasks.len(), "sizes of outputs");
    let names = caches.all.iter().map(|cache| cache.name.clone());
    world.insert_resource(Substituters::new([], names));
    world.insert_non_send(SimulatedCaches::new(caches, seed, record));
    if caches.prefer_builds {
        let times: Vec<u64> = tasks.tasks().map(|task| tasks.duration(task)).collect();
        world.insert_resource(BuildTimes::new(move |_, drv| {
            times.get(drv.index()).copied().map(Duration::from_micros)
        }));
    }
    world.resource_mut::<Parts>().simulated_caches = true;
}

/// What came from caches, and when the last of it did.
pub(super) fn take_fetched(world: &mut World) -> (Fetched, u64) {
    let Some(caches) = world.remove_non_send::<SimulatedCaches>() else {
        return (Fetched::default(), 0);
    };
    let fetched = Fetched {
        paths: 0,
        bytes: caches.bytes,
        failures: caches.failures,
        downloads: caches.fetches,
    };
    (fetched, caches.last_end)
}

impl Server {
    fn new(cache: Cache) -> Self {
        Self {
            link: Link::new(cache.bandwidth),
            cache,
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            begun: 0,
            free: BinaryHeap::new(),
            opened: 0,
            unheard: Vec::new(),
            is_open: false,
        }
    }

    /// Begins what has waited for a connection, as far as there are connections. When answers to
    /// it begin, and to which.
    fn connect(&mut self, now: u64) -> Vec<u64> {
        let mut begun = Vec::new();
        while let Some(connection) = self.take_connection() {
            let Some(mut request) = self.waiting.pop_front() else {
                self.free.push(Reverse(connection));
                break;
            };
            (request.connection, request.start) = (connection, now);
            self.asked.insert(self.begun, request);
            begun.push(self.begun);
            self.begun += 1;
        }
        begun
    }

    fn take_connection(&mut self) -> Option<u32> {
        if let Some(Reverse(free)) = self.free.pop() {
            return Some(free);
        }
        (self.opened < self.cache.connections).then(|| {
            self.opened += 1;
            self.opened - 1
        })
    }
}

impl SimulatedCaches {
    pub(super) fn new(caches: &CacheSet, seed: u64, record: bool) -> Self {
        Self {
            servers: caches.all.iter().cloned().map(Server::new).collect(),
            events: BinaryHeap::new(),
            sizes: caches.sizes.clone(),
            references: caches.references,
            seed,
            attempts: HashMap::new(),
            last: None,
            record,
            now: 0,
            bytes: 0,
            failures: 0,
            last_end: 0,
            fetches: Vec::new(),
        }
    }

    /// Asks a cache for paths.
    pub(crate) fn ask(&mut self, cache: usize, paths: Vec<PathId>) {
        let server = &mut self.servers[cache];
        if server.cache.is_dead {
            if server.unheard.is_empty() {
                let at = self.now + units(SILENCE);
                self.events.push(Reverse((at, cache, Event::Silence)));
            }
            server.unheard.extend(paths);
            return;
        }
        for path in paths {
            let fails = self.fails(cache, path, false);
            self.request(cache, path, None, fails);
        }
        self.connect(cache);
    }

    fn request(&mut self, cache: usize, path: PathId, bytes: Option<u64>, fails: bool) {
        let (connection, start) = (0, 0);
        self.servers[cache].waiting.push_back(Request {
            path,
            bytes,
            fails,
            connection,
            start,
        });
    }

    fn connect(&mut self, cache: usize) {
        let server = &mut self.servers[cache];
        let at = self.now.saturating_add(units(server.cache.latency));
        for request in server.connect(self.now) {
            let event = Event::Begins(request);
            self.events.push(Reverse((at, cache, event)));
        }
    }

    /// Whether a request fails; the same whatever else happens before it.
    fn fails(&mut self, cache: usize, path: PathId, is_download: bool) -> bool {
        let errors = self.servers[cache].cache.errors;
        if errors == 0 {
            return false;
        }
        let attempt = self.attempts.entry((cache, path, is_download)).or_default();
        *attempt += 1;
        let stream = 2 + u64::from(is_download) + 2 * *attempt;
        self.drawn(stream, cache, path) < u64::from(errors)
    }

    /// A number below a million.
    fn drawn(&self, stream: u64, cache: usize, path: PathId) -> u64 {
        let seed = draw(self.seed ^ stream, DrvId::from_index(cache));
        draw(seed, DrvId::from_index(path.index())) % u64::from(ALL)
    }

    /// Whether a cache has a path.
    fn has(&self, cache: usize, path: PathId) -> bool {
        self.drawn(0, cache, path) < u64::from(self.servers[cache].cache.hit)
    }

    /// What a cache says of a path, if it has it.
    pub(crate) fn offer(
        &mut self,
        cache: usize,
        path: PathId,
        graph: &BuildGraph,
    ) -> Option<Offer> {
        if !self.has(cache, path) {
            return None;
        }
        let task = self.task(path);
        let inputs = graph.inputs(DrvId::from_index(task));
        let inputs = inputs.map(|input| graph.outputs(input.drv)[0].path);
        // All caches have the same path.
        let named = |to: &PathId| {
            let edge = draw(self.seed ^ 1, DrvId::from_index(path.index()));
            let drawn = draw(edge, DrvId::from_index(to.index())) % u64::from(ALL);
            drawn < u64::from(self.references)
        };
        let references: Vec<PathId> = inputs.filter(named).collect();
        let bytes = self.sizes[task];
        let nar = self.nar(bytes);
        let info = SubstituteInfo {
            references: references.into(),
            download_size: bytes,
            nar_size: nar.nar_size,
            deriver: None,
        };
        Some(Offer::of_cache(info, nar, false))
    }

    /// The task whose output lies there.
    fn task(&self, output: PathId) -> usize {
        output.index() - self.sizes.len()
    }

    fn nar(&mut self, bytes: u64) -> Arc<NarInfo> {
        if let Some(last) = &self.last
            && last.file_size == Some(bytes)
        {
            return Arc::clone(last);
        }
        let nar = Arc::new(NarInfo {
            store_path: StorePath::from_base_name(NAME).expect("a store path"),
            url: String::new(),
            compression: Compression::None,
            file_hash: None,
            file_size: Some(bytes),
            nar_hash: Hash::sha256(&[0; 32]),
            nar_size: bytes.max(1),
            references: Vec::new(),
            deriver: None,
            sigs: Vec::new(),
            ca: None,
        });
        self.last = Some(Arc::clone(&nar));
        nar
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<u64> {
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        let ends = self.servers.iter().filter_map(|it| it.link.next_end());
        ends.chain(event).min()
    }

    /// It is `now`, and no more than that has happened: what caches have said and sent, in the
    /// order of the caches.
    pub(crate) fn take_news(&mut self, now: u64) -> Vec<(usize, News)> {
        self.now = now;
        let mut news = Vec::new();
        for cache in 0..self.servers.len() {
            while let Some(request) = self.servers[cache].link.pop_ended(now) {
                self.end(cache, request);
                news.push((
                    cache,
                    News::Downloaded {
                        path: request.path,
                        fails: request.fails,
                    },
                ));
            }
            self.connect(cache);
        }
        while let Some(&Reverse((at, cache, event))) = self.events.peek()
            && at <= now
        {
            self.events.pop();
            match event {
                Event::Silence => {
                    let unheard = std::mem::take(&mut self.servers[cache].unheard);
                    news.push((cache, News::Silent(unheard)));
                }
                Event::Begins(number) => {
                    let server = &mut self.servers[cache];
                    let Some(request) = server.asked.remove(&number) else {
                        continue;
                    };
                    let Request { path, fails, .. } = request;
                    if let Some(bytes) = request.bytes {
                        server.link.begin(request, bytes, now);
                        continue;
                    }
                    server.free.push(Reverse(request.connection));
                    news.push((cache, News::Answered { path, fails }));
                    self.connect(cache);
                }
            }
        }
        news
    }

    /// A download has ended, or is given up.
    fn end(&mut self, cache: usize, request: Request) {
        self.servers[cache].free.push(Reverse(request.connection));
        let bytes = request.bytes.unwrap_or_default();
        self.bytes += bytes;
        self.failures += u64::from(request.fails);
        if !request.fails {
            self.last_end = self.now;
        }
        if self.record {
            self.fetches.push(Fetch {
                task: self.task(request.path) as u32,
                cache: cache as u32,
                connection: request.connection,
                start: request.start,
                end: self.now,
                bytes,
                failed: request.fails,
            });
        }
    }

    /// Whether a cache is heard of for the first time, which tells its priority.
    pub(crate) fn open(&mut self, cache: usize) -> Option<i64> {
        let server = &mut self.servers[cache];
        let is_new = !std::mem::replace(&mut server.is_open, true);
        is_new.then_some(server.cache.priority)
    }
}

impl Carrier for SimulatedCaches {
    fn download(&mut self, cache: usize, path: PathId, (info, _): (&Arc<NarInfo>, Arc<AtomicU64>)) {
        let all = info.file_size.unwrap_or(info.nar_size);
        let fails = self.fails(cache, path, true);
        // One that fails does so half way.
        let bytes = if fails { all / 2 } else { all };
        self.request(cache, path, Some(bytes), fails);
        self.connect(cache);
    }

    fn cancel(&mut self, path: PathId, _: Left) {
        let is_it = |request: &Request| request.path == path && request.bytes.is_some();
        for cache in 0..self.servers.len() {
            let server = &mut self.servers[cache];
            server.waiting.retain(|request| !is_it(request));
            let asked = server.asked.extract_if(.., |_, request| is_it(request));
            let mut given_up: Vec<Request> = asked.map(|(_, request)| request).collect();
            given_up.extend(server.link.give_up(is_it, self.now));
            let connections = given_up.iter().map(|it| Reverse(it.connection));
            server.free.extend(connections);
            self.connect(cache);
        }
    }
}

/// What stands for the path of every output in what caches say.
const NAME: &str = "00000000000000000000000000000000-task";

fn units(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
