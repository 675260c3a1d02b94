//! What a run is made of, in whichever world: how it was asked to go about its work, and how it stands. Its store, the
//! index of its goals and the queues that systems hand them on in have modules of their own.

mod columns;
mod config;
mod fetch_queue;
mod first_set;
mod goal_index;
pub mod goals;
mod pending;
mod pools;
mod queues;
mod ready_queue;
mod repairs;
mod store;
mod tick_set;

use std::time::Duration;

use bevy_ecs::prelude::{Entity, Resource};
use windrow_components::bit_set::BitSet;
use windrow_components::goal::BuildMode;

use crate::error::Error;
use crate::report::Reporter;

pub use columns::{Cells, Column, Place, Row, place};
pub use config::{BuilderConfig, StoreMount};
pub use fetch_queue::{FetchPipe, FetchQueue, ReadyFetch, ReceivedQueue};
pub(crate) use fetch_queue::{destination, free_slot};
pub use goal_index::{GoalIndex, Seat};
pub use goals::{Request, Ties, Tying, Unmade};
pub use pending::{
    Buried, Clock, Condemned, Estates, HelperEvents, LINGER, PendingGoals, Successors,
};
pub use pools::{
    Collected, CollectedQueue, Departures, Janitor, Launched, LauncherHandle, Lodging, PoolHandle,
    WorkshopHandle,
};
pub use queues::{
    Awake, CompleteGoal, Completed, End, Ended, Failures, ForeignLock, LockWaiters, NewlyReady,
    ReadyGoal, Running, Starting,
};
pub use ready_queue::ReadyQueue;
pub(crate) use repairs::{Answer, Finding, Verifier};
pub use repairs::{Question, Repairs, Verdict};
pub use store::{BuiltOutput, NewOutput, OutputLocks, Store, StoreHandle};
pub use tick_set::{Parts, TickSet};

/// Where messages, progress and results of this run go.
pub struct ReporterHandle(pub Box<dyn Reporter>);

/// How a run was asked to go about its work: the settings that the systems themselves look at.
#[derive(Debug, Clone, Resource)]
pub struct Options {
    /// What is asked of the goals of this run.
    pub mode: BuildMode,
    /// Build slots.
    pub max_jobs: u32,
    /// Go on with what does not depend on a failure.
    pub keep_going: bool,
    /// Build what a substituter has but could not deliver.
    pub fallback: bool,
    /// Ask substituters even for outputs of derivations that don't allow it.
    pub always_allow_substitutes: bool,
    /// Platforms whose builders run on this machine.
    pub platforms: Vec<String>,
    /// Seconds of silence after which a build is killed; 0 for none.
    pub max_silent_time_s: u64,
    /// Seconds after which a build is killed; 0 for none.
    pub timeout_s: u64,
    /// Bytes of log after which a build is killed; 0 for none.
    pub max_log_size: u64,
    /// How long to wait at most before a lock held by someone else is tried again.
    pub lock_poll_interval: Duration,
}

/// How a world wants its ticks cut.
#[derive(Debug, Clone, Copy, Resource)]
pub struct Pace {
    /// How many goals one tick looks at before it turns to what children say.
    pub goals_per_tick: usize,
    /// Whether free slots are filled before what is complete is registered.
    pub slots_before_paperwork: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            goals_per_tick: 8192,
            slots_before_paperwork: true,
        }
    }
}

/// The time since the run began: of the clock, or of the simulation.
#[derive(Debug, Clone, Copy, Default, Resource)]
pub struct Now(pub Duration);

/// Build slots (the seed's `nrLocalBuilds` against `maxBuildJobs`).
#[derive(Debug, Default, Resource)]
pub struct Slots {
    /// How many are taken: by running children and by goals about to get one.
    pub used: u32,
}

/// How many goals are where, for the report.
#[derive(Debug, Default, Resource)]
pub struct Tally {
    /// The numbers now.
    pub counts: crate::report::Counts,
    /// The numbers last reported.
    pub reported: Option<crate::report::Counts>,
}

/// Work handed to the pool that has not come back.
#[derive(Debug, Default, Resource)]
pub struct Background {
    /// How many goals have their processes made.
    pub launching: u32,
    /// How many goals have their outputs hashed.
    pub collecting: u32,
    /// How many goals have what is valid looked at.
    pub verifying: u32,
}

impl Background {
    /// Whether anything is to come back.
    pub fn is_busy(&self) -> bool {
        self.launching + self.collecting + self.verifying > 0
    }
}

/// The goals that were asked for, without those that ended.
#[derive(Debug, Default)]
pub struct TopGoals {
    /// By the numbers of their entities; goals are never despawned.
    numbers: BitSet,
    left: usize,
}

impl TopGoals {
    /// Adds a goal.
    pub fn insert(&mut self, goal: Entity) {
        self.left += usize::from(self.numbers.insert(goal.index_u32() as usize));
    }

    /// Whether a goal is one of them.
    pub fn contains(&self, goal: Entity) -> bool {
        self.numbers.contains(goal.index_u32() as usize)
    }

    /// Takes out a goal that has ended; tells whether it was one of them.
    #[inline]
    pub fn remove(&mut self, goal: Entity) -> bool {
        let there = self.numbers.remove(goal.index_u32() as usize);
        self.left -= usize::from(there);
        there
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// How the run stands.
#[derive(Debug, Default, Resource)]
pub struct RunState {
    /// The goals that were asked for, without those that ended.
    pub top: TopGoals,
    /// What was asked of them.
    pub mode: BuildMode,
    /// A top-level goal failed and the run is not to keep going.
    pub given_up: bool,
    /// An error that ends the run whatever its goals.
    pub fatal: Option<Error>,
    /// The signal that interrupted the run.
    pub interrupted: Option<i32>,
    /// Kinds of failures seen, for the exit status.
    pub failures: crate::failure::FailureKinds,
}

impl RunState {
    /// What is asked of a goal. What is to be repaired may have any of its inputs broken; a check is about what was
    /// asked for.
    #[inline]
    pub fn mode_of(&self, goal: Entity) -> BuildMode {
        match self.mode {
            BuildMode::Check if !self.top.contains(goal) => BuildMode::Normal,
            mode => mode,
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_over(&self) -> bool {
        self.top.is_empty() || self.given_up || self.fatal.is_some() || self.interrupted.is_some()
    }
}
