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
//! ```
//!
//! From anywhere a goal may fail, which ends it when the tick ends. What a stage implies is never
//! stored beside it: a goal has a slot in `Starting` and `Running`, and holds its paths and their
//! locks from `Held` to `Scanning`.

mod cancel;
mod check;
mod desk;
mod due;
mod index;
mod queues;
mod records;
mod run;
mod wanted;

use std::time::Duration;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Entity, Resource};
use hashbrown::HashMap;
use windrow_components::bit_set::PathSet;
use windrow_components::goal::{BuildMode, Moment, Outcome, Stage, Target, WaiterLists};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use super::{NewOutput, Options, Pace, ReadyQueue, Repairs};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::report::Counts;

pub use check::Mistake;
pub use desk::{HookDesk, HookQuestion, Reply};
pub use index::{GoalIndex, GoalSlot};
pub use queues::{
    Awake, CompleteGoal, Completed, End, Ended, Goal, Parked, ReadyFetch, ReadyGoal, Waiting,
};
pub use records::Records;
pub use run::RunState;
pub use wanted::Asked;
use wanted::Wanted;

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
    /// Goals that have become ready since the policy last ranked goals.
    newly_ready: Vec<DrvId>,
    queue: ReadyQueue,
    fetches: std::collections::VecDeque<ReadyFetch>,
    starting: Vec<ReadyGoal>,
    starting_fetches: Vec<ReadyFetch>,
    completed: Completed,
    failures: Vec<(Entity, Failure)>,
    ended: Ended,
    parked: Vec<Parked>,
    any_goal: Vec<Waiting>,
    /// How long each goal that waits for others' locks waited last; every time twice as long, up to
    /// the poll interval.
    waits: HashMap<Entity, Duration>,
    /// Paths that goals of this run hold locks on.
    held: PathSet,
    /// How many slots are taken.
    used: u32,
    counts: Counts,
    background: Background,
    cancelled: cancel::Cancelled,
    wanted: Wanted,
    records: Option<Records>,
}

/// How long a goal waits before it tries again.
#[derive(Debug, Clone, Copy)]
pub enum Backoff {
    /// As long as this, whenever it waits.
    Constant(Duration),
    /// As long as this, then every time twice as long, up to the poll interval.
    Doubling(Duration),
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
}

/// What the state is asked.
impl Scheduler {
    /// The state of a run without goals.
    pub fn new(options: Options) -> Self {
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
            newly_ready: Vec::new(),
            queue: ReadyQueue::default(),
            fetches: Default::default(),
            starting: Vec::new(),
            starting_fetches: Vec::new(),
            completed: Completed::default(),
            failures: Vec::new(),
            ended: Ended::default(),
            parked: Vec::new(),
            any_goal: Vec::new(),
            waits: HashMap::new(),
            held: PathSet::default(),
            used: 0,
            counts: Counts::default(),
            background: Background::default(),
            cancelled: cancel::Cancelled::default(),
            wanted: Wanted::default(),
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

    /// What is asked of a goal (Nix 1.8: `DerivationGoal::buildMode`).
    #[inline]
    pub fn mode_of(&self, goal: Entity) -> BuildMode {
        self.run.mode_of(goal)
    }

    /// Whether a goal is awake.
    pub fn is_awake(&self) -> bool {
        !self.awake.is_empty()
    }

    /// Goals that have become ready since the policy last ranked goals.
    pub fn newly_ready(&self) -> &[DrvId] {
        &self.newly_ready
    }

    /// The goals that only lack a slot, for a policy to change their order.
    pub fn queue(&mut self) -> &mut ReadyQueue {
        &mut self.queue
    }

    /// How many slots are free for builds (Nix 1.8: `Worker::getNrLocalBuilds` against
    /// `maxBuildJobs`).
    #[inline]
    pub fn free_slots(&self) -> u32 {
        self.options.max_jobs.saturating_sub(self.used)
    }

    /// How many slots are free for fetches: at least one may run however few builds may, for no
    /// other machine can do it.
    pub fn free_fetch_slots(&self) -> u32 {
        self.options.max_jobs.max(1).saturating_sub(self.used)
    }

    /// Whether a path only lacks a slot to be fetched.
    pub fn has_ready_fetches(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Whether a goal of this run holds a path (Nix 1.8: `pathIsLockedByMe`).
    pub fn holds(&self, path: PathId) -> bool {
        self.held.contains(path)
    }

    /// Goals whose outputs are complete.
    pub fn completed(&self) -> &Completed {
        &self.completed
    }

    /// Goals that have failed in this tick.
    pub fn failures(&self) -> &[(Entity, Failure)] {
        &self.failures
    }

    /// Goals that have ended since waiters were last told.
    pub fn ended(&self) -> &Ended {
        &self.ended
    }

    /// How many goals are where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether goals wait for locks that others hold.
    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// When a lock is to be tried again.
    pub fn next_retry(&self) -> Option<Duration> {
        self.parked.iter().map(|parked| parked.retry_at).min()
    }

    /// Whether a system has something to do in the next tick, so that there is no sleeping now.
    pub fn has_work(&self) -> bool {
        // Whoever could be offered to the hook has been.
        let startable = !self.desk.is_on() && self.has_startable();
        startable
            || !self.awake.is_empty()
            || !self.newly_ready.is_empty()
            || self.desk.is_pending()
            || !self.starting.is_empty()
            || !self.starting_fetches.is_empty()
            || (self.free_fetch_slots() > 0 && !self.fetches.is_empty())
            || (!self.completed.is_empty() && self.completed.held_until.is_none())
            || !self.failures.is_empty()
            || !self.ended.is_empty()
    }

    /// Whether children run, or other threads work for goals.
    pub fn is_busy(&self) -> bool {
        let Background {
            launching,
            scanning,
            verifying,
        } = self.background;
        self.counts.running + launching + scanning + verifying > 0
    }

    /// Whether requests have ended whose goals have not been given up.
    pub fn has_ended_requests(&self) -> bool {
        self.run.has_ended()
    }

    /// Whether something could take a slot that becomes free.
    pub fn has_successors(&self) -> bool {
        self.pace.slots_before_paperwork
            && !self.desk.is_asking()
            && !(self.queue.is_empty() && self.newly_ready.is_empty())
    }
}

/// The transitions.
impl Scheduler {
    /// The one place where a stage changes. A slot goes with the stages that have one.
    #[inline]
    fn set(&mut self, goal: Entity, to: Stage) -> Stage {
        let stage = &mut self.stages[goal.index_u32() as usize];
        let from = std::mem::replace(stage, to);
        self.used = self.used + u32::from(to.has_slot()) - u32::from(from.has_slot());
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

    /// Adds a goal that has just been made, awake.
    ///
    /// # Panics
    /// As [`GoalIndex::insert`].
    pub fn add(&mut self, entities: &Entities, target: Target, goal: Entity) {
        self.make_room(goal);
        self.index.insert(entities, target, goal);
        self.awake.goals.push(goal);
    }

    /// Adds goals of derivations that have been made in one go, awake.
    ///
    /// # Panics
    /// As [`GoalIndex::insert`].
    pub fn add_all(
        &mut self,
        entities: &Entities,
        goals: impl Iterator<Item = (DrvId, Entity)> + Clone,
    ) {
        if let Some((_, last)) = goals.clone().max_by_key(|(_, goal)| goal.index_u32()) {
            self.make_room(last);
        }
        self.awake
            .derivations
            .extend(goals.clone().map(|(drv, _)| drv));
        self.index.insert_made(entities, goals);
    }

    /// Lets a goal be looked at in the next `substitute` (Nix 1.8: `Worker::wakeUp`).
    pub fn awaken(&mut self, goal: Entity) {
        self.awake.goals.push(goal);
    }

    /// The same for the goal of a derivation.
    #[inline]
    pub fn awaken_derivation(&mut self, drv: DrvId) {
        self.awake.derivations.push(drv);
    }

    /// Moves at most `most` awake goals to `other`, which has none.
    pub fn take_awake(&mut self, most: usize, other: &mut Awake) {
        self.awake.take(most, other);
    }

    /// Lets a goal wait for what that stage says, before it is ready.
    ///
    /// # Panics
    /// If it is ready already, or the stage is another.
    #[inline]
    pub fn wait(&mut self, goal: Entity, to: Stage) {
        let from = self.set(goal, to);
        assert!(from.is_before_ready() && to.is_before_ready());
    }

    /// A goal has all its inputs (Nix 1.8: the end of `DerivationGoal::inputsRealised`), or its
    /// lock is due for another try.
    ///
    /// # Panics
    /// If it waited for neither.
    #[inline]
    pub fn make_ready(&mut self, goal: Entity, drv: DrvId) {
        let from = self.set(goal, Stage::Ready);
        assert!(matches!(from, Stage::Inputs | Stage::Parked));
        self.newly_ready.push(drv);
    }

    /// A path's references are valid (Nix 1.8: `SubstitutionGoal::referencesValid`), or its lock is
    /// due for another try: it only lacks a slot.
    ///
    /// # Panics
    /// If it was further already.
    pub fn make_fetch_ready(&mut self, fetch: ReadyFetch) {
        let from = self.set(fetch.goal, Stage::Ready);
        assert!(from.is_before_ready() || from == Stage::Parked);
        self.fetches.push_back(fetch);
    }

    /// Ranks the goals that have become ready: the smallest rank comes first.
    pub fn rank(&mut self, mut rank: impl FnMut(DrvId) -> u64) {
        for drv in self.newly_ready.drain(..) {
            self.queue.push(drv, rank(drv));
        }
    }

    /// The best goal that only lacks a slot.
    #[inline]
    pub fn pop_ready(&mut self) -> Option<ReadyGoal> {
        loop {
            let drv = self.queue.pop()?;
            let goal = self.index.goal(drv).expect("what is ready has a goal");
            let ready = ReadyGoal { goal, drv };
            if !self.drop_unwanted(ready) {
                return Some(ready);
            }
        }
    }

    /// The next build to look at where there is a hook, and its rank.
    pub fn pop_for_hook(&mut self) -> Option<(ReadyGoal, u64)> {
        let free_slot = self.free_slots() > 0;
        loop {
            let (drv, rank) = self.desk.next(&mut self.queue, free_slot, self.now)?;
            let goal = self.index.goal(drv).expect("what is ready has a goal");
            let ready = ReadyGoal { goal, drv };
            if !self.drop_unwanted(ready) {
                return Some((ready, rank));
            }
        }
    }

    /// Takes the paths that are next to be fetched, as many as there are slots.
    pub fn take_ready_fetches(&mut self) -> Vec<ReadyFetch> {
        let mut taken = Vec::new();
        while taken.len() < self.free_fetch_slots() as usize
            && let Some(fetch) = self.fetches.pop_front()
        {
            if !self.drop_unwanted_fetch(fetch) {
                taken.push(fetch);
            }
        }
        taken
    }

    /// Holds paths for a goal, all or none; tells whether none was held before.
    #[inline]
    pub fn hold(&mut self, paths: &[PathId]) -> bool {
        let held = &mut self.held;
        let Some(busy) = paths.iter().position(|&path| !held.insert(path)) else {
            return true;
        };
        self.release(&paths[..busy]);
        false
    }

    /// Gives up paths for which no lock could be had.
    pub fn release(&mut self, paths: &[PathId]) {
        for &path in paths {
            self.held.remove(path);
        }
    }

    /// A goal has the locks of its paths, which it holds.
    ///
    /// # Panics
    /// If it was not ready.
    #[inline]
    pub fn lock(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::Held);
        assert!(from == Stage::Ready);
        if !self.waits.is_empty() {
            self.waits.remove(&goal);
        }
    }

    /// Lets a goal wait until any goal of this run ends, for one of them works on the same path
    /// (Nix 1.8: `Worker::waitForAnyGoal`).
    ///
    /// # Panics
    /// If it was not ready.
    pub fn wait_for_any_goal(&mut self, waiting: Waiting) {
        let from = self.set(waiting.goal(), Stage::Parked);
        assert!(from == Stage::Ready);
        self.any_goal.push(waiting);
    }

    /// Lets a goal try again after a while (Nix 1.8: `Worker::waitForAWhile`). What it held is
    /// given up. Tells whether it waits for the first time.
    ///
    /// # Panics
    /// If it was neither ready nor about to start.
    pub fn wait_a_while(&mut self, graph: &BuildGraph, waiting: Waiting, wait: Backoff) -> bool {
        let goal = waiting.goal();
        let from = self.set(goal, Stage::Parked);
        assert!(matches!(from, Stage::Ready | Stage::Starting));
        if from.holds_paths() {
            self.release_of(graph, waiting.into());
        }
        let limit = self.options.lock_poll_interval;
        let wait = match (wait, self.waits.get(&goal)) {
            (Backoff::Doubling(_), Some(&last)) => (last * 2).min(limit),
            (Backoff::Doubling(first) | Backoff::Constant(first), _) => first,
        };
        let retry_at = self.now + wait;
        self.parked.push(Parked { waiting, retry_at });
        self.waits.insert(goal, wait).is_none()
    }

    /// Makes goals ready again whose locks are due for another try.
    pub fn retry_parked(&mut self) {
        let now = self.now;
        let due = self.parked.extract_if(.., |it| it.retry_at <= now);
        for due in due.collect::<Vec<_>>() {
            self.make_ready_again(due.waiting);
        }
    }

    /// Makes goals ready again that wait for any goal to end.
    pub fn retry_any_goal(&mut self) {
        for due in std::mem::take(&mut self.any_goal) {
            self.make_ready_again(due);
        }
    }

    fn make_ready_again(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Build(ready) => self.make_ready(ready.goal, ready.drv),
            Waiting::Fetch(fetch) => self.make_fetch_ready(fetch),
        }
    }

    /// Gives a slot to a build that holds its locks.
    ///
    /// # Panics
    /// If it does not.
    #[inline]
    pub fn take_slot(&mut self, ready: ReadyGoal) {
        let from = self.set(ready.goal, Stage::Starting);
        assert!(from == Stage::Held);
        self.starting.push(ready);
    }

    /// Gives a slot to a path that has its lock.
    ///
    /// # Panics
    /// If it has not.
    pub fn take_fetch_slot(&mut self, fetch: ReadyFetch) {
        let from = self.set(fetch.goal, Stage::Starting);
        assert!(from == Stage::Held);
        self.starting_fetches.push(fetch);
    }

    /// Builds that were given a slot and are to be started.
    pub fn take_starting(&mut self) -> Vec<ReadyGoal> {
        std::mem::take(&mut self.starting)
    }

    /// Gives back the empty list, for its capacity.
    pub fn keep_starting(&mut self, list: Vec<ReadyGoal>) {
        debug_assert!(list.is_empty() && self.starting.is_empty());
        self.starting = list;
    }

    /// Fetches that were given a slot and are to be started.
    pub fn take_starting_fetches(&mut self) -> Vec<ReadyFetch> {
        std::mem::take(&mut self.starting_fetches)
    }

    /// What the hook answered, to which build with which rank, if it has. What it accepted is
    /// handed over to it.
    pub fn take_reply(&mut self) -> Option<(Reply, ReadyGoal, u64)> {
        self.desk.take_reply(&mut self.queue)
    }

    /// Lets a build that the hook did not take, and that holds nothing any more, wait for a slot,
    /// or for the hook.
    pub fn wait_after_reply(
        &mut self,
        graph: &BuildGraph,
        reply: Reply,
        (drv, rank): (DrvId, u64),
    ) {
        match reply {
            Reply::Postpone => {
                let kind = graph.machine_kind(drv);
                let until = self.now + self.options.lock_poll_interval;
                self.desk.park(kind, (drv, rank), self.now, until);
            }
            Reply::DeclinePermanently => self.queue.push(drv, rank),
            Reply::Accept | Reply::Decline => self.desk.wait_for_slot(drv, rank),
        }
    }

    /// A build that no hook took holds nothing while it waits.
    ///
    /// # Panics
    /// If it did not hold its locks.
    pub fn give_back(&mut self, graph: &BuildGraph, ready: ReadyGoal) {
        let from = self.set(ready.goal, Stage::Ready);
        assert!(from == Stage::Held);
        self.release_of(graph, ready.into());
    }

    /// A goal's process is made by another thread.
    pub fn launch(&mut self) {
        self.background.launching += 1;
    }

    /// That thread is done.
    ///
    /// # Panics
    /// If nothing was to come from one.
    pub fn launched(&mut self) {
        self.background.launching -= 1;
    }

    /// A goal's child runs (Nix 1.8: `Worker::childStarted`): one that has a slot, or a hook that
    /// builds elsewhere.
    ///
    /// # Panics
    /// If it was not about to start.
    #[inline]
    pub fn start(&mut self, goal: Entity) {
        let to = match self.stage(goal) {
            Stage::Held => Stage::Away,
            _ => Stage::Running,
        };
        let from = self.set(goal, to);
        assert!(matches!(from, Stage::Held | Stage::Starting));
    }

    /// A goal's child has exited (Nix 1.8: `Worker::childTerminated`), which gives its slot back.
    /// What it made is to be scanned.
    ///
    /// # Panics
    /// If it had none.
    #[inline]
    pub fn exited(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::Scanning);
        assert!(from.is_running());
    }

    /// A goal's outputs are scanned by another thread.
    pub fn scan(&mut self) {
        self.background.scanning += 1;
    }

    /// That thread is done.
    ///
    /// # Panics
    /// If nothing was to come from one.
    pub fn scanned(&mut self) {
        self.background.scanning -= 1;
    }

    /// What is valid is looked at by another thread.
    pub fn verify(&mut self) {
        self.background.verifying += 1;
    }

    /// That thread is done.
    ///
    /// # Panics
    /// If nothing was to come from one.
    pub fn verified(&mut self) {
        self.background.verifying -= 1;
    }

    /// A substituter could not deliver a path: the next one is tried (Nix 1.8:
    /// `SubstitutionGoal::tryNext`).
    ///
    /// # Panics
    /// If it had not been started.
    pub fn try_next(&mut self, fetch: ReadyFetch) {
        let from = self.set(fetch.goal, Stage::Info);
        assert!(matches!(from, Stage::Starting | Stage::Scanning));
        self.held.remove(fetch.path);
        self.awaken(fetch.goal);
    }

    /// A goal's outputs are complete, and to be registered.
    #[inline]
    pub fn complete(
        &mut self,
        goal: Entity,
        drv: Option<DrvId>,
        outputs: impl IntoIterator<Item = impl Into<NewOutput>>,
    ) {
        debug_assert!(self.stage(goal) == Stage::Scanning);
        self.completed.push(goal, drv, outputs);
    }

    /// Takes all that is complete; its capacity comes back by [`Scheduler::keep_completed`].
    pub fn take_completed(&mut self) -> Completed {
        std::mem::take(&mut self.completed)
    }

    /// Lets what is complete wait until then for more to be registered with; tells until when it
    /// waits.
    pub fn hold_completed(&mut self, until: Duration) -> Duration {
        *self.completed.held_until.get_or_insert(until)
    }

    /// What is complete is not to be repaired any more; the paths.
    pub fn mark_completed_good(&mut self) -> Vec<PathId> {
        let outputs = self.completed.outputs().iter();
        let paths: Vec<PathId> = outputs.map(|output| output.path).collect();
        for path in &paths {
            self.repairs.bad.remove(path);
        }
        paths
    }

    /// Gives the list back.
    pub fn keep_completed(&mut self, mut completed: Completed) {
        completed.clear();
        self.completed = completed;
    }

    /// A goal has failed, and ends with this tick. What it holds, and its slot, it has until then.
    /// Of one that was cancelled it is only the end.
    pub fn fail(&mut self, goal: Entity, mut failure: Failure) {
        debug_assert!(self.stage(goal).outcome().is_none());
        if self.is_cancelled(goal) {
            failure.kind = FailureKind::Cancelled;
        }
        self.failures.push((goal, failure));
    }

    /// Takes all failures.
    pub fn take_failures(&mut self) -> Vec<(Entity, Failure)> {
        std::mem::take(&mut self.failures)
    }

    /// A goal has ended (Nix 1.8: `Goal::amDone`): it gives up its slot and the paths it holds, and
    /// its waiters are told when the tick ends. Tells whether it held its locks, which are then to
    /// be given up in the store.
    ///
    /// # Panics
    /// If it had ended before.
    #[inline]
    pub fn end(&mut self, graph: &BuildGraph, goal: Goal, how: Outcome) -> bool {
        let from = self.set(goal.entity, Stage::Done(how));
        assert!(from.outcome().is_none());
        self.ended.push(goal.entity, goal.drv(), how);
        self.cancelled.forget(goal.entity);
        self.note_end(goal.entity, how);
        if how == Outcome::Cancelled && goal.drv().is_some() && from.is_expected() {
            self.expect_one_less();
        }
        if from.holds_paths() {
            self.release_of(graph, goal);
        }
        from.holds_paths()
    }

    #[inline]
    fn release_of(&mut self, graph: &BuildGraph, goal: Goal) {
        match goal.target {
            Target::Derivation(drv) => {
                for row in graph.outputs(drv) {
                    self.held.remove(row.path);
                }
            }
            Target::Path(path) | Target::Repair(path) => {
                self.held.remove(path);
            }
        }
    }

    /// Takes up a goal again that ended well for fewer outputs; Nix 1.8 would make a new one.
    ///
    /// # Panics
    /// If it did not.
    pub fn reopen(&mut self, goal: Entity, drv: DrvId) {
        let from = self.set(goal, Stage::New);
        assert!(from == Stage::Done(Outcome::Success));
        let now = self.ended.tick();
        self.index.reopen(drv, now);
        self.awaken_derivation(drv);
    }

    /// Takes up a path's goal again that lacked references which may be there now; Nix 1.8 would
    /// make a new one.
    ///
    /// # Panics
    /// If it did not.
    pub fn reopen_path(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::New);
        assert!(from == Stage::Done(Outcome::IncompleteClosure));
        self.awaken(goal);
    }

    /// Takes the goals that have ended since waiters were last told.
    pub fn take_ended(&mut self) -> Vec<End> {
        self.ended.take()
    }

    /// Gives the list back.
    pub fn keep_ended(&mut self, ends: Vec<End>) {
        self.ended.keep(ends);
    }

    /// The moment before the next end.
    #[inline]
    pub fn moment(&self) -> Moment {
        self.ended.now()
    }

    /// Counts derivations that must be built, as far as is known.
    pub fn expect_builds(&mut self, count: usize) {
        self.counts.expected += u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// One of them may be had from a substituter after all; it is counted again if it must be
    /// built.
    pub fn expect_one_less(&mut self) {
        self.counts.expected -= 1;
    }

    /// Counts what has become valid: a build, or a fetched path.
    #[inline]
    pub fn count_success(&mut self, built: bool) {
        self.counts.built += u32::from(built);
        self.counts.fetched += u32::from(!built);
    }

    /// Counts a derivation that failed.
    pub fn count_failure(&mut self) {
        self.counts.failed += 1;
    }

    /// Ends the run, whatever its goals.
    pub fn abort(&mut self, error: Error) {
        self.run.fatal = Some(error);
    }
}
