//! A child of a goal on its way: launched, watched, reaped, its outputs scanned. What the systems
//! of these four steps hand on to each other, the same for a builder, a substituter that fetches
//! and a hook that builds.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bevy_ecs::prelude::{Component, Entity};
use std::os::fd::OwnedFd;
use windrow_components::building::{ChildKind, Deadlines};
use windrow_components::goal::BuildMode;
use windrow_components::ids::PathId;
use windrow_sandbox::BuildEnv;
use windrow_sandbox::cgroups::{Cgroup, Exceeded};
use windrow_sandbox::paths::{SandboxPath, Shown};
use windrow_sandbox::process::launch::Spawned;

use crate::failure::{Failure, FailureKind};
use crate::outputs::compare::Differing;
use crate::outputs::fetched::NotTaken;
use crate::outputs::{MismatchedOutput, ScanJob};
use crate::process::lines::ShownLines;
use crate::process::side_channel::SideChannel;
use crate::report::Event;
use crate::world::{BuiltOutput, Reporters};

/// What a child has before it has its process.
#[derive(Debug)]
pub struct ChildSetup {
    /// The goal it belongs to.
    pub goal: Entity,
    /// What it is.
    pub kind: ChildKind,
    /// The read end of its log.
    pub log: OwnedFd,
    /// Its pipes beside the log.
    pub channel: Option<SideChannel>,
    /// Its build directory, unless that is made together with an environment.
    pub dir: Option<PathBuf>,
}

/// Who makes a child's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// The scheduler's thread, for it takes but a moment or has been done already.
    Here,
    /// The thread that can wait until the process runs its program.
    Thread,
    /// The thread that has entered the mount template.
    InTemplate,
}

/// What came of making a child's process.
#[derive(Debug)]
pub struct Made {
    /// The process, or why there is none.
    pub process: Result<Spawned, Failure>,
    /// What is still to be learnt of it.
    pub pending: Option<PendingStart>,
    /// The cgroup that it is in, if it has one.
    pub cgroup: Option<Cgroup>,
    /// Where it runs, if it has an environment of its own; even without a process.
    pub env: Option<BuildEnv>,
}

impl Made {
    /// A process that runs its program, or why it does not.
    pub fn new(process: Result<Spawned, Failure>) -> Self {
        Self {
            process,
            pending: None,
            cgroup: None,
            env: None,
        }
    }
}

/// A child whose process was made, or could not be.
#[derive(Debug)]
pub struct Launched {
    /// What it has.
    pub setup: ChildSetup,
    /// When its process began to be made.
    pub began: Instant,
    /// Its process.
    pub made: Made,
}

/// Tells, once a process has exited, why it could not execute its program, if that is so.
type ExecResult = Box<dyn FnOnce() -> Option<Failure> + Send + Sync>;

/// A builder whose process was made without waiting until it runs its program.
#[derive(Component)]
#[component(storage = "SparseSet")]
pub struct PendingStart(Option<ExecResult>);

impl std::fmt::Debug for PendingStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingStart")
    }
}

impl PendingStart {
    /// A process of which that tells why it could not execute its program.
    pub fn new(result: impl FnOnce() -> Option<Failure> + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(result)))
    }

    /// Why the process, which has exited, could not execute its program, if that is so.
    pub fn exec_error(&mut self) -> Option<Failure> {
        self.0.take()?()
    }
}

/// The environment of a running builder, until it is left.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct ChildEnv(pub Option<BuildEnv>);

/// The cgroup of a running builder, until it is ended.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct ChildCgroup(pub Option<Cgroup>);

/// A child that is to be killed, and why.
///
/// Nix 1.8: `Goal::cancel`.
#[derive(Debug, Clone, Component)]
#[component(storage = "SparseSet")]
pub struct Condemned {
    /// What to say of it.
    pub reason: String,
    /// What kind of failure that is.
    pub kind: FailureKind,
}

/// How long what a builder left running may hold its log open after it has exited. Long enough for
/// a `tee` to write its last lines, short enough that a daemon delays nothing.
pub const LINGER: Duration = Duration::from_secs(1);

/// A child that was waited for, whose outputs are still to be seen to.
#[derive(Debug)]
pub struct ReapedChild {
    pub(crate) goal: Entity,
    pub(crate) kind: ChildKind,
    pub(crate) mode: BuildMode,
    /// Its raw wait status.
    pub(crate) status: i32,
    /// Why it could not run its builder, if that is so.
    pub(crate) exec_error: Option<Failure>,
    pub(crate) condemned: Option<Condemned>,
    /// A limit of its cgroup that it met.
    pub(crate) exceeded: Option<Exceeded>,
    /// When it did what.
    pub(crate) deadlines: Deadlines,
}

impl ReapedChild {
    /// A child whose process could not be made.
    pub(crate) fn without_process(
        goal: Entity,
        kind: ChildKind,
        mode: BuildMode,
        (failure, now): (Failure, Duration),
    ) -> Self {
        Self {
            goal,
            kind,
            mode,
            status: -1,
            exec_error: Some(failure),
            condemned: None,
            exceeded: None,
            deadlines: Deadlines::new(now, false),
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.status == 0 && self.exec_error.is_none() && self.condemned.is_none()
    }
}

/// Outputs that came out different, while the diff hook is told of them.
#[derive(Debug)]
pub struct Diff {
    /// How their build fails.
    pub failure: Failure,
    /// Those that it has not been told of.
    pub differing: VecDeque<Differing>,
    /// What they were looked at with.
    pub job: ScanJob,
    /// The environment of the build, if it had one.
    pub env: Option<BuildEnv>,
    /// The build directory, if it is to be kept.
    pub keep: Option<PathBuf>,
}

/// The same, of a goal whose diff hook runs.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct PendingDiff(pub Option<Box<Diff>>);

/// What the pre-build hook answered for a build that has not been started since.
#[derive(Debug, Default, Component)]
#[component(storage = "SparseSet")]
pub struct PreBuilt {
    /// What of the machine its sandbox shows in addition.
    pub shown: Vec<(SandboxPath, Shown)>,
    /// What that takes of the store.
    pub inputs: Vec<PathId>,
}

/// What a hook that a setting names has written, up to the last line that is not whole.
#[derive(Debug, Default, Component)]
#[component(storage = "SparseSet")]
pub struct HookLines(pub ShownLines);

impl HookLines {
    /// Takes in what a hook has written, and reports each line of it.
    pub fn feed(&mut self, kind: ChildKind, bytes: &[u8], reporter: &mut Reporters) {
        self.0.feed(bytes);
        let name = kind.setting().unwrap_or_default();
        while let Some(line) = self.0.next_line() {
            let line = &line;
            reporter.report(&Event::HelperOutput { name, line });
        }
    }

    /// Reports what it has written of a line without ending it, when that is a second old.
    pub fn tell_overdue(&mut self, kind: ChildKind, reporter: &mut Reporters) {
        if let Some(line) = &self.0.overdue(|_| false) {
            let name = kind.setting().unwrap_or_default();
            reporter.report(&Event::HelperOutput { name, line });
        }
    }
}

/// Why what a child made can't be registered.
#[derive(Debug)]
pub enum Unfit {
    /// The failure of a build, and what can be kept nevertheless.
    Build(Failure, Option<Box<MismatchedOutput>>),
    /// Some came out different, of which the diff hook is to be told.
    Differs(Box<Diff>),
    /// What is wrong with what was fetched. Another substituter may do better.
    Fetch {
        /// The substituter's raw wait status.
        status: i32,
        /// What is wrong, and with whom.
        why: NotTaken,
    },
}

/// What a child made, looked at by the pool.
#[derive(Debug)]
pub struct Scanned {
    /// The goal it belongs to.
    pub goal: Entity,
    /// The outputs, to be registered, or why they can't be.
    pub result: Result<Vec<BuiltOutput>, Unfit>,
    /// What to warn of.
    pub warnings: Vec<String>,
    /// The build directory, if it was kept although the build had an environment.
    pub kept: Option<PathBuf>,
}
