//! The second system: locks the outputs of the best ready goals, as many as there are slots for them.
//!
//! Only goals that can start now take locks, so that other engines on the store find the rest free. After
//! the lock the outputs are looked up again: someone else may have built them (the seed's `tryToBuild`).

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, Local, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use hashbrown::HashSet;
use windrow_components::building::MissingOutputs;
use windrow_components::goal::{BuildMode, Outcome, Stage};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::failure_cache::known_failure;
use crate::goals;
use crate::policy::ReadyQueue;
use crate::repair::Repairs;
use crate::report::{Event, Level};
use crate::store::path_lock::OutputLocks;
use crate::world::{
    Ended, Failures, ForeignLock, LockWaiters, Now, Options, ReadyGoal, ReporterHandle, RunState,
    Slots, Starting, StoreHandle,
};

/// How long to wait before a lock held by someone else is tried the second time.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// Everything that taking locks touches.
#[derive(SystemParam)]
pub struct Locking<'w, 's> {
    commands: Commands<'w, 's>,
    stages: Query<'w, 's, &'static mut Stage>,
    outcomes: Query<'w, 's, &'static mut Outcome>,
    graph: Res<'w, BuildGraph>,
    store: NonSendMut<'w, StoreHandle>,
    reporter: NonSendMut<'w, ReporterHandle>,
    options: Res<'w, Options>,
    now: Res<'w, Now>,
    slots: ResMut<'w, Slots>,
    queue: ResMut<'w, ReadyQueue>,
    waiting: ResMut<'w, LockWaiters>,
    starting: ResMut<'w, Starting>,
    ended: ResMut<'w, Ended>,
    failures: ResMut<'w, Failures>,
    repairs: Res<'w, Repairs>,
}

/// Takes locks for as many ready goals as there are free slots.
pub fn lock(mut params: Locking<'_, '_>, mut run: ResMut<RunState>, mut round: Local<Round>) {
    if params.queue.is_empty() || run.is_over() {
        return;
    }
    if let Err(error) = params.fill_slots(&mut round, &run) {
        run.fatal = Some(error);
    }
}

/// A goal that holds its locks, while it is found out what it must build.
struct Locked {
    goal: Entity,
    drv: DrvId,
    /// Where its outputs end in the list of all that were locked with it.
    end: usize,
    locks: OutputLocks,
}

/// Goals that were locked together. Kept for its room.
#[derive(Default)]
pub struct Round {
    goals: Vec<Locked>,
    outputs: Vec<PathId>,
}

impl Locking<'_, '_> {
    fn fill_slots(&mut self, round: &mut Round, run: &RunState) -> Result<()> {
        while self.slots.used < self.options.max_jobs {
            round.goals.clear();
            round.outputs.clear();
            let free = (self.options.max_jobs - self.slots.used) as usize;
            while round.goals.len() < free
                && let Some(next) = self.queue.pop()
            {
                self.try_lock(next, round)?;
            }
            if round.goals.is_empty() {
                return Ok(());
            }
            self.look_again(round, run)?;
        }
        Ok(())
    }

    /// Locks a goal's outputs and adds it to the round, or lets it wait for who holds them.
    fn try_lock(&mut self, ReadyGoal { goal, drv }: ReadyGoal, round: &mut Round) -> Result<()> {
        let start = round.outputs.len();
        let rows = self.graph.outputs(drv);
        round.outputs.extend(rows.iter().map(|row| row.path));
        let held = &self.waiting.held;
        if round.outputs[start..]
            .iter()
            .any(|&path| held.contains(path))
        {
            round.outputs.truncate(start);
            self.set_stage(goal, Stage::Locked);
            self.waiting.any_goal.push(ReadyGoal { goal, drv });
            return Ok(());
        }
        if round.outputs.len() - start > 1 {
            let paths = &self.graph.paths;
            round.outputs[start..]
                .sort_unstable_by(|&a, &b| paths.base_name(a).cmp(paths.base_name(b)));
            let mut previous = None;
            let mut at = start;
            for index in start..round.outputs.len() {
                let path = round.outputs[index];
                if previous.replace(path) != Some(path) {
                    round.outputs[at] = path;
                    at += 1;
                }
            }
            round.outputs.truncate(at);
        }
        match self.store.0.try_lock(&self.graph, &round.outputs[start..]) {
            Ok(Some(locks)) => {
                for &path in &round.outputs[start..] {
                    self.waiting.held.insert(path);
                }
                if !self.waiting.waits.is_empty() {
                    self.waiting.waits.remove(&goal);
                }
                let end = round.outputs.len();
                round.goals.push(Locked {
                    goal,
                    drv,
                    end,
                    locks,
                });
                return Ok(());
            }
            Ok(None) => self.wait_for_others(ReadyGoal { goal, drv }),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                let failure = Failure::new(FailureKind::Other, error.to_string());
                self.failures.0.push((goal, failure));
            }
        }
        round.outputs.truncate(start);
        Ok(())
    }

    /// Somebody else holds a lock: tries again after a while (`waitForAWhile`).
    fn wait_for_others(&mut self, ready: ReadyGoal) {
        self.set_stage(ready.goal, Stage::Locked);
        let wait = match self.waiting.waits.get(&ready.goal) {
            Some(&last) => (last * 2).min(self.options.lock_poll_interval),
            None => FIRST_RETRY,
        };
        if self.waiting.waits.insert(ready.goal, wait).is_none() {
            let text = "waiting for locks or build slots...";
            let event = Event::Message {
                level: Level::Info,
                text,
            };
            self.reporter.0.report(&event);
        }
        self.waiting.foreign.push(ForeignLock {
            ready,
            retry_at: self.now.0 + wait,
        });
    }

    fn set_stage(&mut self, goal: Entity, to: Stage) {
        if let Ok(mut stage) = self.stages.get_mut(goal) {
            *stage = to;
        }
    }

    /// Looks up validity once more, now that nobody else can build these paths.
    fn look_again(&mut self, round: &mut Round, run: &RunState) -> Result<()> {
        let all_valid = self.store.0.valid(&self.graph, &round.outputs)?;
        let mut start = 0;
        for locked in round.goals.drain(..) {
            let (goal, drv) = (locked.goal, locked.drv);
            let paths = &round.outputs[start..locked.end];
            let valid = &all_valid[start..locked.end];
            start = locked.end;
            let there = valid.iter().filter(|valid| **valid).count();
            let mode = run.mode_of(goal);
            let bad = &self.repairs.bad;
            let made = paths.iter().zip(valid);
            let made = made.filter(|(path, valid)| is_made(mode, bad, **path, **valid));
            if made.count() == 0 {
                self.store.0.unlock(locked.locks, true);
                for &path in paths {
                    self.waiting.held.remove(path);
                }
                if let (Ok(mut stage), Ok(mut outcome)) =
                    (self.stages.get_mut(goal), self.outcomes.get_mut(goal))
                {
                    let ended = &mut self.ended;
                    goals::end(&mut stage, &mut outcome, ended, goal, Outcome::Success);
                }
                continue;
            }
            self.set_stage(goal, Stage::Starting);
            if !locked.locks.locks.is_empty() {
                self.commands.entity(goal).insert(locked.locks);
            }
            if mode == BuildMode::Check && there < paths.len() {
                let message = "outputs that were to be compared are not valid any more";
                let failure = Failure::new(FailureKind::Other, message);
                self.failures.0.push((goal, failure));
                continue;
            }
            if there > 0 || paths.len() < self.graph.outputs(drv).len() {
                let those = |which: &dyn Fn(PathId, bool) -> bool| {
                    let each = paths.iter().zip(valid);
                    let those = each.filter(|(path, valid)| which(**path, **valid));
                    those.map(|(&path, _)| path).collect::<Vec<_>>()
                };
                let bad = &self.repairs.bad;
                let missing = those(&|path, valid| is_made(mode, bad, path, valid));
                let mut entity = self.commands.entity(goal);
                entity.insert(MissingOutputs(missing));
                if there > 0 {
                    // What is valid, even if it is to be made again, stays until something as good is there.
                    let store = &mut self.store.0;
                    let there = those(&|_, valid| valid);
                    entity.insert(store.scratch_outputs(&self.graph, drv, &there)?);
                }
            }
            // Someone else may have tried in vain while this goal waited for the lock.
            let missing = paths.iter().zip(valid).filter(|(_, valid)| !**valid);
            let missing = missing.map(|(&path, _)| path);
            if let Some(failure) = known_failure(&mut *self.store.0, &self.graph, missing)? {
                self.failures.0.push((goal, failure));
                continue;
            }
            if let Err(error) = self.store.0.check_output_paths(&self.graph, drv) {
                let failure = Failure::new(FailureKind::Other, error.to_string());
                self.failures.0.push((goal, failure));
                continue;
            }
            self.slots.used += 1;
            self.starting.0.push(ReadyGoal { goal, drv });
        }
        Ok(())
    }
}

/// Whether an output is to be made.
fn is_made(mode: BuildMode, bad: &HashSet<PathId>, path: PathId, valid: bool) -> bool {
    match mode {
        BuildMode::Normal => !valid,
        BuildMode::Check => true,
        BuildMode::Repair => !valid || bad.contains(&path),
    }
}
