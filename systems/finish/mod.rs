//! The sixth system: registers what is complete, reports what failed, and tells the waiters.
//!
//! All outputs that are complete in a tick are registered in one transaction. If the store refuses it,
//! each build is tried alone, so that one bad output fails its own goal only (the seed's `buildDone`,
//! `amDone`, `removeGoal`).

pub mod fetch;
pub mod hook;
mod mislaid;
pub mod reap;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::{
    DerivationGoal, Outcome, Stage, SubstitutionGoal, Waitees, WaiterLists, Waiters,
};
use windrow_components::graph::BuildGraph;

use crate::columns::{Column, place};
use crate::failure::{Failure, FailureKind};
use crate::goals;
use crate::policy::ReadyQueue;
use crate::report::{BuildRef, Counts, Event};
use crate::spawn::hook::desk::HookDesk;
use crate::store::path_lock::OutputLocks;
use crate::world::{
    Awake, Completed, Ended, Failures, LockWaiters, NewlyReady, Now, Options, Pace, ReporterHandle,
    RunState, Running, Slots, StoreHandle, Tally,
};

/// What registering and failing touch.
#[derive(SystemParam)]
pub struct Finishing<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<
        'w,
        's,
        (
            &'static mut Stage,
            &'static mut Outcome,
            Option<&'static DerivationGoal>,
        ),
    >,
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

impl Finishing<'_, '_> {
    /// Ends a goal and gives up its locks, deleting their files if its outputs are valid.
    fn settle(&mut self, goal: Entity, how: Outcome) {
        let Ok((mut stage, mut known, derivation)) = self.goals.get_mut(goal) else {
            return;
        };
        // Before it was about to start, it held nothing; another goal may hold the same paths.
        let held = matches!(*stage, Stage::Starting | Stage::Running | Stage::Collecting);
        if held {
            if let Some(derivation) = derivation {
                for row in self.graph.outputs(derivation.drv) {
                    self.waiting.held.remove(row.path);
                }
            } else if let Ok(substitution) = self.substitutions.get(goal) {
                self.waiting.held.remove(substitution.path);
            }
            if let Ok(mut held) = self.locks.get_mut(goal) {
                let locks = std::mem::take(&mut *held);
                self.store.0.unlock(locks, how == Outcome::Success);
                self.commands.entity(goal).remove::<OutputLocks>();
            }
        }
        goals::end(&mut stage, &mut known, &mut self.ended, goal, how);
    }

    /// Counts and reports what is valid now.
    fn succeeded(&mut self, goal: Entity) {
        let Ok((.., derivation)) = self.goals.get(goal) else {
            return;
        };
        match derivation {
            Some(_) => self.tally.counts.built += 1,
            None => self.tally.counts.fetched += 1,
        }
        if !self.reporter.0.wants_builds() {
            return;
        }
        let (graph, at) = (&self.graph, self.now.0);
        let (path, name) = match (derivation, self.substitutions.get(goal)) {
            (Some(known), _) => (graph.drv_path(known.drv), graph.drv_name(known.drv)),
            (None, Ok(known)) => (known.path, graph.paths.name(known.path)),
            (None, Err(_)) => return,
        };
        let build = BuildRef {
            id: goal.to_bits(),
            drv_path: &graph.full_path(path),
            name,
        };
        self.reporter.0.report(&match derivation {
            Some(_) => Event::Succeeded { build, at },
            None => Event::FetchSucceeded { build, at },
        });
    }
}

/// Registers everything that is complete.
pub fn register(
    mut completed: ResMut<Completed>,
    mut failures: ResMut<Failures>,
    mut run: ResMut<RunState>,
    (slots, options, pace): (Res<Slots>, Res<Options>, Res<Pace>),
    (queue, newly_ready, desk): (Res<ReadyQueue>, Res<NewlyReady>, Res<HookDesk>),
    mut params: Finishing<'_, '_>,
) {
    // Free slots come first: what is complete can be registered while the next builders run.
    let slots_full = slots.used >= options.max_jobs;
    let nothing_to_start = (queue.is_empty() && newly_ready.0.is_empty()) || desk.is_asking();
    let in_the_way = pace.slots_before_paperwork && !slots_full && !nothing_to_start;
    if completed.is_empty() || in_the_way {
        return;
    }
    let together = params.store.0.register(&params.graph, completed.outputs());
    for (goal, outputs) in completed.builds() {
        let registered = match &together {
            Ok(()) => Ok(()),
            Err(_) => params.store.0.register(&params.graph, outputs),
        };
        match registered {
            Ok(()) => {
                params.succeeded(goal);
                params.settle(goal, Outcome::Success);
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

/// Reports failures and gives up what the failed goals held.
pub fn fail(
    mut failures: ResMut<Failures>,
    mut run: ResMut<RunState>,
    mut params: Finishing<'_, '_>,
) {
    for (goal, failure) in failures.0.drain(..) {
        run.failures.add(failure.kind);
        let derivation = params.goals.get(goal).is_ok_and(|(.., d)| d.is_some());
        params.tally.counts.failed += u32::from(derivation);
        if !params.reporter.0.wants_builds() {
            params.settle(goal, Outcome::Failed);
            continue;
        }
        let (path, name) = if let Ok((.., Some(known))) = params.goals.get(goal) {
            let graph = &params.graph;
            (
                graph.full_path(graph.drv_path(known.drv)),
                graph.drv_name(known.drv).to_owned(),
            )
        } else if let Ok(known) = params.substitutions.get(goal) {
            let name = params.graph.paths.name(known.path).to_owned();
            (params.graph.full_path(known.path), name)
        } else {
            continue;
        };
        let build = BuildRef {
            id: goal.to_bits(),
            drv_path: &path,
            name: &name,
        };
        let started = params
            .goals
            .get(goal)
            .is_ok_and(|(stage, ..)| matches!(*stage, Stage::Running | Stage::Collecting));
        let known = params.goals.get(goal).ok().and_then(|(.., known)| known);
        let system = known.and_then(|known| params.graph.system(known.drv));
        let system = system.unwrap_or_default();
        params.reporter.0.report(&Event::Failed {
            build,
            kind: failure.kind,
            started,
            system,
            message: &failure.message,
            log_tail: &failure.log_tail,
            at: params.now.0,
        });
        params.settle(goal, Outcome::Failed);
    }
}

/// What telling waiters touches.
#[derive(SystemParam)]
pub struct Telling<'w, 's> {
    entities: &'w Entities,
    waiters: Column<'w, 's, Waiters>,
    waitees: Column<'w, 's, Waitees>,
    stages: Query<'w, 's, &'static mut Stage>,
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
    if ended.0.is_empty() {
        return;
    }
    let entities = params.entities;
    let keep_going = params.options.keep_going;
    let mut all_waiters = params.waiters.open(entities);
    let mut all_waitees = params.waitees.open(entities);
    for (goal, outcome) in ended.0.drain(..) {
        let Some(waiters) = place(entities, goal).and_then(|at| all_waiters.at(at)) else {
            continue;
        };
        params.lists.take(waiters, |waiter| {
            let at = place(entities, waiter.goal);
            let Some(counts) = at.and_then(|at| all_waitees.at(at)) else {
                return;
            };
            if counts.round == waiter.round
                && counts.left > 0
                && counts.waitee_done(outcome, keep_going)
            {
                awake.0.push(waiter.goal);
            }
        });
        if run.top.remove(&goal) && outcome == Outcome::Failed && !keep_going {
            run.given_up = true;
        }
    }
    for due in waiting.any_goal.drain(..) {
        if let Ok(mut stage) = params.stages.get_mut(due.goal) {
            *stage = Stage::Ready;
        }
        ready.0.push(due);
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
