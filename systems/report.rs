//! What a run tells its user while it goes on. The engine says what happened; how it looks is the
//! reporter's business.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use windrow_components::goal::BuildMode;

use crate::failure::FailureKind;

/// How much a message matters (Nix 1.8: `Verbosity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Worth a line.
    Info,
    /// For those who ask for more.
    Talkative,
    /// For those who ask for even more.
    Chatty,
    /// For developers.
    Debug,
}

/// How many goals are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Derivations that must be built, as far as is known, with those that were.
    pub expected: u32,
    /// Children running.
    pub running: u32,
    /// Derivations built.
    pub built: u32,
    /// Paths fetched from substituters.
    pub fetched: u32,
    /// Derivations that failed for themselves.
    pub failed: u32,
    /// Derivations that were not built because something they need failed.
    pub not_built: u32,
    /// Derivations and paths that turned out to be valid, made by nobody in this run.
    pub there: u32,
    /// How many builders may run at a time.
    pub slots: u32,
    /// How long the derivations that must be built and have not ended take together, as far as the
    /// history says. What runs is in it as if it had just begun.
    pub work: Duration,
    /// How many derivations are in that.
    pub estimated: u32,
}

/// What is thought of a build when it starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outlook<'a> {
    /// How long it will take, by the history.
    pub expected: Option<Duration>,
    /// How long it and what needs it will take one after the other, to the end of the run.
    pub chain: Option<Duration>,
    /// Names of derivations that wait for it, some of them if there are many.
    pub needed_by: &'a [&'a str],
}

/// How far the archive of a path is that is being fetched.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// How many bytes it has.
    pub size: u64,
    /// How many bytes are here, at any moment.
    pub received: Arc<AtomicU64>,
}

/// A build, as a report names it.
#[derive(Debug, Clone, Copy)]
pub struct BuildRef<'a> {
    /// A number that no other build of the run has.
    pub id: u64,
    /// The derivation's store path.
    pub drv_path: &'a str,
    /// The derivation's name.
    pub name: &'a str,
}

/// What a builder took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// From its start to its exit.
    pub wall: Duration,
    /// Processor time of it and of the processes it waited for, user and system.
    pub cpu: Duration,
    /// The most memory that it, or one of the processes it waited for, had resident at a time, in
    /// bytes; `None` if that was less than the engine had itself.
    pub peak_memory: Option<u64>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message.
    Message {
        /// How much it matters.
        level: Level,
        /// The text, without a final newline.
        text: &'a str,
    },
    /// A builder was started.
    Started {
        /// The build.
        build: BuildRef<'a>,
        /// The platform it is for.
        system: &'a str,
        /// Where its log goes; empty if it is not kept.
        log_file: &'a str,
        /// The outputs that will be made.
        outputs: &'a [String],
        /// Why they will be made.
        mode: BuildMode,
        /// What is thought of it.
        outlook: Outlook<'a>,
        /// Whether a hook has it built elsewhere.
        by_hook: bool,
        /// When, since the run began.
        at: Duration,
    },
    /// A builder wrote something: raw bytes, any number of lines or parts of lines.
    Output {
        /// The build.
        build: BuildRef<'a>,
        /// What it wrote.
        bytes: &'a [u8],
    },
    /// About a second has passed since this was last told, or since the run began.
    SecondPassed,
    /// A hook or a substituter wrote a line for people, beside the output of builds.
    HelperOutput {
        /// The program's short name.
        name: &'a str,
        /// The line, as it was written.
        line: &'a str,
    },
    /// A builder that ran on this machine has exited, or was killed for taking too long or writing
    /// too much. What becomes of its outputs is still to be seen.
    Exited {
        /// The build.
        build: BuildRef<'a>,
        /// The platform it is for.
        system: &'a str,
        /// What it took.
        usage: Usage,
        /// Whether it exited with status 0, of its own accord.
        good: bool,
        /// When, since the run began.
        at: Duration,
    },
    /// A build's outputs are valid.
    Succeeded {
        /// The build.
        build: BuildRef<'a>,
        /// When, since the run began.
        at: Duration,
    },
    /// A build or something before it failed.
    Failed {
        /// The build; its id is that of a `Started` if it came so far.
        build: BuildRef<'a>,
        /// What kind of failure.
        kind: FailureKind,
        /// Whether the builder had been started.
        started: bool,
        /// The platform it is for; empty if that is not known.
        system: &'a str,
        /// What failed and why.
        message: &'a str,
        /// The end of its log.
        log_tail: &'a [String],
        /// The directory that its builder worked in, if it stays.
        kept: Option<&'a Path>,
        /// When, since the run began.
        at: Duration,
    },
    /// A build or a fetch that had been started, or was about to be, is not wanted any more: its
    /// child was killed.
    Cancelled {
        /// The build, or the path as if it were one.
        build: BuildRef<'a>,
        /// When, since the run began.
        at: Duration,
    },
    /// A substituter began to fetch a path.
    FetchStarted {
        /// The path, as if it were a build.
        build: BuildRef<'a>,
        /// The substituter's program.
        program: &'a str,
        /// How far its archive is, where that can be seen.
        transfer: Option<&'a Transfer>,
        /// When, since the run began.
        at: Duration,
    },
    /// A path was fetched and is valid.
    FetchSucceeded {
        /// The path.
        build: BuildRef<'a>,
        /// When, since the run began.
        at: Duration,
    },
    /// A substituter could not deliver a path that it has. Another may, or it is built.
    FetchFailed {
        /// The path.
        build: BuildRef<'a>,
        /// The substituter's raw wait status; `None` if it was killed because it took too long.
        status: Option<i32>,
        /// What is wrong.
        message: &'a str,
        /// The last that the substituter said.
        log_tail: &'a [String],
        /// When, since the run began.
        at: Duration,
    },
    /// A build or fetch waits for a lock that somebody else holds: told when it begins to, and
    /// again when that has taken long. It is started or ends when that is over.
    LockAwaited {
        /// The build, or the path as if it were one.
        build: BuildRef<'a>,
        /// The lock, and whose process holds it, if that was looked up: it is when it takes long.
        what: Option<&'a str>,
    },
    /// Where goals are, at most once a tick.
    Progress(Counts),
    /// A request has ended, or the run. In it these store paths were used, of those that were valid
    /// before: it asked for them, or builds needed them.
    Used {
        /// Their full paths.
        paths: &'a [String],
    },
    /// Nothing more will be done, and the store is about to be closed.
    Over,
}

impl<'a> Event<'a> {
    /// The build or fetch that it is about, if it is about one.
    pub const fn build(&self) -> Option<BuildRef<'a>> {
        match self {
            Self::Message { .. }
            | Self::HelperOutput { .. }
            | Self::Progress(_)
            | Self::SecondPassed
            | Self::Used { .. }
            | Self::Over => None,
            Self::Started { build, .. }
            | Self::Output { build, .. }
            | Self::Exited { build, .. }
            | Self::Succeeded { build, .. }
            | Self::Failed { build, .. }
            | Self::Cancelled { build, .. }
            | Self::FetchStarted { build, .. }
            | Self::FetchSucceeded { build, .. }
            | Self::FetchFailed { build, .. }
            | Self::LockAwaited { build, .. } => Some(*build),
        }
    }
}

/// Takes in what happens.
pub trait Reporter {
    /// Whether it looks at single builds at all; if not, nobody spells their paths out.
    fn wants_builds(&self) -> bool {
        true
    }

    /// Whether it tells how much time is left, for which the history of builds is needed.
    fn wants_outlook(&self) -> bool {
        false
    }

    /// Whether so much of what was reported has not been taken by whoever reads it that output of
    /// builders and helpers should wait.
    fn is_behind(&self) -> bool {
        false
    }

    /// Called on the scheduler's thread, so it should be quick.
    fn report(&mut self, event: &Event<'_>);
}

/// Says nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn wants_builds(&self) -> bool {
        false
    }

    fn report(&mut self, _event: &Event<'_>) {}
}
