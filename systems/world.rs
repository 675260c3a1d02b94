//! What differs between worlds, and what a run is made of: the store behind a trait, and the queues systems hand on.

use std::time::Duration;

use bevy_ecs::entity::EntityIndex;
use bevy_ecs::prelude::{Entity, Resource};
use hashbrown::{HashMap, HashSet};
use windrow_components::building::HashRewrites;
use windrow_components::goal::{BuildMode, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::path_set::PathSet;

use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::report::Reporter;
use crate::store::failed_paths::FailedPaths;
use crate::store::path_lock::OutputLocks;

/// A store as the systems see it: real (SQLite and a folder) or simulated (memory).
pub trait Store {
    /// Keeps paths from being collected as long as this process lives (`addTempRoot`).
    ///
    /// # Errors
    /// When the roots can't be written.
    fn add_temp_roots(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<()>;

    /// Which of the paths are valid, in their order (`queryValidPaths`).
    ///
    /// # Errors
    /// When the database can't be read.
    fn valid(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>>;

    /// Reads a derivation into the graph (`derivationFromPath`).
    ///
    /// # Errors
    /// When its file can't be read, or is not what its path says.
    fn load(&mut self, graph: &mut BuildGraph, drv: DrvId) -> Result<()>;

    /// Checks that a derivation about to be built names the output paths that its contents give.
    ///
    /// # Errors
    /// When it does not.
    fn check_output_paths(&mut self, graph: &BuildGraph, drv: DrvId) -> Result<()>;

    /// The SHA-256 of the NAR that a valid path was registered with.
    ///
    /// # Errors
    /// When the database can't be read.
    fn nar_hash(&mut self, graph: &BuildGraph, path: PathId) -> Result<Option<[u8; 32]>>;

    /// Locks all of the paths, or none if any is locked by someone else (`lockPaths`). A store that nobody else uses
    /// gives locks that hold nothing.
    ///
    /// # Errors
    /// When a lock file can't be made.
    fn try_lock(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Option<OutputLocks>>;

    /// Scratch paths for outputs that are valid although others of the same derivation are to be built
    /// (`addHashRewrite`), kept from collection.
    ///
    /// # Errors
    /// When the roots can't be written.
    fn scratch_outputs(
        &mut self,
        graph: &BuildGraph,
        drv: DrvId,
        valid: &[PathId],
    ) -> Result<HashRewrites>;

    /// The failures that are remembered, if the setting `build-cache-failure` asks for that.
    fn failed_paths(&mut self) -> Option<&FailedPaths> {
        None
    }

    /// Gives locks up; with `delete` their files go too, which only outputs that are valid allow.
    fn unlock(&mut self, locks: OutputLocks, delete: bool);

    /// Tidies up when no goal needs the store any more.
    fn close(&mut self) {}

    /// The closure of everything a derivation's builder may refer to: the wanted outputs of its inputs, and its
    /// sources.
    ///
    /// # Errors
    /// When the database can't be read.
    fn input_closure(&mut self, graph: &mut BuildGraph, drv: DrvId) -> Result<Vec<PathId>>;

    /// The closure of valid paths, themselves included (`computeFSClosure`).
    ///
    /// # Errors
    /// When the database can't be read.
    fn closure(&mut self, graph: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>>;

    /// Registers outputs as valid, all in one transaction (`registerValidPaths`).
    ///
    /// # Errors
    /// When one refers to a path that is not valid, references form a circle, or the database can't be
    /// written. Then none is registered.
    fn register(&mut self, graph: &BuildGraph, outputs: &[BuiltOutput]) -> Result<()>;
}

/// The store of this run.
pub struct StoreHandle(pub Box<dyn Store>);

/// Where messages, progress and results of this run go.
pub struct ReporterHandle(pub Box<dyn Reporter>);

/// An output that is on disk, hashed and canonical, and lacks only its registration.
#[derive(Debug, Clone)]
pub struct BuiltOutput {
    /// Its path.
    pub path: PathId,
    /// The derivation that made it, if that is known.
    pub deriver: Option<PathId>,
    /// The SHA-256 of its NAR.
    pub nar_hash: [u8; 32],
    /// The length of its NAR in bytes.
    pub nar_size: u64,
    /// The paths it refers to.
    pub references: Vec<PathId>,
    /// Whether it was built here, and not fetched from somewhere.
    pub ultimate: bool,
    /// Where its path depends on its contents alone, how they are addressed.
    pub content_address: Option<String>,
    /// For a fetched derivation its outputs, by name and full path.
    pub drv_outputs: Vec<(String, String)>,
}

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

/// Which entity is the goal for what.
#[derive(Debug, Default, Resource)]
pub struct GoalIndex {
    /// By derivation id; of entities only their index, for goals are never despawned.
    derivations: Vec<Option<EntityIndex>>,
    paths: HashMap<PathId, Entity>,
    repairs: HashMap<PathId, Entity>,
}

impl GoalIndex {
    /// The goal for `target`, if there is one.
    pub fn get(&self, target: Target) -> Option<Entity> {
        match target {
            Target::Derivation(drv) => {
                let index = self.derivations.get(drv.index()).copied().flatten();
                index.map(Entity::from_index)
            }
            Target::Path(path) => self.paths.get(&path).copied(),
            Target::Repair(path) => self.repairs.get(&path).copied(),
        }
    }

    /// Remembers the goal for `target`.
    pub fn insert(&mut self, target: Target, goal: Entity) {
        match target {
            Target::Derivation(drv) => {
                if self.derivations.len() <= drv.index() {
                    self.derivations.resize(drv.index() + 1, None);
                }
                self.derivations[drv.index()] = Some(goal.index());
            }
            Target::Path(path) => {
                self.paths.insert(path, goal);
            }
            Target::Repair(path) => {
                self.repairs.insert(path, goal);
            }
        }
    }
}

/// Goals that have something to look at in the next `substitute` (the seed's `awake`).
#[derive(Debug, Default, Resource)]
pub struct Awake(pub Vec<Entity>);

/// A derivation's goal that only lacks a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyGoal {
    /// The goal.
    pub goal: Entity,
    /// What it is to build.
    pub drv: DrvId,
}

/// Goals whose inputs have all come to be there since the policy last ranked goals.
#[derive(Debug, Default, Resource)]
pub struct NewlyReady(pub Vec<ReadyGoal>);

/// Goals that hold their locks and get a slot in this tick.
#[derive(Debug, Default, Resource)]
pub struct Starting(pub Vec<ReadyGoal>);

/// Goals with a child, as many as there are slots at the most.
#[derive(Debug, Default, Resource)]
pub struct Running(pub Vec<Entity>);

/// Goals whose outputs are complete, for one transaction in this tick.
#[derive(Debug, Default, Resource)]
pub struct Completed {
    /// Each goal, and where its outputs end in the list of all; they begin where those of the one before end.
    goals: Vec<(Entity, usize)>,
    outputs: Vec<BuiltOutput>,
}

impl Completed {
    /// Adds a goal with its outputs.
    pub fn push(&mut self, goal: Entity, outputs: impl IntoIterator<Item = BuiltOutput>) {
        self.outputs.extend(outputs);
        self.goals.push((goal, self.outputs.len()));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.goals.is_empty()
    }

    /// The outputs of all goals.
    pub fn outputs(&self) -> &[BuiltOutput] {
        &self.outputs
    }

    /// Each goal and its outputs.
    pub fn builds(&self) -> impl Iterator<Item = (Entity, &[BuiltOutput])> {
        let mut start = 0;
        self.goals.iter().map(move |&(goal, end)| {
            let outputs = &self.outputs[start..end];
            start = end;
            (goal, outputs)
        })
    }

    /// Forgets all of them and keeps the room.
    pub fn clear(&mut self) {
        self.goals.clear();
        self.outputs.clear();
    }
}

/// Goals that failed in this tick, and why.
#[derive(Debug, Default, Resource)]
pub struct Failures(pub Vec<(Entity, Failure)>);

/// Goals whose outcome is known since the waiters were last told.
#[derive(Debug, Default, Resource)]
pub struct Ended(pub Vec<(Entity, windrow_components::goal::Outcome)>);

/// Build slots (the seed's `nrLocalBuilds` against `maxBuildJobs`).
#[derive(Debug, Default, Resource)]
pub struct Slots {
    /// How many are taken: by running children and by goals about to get one.
    pub used: u32,
}

/// Goals that wait for a lock or for another goal's path.
#[derive(Debug, Default, Resource)]
pub struct LockWaiters {
    /// Waiting for a lock that another process holds.
    pub foreign: Vec<ForeignLock>,
    /// How long each of these waited last; every time twice as long, up to the poll interval.
    pub waits: HashMap<Entity, Duration>,
    /// Waiting for any goal of this run to end, for it works on the same path (`waitingForAnyGoal`).
    pub any_goal: Vec<ReadyGoal>,
    /// Paths that goals of this run hold locks on (`pathIsLockedByMe`).
    pub held: PathSet,
}

/// A lock that another process holds.
#[derive(Debug, Clone, Copy)]
pub struct ForeignLock {
    /// The goal that wants it.
    pub ready: ReadyGoal,
    /// When to try again.
    pub retry_at: Duration,
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

/// How the run stands.
#[derive(Debug, Default, Resource)]
pub struct RunState {
    /// The goals that were asked for, without those that ended.
    pub top: HashSet<Entity>,
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
            BuildMode::Check if !self.top.contains(&goal) => BuildMode::Normal,
            mode => mode,
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_over(&self) -> bool {
        self.top.is_empty() || self.given_up || self.fatal.is_some() || self.interrupted.is_some()
    }
}
