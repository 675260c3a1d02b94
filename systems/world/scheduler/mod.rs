//! The scheduler's state, and the transitions of a goal's life: the only place that changes a
//! stage, takes or gives back a slot, or holds a path. Each transition asserts what holds before
//! it, and keeps the counts in step.
//!
//! ```text
//! New ─► Derivation, Verifying, Closure,
//!        Outputs, Info, Inputs ─► Ready ◄─► Parked
//!                                   │
//!   ┌──────── give_back ───────── Held ─► Away (hook) ─────┐
//!   ▼                               ▼                      ▼
//! Ready                         Starting ─► Running ─► Scanning ─► Done
//!                          StartingFetch ─► Fetching ───┘ ▲ │        ▲
//!                                                         └─ PostBuild
//! ```
//!
//! A path that comes from a binary cache goes from `Ready` to `Archive` and back when that is here.
//!
//! From anywhere a goal may fail, which ends it when the tick ends. What a stage implies is never
//! stored beside it: a goal has a slot for builds in `Starting` and `Running`, one for fetches in
//! `StartingFetch` and `Fetching`, and holds its paths and their locks from `Held` to `Scanning`
//! and `PostBuild`.

mod bound;
mod cancel;
mod check;
mod desk;
mod due;
mod ends;
mod hooks;
mod index;
mod locks;
mod questions;
mod queues;
mod ready;
mod records;
mod run;
mod slots;
mod wanted;
mod work;

use std::time::Duration;

use bevy_ecs::prelude::{Entity, Resource};
use hashbrown::HashMap;
use windrow_components::bit_set::PathSet;
use windrow_components::goal::{Stage, WaiterLists};
use windrow_components::ids::{DrvId, PathId};

use super::{Options, Pace, ReadyQueue, Repairs};
use crate::failure::Failure;
use crate::report::Counts;

pub use check::Mistake;
pub use desk::{HookDesk, HookQuestion, Reply};
pub use hooks::AwaitsHook;
pub use index::{GoalIndex, GoalSlot};
pub use locks::{Backoff, WaitNews};
pub use queues::{
    Awake, CompleteGoal, Completed, End, Ended, Goal, Parked, ReadyFetch, ReadyGoal, Waiting,
};
pub use records::Records;
pub use run::RunState;
use wanted::Wanted;
pub use wanted::{Asked, Need};

/// The state of all goals of a run, and of the run.
#[derive(Debug, Resource)]
pub struct Scheduler {
    /// How the run was asked to go about its work.
    pub options: Options,
    /// How its world wants ticks cut.
    pub pace: Pace,
    /// The time since the run began: of the clock, or of the simulation.
    pub now: Duration,
    /// What was asked for, and how the run stands.
    pub run: RunState,
    /// Which goal is for what.
    pub index: GoalIndex,
    /// Who waits for which goal, beside derivations for their inputs, which the graph knows.
    pub waiters: WaiterLists,
    /// What is to be looked at for repair, and what was found.
    pub repairs: Repairs,
    /// Whether a derivation's goal has asked substituters for its outputs; such a goal may try that
    /// once more when its inputs have ended.
    pub has_asked_for_outputs: bool,
    /// Which builds are offered to the hook, and what becomes of them.
    pub desk: HookDesk,
    /// By the number of the goal's entity; goals are never despawned.
    stages: Vec<Stage>,
    awake: Awake,
    /// Derivations whose goals wait for what substituters say of a path.
    askers: HashMap<PathId, Vec<DrvId>>,
    /// Goals that have become ready since the policy last ranked goals.
    newly_ready: Vec<DrvId>,
    queue: ReadyQueue,
    /// Where goals run on machines: those that may start now.
    may_start: Option<std::collections::VecDeque<DrvId>>,
    fetches: std::collections::VecDeque<ReadyFetch>,
    /// Paths that wait for their archives, by their goals.
    awaiting: HashMap<Entity, PathId>,
    starting: Vec<ReadyGoal>,
    starting_fetches: Vec<ReadyFetch>,
    /// Goals whose children have been started since anybody asked.
    started: Vec<Entity>,
    completed: Completed,
    failures: Vec<(Entity, Failure)>,
    ended: Ended,
    parked: Vec<Parked>,
    any_goal: Vec<Waiting>,
    /// How long goals have waited for others' locks.
    waits: HashMap<Entity, locks::GoalWait>,
    /// Paths that goals of this run hold locks on.
    held: PathSet,
    /// How many slots for builds are taken.
    used: u32,
    /// How many slots for fetches are.
    used_by_fetches: u32,
    bound: bound::Bound,
    counts: Counts,
    /// Whether a child is to be looked at although nothing happens to it.
    alarms_due: bool,
    /// The counts that were told last.
    told: Option<Counts>,
    background: Background,
    hooks: hooks::Hooks,
    cancelled: cancel::Cancelled,
    wanted: Wanted,
    work: work::Work,
    records: Option<Records>,
}

/// Work handed to other threads that has not come back.
#[derive(Debug, Default)]
struct Background {
    /// Goals whose processes are made.
    launching: u32,
    /// Goals whose outputs are scanned.
    scanning: u32,
    /// Goals for which what is valid is looked at.
    verifying: u32,
    /// Goals for which a hook that a setting names runs.
    hooks: u32,
}
impl Scheduler {
    /// The state of a run without goals.
    pub fn new(options: Options) -> Self {
        let counts = Counts {
            slots: options.max_jobs,
            ..Counts::default()
        };
        Self {
            run: RunState::default(),
            options,
            pace: Pace::default(),
            now: Duration::ZERO,
            index: GoalIndex::default(),
            waiters: WaiterLists::default(),
            repairs: Repairs::default(),
            has_asked_for_outputs: false,
            desk: HookDesk::default(),
            stages: Vec::new(),
            awake: Awake::default(),
            askers: HashMap::new(),
            newly_ready: Vec::new(),
            queue: ReadyQueue::default(),
            may_start: None,
            fetches: Default::default(),
            awaiting: HashMap::new(),
            starting: Vec::new(),
            starting_fetches: Vec::new(),
            started: Vec::new(),
            completed: Completed::default(),
            failures: Vec::new(),
            ended: Ended::default(),
            parked: Vec::new(),
            any_goal: Vec::new(),
            waits: HashMap::new(),
            held: PathSet::default(),
            used: 0,
            used_by_fetches: 0,
            bound: bound::Bound::default(),
            counts,
            alarms_due: false,
            told: None,
            background: Background::default(),
            hooks: hooks::Hooks::default(),
            cancelled: cancel::Cancelled::default(),
            wanted: Wanted::default(),
            work: work::Work::default(),
            records: None,
        }
    }

    /// How far a goal is.
    ///
    /// # Panics
    /// If there is no such goal.
    #[inline]
    pub fn stage(&self, goal: Entity) -> Stage {
        self.stages[goal.index_u32() as usize]
    }

    /// The one place where a stage changes. A slot goes with the stages that have one.
    #[inline]
    fn set(&mut self, goal: Entity, to: Stage) -> Stage {
        let stage = &mut self.stages[goal.index_u32() as usize];
        let from = std::mem::replace(stage, to);
        self.used = self.used + u32::from(to.has_slot()) - u32::from(from.has_slot());
        let fetches = self.used_by_fetches + u32::from(to.has_fetch_slot());
        self.used_by_fetches = fetches - u32::from(from.has_fetch_slot());
        let holding = &mut self.bound.holding;
        *holding = *holding + u32::from(to.holds_paths()) - u32::from(from.holds_paths());
        let running = self.counts.running + u32::from(to.is_running());
        self.counts.running = running - u32::from(from.is_running());
        from
    }

    fn make_room(&mut self, goal: Entity) {
        let number = goal.index_u32() as usize;
        if self.stages.len() <= number {
            self.stages.resize(number + 1, Stage::New);
        }
    }
}
