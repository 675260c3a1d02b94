//! The sixth system: registers what is complete, reports what failed, and tells the waiters.
//!
//! All outputs that are complete in a tick are registered in one transaction. If the store refuses it,
//! each build is tried alone, so that one bad output fails its own goal only (the seed's `buildDone`,
//! `amDone`, `removeGoal`).

pub mod failure_cache;
pub mod repair;
pub mod retry;

pub mod fetch;
pub mod hook;
mod mislaid;
pub mod reap;

use std::time::Duration;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut, With};
use bevy_ecs::system::SystemParam;
use windrow_components::bit_set::PathSet;
use windrow_components::goal::{
    DerivationGoal, Outcome, Stage, SubstitutionGoal, Waitees, WaiterLists,
};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::substitution::OutputSubstitution;

use crate::failure::{Failure, FailureKind};
use crate::report::{BuildRef, Counts, Event, Reporter};
use crate::store::path_lock::OutputLocks;
use crate::world::{
    Awake, Cells, Column, CompleteGoal, Completed, End, Ended, Failures, GoalIndex, LockWaiters,
    NewlyReady, Now, Options, ReporterHandle, RunState, Running, Slots, Store, StoreHandle,
    Successors, Tally, goals, place,
};

/// What registering and failing touch.
#[derive(SystemParam)]
pub struct Finishing<'w, 's> {
    commands: Commands<'w, 's>,
    entities: &'w Entities,
    stages: Column<'w, 's, Stage>,
    index: Res<'w, GoalIndex>,
    derivations: Query<'w, 's, &'static DerivationGoal>,
    substitutions: Query<'w, 's, &'static SubstitutionGoal>,
    locks: Query<'w, 's, &'static mut OutputLocks>,
    graph: Res<'w, BuildGraph>,
    store: NonSendMut<'w, StoreHandle>,
    reporter: NonSendMut<'w, ReporterHandle>,
    waiting: ResMut<'w, LockWaiters>,
    ended: ResMut<'w, Ended>,
    tally: ResMut<'w, Tally>,
    now: Res<'w, Now>,
}

impl<'w, 's> Finishing<'w, 's> {
    fn open(&mut self) -> Finish<'_, 'w, 's> {
        let locks = self.locks.reborrow();
        let reported = self.reporter.0.wants_builds();
        Finish {
            commands: &mut self.commands,
            entities: self.entities,
            stages: self.stages.open(self.entities, &self.index),
            index: &self.index,
            derivations: self.derivations.as_readonly(),
            substitutions: self.substitutions.as_readonly(),
            locks: (!locks.is_empty()).then_some(locks),
            graph: &self.graph,
            store: &mut *self.store.0,
            reporter: &mut *self.reporter.0,
            held: &mut self.waiting.held,
            ended: &mut self.ended,
            counts: &mut self.tally.counts,
            now: self.now.0,
            reported,
        }
    }
}

/// The same, looked up once.
struct Finish<'a, 'w, 's> {
    commands: &'a mut Commands<'w, 's>,
    entities: &'a Entities,
    stages: Cells<'a, Stage>,
    index: &'a GoalIndex,
    derivations: Query<'a, 's, &'static DerivationGoal>,
    substitutions: Query<'a, 's, &'static SubstitutionGoal>,
    /// If any goal has locks.
    locks: Option<Query<'a, 's, &'static mut OutputLocks>>,
    graph: &'a BuildGraph,
    store: &'a mut dyn Store,
    reporter: &'a mut dyn Reporter,
    held: &'a mut PathSet,
    ended: &'a mut Ended,
    counts: &'a mut Counts,
    now: Duration,
    /// Whether anybody wants to know of single builds.
    reported: bool,
}

impl Finish<'_, '_, '_> {
    /// What derivation a goal is for, unless it is a path's.
    fn drv(&self, goal: Entity) -> Option<DrvId> {
        self.derivations.get(goal).ok().map(|known| known.drv)
    }

    /// Ends a goal and gives up its locks, deleting their files if its outputs are valid.
    #[inline]
    fn settle(&mut self, (goal, drv): (Entity, Option<DrvId>), how: Outcome) {
        let stages = &mut self.stages;
        let Some(stage) = stage_of(stages, self.index, self.entities, (goal, drv)) else {
            return;
        };
        // Before it was about to start, it held nothing; another goal may hold the same paths.
        let held = matches!(*stage, Stage::Starting | Stage::Running | Stage::Collecting);
        goals::end(stage, self.ended, (goal, drv), how);
        if !held {
            return;
        }
        if let Some(drv) = drv {
            for row in self.graph.outputs(drv) {
                self.held.remove(row.path);
            }
        } else if let Ok(substitution) = self.substitutions.get(goal) {
            self.held.remove(substitution.path);
        }
        if self.locks.is_some() {
            self.unlock(goal, how);
        }
    }

    #[inline(never)]
    fn unlock(&mut self, goal: Entity, how: Outcome) {
        if let Some(all) = &mut self.locks
            && let Ok(mut held) = all.get_mut(goal)
        {
            let locks = std::mem::take(&mut *held);
            self.store.unlock(locks, how == Outcome::Success);
            self.commands.entity(goal).remove::<OutputLocks>();
        }
    }

    /// Counts and reports what is valid now.
    #[inline]
    fn succeeded(&mut self, (goal, drv): (Entity, Option<DrvId>)) {
        match drv {
            Some(_) => self.counts.built += 1,
            None => self.counts.fetched += 1,
        }
        if self.reported {
            self.report_success((goal, drv));
        }
    }

    #[inline(never)]
    fn report_success(&mut self, (goal, drv): (Entity, Option<DrvId>)) {
        let (graph, at) = (self.graph, self.now);
        let (path, name) = match (drv, self.substitutions.get(goal)) {
            (Some(drv), _) => (graph.drv_path(drv), graph.drv_name(drv)),
            (None, Ok(known)) => (known.path, graph.paths.name(known.path)),
            (None, Err(_)) => return,
        };
        let build = BuildRef {
            id: goal.to_bits(),
            drv_path: &graph.full_path(path),
            name,
        };
        self.reporter.report(&match drv {
            Some(_) => Event::Succeeded { build, at },
            None => Event::FetchSucceeded { build, at },
        });
    }
}

/// The stage of a goal, given what derivation it is for, unless it is a path's.
fn stage_of<'a>(
    stages: &'a mut Cells<'_, Stage>,
    index: &GoalIndex,
    entities: &Entities,
    (goal, drv): (Entity, Option<DrvId>),
) -> Option<&'a mut Stage> {
    match drv.and_then(|drv| index.row(drv)) {
        Some(row) => Some(stages.row(row)),
        None => stages.at(place(entities, goal)?),
    }
}

/// How many builds are registered in one transaction while all slots are taken and more goals are ready: what waits for
/// them could not start anyway.
const TOGETHER: usize = 4;

/// How long a complete build waits at most to be registered together with others.
const GATHER: Duration = Duration::from_millis(10);

/// Registers everything that is complete.
pub fn register(
    mut completed: ResMut<Completed>,
    mut failures: ResMut<Failures>,
    mut run: ResMut<RunState>,
    (slots, options, successors): (Res<Slots>, Res<Options>, Successors),
    mut params: Finishing<'_, '_>,
) {
    // Free slots come first: what is complete can be registered while the next builders run.
    let slots_full = slots.used >= options.max_jobs;
    // What has failed may end the run in any tick, and then what is complete must not be lost.
    let failed = !run.failures.is_empty() || !failures.0.is_empty();
    let undisturbed = !run.is_over() && (options.keep_going || !failed);
    let can_wait = undisturbed && successors.any();
    if completed.is_empty() || (can_wait && !slots_full) {
        return;
    }
    if can_wait {
        let now = params.now.0;
        let until = *completed.held_until.get_or_insert(now + GATHER);
        if completed.len() < TOGETHER && now < until {
            return;
        }
    }
    let mut finish = params.open();
    let together = finish.store.register(finish.graph, completed.outputs());
    for (CompleteGoal { goal, drv, .. }, outputs) in completed.builds() {
        let registered = match &together {
            Ok(()) => Ok(()),
            Err(_) => finish.store.register(finish.graph, outputs),
        };
        match registered {
            Ok(()) => {
                finish.succeeded((goal, drv));
                finish.settle((goal, drv), Outcome::Success);
            }
            Err(error) if error.is_fatal() => {
                run.fatal = Some(error);
                break;
            }
            Err(error) => {
                let kind = FailureKind::of_outputs(&error);
                failures
                    .0
                    .push((goal, Failure::new(kind, error.to_string())));
            }
        }
    }
    completed.clear();
}

/// Whether goals have failed.
pub fn has_failures(failures: Res<Failures>) -> bool {
    !failures.0.is_empty()
}

/// Reports failures and gives up what the failed goals held.
pub fn fail(
    mut failures: ResMut<Failures>,
    mut run: ResMut<RunState>,
    mut params: Finishing<'_, '_>,
) {
    let mut finish = params.open();
    for (goal, failure) in failures.0.drain(..) {
        run.failures.add(failure.kind);
        let drv = finish.drv(goal);
        finish.counts.failed += u32::from(drv.is_some());
        if !finish.reported {
            finish.settle((goal, drv), Outcome::Failed);
            continue;
        }
        let (path, name) = if let Some(drv) = drv {
            let graph = finish.graph;
            (
                graph.full_path(graph.drv_path(drv)),
                graph.drv_name(drv).to_owned(),
            )
        } else if let Ok(known) = finish.substitutions.get(goal) {
            let name = finish.graph.paths.name(known.path).to_owned();
            (finish.graph.full_path(known.path), name)
        } else {
            continue;
        };
        let build = BuildRef {
            id: goal.to_bits(),
            drv_path: &path,
            name: &name,
        };
        let stages = &mut finish.stages;
        let stage = stage_of(stages, finish.index, finish.entities, (goal, drv));
        let started =
            stage.is_some_and(|stage| matches!(*stage, Stage::Running | Stage::Collecting));
        let system = drv.and_then(|drv| finish.graph.system(drv));
        let system = system.unwrap_or_default();
        finish.reporter.report(&Event::Failed {
            build,
            kind: failure.kind,
            started,
            system,
            message: &failure.message,
            log_tail: &failure.log_tail,
            at: finish.now,
        });
        finish.settle((goal, drv), Outcome::Failed);
    }
}

/// What telling waiters touches.
#[derive(SystemParam)]
pub struct Telling<'w, 's> {
    entities: &'w Entities,
    index: Res<'w, GoalIndex>,
    waitees: Column<'w, 's, Waitees>,
    stages: Column<'w, 's, Stage>,
    retries: Query<'w, 's, (), With<OutputSubstitution>>,
    graph: Res<'w, BuildGraph>,
    lists: ResMut<'w, WaiterLists>,
    options: Res<'w, Options>,
}

/// Tells those who wait for goals that ended, and wakes the ones that need not wait any longer.
pub fn tell_waiters(
    mut ended: ResMut<Ended>,
    mut awake: ResMut<Awake>,
    mut ready: ResMut<NewlyReady>,
    mut waiting: ResMut<LockWaiters>,
    mut run: ResMut<RunState>,
    mut params: Telling<'_, '_>,
) {
    if ended.is_empty() {
        return;
    }
    let (entities, index, graph) = (params.entities, &*params.index, &*params.graph);
    let keep_going = params.options.keep_going;
    let Awake {
        goals: awake_goals,
        derivations: awake,
    } = &mut *awake;
    let mut herald = Herald {
        graph,
        index,
        waitees: params.waitees.open(entities, index),
        stages: params.stages.open(entities, index),
        keep_going,
        nothing_to_check: params.retries.is_empty() && !graph.has_input_sets(),
        awake,
        ready: &mut ready.0,
    };
    let lists = &mut *params.lists;
    herald.tell(ended.iter());
    for end in ended.drain() {
        let (goal, outcome) = (end.goal(), end.outcome);
        if !lists.is_empty() {
            lists.take(goal, |waiter| {
                let at = place(entities, waiter.goal);
                let Some(counts) = at.and_then(|at| herald.waitees.at(at)) else {
                    return;
                };
                if counts.round == waiter.round
                    && counts.left > 0
                    && counts.waitee_done(outcome, keep_going)
                {
                    awake_goals.push(waiter.goal);
                }
            });
        }
        if run.top.remove(goal) && outcome == Outcome::Failed && !keep_going {
            run.given_up = true;
        }
    }
    for due in waiting.any_goal.drain(..) {
        if let Some(row) = index.row(due) {
            *herald.stages.row(row) = Stage::Ready;
        }
        herald.ready.push(due);
    }
}

/// Tells goals of the ends of their inputs.
struct Herald<'a> {
    graph: &'a BuildGraph,
    index: &'a GoalIndex,
    waitees: Cells<'a, Waitees>,
    stages: Cells<'a, Stage>,
    keep_going: bool,
    /// Whether a goal all of whose inputs have ended well is ready with that.
    nothing_to_check: bool,
    /// Those that have something to look at now.
    awake: &'a mut Vec<DrvId>,
    /// Those that only lack a slot now.
    ready: &'a mut Vec<DrvId>,
}

impl Herald<'_> {
    /// Tells the goals that wait for derivations as inputs that these have ended.
    #[inline(never)]
    fn tell<'e>(&mut self, ends: impl Iterator<Item = &'e End>) {
        for end in ends {
            let Some(drv) = end.drv() else {
                continue;
            };
            let begun = self.index.begun_before(drv, end.at);
            // Not `for_each`, which would be two loops with a call for each dependent.
            for drv in self.graph.dependents(drv) {
                let Some(row) = self.index.row(drv) else {
                    continue;
                };
                let waitees = self.waitees.row(row);
                if !waitees.waits_for(begun, end.at)
                    || !waitees.waitee_done(end.outcome, self.keep_going)
                {
                    continue;
                }
                if waitees.failed == 0 && self.nothing_to_check {
                    *self.stages.row(row) = Stage::Ready;
                    self.ready.push(drv);
                } else {
                    self.awake.push(drv);
                }
            }
        }
    }
}

/// Says where the goals are, when that has changed.
pub fn report_progress(
    mut tally: ResMut<Tally>,
    running: Res<Running>,
    mut reporter: NonSendMut<ReporterHandle>,
) {
    let counts = Counts {
        running: running.0.len() as u32,
        ..tally.counts
    };
    if tally.reported != Some(counts) {
        tally.reported = Some(counts);
        reporter.0.report(&Event::Progress(counts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::prelude::World;
    use bevy_ecs::system::SystemState;
    use windrow_components::goal::{Moment, Target};
    use windrow_components::outputs::OutputSet;
    use windrow_components::task_graph::{Builder, Limits, TimeUnit};

    /// A world in which derivation 1 has derivation 0 as an input, both with goals, and where the second waits for what
    /// has not ended at that moment.
    struct Pair {
        world: World,
        graph: BuildGraph,
        index: GoalIndex,
        goals: [Entity; 2],
        ended: Ended,
    }

    impl Pair {
        fn new() -> Self {
            let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
            let tasks = [(); 2].map(|()| builder.add_task(None, None).unwrap());
            builder.add_edge(tasks[0], tasks[1]).unwrap();
            let mut world = World::new();
            let mut index = GoalIndex::default();
            let goals = [0, 1].map(DrvId::from_index).map(|drv| {
                let wanted = OutputSet::ALL;
                let waitees = Waitees::default();
                let known = DerivationGoal { drv, wanted };
                let goal = world.spawn((known, Stage::New, waitees)).id();
                index.insert(world.entities(), Target::Derivation(drv), goal);
                goal
            });
            Self {
                world,
                graph: BuildGraph::from_tasks(&builder.finish().unwrap()),
                index,
                goals,
                ended: Ended::default(),
            }
        }

        /// From now on the waiter waits for two inputs, of which the other one never ends.
        fn wait(&mut self) {
            let now = self.ended.now();
            let mut waitees = self.world.get_mut::<Waitees>(self.goals[1]).unwrap();
            waitees.wait_for(2, now);
        }

        fn end(&mut self) {
            self.ended
                .push(self.goals[0], Some(DrvId::from_index(0)), Outcome::Success);
        }

        fn reopen(&mut self) {
            let now = self.ended.tick();
            self.index.reopen(DrvId::from_index(0), now);
        }

        /// For how many the waiter still waits once it has been told of all ends.
        fn left(&mut self) -> u32 {
            let mut state =
                SystemState::<(Column<Waitees>, Column<Stage>, &Entities)>::new(&mut self.world);
            let (mut waitees, mut stages, entities) = state.get_mut(&mut self.world).unwrap();
            let mut herald = Herald {
                graph: &self.graph,
                index: &self.index,
                waitees: waitees.open(entities, &self.index),
                stages: stages.open(entities, &self.index),
                keep_going: false,
                nothing_to_check: false,
                awake: &mut Vec::new(),
                ready: &mut Vec::new(),
            };
            herald.tell(self.ended.iter());
            assert!(herald.awake.is_empty() && herald.ready.is_empty());
            let waiter = self.index.row(DrvId::from_index(1)).unwrap();
            let left = herald.waitees.row(waiter).left;
            drop(self.ended.drain());
            left
        }
    }

    #[test]
    fn an_end_is_told_once_to_those_that_waited_for_it() {
        let mut pair = Pair::new();
        pair.wait();
        assert_eq!(pair.left(), 2);
        pair.end();
        assert_eq!(pair.left(), 1);
    }

    #[test]
    fn who_found_it_ended_is_told_nothing() {
        let mut pair = Pair::new();
        pair.end();
        // It counted the end itself, though nobody has been told of it yet.
        pair.wait();
        assert_eq!(pair.left(), 2);
        // What it is taken up for again concerns others.
        pair.reopen();
        pair.end();
        assert_eq!(pair.left(), 2);
    }

    #[test]
    fn an_end_counts_although_the_goal_was_taken_up_again_before_it_was_told() {
        let mut pair = Pair::new();
        pair.wait();
        pair.end();
        pair.reopen();
        assert_eq!(pair.left(), 1);
        pair.end();
        assert_eq!(pair.left(), 1);
    }

    #[test]
    fn who_waits_since_it_was_taken_up_again_is_told_of_its_second_end() {
        let mut pair = Pair::new();
        pair.end();
        pair.reopen();
        pair.wait();
        assert_eq!(pair.left(), 2);
        pair.end();
        assert_eq!(pair.left(), 1);
    }

    #[test]
    fn other_waiting_is_not_for_inputs() {
        let mut pair = Pair::new();
        let mut waitees = pair.world.get_mut::<Waitees>(pair.goals[1]).unwrap();
        waitees.wait_for(2, Moment::NEVER);
        pair.end();
        assert_eq!(pair.left(), 2);
    }
}
