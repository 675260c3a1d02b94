//! Archives of paths on their way from binary caches: which are under way, which wait for their
//! turn, and which are here. They come in no order of references; the largest are begun first, for
//! they are what a run waits for in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bevy_ecs::prelude::{Entity, Resource};
use hashbrown::HashMap;
use smallvec::SmallVec;
use windrow_components::ids::PathId;
use windrow_net::asker::{Archive, DownloadError, Left};
use windrow_net::narinfo::NarInfo;

use crate::report::Transfer;
use crate::world::ReadyFetch;

/// How many are under way from one substituter at a time, at most. How many connections they share
/// is the client's matter.
const AT_ONCE: usize = 64;

/// A download that is to be begun: of which path, from which substituter, what that said of it, and
/// where it is counted how many bytes are here.
pub type Begun = (PathId, usize, Arc<NarInfo>, Arc<AtomicU64>);

/// What came of a download.
pub type Came = Result<Archive, DownloadError>;

/// How far a download is.
#[derive(Debug)]
enum State {
    Waiting,
    UnderWay,
    Over(Came),
}

/// A download.
#[derive(Debug)]
struct Download {
    sub: usize,
    info: Arc<NarInfo>,
    state: State,
    /// The goals that can do nothing before it is over: one that wants the path, one that repairs
    /// it.
    goals: SmallVec<[Entity; 2]>,
    /// Whether people have been told of it.
    is_announced: bool,
    /// How many bytes of it are here.
    received: Arc<AtomicU64>,
}

/// What one substituter is to send. Each has its own, so that a slow one holds up no other.
#[derive(Debug, Default)]
struct Line {
    /// Those that wait, the largest at the top, and among equals the first.
    waiting: BinaryHeap<(u64, Reverse<u64>, PathId)>,
    under_way: usize,
}

/// All of them.
#[derive(Debug, Resource)]
pub struct Downloads {
    /// How many are under way from one substituter at a time.
    at_once: usize,
    all: HashMap<PathId, Download>,
    /// What each substituter is to send.
    lines: HashMap<usize, Line>,
    begun: u64,
    /// Goals whose downloads are over.
    over: Vec<(Entity, PathId)>,
    to_unpack: Vec<ReadyFetch>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            at_once: AT_ONCE,
            all: HashMap::new(),
            lines: HashMap::new(),
            begun: 0,
            over: Vec::new(),
            to_unpack: Vec::new(),
        }
    }
}

impl Downloads {
    /// Has no more under way from one substituter at a time; one may always.
    pub fn bound(&mut self, most: usize) {
        self.at_once = most.clamp(1, AT_ONCE);
    }

    /// Has a path downloaded from that substituter, unless it is already, or the same is here from
    /// another one. Tells whether one from another substituter is to be cancelled for that.
    pub fn want(&mut self, path: PathId, sub: usize, info: &Arc<NarInfo>) -> bool {
        let (mut replaces, mut goals) = (false, SmallVec::new());
        let mut received = Arc::default();
        if let Some(known) = self.all.get_mut(&path) {
            let is_same =
                known.info.nar_hash == info.nar_hash && known.info.references == info.references;
            let is_wanted = match known.state {
                State::Waiting | State::UnderWay => known.sub == sub,
                State::Over(Ok(_)) => known.sub == sub || is_same,
                State::Over(Err(_)) => false,
            };
            if is_wanted {
                return false;
            }
            // What failed before the goal was there was another attempt.
            goals = std::mem::take(&mut known.goals);
            received = Arc::clone(&known.received);
            received.store(0, Ordering::Relaxed);
            replaces = self.forget(path, Left::Kept);
        }
        let download = Download {
            sub,
            info: Arc::clone(info),
            state: State::Waiting,
            is_announced: !goals.is_empty(),
            goals,
            received,
        };
        self.all.insert(path, download);
        let size = info.file_size.unwrap_or(info.nar_size);
        let line = self.lines.entry(sub).or_default();
        line.waiting.push((size, Reverse(self.begun), path));
        self.begun += 1;
        replaces
    }

    /// The next to be begun, from which substituter, if there may be one more.
    pub fn begin_next(&mut self) -> Option<Begun> {
        for (&sub, line) in &mut self.lines {
            while line.under_way < self.at_once
                && let Some((.., path)) = line.waiting.pop()
            {
                if let Some(download) = self.all.get_mut(&path)
                    && download.sub == sub
                    && matches!(download.state, State::Waiting)
                {
                    download.state = State::UnderWay;
                    line.under_way += 1;
                    let (info, received) = (&download.info, &download.received);
                    return Some((path, sub, Arc::clone(info), Arc::clone(received)));
                }
            }
        }
        None
    }

    /// The substituters from which something waits to be downloaded.
    pub fn awaited(&self) -> Vec<usize> {
        let lines = self.lines.iter();
        let lines = lines.filter(|(_, line)| !line.waiting.is_empty());
        lines.map(|(&sub, _)| sub).collect()
    }

    /// Nothing more is downloaded from a substituter: what waits for that is over.
    pub fn fail_waiting(&mut self, sub: usize, error: &DownloadError) {
        let Some(line) = self.lines.get_mut(&sub) else {
            return;
        };
        for (.., path) in line.waiting.drain() {
            if let Some(download) = self.all.get_mut(&path)
                && download.sub == sub
                && matches!(download.state, State::Waiting)
            {
                download.state = State::Over(Err(error.clone()));
                let goals = download.goals.iter();
                self.over.extend(goals.map(|&goal| (goal, path)));
            }
        }
    }

    /// A download is over. What nobody wants any more is thrown away.
    pub fn end(&mut self, path: PathId, sub: usize, result: Came) {
        let download = self.all.get_mut(&path);
        let download = download.filter(|it| it.sub == sub && matches!(it.state, State::UnderWay));
        let Some(download) = download else {
            return drop(result.map(Archive::discard));
        };
        if result.is_ok() {
            // Also of what was here already.
            let size = download.info.file_size.unwrap_or(download.info.nar_size);
            download.received.store(size, Ordering::Relaxed);
        }
        download.state = State::Over(result);
        self.lines.entry(sub).or_default().under_way -= 1;
        let goals = download.goals.iter();
        self.over.extend(goals.map(|&goal| (goal, path)));
    }

    /// A goal can do nothing before the download of its path is over, and is told then. It is begun
    /// if it was not, from that substituter.
    pub fn wait(&mut self, fetch: ReadyFetch, sub: usize, info: &Arc<NarInfo>) {
        let ReadyFetch { goal, path } = fetch;
        if !self.all.contains_key(&path) {
            // Perhaps all who wanted it had gone for a while.
            self.want(path, sub, info);
        }
        if let Some(download) = self.all.get_mut(&path) {
            if !download.goals.contains(&goal) {
                download.goals.push(goal);
            }
            if matches!(download.state, State::Over(_)) {
                self.over.push((goal, path));
            }
        }
    }

    /// Whether a path's archive is here.
    pub fn is_here(&self, path: PathId) -> bool {
        let state = self.all.get(&path).map(|download| &download.state);
        matches!(state, Some(State::Over(Ok(_))))
    }

    /// How far a download is.
    pub fn transfer(&self, path: PathId) -> Option<Transfer> {
        let Download { info, received, .. } = self.all.get(&path)?;
        Some(Transfer {
            size: info.file_size.unwrap_or(info.nar_size),
            received: Arc::clone(received),
        })
    }

    /// Whether nobody has been told yet that a path is being fetched; asked once.
    pub fn announce(&mut self, path: PathId) -> bool {
        let download = self.all.get_mut(&path);
        download.is_some_and(|download| !std::mem::replace(&mut download.is_announced, true))
    }

    /// A path's archive is to be unpacked.
    pub fn unpack(&mut self, fetch: ReadyFetch) {
        self.to_unpack.push(fetch);
    }

    /// The paths whose archives are to be unpacked.
    pub fn take_to_unpack(&mut self) -> Vec<ReadyFetch> {
        std::mem::take(&mut self.to_unpack)
    }

    /// Goals whose downloads are over, and of which paths.
    pub fn take_over(&mut self) -> Vec<(Entity, PathId)> {
        std::mem::take(&mut self.over)
    }

    /// Whether there is one, or something to be unpacked.
    pub fn has_news(&self) -> bool {
        !self.over.is_empty() || !self.to_unpack.is_empty()
    }

    /// What came of a download that is over, from which substituter, and what that said of it.
    pub fn take(&mut self, path: PathId) -> Option<(usize, Came, Arc<NarInfo>)> {
        let download = self.all.remove(&path)?;
        match download.state {
            State::Over(result) => Some((download.sub, result, download.info)),
            State::Waiting | State::UnderWay => {
                self.all.insert(path, download);
                None
            }
        }
    }

    /// Nobody wants a path any more. Tells whether its download is under way, and to be cancelled.
    pub fn forget(&mut self, path: PathId, left: Left) -> bool {
        let Some(download) = self.all.remove(&path) else {
            return false;
        };
        self.over.retain(|(_, other)| *other != path);
        match download.state {
            State::Waiting => false,
            State::UnderWay => {
                self.lines.entry(download.sub).or_default().under_way -= 1;
                true
            }
            State::Over(result) => {
                if left == Left::Discarded {
                    drop(result.map(Archive::discard));
                }
                false
            }
        }
    }

    /// The paths that are downloaded, or have been, in the order of their ids.
    pub fn paths(&self) -> Vec<PathId> {
        let mut paths: Vec<PathId> = self.all.keys().copied().collect();
        paths.sort_unstable();
        paths
    }
}

#[cfg(test)]
mod tests {
    use windrow_components::hash::Hash;
    use windrow_components::store_path::StorePath;
    use windrow_net::asker::AtFault;
    use windrow_net::compression::Compression;

    use super::*;

    fn info(size: u64) -> Arc<NarInfo> {
        let name = "00000000000000000000000000000000-x";
        Arc::new(NarInfo {
            store_path: StorePath::from_base_name(name).unwrap(),
            url: "nar/x".to_owned(),
            compression: Compression::None,
            file_hash: None,
            file_size: Some(size),
            nar_hash: Hash::sha256(&[0; 32]),
            nar_size: size,
            references: Vec::new(),
            deriver: None,
            sigs: Vec::new(),
            ca: None,
        })
    }

    fn archive() -> Came {
        Ok(Archive::InPlace("/x".into()))
    }

    #[test]
    fn the_largest_come_first_and_not_all_at_once() {
        let mut downloads = Downloads::default();
        let path = PathId::from_index;
        for index in 0..AT_ONCE {
            downloads.want(path(index), 0, &info(7));
        }
        downloads.want(path(100), 0, &info(1));
        downloads.want(path(200), 0, &info(9));
        assert!(!downloads.want(path(200), 0, &info(9)), "it is the same");
        let begun: Vec<PathId> = std::iter::from_fn(|| downloads.begin_next())
            .map(|(path, ..)| path)
            .collect();
        assert_eq!(begun.len(), AT_ONCE);
        assert_eq!(begun[..3], [path(200), path(0), path(1)]);
        downloads.end(path(200), 0, archive());
        assert_eq!(downloads.begin_next().unwrap().0, path(63));
        assert!(downloads.begin_next().is_none());
        assert!(downloads.forget(path(0), Left::Kept));
        assert!(!downloads.forget(path(100), Left::Kept));
        assert!(downloads.begin_next().is_none());
    }

    #[test]
    fn fewer_are_under_way_where_few_files_may_be_open() {
        let mut downloads = Downloads::default();
        downloads.bound(0);
        for index in 0..2 {
            downloads.want(PathId::from_index(index), 0, &info(1));
        }
        let (path, ..) = downloads.begin_next().unwrap();
        assert!(downloads.begin_next().is_none());
        downloads.end(path, 0, archive());
        assert!(downloads.begin_next().is_some());
    }

    #[test]
    fn a_goal_is_told_once_its_path_is_here() {
        let mut downloads = Downloads::default();
        let [early, late] = [0, 1].map(PathId::from_index);
        let goal = |index| Entity::from_raw_u32(index).unwrap();
        for path in [early, late] {
            downloads.want(path, 3, &info(1));
            downloads.begin_next().unwrap();
        }
        downloads.end(early, 3, archive());
        assert!(!downloads.has_news() && downloads.take(late).is_none());
        let mut wait = |path, number| {
            let goal = goal(number);
            downloads.wait(ReadyFetch { goal, path }, 3, &info(1));
        };
        wait(early, 1);
        wait(late, 2);
        assert!(downloads.is_here(early) && !downloads.is_here(late));
        assert_eq!(downloads.take_over(), [(goal(1), early)]);
        // What another substituter sent before it was given up is not taken for this one's.
        downloads.end(late, 2, archive());
        assert!(!downloads.has_news());
        downloads.end(late, 3, archive());
        assert_eq!(downloads.take_over(), [(goal(2), late)]);
        assert!(
            downloads
                .take(late)
                .is_some_and(|(_, result, _)| result.is_ok())
        );
        assert_eq!(downloads.paths(), [early]);
    }

    #[test]
    fn one_that_sends_nothing_holds_up_no_other() {
        let mut downloads = Downloads::default();
        for index in 0..=AT_ONCE {
            downloads.want(PathId::from_index(index), 0, &info(1));
        }
        while downloads.begin_next().is_some() {}
        let path = PathId::from_index(1000);
        downloads.want(path, 1, &info(1));
        assert_eq!(downloads.begin_next().unwrap().0, path);
        assert!(downloads.begin_next().is_none());
    }

    #[test]
    fn what_is_here_is_kept_whoever_sent_it() {
        let mut downloads = Downloads::default();
        let path = PathId::from_index(0);
        downloads.want(path, 1, &info(1));
        downloads.begin_next().unwrap();
        downloads.end(path, 1, archive());
        assert!(!downloads.want(path, 0, &info(1)));
        assert!(downloads.begin_next().is_none());
        // Not if a better one has something else.
        let other = Arc::new(NarInfo {
            nar_hash: Hash::sha256(&[1; 32]),
            ..(*info(1)).clone()
        });
        assert!(!downloads.want(path, 0, &other), "it is over");
        assert_eq!(downloads.begin_next().unwrap().1, 0);
    }

    #[test]
    fn what_waits_for_one_that_is_left_out_is_over() {
        let mut downloads = Downloads::default();
        downloads.bound(1);
        let [begun, waits, elsewhere] = [0, 1, 2].map(PathId::from_index);
        let goal = |index| Entity::from_raw_u32(index).unwrap();
        for (path, sub) in [(begun, 0), (waits, 0), (elsewhere, 1)] {
            downloads.want(path, sub, &info(1));
            let goal = goal(path.index() as u32 + 1);
            downloads.wait(ReadyFetch { goal, path }, sub, &info(1));
            downloads.begin_next();
        }
        assert_eq!(downloads.awaited(), [0]);
        let error = DownloadError {
            message: String::new(),
            at_fault: AtFault::Here,
        };
        downloads.fail_waiting(0, &error);
        assert!(downloads.awaited().is_empty());
        assert_eq!(downloads.take_over(), [(goal(2), waits)]);
        assert!(matches!(downloads.take(waits), Some((0, Err(_), _))));
        assert!(downloads.take(begun).is_none() && downloads.take(elsewhere).is_none());
    }

    #[test]
    fn who_repairs_a_path_and_who_wants_it_are_both_told() {
        let mut downloads = Downloads::default();
        let path = PathId::from_index(0);
        let goals = [1, 2].map(|index| Entity::from_raw_u32(index).unwrap());
        for goal in goals.into_iter().chain(goals) {
            downloads.wait(ReadyFetch { goal, path }, 0, &info(1));
        }
        downloads.begin_next().unwrap();
        downloads.end(path, 0, archive());
        assert_eq!(downloads.take_over(), goals.map(|goal| (goal, path)));
    }

    #[test]
    fn another_substituter_takes_over() {
        let mut downloads = Downloads::default();
        let path = PathId::from_index(0);
        downloads.want(path, 0, &info(1));
        downloads.begin_next().unwrap();
        assert!(downloads.want(path, 1, &info(1)), "it is under way");
        assert_eq!(downloads.begin_next().unwrap().1, 1);
        let error = DownloadError {
            message: String::new(),
            at_fault: AtFault::Cache,
        };
        downloads.end(path, 1, Err(error));
        let goal = Entity::from_raw_u32(1).unwrap();
        downloads.wait(ReadyFetch { goal, path }, 1, &info(1));
        assert!(!downloads.want(path, 1, &info(1)), "it is over");
        assert_eq!(downloads.begin_next().unwrap().1, 1);
        // Who waited for the attempt that failed waits for this one.
        assert!(!downloads.has_news());
        downloads.end(path, 1, archive());
        assert_eq!(downloads.take_over(), [(goal, path)]);
    }
}
