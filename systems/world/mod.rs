//! What systems share, below all of them: the scheduler's state, how a run was asked to go about
//! its work, the store, and what other threads hand back.

mod alarms;
pub mod children;
mod columns;
mod config;
mod first_set;
mod goal_set;
pub mod goals;
mod pools;
mod pre_built;
mod ready_queue;
mod repairs;
mod reporters;
pub mod requests;
pub mod scans;
pub mod scheduler;
mod store;
mod tick_set;
mod tick_systems;
pub(crate) mod used;

use std::time::Duration;

use windrow_components::request::ChildLimits;

pub use alarms::Alarms;
pub use columns::{Cells, Column, Place, Row, place};
pub use config::{BuilderConfig, Hooks, StoreMount};
pub use goals::{AddWaitees, NewWaitee, Unmade};
pub use pools::{Deleter, HelperEvents, Host, MountTemplateHandle, PoolHandle};
pub use ready_queue::ReadyQueue;
pub(crate) use repairs::{Answer, Finding, Verifier};
pub use repairs::{Question, Repairs, Verdict};
pub use reporters::Reporters;
pub use scheduler::Mistake;
pub use scheduler::{
    Asked, AwaitsHook, Awake, Backoff, CompleteGoal, Completed, End, Ended, Goal, GoalIndex,
    GoalSlot, HookDesk, HookQuestion, Need, ReadyFetch, ReadyGoal, Records, Reply, Scheduler,
    WaitNews, Waiting,
};
pub use store::{BuiltOutput, NewOutput, OutputLocks, Store, Used};
pub use tick_set::{Parts, TickSet};
pub use tick_systems::{Due, Step, TickSystems};

/// What a run has of the world around it, whichever that is.
pub struct Services {
    /// Its store.
    pub store: Box<dyn Store>,
    /// Where its messages, progress and results go.
    pub reporter: Reporters,
}

/// How a run was asked to go about its work: the settings that the systems themselves look at.
#[derive(Debug, Clone)]
pub struct Options {
    /// Build slots.
    pub max_jobs: u32,
    /// Slots for fetches.
    pub max_substitution_jobs: u32,
    /// Build what a substituter has but could not deliver.
    pub fallback: bool,
    /// Ask substituters even for outputs of derivations that don't allow it.
    pub always_allow_substitutes: bool,
    /// Platforms whose builders run on this machine.
    pub platforms: Vec<String>,
    /// The features that derivations may require of this machine.
    pub system_features: Vec<String>,
    /// When children are killed, unless a request says otherwise; what the hook is told.
    pub limits: ChildLimits,
    /// Whether the first signal lets the children end that run, and starts no more.
    pub finish_running: bool,
    /// How long to wait at most before a lock held by someone else is tried again.
    pub lock_poll_interval: Duration,
}

/// How a world wants its ticks cut.
#[derive(Debug, Clone, Copy)]
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
