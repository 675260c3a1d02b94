//! Slots and locks for goals that fetch a path from a substituter (the seed's `tryToRun`). They come before all builds,
//! and at least one may run however few builds may, for no other machine can do it.

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::{Outcome, Stage, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::lock::{FIRST_RETRY, say_waiting};
use crate::world::{
    Ended, Failures, FetchQueue, LockWaiters, Now, Options, ReadyFetch, ReporterHandle, RunState,
    Slots, StoreHandle, goals,
};

/// What taking a path's lock touches.
#[derive(SystemParam)]
pub struct LockingPaths<'w, 's> {
    commands: Commands<'w, 's>,
    stages: Query<'w, 's, &'static mut Stage>,
    paths: Query<'w, 's, &'static SubstitutionGoal>,
    graph: Res<'w, BuildGraph>,
    store: NonSendMut<'w, StoreHandle>,
    reporter: NonSendMut<'w, ReporterHandle>,
    options: Res<'w, Options>,
    now: Res<'w, Now>,
    slots: ResMut<'w, Slots>,
    queue: ResMut<'w, FetchQueue>,
    waiting: ResMut<'w, LockWaiters>,
    ended: ResMut<'w, Ended>,
    failures: ResMut<'w, Failures>,
}

/// Whether paths only lack a slot.
pub fn has_ready(queue: Res<FetchQueue>) -> bool {
    !queue.ready.is_empty()
}

/// Takes locks for as many paths to be fetched as there are free slots.
pub fn lock_paths(mut params: LockingPaths<'_, '_>, mut run: ResMut<RunState>) {
    if run.is_over() {
        return;
    }
    if let Err(error) = params.fill_slots() {
        run.fatal = Some(error);
    }
}

impl LockingPaths<'_, '_> {
    fn fill_slots(&mut self) -> Result<()> {
        loop {
            let limit = self.options.max_jobs.max(1);
            let free = limit.saturating_sub(self.slots.used) as usize;
            let mut locked = Vec::new();
            let count = free.min(self.queue.ready.len());
            let asking: Vec<ReadyFetch> = self.queue.ready.drain(..count).collect();
            if asking.is_empty() {
                return Ok(());
            }
            // What is to be repaired was valid, and so need not have been one yet.
            let paths: Vec<PathId> = asking.iter().map(|ready| ready.path).collect();
            self.store.0.add_temp_roots(&self.graph, &paths)?;
            for next in asking {
                if self.waiting.held.contains(next.path) {
                    self.set_stage(next.goal, Stage::Locked);
                    self.queue.any_goal.push(next);
                    continue;
                }
                match self.store.0.try_lock(&self.graph, &[next.path]) {
                    Ok(Some(locks)) => {
                        self.waiting.held.insert(next.path);
                        self.waiting.waits.remove(&next.goal);
                        locked.push((next, locks));
                    }
                    Ok(None) => self.wait_for_others(next),
                    Err(error) if error.is_fatal() => return Err(error),
                    Err(error) => {
                        let failure = Failure::new(FailureKind::Other, error.to_string());
                        self.failures.0.push((next.goal, failure));
                    }
                }
            }
            // Somebody else may have fetched or built it meanwhile.
            let paths: Vec<PathId> = locked.iter().map(|(ready, _)| ready.path).collect();
            let valid = self.store.0.valid(&self.graph, &paths)?;
            for ((ready, locks), valid) in locked.into_iter().zip(valid) {
                let repair = self.paths.get(ready.goal).is_ok_and(|known| known.repair);
                if valid && !repair {
                    self.store.0.unlock(locks, true);
                    self.waiting.held.remove(ready.path);
                    if let Ok(mut stage) = self.stages.get_mut(ready.goal) {
                        let ended = &mut self.ended;
                        goals::end(&mut stage, ended, (ready.goal, None), Outcome::Success);
                    }
                    continue;
                }
                self.set_stage(ready.goal, Stage::Starting);
                self.commands.entity(ready.goal).insert(locks);
                self.slots.used += 1;
                self.queue.starting.push(ready);
            }
        }
    }

    fn wait_for_others(&mut self, ready: ReadyFetch) {
        self.set_stage(ready.goal, Stage::Locked);
        let wait = match self.waiting.waits.get(&ready.goal) {
            Some(&last) => (last * 2).min(self.options.lock_poll_interval),
            None => FIRST_RETRY,
        };
        if self.waiting.waits.insert(ready.goal, wait).is_none() {
            say_waiting(&mut *self.reporter.0);
        }
        self.queue.foreign.push((ready, self.now.0 + wait));
    }

    fn set_stage(&mut self, goal: Entity, to: Stage) {
        if let Ok(mut stage) = self.stages.get_mut(goal) {
            *stage = to;
        }
    }
}
