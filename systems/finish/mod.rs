//! The sixth system: registers what is complete, reports what failed, and tells the waiters.
//!
//! All outputs that are complete in a tick are registered in one transaction. If the store refuses
//! it, each build is tried alone, so that one bad output fails its own goal only (Nix 1.8:
//! `buildDone`, `amDone`, `removeGoal`).

pub mod failure_cache;
pub mod hooks;
pub mod repair;
pub mod requests;
pub mod retry;

mod cause;
pub mod downloaded;
mod fetched;
mod means;
mod mismatched;
mod pre_build;
pub mod reap;
mod scan;
pub mod scanned;

use std::time::Duration;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::MissingOutputs;
use windrow_components::goal::{DerivationGoal, Outcome, SubstitutionGoal, Target, Waitees};
use windrow_components::graph::BuildGraph;

use crate::failure::{Failure, FailureKind};
use crate::report::{BuildRef, Event};
use crate::world::{
    Cells, Column, CompleteGoal, End, Goal, Host, OutputLocks, Scheduler, Services, place,
};

/// What a goal is for, and the locks it holds.
type FinishedGoal = (
    Option<&'static DerivationGoal>,
    Option<&'static SubstitutionGoal>,
    Option<&'static mut OutputLocks>,
);

/// What registering and failing touch.
#[derive(SystemParam)]
pub struct Finishing<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, FinishedGoal>,
    missing: Query<'w, 's, &'static MissingOutputs>,
    graph: Res<'w, BuildGraph>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
    /// Where processes are made.
    host: Option<NonSendMut<'w, Host>>,
}

impl Finishing<'_, '_> {
    /// What a goal is for.
    fn target(&self, goal: Entity) -> Option<Target> {
        let (derivation, path, _) = self.goals.get(goal).ok()?;
        match (derivation, path) {
            (Some(known), _) => Some(Target::Derivation(known.drv)),
            (None, known) => known.map(|known| Target::Path(known.path)),
        }
    }

    /// Ends a goal and gives up its locks, deleting their files if its outputs are valid.
    #[inline]
    fn settle(&mut self, goal: Goal, how: Outcome) {
        let held = self.scheduler.end(&self.graph, goal, how);
        if held && self.services.store.is_shared() {
            self.unlock(goal.entity, how);
        }
    }

    #[inline(never)]
    fn unlock(&mut self, goal: Entity, how: Outcome) {
        if let Ok((.., Some(mut held))) = self.goals.get_mut(goal) {
            let locks = std::mem::take(&mut *held);
            self.services.store.unlock(locks, how == Outcome::Success);
            self.commands.entity(goal).remove::<OutputLocks>();
        }
    }

    /// The full path and the name of what a goal is for.
    fn named(&self, goal: Goal) -> (String, &str) {
        let graph = &self.graph;
        match goal.target {
            Target::Derivation(drv) => (graph.full_path(graph.drv_path(drv)), graph.drv_name(drv)),
            Target::Path(path) | Target::Repair(path) => {
                (graph.full_path(path), graph.paths.name(path))
            }
        }
    }

    /// Reports what is valid now.
    #[inline(never)]
    fn report_success(&mut self, goal: Goal) {
        let (path, name) = self.named(goal);
        let name = name.to_owned();
        let at = self.scheduler.now;
        let build = BuildRef {
            id: goal.entity.to_bits(),
            drv_path: &path,
            name: &name,
        };
        self.services.reporter.report(&match goal.drv() {
            Some(_) => Event::Succeeded { build, at },
            None => Event::FetchSucceeded { build, at },
        });
    }

    fn report_cancelled(&mut self, goal: Goal) {
        let (path, name) = self.named(goal);
        let name = name.to_owned();
        self.services.reporter.report(&Event::Cancelled {
            build: BuildRef {
                id: goal.entity.to_bits(),
                drv_path: &path,
                name: &name,
            },
            at: self.scheduler.now,
        });
    }

    fn report_failure(&mut self, goal: Goal, failure: &Failure) {
        let (path, name) = self.named(goal);
        let name = name.to_owned();
        let system = goal.drv().and_then(|drv| self.graph.system(drv));
        self.services.reporter.report(&Event::Failed {
            build: BuildRef {
                id: goal.entity.to_bits(),
                drv_path: &path,
                name: &name,
            },
            kind: failure.kind,
            started: self.scheduler.stage(goal.entity).was_started(),
            system: system.unwrap_or_default(),
            message: &failure.message,
            log_tail: &failure.log_tail,
            kept: failure.kept.as_deref(),
            at: self.scheduler.now,
        });
    }
}

/// How many builds are registered in one transaction while all slots are taken and more goals are
/// ready: what waits for them could not start anyway.
const TOGETHER: usize = 4;

/// How long a complete build waits at most to be registered together with others.
const GATHER: Duration = Duration::from_millis(10);

/// How many paths that were fetched are registered in one transaction while others are unpacked,
/// and how long one waits at most for that. It is short, for something may depend on it alone.
const FETCHED_TOGETHER: usize = 16;
const GATHER_FETCHED: Duration = Duration::from_millis(2);

/// Whether what is complete is registered in this tick.
fn is_due(scheduler: &mut Scheduler) -> bool {
    if scheduler.completed().is_empty() {
        return false;
    }
    // What has failed may end the run in any tick, and then what is complete must not be lost.
    let failed = !scheduler.run.failures.is_empty() || !scheduler.failures().is_empty();
    let undisturbed = !scheduler.run.has_stopped() && (!scheduler.run.gives_up() || !failed);
    let has_successors = scheduler.has_successors();
    if !undisturbed || !(has_successors || scheduler.gathers_fetched()) {
        return true;
    }
    // What is complete holds its locks: where no more may be held, others wait for just that.
    if !scheduler.may_hold_more() {
        return true;
    }
    // Free slots come first: what is complete can be registered while the next builders run.
    if has_successors && scheduler.free_slots() > 0 {
        return false;
    }
    let (most, time) = match has_successors {
        true => (TOGETHER, GATHER),
        false => (FETCHED_TOGETHER, GATHER_FETCHED),
    };
    let now = scheduler.now;
    let until = scheduler.hold_completed(now + time);
    scheduler.completed().len() >= most || now >= until
}

/// Registers everything that is complete (Nix 1.8: the end of `DerivationGoal::registerOutputs`).
///
/// Nix 1.8: `DerivationGoal::buildDone`.
pub fn register(mut params: Finishing<'_, '_>) {
    if !is_due(&mut params.scheduler) {
        return;
    }
    let reported = params.services.reporter.wants_builds();
    let completed = params.scheduler.take_completed();
    let store = &mut params.services.store;
    let together = store.register(&params.graph, completed.outputs());
    for (CompleteGoal { goal, drv, .. }, outputs) in completed.builds() {
        let registered = match &together {
            Ok(()) => Ok(()),
            Err(_) => params.services.store.register(&params.graph, outputs),
        };
        match registered {
            Ok(()) => {
                let target = drv.map(Target::Derivation).or_else(|| params.target(goal));
                let target = target.expect("a goal is for something");
                let goal = Goal {
                    entity: goal,
                    target,
                };
                if !params.await_hook(goal) {
                    params.succeed(goal, reported);
                }
            }
            Err(error) if error.is_fatal() => {
                params.scheduler.abort(error);
                break;
            }
            Err(error) => {
                let kind = FailureKind::of_outputs(&error);
                let failure = Failure::new(kind, error.to_string());
                params.scheduler.fail(goal, failure);
            }
        }
    }
    params.scheduler.keep_completed(completed);
}

/// Reports failures, and what was cancelled, and gives up what these goals held.
///
/// Nix 1.8: `Goal::trace`, `Goal::getName`, `Goal::getExitCode`.
pub fn fail(mut params: Finishing<'_, '_>) {
    let reported = params.services.reporter.wants_builds();
    for (entity, failure) in params.scheduler.take_failures() {
        let target = params.target(entity);
        if failure.kind == FailureKind::Means
            && target.is_some_and(|target| params.wait_for_means(Goal { entity, target }, &failure))
        {
            continue;
        }
        params.scheduler.run.failures.add(failure.kind);
        let Some(target) = target else { continue };
        let goal = Goal { entity, target };
        if failure.kind == FailureKind::Cancelled {
            if reported {
                params.report_cancelled(goal);
            }
            params.settle(goal, Outcome::Cancelled);
            continue;
        }
        if goal.drv().is_some() {
            params.scheduler.count_failure(failure.kind);
        }
        if reported {
            params.report_failure(goal, &failure);
        }
        params.settle(goal, Outcome::Failed);
        params.scheduler.record_failure(entity, failure);
        let Finishing {
            scheduler,
            services,
            ..
        } = &mut params;
        // Where all give up at a failure, it reaches their targets by itself.
        if scheduler.run.keep_going() && scheduler.run.gives_up() {
            let reporters = &services.reporter;
            scheduler
                .run
                .give_up(|request| reporters.needs(request, entity));
        }
    }
}

/// What telling waiters touches.
#[derive(SystemParam)]
pub struct Telling<'w, 's> {
    entities: &'w Entities,
    waitees: Column<'w, 's, Waitees>,
    graph: Res<'w, BuildGraph>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Tells those who wait for goals that ended, and wakes the ones that need not wait any longer.
///
/// Nix 1.8: `Goal::amDone`, `Goal::waiteeDone`, `removeGoal`, `Worker::removeGoal`.
pub fn tell_waiters(mut params: Telling<'_, '_>) {
    let (entities, scheduler) = (params.entities, &mut *params.scheduler);
    let keep_going = scheduler.run.keep_going();
    let mut waitees = params.waitees.open(entities, &scheduler.index);
    let nothing_to_check = !scheduler.has_asked_for_outputs && !params.graph.has_input_sets();
    let ends = scheduler.take_ended();
    notify_dependents(
        &params.graph,
        scheduler,
        &mut waitees,
        &ends,
        nothing_to_check,
    );
    for end in &ends {
        let (goal, outcome) = (end.goal(), end.outcome);
        if !scheduler.waiters.is_empty() {
            let mut woken = Vec::new();
            scheduler.waiters.take(goal, |waiter| {
                let at = place(entities, waiter.goal);
                let Some(counts) = at.and_then(|at| waitees.at(at)) else {
                    return;
                };
                if counts.round == waiter.round
                    && counts.left > 0
                    && counts.waitee_done(outcome, keep_going)
                {
                    woken.push(waiter.goal);
                }
            });
            woken.into_iter().for_each(|goal| scheduler.awaken(goal));
        }
        if outcome == Outcome::Cancelled && scheduler.run.is_top(goal) {
            // A request has come to need it while its child was being killed. Another goal may have
            // asked for it again by now.
            if scheduler.is_stale(goal) {
                scheduler.reopen_stale(goal, end.drv());
            }
        } else {
            scheduler.run.goal_ended(goal, outcome);
        }
    }
    scheduler.keep_ended(ends);
    scheduler.retry_any_goal();
}

/// Tells the goals that wait for derivations as inputs that these have ended. A goal all of whose
/// inputs have ended well is ready with that if there is `nothing_to_check`.
#[inline(never)]
fn notify_dependents(
    graph: &BuildGraph,
    scheduler: &mut Scheduler,
    waitees: &mut Cells<'_, Waitees>,
    ends: &[End],
    nothing_to_check: bool,
) {
    let keep_going = scheduler.run.keep_going();
    for end in ends {
        let Some(drv) = end.drv() else {
            continue;
        };
        let begun = scheduler.index.begun_before(drv, end.at);
        // Not `for_each`, which would be two loops with a call for each dependent.
        for drv in graph.dependents(drv) {
            let Some((goal, row)) = scheduler.index.goal_and_row(drv) else {
                continue;
            };
            let waitees = waitees.row(row);
            if !waitees.waits_for(begun, end.at) || !waitees.waitee_done(end.outcome, keep_going) {
                continue;
            }
            if waitees.failed == 0 && nothing_to_check {
                scheduler.make_ready(goal, drv);
            } else {
                scheduler.awaken_derivation(drv);
            }
        }
    }
}

/// Says where the goals are, when that has changed.
pub fn report_progress(mut scheduler: ResMut<Scheduler>, mut services: NonSendMut<Services>) {
    let counts = scheduler.take_progress();
    services.reporter.report(&Event::Progress(counts));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::prelude::World;
    use bevy_ecs::system::SystemState;
    use windrow_components::goal::{Moment, Target};
    use windrow_components::ids::DrvId;
    use windrow_components::outputs::OutputSet;
    use windrow_components::task_graph::{Builder, Limits, TimeUnit};

    /// A world in which derivation 1 has derivation 0 as an input, both with goals, and where the
    /// second waits for what has not ended at that moment.
    struct Pair {
        world: World,
        graph: BuildGraph,
        scheduler: Scheduler,
        goals: [Entity; 2],
    }

    impl Pair {
        fn new() -> Self {
            let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
            let tasks = [(); 2].map(|()| builder.add_task(None, None).unwrap());
            builder.add_edge(tasks[0], tasks[1]).unwrap();
            let mut world = World::new();
            let mut scheduler = Scheduler::new(crate::engine::default_options());
            let goals = [0, 1].map(DrvId::from_index).map(|drv| {
                let wanted = OutputSet::ALL;
                let known = DerivationGoal { drv, wanted };
                let goal = world.spawn((known, Waitees::default())).id();
                scheduler.add(world.entities(), Target::Derivation(drv), goal);
                goal
            });
            Self {
                world,
                graph: BuildGraph::from_tasks(&builder.finish().unwrap()),
                scheduler,
                goals,
            }
        }

        /// From now on the waiter waits for two inputs, of which the other one never ends.
        fn wait(&mut self) {
            let now = self.scheduler.moment();
            let mut waitees = self.world.get_mut::<Waitees>(self.goals[1]).unwrap();
            waitees.wait_for(2, now);
        }

        fn end(&mut self) {
            let target = Target::Derivation(DrvId::from_index(0));
            let entity = self.goals[0];
            let goal = Goal { entity, target };
            self.scheduler.end(&self.graph, goal, Outcome::Success);
        }

        fn reopen(&mut self) {
            let drv = DrvId::from_index(0);
            self.scheduler.reopen(self.goals[0], drv);
        }

        /// For how many the waiter still waits once it has been told of all ends.
        fn left(&mut self) -> u32 {
            let mut state = SystemState::<(Column<Waitees>, &Entities)>::new(&mut self.world);
            let (mut waitees, entities) = state.get_mut(&mut self.world).unwrap();
            let mut waitees = waitees.open(entities, &self.scheduler.index);
            let ends = self.scheduler.take_ended();
            notify_dependents(&self.graph, &mut self.scheduler, &mut waitees, &ends, false);
            assert!(self.scheduler.newly_ready().is_empty());
            let waiter = self.scheduler.index.row(DrvId::from_index(1)).unwrap();
            waitees.row(waiter).left
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
