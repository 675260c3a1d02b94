//! The second system: locks the outputs of the best ready goals, as many as there are slots for them.
//!
//! Only goals that can start now take locks, so that other engines on the store find the rest free. After
//! the lock the outputs are looked up again: someone else may have built them (the seed's `tryToBuild`).

pub mod fetch;

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
use crate::report::{Event, Level, Reporter};
use crate::spawn::hook::desk::HookDesk;
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
    desk: ResMut<'w, HookDesk>,
}

/// Whether a derivation is to be built on this machine, which bothers neither the hook nor substituters (the seed's
/// `willBuildLocally`).
pub fn stays_here(graph: &BuildGraph, options: &Options, drv: DrvId) -> bool {
    let runs_here = |system| options.platforms.iter().any(|known| known == system);
    graph.traits(drv).prefer_local && graph.system(drv).is_none_or(runs_here)
}

/// Tells the user that the run waits for somebody else.
fn say_waiting(reporter: &mut dyn Reporter) {
    let text = "waiting for locks or build slots...";
    let level = Level::Info;
    reporter.report(&Event::Message { level, text });
}

/// Takes locks for as many ready goals as there are free slots.
pub fn lock(mut params: Locking<'_, '_>, mut run: ResMut<RunState>, mut round: Local<Round>) {
    if run.is_over() {
        return;
    }
    let filled = if params.desk.is_on() {
        params.fill_with_hook(&mut round, &run)
    } else if params.queue.is_empty() {
        return;
    } else {
        params.fill_slots(&mut round, &run)
    };
    if let Err(error) = filled {
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
            self.look_again(round, run, None)?;
        }
        Ok(())
    }

    /// The same with a build hook, which is offered each build first, one at a time, whether there is a slot or not
    /// (the seed's `tryToBuild`).
    fn fill_with_hook(&mut self, round: &mut Round, run: &RunState) -> Result<()> {
        loop {
            let free_slot = self.slots.used < self.options.max_jobs;
            let next = self.desk.next(&mut self.queue, free_slot, self.now.0);
            let Some((ready, rank)) = next else {
                return Ok(());
            };
            // A hook can't build beside what is valid.
            let local = run.mode_of(ready.goal) != BuildMode::Normal
                || stays_here(&self.graph, &self.options, ready.drv);
            if local && !free_slot {
                self.desk.wait_for_slot(ready, rank);
                continue;
            }
            if !local {
                if self.desk.is_asking() {
                    self.queue.push(ready, rank);
                    return Ok(());
                }
                if self
                    .desk
                    .wait_with_kind(&self.graph, (ready, rank), self.now.0)
                {
                    continue;
                }
            }
            round.goals.clear();
            round.outputs.clear();
            self.try_lock(ready, round)?;
            let offer = (!local).then_some((rank, free_slot));
            self.look_again(round, run, offer)?;
        }
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
            say_waiting(&mut *self.reporter.0);
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
    /// What is still to be built gets a slot, or with `offer`, a rank and whether there is a slot, goes to the hook.
    fn look_again(
        &mut self,
        round: &mut Round,
        run: &RunState,
        offer: Option<(u64, bool)>,
    ) -> Result<()> {
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
            match offer {
                Some((rank, willing)) => {
                    self.desk.offer(ReadyGoal { goal, drv }, rank, willing);
                }
                None => {
                    self.slots.used += 1;
                    self.starting.0.push(ReadyGoal { goal, drv });
                }
            }
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
