//! The one error type of this crate: what failed, on which path, and why.

use std::io;
use std::path::PathBuf;

use windrow_components::derivation::DerivationError;

/// How many other tasks fit no machine.
fn so_do_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "; nor does another one".to_owned(),
        count => format!("; nor do {count} others"),
    }
}

/// Everything that can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is wrong with the store, or a file.
    #[error(transparent)]
    Store(#[from] windrow_store::Error),

    /// Builders are to see the store where the machine has no directory to mount it on.
    #[error(
        "the store can't be shown to builders at '{}', for there is no such directory; create it \
         (as root), or use a store whose paths are real, as without '--store'",
        store_dir.display()
    )]
    NoMountPoint {
        /// The logical store directory.
        store_dir: PathBuf,
    },

    /// Nothing can be built for want of slots.
    #[error(
        "unable to start any build, since 'max-jobs' is 0; increase it with '--max-jobs 1' or more"
    )]
    NoSlots,

    /// A task needs more than any machine has.
    #[error(
        "the task `{task}` fits no machine: it needs {needs}, on one of its platform and features{}",
        so_do_others(*others)
    )]
    FitsNoMachine {
        /// Its name.
        task: String,
        /// How many other tasks fit none.
        others: usize,
        /// What it needs.
        needs: String,
    },

    /// A policy can't do its work.
    #[error("the policy {what}: {reason}")]
    Policy {
        /// As it was named.
        what: String,
        /// Why not.
        reason: String,
    },

    /// Nothing can run any more, because of what is kept.
    #[error(
        "the disks are full: `{task}` needs {bytes} bytes for its outputs where it is to run, and all \
         that is kept is needed by tasks that can't run; give machines more disk, or use another \
         policy"
    )]
    DisksAreFull {
        /// A task that is ready.
        task: String,
        /// What it needs.
        bytes: u64,
    },

    /// Machines fail before anything on them ends.
    #[error(
        "machines have failed {failures} times without any task having ended in between; a task \
         takes much longer than machines are up"
    )]
    FailsTooOften {
        /// How often they have.
        failures: u64,
    },

    /// Goals are left, but nothing is under way that could end one.
    #[error("the scheduler is stuck with goals that wait for nothing [this is a bug]")]
    Stuck,

    /// The event loop itself failed.
    #[error("cannot wait for builders: {source}")]
    Poll {
        /// The system's answer.
        source: io::Error,
    },

    /// There are no threads to work with.
    #[error("{source}")]
    Threads {
        /// Which thread could not be started, and what helps.
        source: io::Error,
    },

    /// A graph file is not text.
    #[error("{}:{line}: not UTF-8 text; save the file as UTF-8", file.display())]
    GraphNotUtf8 {
        /// The file.
        file: PathBuf,
        /// The first line that is not.
        line: usize,
    },

    /// A derivation to be added needs one that is not there.
    #[error(
        "cannot add derivation '{name}': its input '{missing}' is not in the store; add that first"
    )]
    MissingInput {
        /// The name of the derivation.
        name: String,
        /// The input's path.
        missing: String,
    },

    /// A graph file can't be turned into derivations.
    #[error("{}:{place}: {reason}", file.display())]
    GraphFile {
        /// The file.
        file: PathBuf,
        /// Line and column.
        place: windrow_formats::json_graph::Position,
        /// What is wrong there.
        reason: String,
    },
}

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<windrow_sys::Error> for Error {
    fn from(error: windrow_sys::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<windrow_components::Error> for Error {
    fn from(error: windrow_components::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<DerivationError> for Error {
    fn from(error: DerivationError) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    /// Wraps an I/O error with what was being done and to which path.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let wrap = windrow_sys::Error::io(action, path);
        move |source| wrap(source).into()
    }

    /// Whether it concerns the store as a whole, so that no goal can go on.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Store(error) => error.is_fatal(),
            Self::Poll { .. } | Self::Stuck => true,
            _ => false,
        }
    }
}
