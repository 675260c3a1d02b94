//! All that runs in a store at a moment, from what runs tell and from the locks that the kernel
//! shows: another program, such as Nix, tells nothing and holds a lock on what it builds.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User};
use windrow_components::run_record::{Activity, RunCounts, RunState, Work};
use windrow_store::own::history::History;
use windrow_store::runs::{RunReader, living};
use windrow_sys::waiting::LockTable;

use super::tail::{last_line, live_path};
use crate::error::{Error, Result};
use crate::session::Session;

/// What the files of locks end in.
const LOCK: &str = ".lock";

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Whose it is, if that is known.
    pub(crate) uid: Option<u32>,
    /// That user's name, if it has one.
    pub(crate) user: Option<String>,
    /// Its command line; empty if it can't be seen.
    pub(crate) command: Vec<String>,
}

/// A run of windrow.
#[derive(Debug)]
pub(crate) struct RunView {
    pub(crate) process: Process,
    /// When it began, in milliseconds since 1970.
    pub(crate) began_ms: u64,
    pub(crate) counts: RunCounts,
    pub(crate) works: Vec<WorkView>,
}

/// Something that a run has under way.
#[derive(Debug)]
pub(crate) struct WorkView {
    pub(crate) activity: Activity,
    /// The derivation's name, or that of the path.
    pub(crate) name: String,
    /// How long it will take, by the history.
    pub(crate) expected: Option<Duration>,
    /// The last line of its log.
    pub(crate) last_line: Option<String>,
    /// Where its log can be read now.
    pub(crate) log: Option<PathBuf>,
}

/// What runs in a store.
#[derive(Debug)]
pub(crate) struct Overview {
    /// Runs of windrow, the oldest first.
    pub(crate) runs: Vec<RunView>,
    /// Store paths that other processes have locked.
    pub(crate) locked: Vec<(String, Process)>,
}

impl Overview {
    /// Gathers it.
    ///
    /// # Errors
    /// When the state of the store can't be read.
    pub(crate) fn gather(session: &Session) -> Result<Self> {
        let layout = &session.layout;
        // What took how long is not worth an error here.
        let history = History::load(layout).unwrap_or_default();
        let table = LockTable::read();
        let readers = living(layout).map_err(Error::io("read", layout.runs_dir()))?;
        let runs = readers.into_iter();
        let runs = runs.filter_map(|run| RunView::read(run, &table, (session, &history)));
        let mut runs: Vec<RunView> = runs.collect();
        runs.sort_by_key(|run| (run.began_ms, run.process.pid));
        let mut locked = locked(&layout.real_store_dir, &layout.store_dir, &table);
        locked.retain(|(_, pid)| runs.iter().all(|run| run.process.pid != *pid));
        let locked = locked
            .into_iter()
            .map(|(path, pid)| (path, Process::seen(pid)));
        Ok(Self {
            locked: locked.collect(),
            runs,
        })
    }
}

impl RunView {
    /// `None` if the run has ended, or has told nothing that can be read.
    fn read(
        mut reader: RunReader,
        table: &LockTable,
        (session, history): (&Session, &History),
    ) -> Option<Self> {
        let metadata = reader.metadata().ok()?;
        let mut state = RunState::default();
        let news = reader.news().ok()??;
        news.iter().for_each(|record| state.take(record));
        let run = state.run?;
        let works = state.activities.into_values();
        let works = works.map(|it| WorkView::new(it, session, history));
        let mut works: Vec<WorkView> = works.collect();
        works.sort_by_key(|work| (work.activity.at, work.activity.id));
        Some(Self {
            process: Process {
                // As it is numbered here, if that can be seen.
                pid: table.holder(&metadata).unwrap_or(run.pid),
                uid: Some(metadata.uid()),
                user: name_of(metadata.uid()),
                command: run.command,
            },
            began_ms: run.began,
            counts: state.counts,
            works,
        })
    }
}

impl WorkView {
    fn new(activity: Activity, session: &Session, history: &History) -> Self {
        let path = session.store_dir().parse(&activity.path);
        let name = path.map_or_else(|_| activity.path.clone(), |path| path.name().to_owned());
        let (mut expected, mut line, mut log) = (None, None, None);
        let mut name = name.as_str();
        if let Work::Build {
            system, log: at, ..
        } = &activity.work
        {
            name = name.strip_suffix(".drv").unwrap_or(name);
            expected = history.estimate(name, system);
            if !at.is_empty() {
                let live = live_path(Path::new(at));
                line = last_line(&live);
                log = Some(if live.exists() { live } else { at.into() });
            }
        }
        Self {
            name: name.strip_suffix(".drv").unwrap_or(name).to_owned(),
            expected: expected.map(Duration::from_micros),
            last_line: line,
            log,
            activity,
        }
    }
}

impl Process {
    /// One that is known by its number alone.
    fn seen(pid: u32) -> Self {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let uid = fs::metadata(&dir).ok().as_ref().map(Metadata::uid);
        let words = fs::read(dir.join("cmdline")).unwrap_or_default();
        let words = words.split(|&byte| byte == 0);
        let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
        let mut command: Vec<String> = words.collect();
        command.pop_if(|last| last.is_empty());
        Self {
            pid,
            uid,
            user: uid.and_then(name_of),
            command,
        }
    }
}

fn name_of(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    Some(user.name)
}

/// The store paths that processes have locked, sorted.
fn locked(real_dir: &Path, store_dir: &str, table: &LockTable) -> Vec<(String, u32)> {
    let mut locked = Vec::new();
    for entry in fs::read_dir(real_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(LOCK));
        if let Some(base) = base
            && let Ok(metadata) = entry.metadata()
            && let Some(pid) = table.holder(&metadata)
        {
            locked.push((format!("{store_dir}/{base}"), pid));
        }
    }
    locked.sort();
    locked
}
