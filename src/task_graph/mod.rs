//! Where task graphs come from: files of several formats, derivations, generators.

mod build_graph;
mod derivations;
mod durations;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use windrow_components::count::size as in_words;
use windrow_components::task_graph::{Limits, Stats, TaskGraph, TaskGraphError};
use windrow_formats::json_graph::{Pick, Picker};
use windrow_formats::task_graph::{Generator, load_part};
use windrow_systems::instantiate::parse_graph;
use windrow_systems::simulate::memory_needed;

use crate::error::{Error, Result};
use crate::installable::{GraphSource, GraphTarget, in_graph};
use crate::memory;
use crate::session::Session;

pub use durations::{HISTORY, set as set_durations};

/// A derivation's name and platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDerivation {
    /// Without hash and `.drv`.
    pub name: String,
    /// What it is built on.
    pub system: String,
}

/// A graph, and what its tasks are.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The graph.
    pub graph: TaskGraph,
    /// What each task is, if they are derivations; else empty.
    pub derivations: Vec<NamedDerivation>,
}

impl From<TaskGraph> for Loaded {
    fn from(graph: TaskGraph) -> Self {
        Self {
            graph,
            derivations: Vec::new(),
        }
    }
}

/// Loads the graph that `what` names: an existing file or directory, one of the graphs in a file as
/// `FILE:NAME`, a derivation of the store, else a generator. Only derivations need a session, to
/// find what they need or their platform.
///
/// # Errors
/// When the file can't be read or is malformed, the generator is unknown, or the graph would not
/// fit into memory.
pub fn load(what: &str, session: impl FnOnce() -> Result<Session>) -> Result<Loaded> {
    let limits = limits();
    let (path, pick) = match in_graph(OsStr::new(what)).map_err(Error::not_to_build)? {
        Some(GraphTarget {
            source: GraphSource::File(file),
            pick,
            ..
        }) => (file, pick),
        _ => (PathBuf::from(what), None),
    };
    let path = path.as_path();
    if path.is_dir() {
        return derivations::load_directory(path, limits);
    }
    if pick.is_none() && what.ends_with(".drv") {
        return derivations::load_closure(path, &session()?.layout, limits);
    }
    let (path, part) = match what.rsplit_once(':') {
        Some((file, part)) if !path.exists() && Path::new(file).is_file() => {
            (Path::new(file), Some(part))
        }
        _ => (path, None),
    };
    if !path.exists() && what.contains(':') {
        return Ok(what.parse::<Generator>()?.generate(limits)?.into());
    }
    let text = read("read the graph", path, limits)?;
    if path.extension().is_some_and(|it| it == "json") {
        let loaded = derivations_of(what, (path, &text), pick.as_ref(), session)?;
        if let Some(loaded) = loaded {
            return Ok(loaded);
        }
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut include =
        |file: &Path| read_at_most(&directory.join(file), self::limits().memory_bytes);
    // What is left now that the text is there.
    let file = path.display().to_string();
    Ok(load_part(None, (&file, part), &text, self::limits(), &mut include)?.into())
}

/// The graph of derivations that a file has, or a part of that; none if it has a graph of another
/// kind.
fn derivations_of(
    what: &str,
    (file, text): (&Path, &[u8]),
    pick: Option<&Pick>,
    session: impl FnOnce() -> Result<Session>,
) -> Result<Option<Loaded>> {
    let bad = |reason: &str| Error::BadArgument {
        what: what.to_owned(),
        reason: reason.to_owned(),
    };
    let Some(suspected) = build_graph::suspected(text) else {
        return match pick {
            Some(_) => Err(bad("only graphs of derivations have names to pick by")),
            None => Ok(None),
        };
    };
    let mut graph = match parse_graph(suspected, file, &session()?.settings.system) {
        Ok(graph) => graph,
        Err(error) => {
            // The word may stand in a graph of another kind.
            let other = load_part(None, (what, None), text, limits(), &mut no_include);
            return match other {
                Ok(graph) if pick.is_none() => Ok(Some(graph.into())),
                _ => Err(error.into()),
            };
        }
    };
    if let Some(pick) = pick {
        let target = Picker::new(&graph).pick(pick);
        let target = target.map_err(|error| bad(&error.to_string()))?;
        graph.keep_only(vec![target]);
    }
    build_graph::as_tasks(what, &graph, limits()).map(Some)
}

fn no_include(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

/// Reads a file, unless it would not fit into memory.
fn read(action: &'static str, path: &Path, limits: Limits) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path)
        .map_err(Error::io(action, path))?
        .len();
    if size > limits.memory_bytes {
        return Err(Error::TooLargeFile {
            path: path.to_owned(),
            size,
            limit: limits.memory_bytes,
        });
    }
    read_at_most(path, limits.memory_bytes).map_err(Error::io(action, path))
}

/// Reads a file, unless it has more bytes than allowed, which devices and pipes do not say
/// beforehand.
fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let too_large = || {
        let text = format!("it is too large: {} of memory may be used", in_words(limit));
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if size > limit {
        return Err(too_large());
    }
    let mut text = Vec::new();
    let room = usize::try_from(size).unwrap_or(usize::MAX);
    let read = match text.try_reserve_exact(room) {
        Ok(()) => file.take(limit.saturating_add(1)).read_to_end(&mut text),
        Err(error) => Err(error.into()),
    };
    match read {
        Ok(length) if length as u64 <= limit => Ok(text),
        Err(error) if error.kind() != io::ErrorKind::OutOfMemory => Err(error),
        _ => Err(too_large()),
    }
}

/// What a graph may use.
fn limits() -> Limits {
    Limits {
        memory_bytes: memory::available(),
    }
}

/// Refuses a graph whose simulation would not fit into the memory that is left.
///
/// # Errors
/// If it would not.
pub fn refuse_to_simulate(stats: &Stats, caches: usize) -> Result<()> {
    let (tasks, edges) = (stats.tasks as u64, stats.edges as u64);
    let needed = memory_needed(tasks, edges, caches as u64);
    let limit = memory::available();
    if needed > limit {
        return Err(TaskGraphError::OverMemory {
            tasks,
            edges,
            needed,
            limit,
        }
        .into());
    }
    Ok(())
}

impl From<TaskGraphError> for Error {
    fn from(error: TaskGraphError) -> Self {
        Self::TaskGraph(Box::new(error))
    }
}
