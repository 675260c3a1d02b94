//! What is said at the command line when something fails, and the exit status that goes with it.

use std::path::PathBuf;

use windrow_components::settings::SettingError;
use windrow_net::copy::CopyError;
use windrow_sys::interrupt;
use windrow_sys::told::with_remedy;

use crate::conf::error::{ConfError, LocationError, StoreNameError};

/// Everything that ends a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] windrow_systems::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] windrow_store::Error),
    /// A binary cache, or another store that is not opened by its directory, can't be asked.
    #[error(transparent)]
    Inquiry(#[from] windrow_net::inquiry::InquiryError),
    /// The store can't be served.
    #[error(transparent)]
    Serve(#[from] windrow_net::serve::ServeError),
    /// Plain data was malformed.
    #[error(transparent)]
    Data(#[from] windrow_components::Error),
    /// A configuration file can't be used.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// A directory in the environment can't be used.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A setting given on the command line can't be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A setting that does not exist.
    #[error("unknown setting '{name}'{}", nearest.map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    UnknownSetting {
        /// The name as given.
        name: String,
        /// One that looks like it.
        nearest: Option<&'static str>,
    },
    /// A store can't be opened by its name.
    #[error(transparent)]
    StoreName(#[from] StoreNameError),
    /// A store can't be opened by its name, which was not typed.
    #[error("{source} ({origin} names that store)")]
    StoreNamedBy {
        /// What is wrong with the name.
        source: StoreNameError,
        /// Who gave it.
        origin: String,
    },
    /// The setting `policy` names none.
    #[error("invalid value for setting 'policy': {reason}")]
    Policy {
        /// What is wrong with it.
        reason: String,
    },
    /// The store can be read, but not written.
    #[error("the store '{store}' is read-only: {reason}")]
    StoreReadOnly {
        /// Where the store lies.
        store: String,
        /// Why it can't be written.
        reason: String,
    },
    /// The store's directories or files are not this user's to write.
    #[error("{source}; {remedy}")]
    StoreForbidden {
        /// What to do about it.
        remedy: String,
        /// What could not be done.
        source: Box<windrow_store::Error>,
    },
    /// No directory for a store of the user's own is known.
    #[error("cannot locate a store of your own: set HOME or XDG_DATA_HOME, or give '--store DIR'")]
    NoHome,
    /// No directory of the user's own is known.
    #[error("cannot locate your own directories: set HOME, or give '--prefix DIR'")]
    NoUserDirs,
    /// What was asked for can't be understood.
    #[error("cannot build '{what}': {reason}")]
    BadTarget {
        /// As given.
        what: String,
        /// Why not.
        reason: String,
    },
    /// Nothing was asked for.
    #[error(
        "nothing is named, and there is no 'windrow.json' in this directory; name a derivation ('x.drv'), a \
         store path or a graph ('x.json', 'x.json#name')"
    )]
    NothingNamed,
    /// What was named can't be understood, where nothing is to be built.
    #[error("cannot use '{what}': {reason}")]
    BadArgument {
        /// As given.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A file the user named can't be read or written.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Derivations in Nix's JSON that can't be added.
    #[error("cannot add '{}': {source}", path.display())]
    AddJson {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<windrow_systems::Error>,
    },
    /// JSON that can't be read.
    #[error("'{}' is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        source: serde_json::Error,
    },
    /// Another tool's file can't become a graph.
    #[error("cannot import '{}': {reason}", file.display())]
    Import {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file that is to be reported on is nothing that windrow wrote.
    #[error(
        "cannot report on '{}': it is neither a trace ('--trace') nor results ('windrow simulate --json'): {reason}",
        path.display()
    )]
    NotReportable {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// There is no report, although what it is about is known.
    #[error(transparent)]
    Page(#[from] windrow_report::page::PageError),
    /// There is no picture, although what it is of is known.
    #[error(transparent)]
    Plot(#[from] windrow_report::plots::PlotError),
    /// A setting asks for what this release can't do.
    #[error("{0}")]
    Unsupported(String),
    /// Some of what was asked for could not be built.
    #[error("{message}")]
    BuildFailed {
        /// What failed.
        message: String,
        /// With which exit status to say so.
        status: u8,
    },
    /// Another store can't be copied to.
    #[error(transparent)]
    Copy(Box<CopyError>),
    /// Some of what was to be copied was not.
    #[error("{message}")]
    NotCopied {
        /// What, and why if that is the same for all.
        message: String,
        /// What ended it before its time.
        #[source]
        cause: Option<Box<CopyError>>,
    },
    /// The engine can do nothing any more, or could not go on with this.
    #[error("{0}")]
    EngineStopped(String),
    /// The engine was dropped, or ended by a panic.
    #[error("the engine has ended")]
    EngineEnded,
    /// A signal asked to stop.
    #[error("interrupted by the user")]
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
    /// A task graph can't be read, made or written.
    #[error(transparent)]
    TaskGraph(Box<windrow_components::task_graph::TaskGraphError>),
    /// A file of machines is wrong.
    #[error(transparent)]
    Machines(windrow_formats::machines::MachinesError),
    /// A file is not a derivation.
    #[error("cannot read derivation '{}': {source}", path.display())]
    Derivation {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: windrow_components::derivation::DerivationError,
    },
    /// Durations were to come from a history that has none.
    #[error(
        "cannot take durations from the history in '{state}': it has no successful build; build something first"
    )]
    EmptyHistory {
        /// The state directory of the store.
        state: String,
    },
    /// A file that is too large to be read into memory.
    #[error(
        "'{}' is too large: it has {}, and {} of memory may be used; free some, raise what limits it (ulimit -v, \
         or memory.max of the control group), or take a smaller graph",
        path.display(),
        windrow_components::count::size(*.size),
        windrow_components::count::size(*.limit)
    )]
    TooLargeFile {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// How many bytes of memory there are.
        limit: u64,
    },
    /// No build of that name was recorded.
    #[error(
        "no build of '{name}' is recorded for this store; names are those of derivations, such as hello-2.10, \
         or patterns such as 'hello-*'"
    )]
    NoHistory {
        /// The name or pattern.
        name: String,
    },
    /// The command line of nix-store is wrong.
    #[error("{0}")]
    Usage(String),
    /// Something was named that is no path in the store.
    #[error("path '{path}' is not in the Nix store")]
    NotInStore {
        /// The path that the name led to.
        path: String,
    },
    /// A derivation lacks a variable.
    #[error("derivation '{drv}' has no environment binding named '{name}'")]
    NoBinding {
        /// The derivation.
        drv: String,
        /// The variable.
        name: String,
    },
    /// A derivation lacks an output.
    #[error("derivation '{drv}' does not have an output named '{name}'")]
    NoOutput {
        /// The derivation.
        drv: String,
        /// The output.
        name: String,
    },
    /// It is not known what a path was built from.
    #[error("deriver of path '{path}' is not known")]
    NoDeriver {
        /// The path.
        path: String,
    },
    /// A file whose name can't stand in a store path.
    #[error("'{name}' can't be the name of a store path: it is not UTF-8 text")]
    BadName {
        /// The name, as far as it can be shown.
        name: String,
    },
    /// A build that was followed had no end of its own.
    #[error("the build of '{path}' did not end: {reason}")]
    NotEnded {
        /// The derivation.
        path: String,
        /// What became of the run.
        reason: String,
    },
    /// There can be no shell where a derivation is built.
    #[error("{0}")]
    Shell(String),
    /// There is no log of that.
    #[error("there is no build log of '{path}'; only what was built in this store has one")]
    NoLog {
        /// The path asked for.
        path: String,
    },
}

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why standard output can't be written.
pub(crate) fn print_failed(source: std::io::Error) -> Error {
    Error::io("write to", "standard output")(source)
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Self {
        Self::Copy(Box::new(error))
    }
}

impl From<windrow_sys::Error> for Error {
    fn from(error: windrow_sys::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    /// The exit status to end with.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::BuildFailed { status, .. } => *status,
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(1),
            _ => 1,
        }
    }

    /// Whether a store could not be opened because it is not to be, or can't be, written.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(
            self,
            Self::StoreReadOnly { .. } | Self::StoreForbidden { .. }
        )
    }

    /// What a command ends with: a signal, if that is the cause.
    pub(crate) fn or_interrupted(self) -> Self {
        match interrupt::signal() {
            Some(signal) if interrupt::is_cause_of(&self) => Self::Interrupted { signal },
            _ => self,
        }
    }

    /// Says of something that it can't be used rather than that it can't be built.
    pub(crate) fn not_to_build(self) -> Self {
        match self {
            Self::BadTarget { what, reason } => Self::BadArgument { what, reason },
            other => other,
        }
    }

    /// Wraps an I/O error with what was being done and to which path.
    pub fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            source: with_remedy(source, &path),
            path,
        }
    }
}

#[cfg(test)]
mod tests;
