//! What can be wrong with a task graph or a file that holds one: typed, with the place where there
//! is one. Speaks in the names of tasks and files, never in ids.

use std::fmt;

use crate::count::size;

/// What gives a graph more room.
const MORE_MEMORY: &str = "free some, raise what limits it (ulimit -v, or memory.max of the control group), \
                           or take a smaller graph";

/// A spot in a file, lines and columns counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named to the loader.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column in bytes; 0 where only the line is known.
    pub column: usize,
}

impl Place {
    /// The place of byte `offset` of `text`. Counts lines from the start: for failures only.
    pub fn of_offset(file: &str, text: &[u8], offset: usize) -> Self {
        let before = &text[..offset.min(text.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: before.len() - line_start + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        match self.column {
            0 => Ok(()),
            column => write!(f, ":{column}"),
        }
    }
}

/// Why a task graph could not be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum TaskGraphError {
    /// Tasks that wait for each other.
    #[error("the graph has a cycle, each task needs the next: {}", way_around(.path))]
    Cycle {
        /// The names on the way around, the first one not repeated at the end.
        path: Vec<String>,
    },
    /// An edge from or to a task that does not exist.
    #[error("{origin}: task `{task}` names `{missing}`, which is no task of this graph")]
    DanglingEdge {
        /// The file, with the line where it is known; or what made the graph.
        origin: String,
        /// The task that has the edge.
        task: String,
        /// What it refers to.
        missing: String,
    },
    /// Two tasks with one key.
    #[error("{origin}: there are two tasks called `{name}`; rename one of them")]
    DuplicateTask {
        /// The file.
        origin: String,
        /// The name or id.
        name: String,
    },
    /// An output that two build statements make.
    #[error("{place}: `{output}` is already the output of another build statement")]
    DuplicateOutput {
        /// The later statement.
        place: Place,
        /// The output.
        output: String,
    },
    /// A run time below zero.
    #[error("{origin}: task `{task}` has the negative duration {duration}")]
    NegativeDuration {
        /// The file, with the line where it is known.
        origin: String,
        /// The task.
        task: String,
        /// As it was written.
        duration: String,
    },
    /// A run time that is no number, or above
    /// [`MAX_DURATION`](crate::task_graph::MAX_DURATION).
    #[error(
        "{origin}: task `{task}` has the duration {duration}, which is no number or beyond \
         reason (more than 1,000,000,000 seconds, or 10^15 units)"
    )]
    AbsurdDuration {
        /// The file, with the line where it is known.
        origin: String,
        /// The task.
        task: String,
        /// As it was written.
        duration: String,
    },
    /// The durations of all tasks together do not fit into 64 bits.
    #[error("the total work of {tasks} tasks does not fit into 64 bits; use shorter durations")]
    WorkOverflow {
        /// How many tasks there are.
        tasks: usize,
    },
    /// What tasks need and make does not fit the graph.
    #[error("what tasks need does not fit the graph: {reason}")]
    BadDemands {
        /// Why not.
        reason: String,
    },
    /// A list of durations that does not fit the graph.
    #[error("{given} durations were given for {tasks} tasks")]
    DurationCount {
        /// How many were given.
        given: usize,
        /// How many were needed.
        tasks: usize,
    },
    /// A file that breaks the rules of its format, or ends too early.
    #[error("{place}: {reason}")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong there.
        reason: String,
    },
    /// A file that is sound in itself but not a graph of the format.
    #[error("{file}: {reason}")]
    Unsuitable {
        /// The file.
        file: String,
        /// What is missing or contradictory.
        reason: String,
    },
    /// A file that another one includes cannot be read.
    #[error("{place}: cannot read `{path}`: {reason}")]
    Include {
        /// The `include` or `subninja` line.
        place: Place,
        /// The file it names.
        path: String,
        /// What the reader said.
        reason: String,
    },
    /// A file that includes itself, directly or through others.
    #[error("{place}: `{path}` is included while it is being read: {}", way_around(.chain))]
    IncludeCycle {
        /// The `include` or `subninja` line.
        place: Place,
        /// The file it names.
        path: String,
        /// The files being read, outermost first, from the one that is included again.
        chain: Vec<String>,
    },
    /// More of something than 32-bit ids can name.
    #[error("the graph is too large: more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A graph that would not fit into the memory it may use.
    #[error(
        "the graph is too large: {tasks} tasks and {edges} edges need about {}, and {} of memory may be \
         used; {MORE_MEMORY}",
        size(*.needed),
        size(*.limit)
    )]
    OverMemory {
        /// Tasks, as far as they were counted.
        tasks: u64,
        /// Edges, as far as they were counted.
        edges: u64,
        /// An estimate for building and using it, in bytes.
        needed: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A file whose contents would not fit into the memory they may use.
    #[error(
        "the graph in {file} is too large: to read it takes about {}, and {} of memory may be used; \
         {MORE_MEMORY}",
        size(*.needed),
        size(*.limit)
    )]
    FileOverMemory {
        /// The file.
        file: String,
        /// An estimate, in bytes, of what is needed at least.
        needed: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A malformed generator or distribution.
    #[error("`{spec}` is no {what}: {reason}")]
    BadSpec {
        /// As it was given.
        spec: String,
        /// What it should have been.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that a format cannot express.
    #[error("the task name `{name}` cannot be written as {format}")]
    Unwritable {
        /// The name.
        name: String,
        /// The format.
        format: &'static str,
    },
    /// The sink given to a writer failed.
    #[error("cannot write the graph: {0}")]
    Write(#[from] std::io::Error),
}

const NAMES_SHOWN: usize = 100;

fn way_around(path: &[String]) -> String {
    let mut text = String::new();
    for name in path.iter().take(NAMES_SHOWN) {
        text.push_str(name);
        text.push_str(" -> ");
    }
    if path.len() > NAMES_SHOWN {
        text.push_str(&format!("({} more) -> ", path.len() - NAMES_SHOWN));
    }
    text.push_str(path.first().map_or("", String::as_str));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_told_all_the_way_around() {
        let path = vec!["a".to_owned(), "b".to_owned()];
        let message = TaskGraphError::Cycle { path }.to_string();
        assert!(
            message.ends_with("needs the next: a -> b -> a"),
            "{message}"
        );
    }

    #[test]
    fn a_very_long_cycle_stays_readable() {
        let path = (0..1_000).map(|i| format!("n{i}")).collect();
        let message = TaskGraphError::Cycle { path }.to_string();
        assert!(message.ends_with("n99 -> (900 more) -> n0"), "{message}");
    }

    #[test]
    fn places_count_from_one() {
        let place = Place::of_offset("f", b"ab\ncd", 4);
        assert_eq!(place.to_string(), "f:2:2");
        assert_eq!(Place::of_offset("f", b"", 9).to_string(), "f:1:1");
    }
}
