//! What differs between worlds, and what a run is made of: the store behind a trait, and the queues systems hand on.

use std::time::Duration;

use bevy_ecs::entity::{Entities, EntityIndex};
use bevy_ecs::prelude::{Entity, Resource};
use bevy_ecs::storage::TableId;
use hashbrown::HashMap;
use smallvec::SmallVec;
use windrow_components::bit_set::{BitSet, PathSet};
use windrow_components::building::HashRewrites;
use windrow_components::goal::{BuildMode, Moment, Outcome, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use crate::columns::{Row, place};
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

    /// Whether others may use the store at the same time, so that paths must be locked.
    fn is_shared(&self) -> bool {
        true
    }

    /// Locks all of the paths, or none if any is locked by someone else (`lockPaths`). A store that nobody else
    /// uses need not be asked.
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
    fn close(&mut self, _graph: &BuildGraph) {}

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
    fn register(&mut self, graph: &BuildGraph, outputs: &[NewOutput]) -> Result<()>;
}

/// The store of this run.
pub struct StoreHandle(pub Box<dyn Store>);

/// Where messages, progress and results of this run go.
pub struct ReporterHandle(pub Box<dyn Reporter>);

/// An output that lacks only its registration.
#[derive(Debug, Clone)]
pub struct NewOutput {
    /// Its path.
    pub path: PathId,
    /// What is on disk there; nothing in a world that has no disks.
    pub built: Option<Box<BuiltOutput>>,
}

impl From<BuiltOutput> for NewOutput {
    fn from(built: BuiltOutput) -> Self {
        Self {
            path: built.path,
            built: Some(Box::new(built)),
        }
    }
}

/// An output that is on disk, hashed and canonical.
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

/// Whether a derivation has a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// It has none.
    Empty,
    /// One has been asked for, as that one of those to be made.
    Asked(u32),
    /// It has this one.
    Taken(Row),
}

/// One more than the number of a goal's entity, and its row; where there is none yet, zero, and one more than its place among
/// those to be made, or zero.
type SeatCell = [u32; 2];

const EMPTY: SeatCell = [0, 0];
const NONE: u32 = u32::MAX;

/// Which entity is the goal for what.
#[derive(Debug, Default, Resource)]
pub struct GoalIndex {
    /// By derivation id; of entities only their index, for goals are never despawned.
    derivations: Vec<SeatCell>,
    /// The table that the goals of derivations lie in, all of them.
    table: Option<TableId>,
    /// How many derivations have a goal.
    taken: usize,
    /// All moments at which goals were taken up again that had ended.
    reopened: HashMap<DrvId, SmallVec<[Moment; 2]>>,
    paths: HashMap<PathId, Entity>,
    repairs: HashMap<PathId, Entity>,
}

impl GoalIndex {
    /// The goal for `target`, if there is one.
    pub fn get(&self, target: Target) -> Option<Entity> {
        match target {
            Target::Derivation(drv) => self.goal(drv),
            Target::Path(path) => self.paths.get(&path).copied(),
            Target::Repair(path) => self.repairs.get(&path).copied(),
        }
    }

    /// The goal for a derivation, if there is one.
    #[inline]
    pub fn goal(&self, drv: DrvId) -> Option<Entity> {
        let [goal, _] = self.derivations.get(drv.index())?;
        Entity::from_raw_u32(goal.wrapping_sub(1))
    }

    /// Whether a derivation has a goal.
    #[inline]
    pub fn seat(&self, drv: DrvId) -> Seat {
        match self.derivations.get(drv.index()) {
            None | Some(&EMPTY) => Seat::Empty,
            Some(&[0, nth]) => Seat::Asked(nth - 1),
            Some(&[_, row]) => Seat::Taken(Row(row)),
        }
    }

    /// The goal for a derivation and where it lies, if there is one.
    #[inline]
    pub fn goal_and_row(&self, drv: DrvId) -> Option<(Entity, Row)> {
        let &[goal, row] = self.derivations.get(drv.index())?;
        Some((Entity::from_raw_u32(goal.wrapping_sub(1))?, Row(row)))
    }

    /// Where a derivation's goal lies, if it has one.
    #[inline]
    pub fn row(&self, drv: DrvId) -> Option<Row> {
        match self.derivations.get(drv.index()) {
            None | Some(&[0, _]) => None,
            Some(&[_, row]) => Some(Row(row)),
        }
    }

    /// The table of all goals of derivations, once there is one, and how many there are.
    pub fn derivations(&self) -> (Option<TableId>, usize) {
        (self.table, self.taken)
    }

    /// Notes that a derivation's goal is to be made, as that one of many.
    #[inline]
    pub fn ask(&mut self, drv: DrvId, nth: usize) {
        let nth = u32::try_from(nth + 1).expect("fewer than 2^32 goals");
        *self.cell(drv) = [0, nth];
    }

    /// Remembers the goals of derivations that have been made in one go.
    ///
    /// # Panics
    /// As [`GoalIndex::insert`].
    pub fn insert_made(
        &mut self,
        entities: &Entities,
        goals: impl IntoIterator<Item = (DrvId, Entity)>,
    ) {
        let mut goals = goals.into_iter();
        let Some((drv, first)) = goals.next() else {
            return;
        };
        self.insert(entities, Target::Derivation(drv), first);
        let Seat::Taken(Row(first)) = self.seat(drv) else {
            return;
        };
        // They lie in their table one after the other.
        for (row, (drv, goal)) in (first + 1..).zip(goals) {
            debug_assert!(place(entities, goal).is_some_and(|at| at.row.index_u32() == row));
            self.taken += 1;
            *self.cell(drv) = [goal.index_u32() + 1, row];
        }
    }

    #[inline]
    fn cell(&mut self, drv: DrvId) -> &mut SeatCell {
        if self.derivations.len() <= drv.index() {
            self.grow(drv.index() + 1);
        }
        &mut self.derivations[drv.index()]
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        if self.derivations.is_empty() {
            // Memory that is new is zero, and need not be written twice.
            self.derivations = vec![EMPTY; count];
        } else {
            self.derivations.resize(count, EMPTY);
        }
    }

    /// Remembers the goal for `target`.
    ///
    /// # Panics
    /// If it does not exist, or a derivation's goal does not lie in the table of all the others.
    pub fn insert(&mut self, entities: &Entities, target: Target, goal: Entity) {
        match target {
            Target::Derivation(drv) => {
                let place = place(entities, goal).expect("a goal that has been made");
                let table = *self.table.get_or_insert(place.table);
                assert!(table == place.table, "goals of derivations share a table");
                self.taken += 1;
                *self.cell(drv) = [goal.index_u32() + 1, place.row.index_u32()];
            }
            Target::Path(path) => {
                self.paths.insert(path, goal);
            }
            Target::Repair(path) => {
                self.repairs.insert(path, goal);
            }
        }
    }

    /// Notes that a path's goal is to be made; until then it has none that is anything.
    pub fn ask_for_path(&mut self, path: PathId, repair: bool) {
        let goals = if repair {
            &mut self.repairs
        } else {
            &mut self.paths
        };
        goals.insert(path, Entity::PLACEHOLDER);
    }

    /// Notes that a derivation's goal, which had ended, is taken up again.
    pub fn reopen(&mut self, drv: DrvId, at: Moment) {
        self.reopened.entry(drv).or_default().push(at);
    }

    /// Since when a derivation's goal that ended `at` that moment had been busy.
    #[inline]
    pub fn begun_before(&self, drv: DrvId, at: Moment) -> Moment {
        if self.reopened.is_empty() {
            return Moment::default();
        }
        let mut moments = self.reopened.get(&drv).into_iter().flatten();
        let last = moments.rfind(|&&moment| moment < at);
        last.map_or_else(Moment::default, |moment| moment.next())
    }
}

/// Goals that have something to look at in the next `substitute` (the seed's `awake`).
#[derive(Debug, Default, Resource)]
pub struct Awake {
    /// Goals of either kind.
    pub goals: Vec<Entity>,
    /// Goals of derivations, by what they are for.
    pub derivations: Vec<DrvId>,
}

impl Awake {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.goals.is_empty() && self.derivations.is_empty()
    }

    /// Moves at most `most` of them to `other`, which has none.
    pub fn take(&mut self, most: usize, other: &mut Self) {
        std::mem::swap(self, other);
        let goals = other.goals.len().min(most);
        self.goals.extend(other.goals.drain(goals..));
        let derivations = other.derivations.len().min(most - goals);
        let rest = other.derivations.drain(derivations..);
        self.derivations.extend(rest);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.goals.len() + self.derivations.len()
    }

    /// Forgets all of them and keeps the room.
    pub fn clear(&mut self) {
        self.goals.clear();
        self.derivations.clear();
    }
}

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
pub struct NewlyReady(pub Vec<DrvId>);

/// Goals that hold their locks and get a slot in this tick.
#[derive(Debug, Default, Resource)]
pub struct Starting(pub Vec<ReadyGoal>);

/// Goals with a child, as many as there are slots at the most.
#[derive(Debug, Default, Resource)]
pub struct Running(pub Vec<Entity>);

/// A goal whose outputs are complete.
#[derive(Debug, Clone, Copy)]
pub struct CompleteGoal {
    /// The goal.
    pub goal: Entity,
    /// The derivation it is for, unless it is a path's.
    pub drv: Option<DrvId>,
    /// Where its outputs end in the list of all; they begin where those of the one before end.
    end: usize,
}

/// Goals whose outputs are complete, for one transaction in this tick.
#[derive(Debug, Default, Resource)]
pub struct Completed {
    goals: Vec<CompleteGoal>,
    outputs: Vec<NewOutput>,
    /// Until when they wait for more to be registered with, if they do.
    pub held_until: Option<Duration>,
}

impl Completed {
    /// Adds a goal with its outputs, and what derivation it is for, unless it is a path's.
    pub fn push(
        &mut self,
        goal: Entity,
        drv: Option<DrvId>,
        outputs: impl IntoIterator<Item = impl Into<NewOutput>>,
    ) {
        self.outputs.extend(outputs.into_iter().map(Into::into));
        let end = self.outputs.len();
        self.goals.push(CompleteGoal { goal, drv, end });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.goals.is_empty()
    }

    /// How many goals there are.
    pub fn len(&self) -> usize {
        self.goals.len()
    }

    /// The outputs of all goals.
    pub fn outputs(&self) -> &[NewOutput] {
        &self.outputs
    }

    /// Each goal and its outputs.
    pub fn builds(&self) -> impl Iterator<Item = (CompleteGoal, &[NewOutput])> {
        let mut start = 0;
        self.goals.iter().map(move |complete| {
            let outputs = &self.outputs[start..complete.end];
            start = complete.end;
            (*complete, outputs)
        })
    }

    /// Forgets all of them and keeps the room.
    pub fn clear(&mut self) {
        self.goals.clear();
        self.outputs.clear();
        self.held_until = None;
    }
}

/// Goals that failed in this tick, and why.
#[derive(Debug, Default, Resource)]
pub struct Failures(pub Vec<(Entity, Failure)>);

/// The end of a goal.
#[derive(Debug, Clone, Copy)]
pub struct End {
    goal: EntityIndex,
    /// The derivation it is for, or `NONE`.
    drv: u32,
    /// When it ended.
    pub at: Moment,
    /// How it ended.
    pub outcome: Outcome,
}

impl End {
    /// The goal.
    #[inline]
    pub fn goal(&self) -> Entity {
        Entity::from_index(self.goal)
    }

    /// The derivation it is for, unless it is a path's.
    #[inline]
    pub fn drv(&self) -> Option<DrvId> {
        (self.drv != NONE).then(|| DrvId::from_index(self.drv as usize))
    }
}

/// Goals that have ended since the waiters were last told.
#[derive(Debug, Default, Resource)]
pub struct Ended {
    ends: Vec<End>,
    now: Moment,
}

impl Ended {
    /// Adds a goal, and what derivation it is for, unless it is a path's.
    #[inline]
    pub fn push(&mut self, goal: Entity, drv: Option<DrvId>, outcome: Outcome) {
        let at = self.tick();
        self.ends.push(End {
            goal: goal.index(),
            drv: drv.map_or(NONE, |drv| drv.index() as u32),
            at,
            outcome,
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &End> {
        self.ends.iter()
    }

    /// Takes all of them.
    pub fn drain(&mut self) -> impl Iterator<Item = End> {
        self.ends.drain(..)
    }

    /// The moment before the next end.
    #[inline]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The same, which is over with that.
    #[inline]
    pub fn tick(&mut self) -> Moment {
        let now = self.now;
        self.now = now.next();
        now
    }
}

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
    pub any_goal: Vec<DrvId>,
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
