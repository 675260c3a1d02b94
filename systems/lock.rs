//! The second system: locks the outputs of the best ready goals, as many as there are slots for them.
//!
//! Only goals that can start now take locks, so that other engines on the store find the rest free. After
//! the lock the outputs are looked up again: someone else may have built them (the seed's `tryToBuild`).

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::MissingOutputs;
use windrow_components::goal::{DerivationGoal, Outcome, Stage};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::failure_cache::known_failure;
use crate::goals;
use crate::policy::ReadyQueue;
use crate::report::{Event, Level};
use crate::store::path_lock::OutputLocks;
use crate::world::{
    Ended, Failures, ForeignLock, LockWaiters, Now, Options, ReporterHandle, RunState, Slots,
    Starting, StoreHandle,
};

/// How long to wait before a lock held by someone else is tried the second time.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// Everything that taking locks touches.
#[derive(SystemParam)]
pub struct Locking<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<
        'w,
        's,
        (
            &'static DerivationGoal,
            &'static mut Stage,
            &'static mut Outcome,
        ),
    >,
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
}

/// Takes locks for as many ready goals as there are free slots.
pub fn lock(mut params: Locking<'_, '_>, mut run: ResMut<RunState>) {
    if run.is_over() {
        return;
    }
    if let Err(error) = params.fill_slots() {
        run.fatal = Some(error);
    }
}

impl Locking<'_, '_> {
    fn fill_slots(&mut self) -> Result<()> {
        while self.slots.used < self.options.max_jobs {
            let mut locked: Vec<(Entity, Vec<PathId>, OutputLocks)> = Vec::new();
            let free = self.options.max_jobs - self.slots.used;
            while locked.len() < free as usize
                && let Some(goal) = self.queue.pop()
            {
                if let Some((paths, locks)) = self.try_lock(goal)? {
                    locked.push((goal, paths, locks));
                }
            }
            if locked.is_empty() {
                return Ok(());
            }
            self.look_again(locked)?;
        }
        Ok(())
    }

    fn try_lock(&mut self, goal: Entity) -> Result<Option<(Vec<PathId>, OutputLocks)>> {
        let Ok((known, mut stage, _)) = self.goals.get_mut(goal) else {
            return Ok(None);
        };
        let mut paths: Vec<PathId> = self
            .graph
            .outputs(known.drv)
            .iter()
            .map(|row| row.path)
            .collect();
        if paths.iter().any(|path| self.waiting.held.contains(path)) {
            *stage = Stage::Locked;
            self.waiting.any_goal.push(goal);
            return Ok(None);
        }
        paths.sort_unstable_by(|a, b| {
            self.graph
                .paths
                .base_name(*a)
                .cmp(self.graph.paths.base_name(*b))
        });
        paths.dedup();
        match self.store.0.try_lock(&self.graph, &paths) {
            Ok(Some(locks)) => {
                self.waiting.held.extend(&paths);
                self.waiting.waits.remove(&goal);
                Ok(Some((paths, locks)))
            }
            Ok(None) => {
                *stage = Stage::Locked;
                let wait = match self.waiting.waits.get(&goal) {
                    Some(&last) => (last * 2).min(self.options.lock_poll_interval),
                    None => FIRST_RETRY,
                };
                if self.waiting.waits.insert(goal, wait).is_none() {
                    let text = "waiting for locks or build slots...";
                    let event = Event::Message {
                        level: Level::Info,
                        text,
                    };
                    self.reporter.0.report(&event);
                }
                self.waiting.foreign.push(ForeignLock {
                    goal,
                    retry_at: self.now.0 + wait,
                });
                Ok(None)
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                let failure = Failure::new(FailureKind::Other, error.to_string());
                self.failures.0.push((goal, failure));
                Ok(None)
            }
        }
    }

    /// Looks up validity once more, now that nobody else can build these paths.
    fn look_again(&mut self, locked: Vec<(Entity, Vec<PathId>, OutputLocks)>) -> Result<()> {
        let all: Vec<PathId> = locked
            .iter()
            .flat_map(|(_, paths, _)| paths)
            .copied()
            .collect();
        let valid = self.store.0.valid(&self.graph, &all)?;
        let mut at = 0;
        for (goal, paths, locks) in locked {
            let valid = &valid[at..at + paths.len()];
            at += paths.len();
            let Ok((known, mut stage, mut outcome)) = self.goals.get_mut(goal) else {
                continue;
            };
            let missing: Vec<PathId> = paths
                .iter()
                .zip(valid)
                .filter(|(_, valid)| !**valid)
                .map(|(path, _)| *path)
                .collect();
            if missing.is_empty() {
                self.store.0.unlock(locks, true);
                paths.iter().for_each(|path| {
                    self.waiting.held.remove(path);
                });
                goals::end(
                    &mut stage,
                    &mut outcome,
                    &mut self.ended,
                    goal,
                    Outcome::Success,
                );
                continue;
            }
            let mut entity = self.commands.entity(goal);
            entity.insert(locks);
            if missing.len() < paths.len() {
                let there: Vec<PathId> = paths
                    .iter()
                    .copied()
                    .filter(|path| !missing.contains(path))
                    .collect();
                entity.insert(
                    self.store
                        .0
                        .scratch_outputs(&self.graph, known.drv, &there)?,
                );
            }
            // Someone else may have tried in vain while this goal waited for the lock.
            let store = &mut *self.store.0;
            let failed_before = known_failure(store, &self.graph, missing.iter().copied())?;
            entity.insert(MissingOutputs(missing));
            if let Some(failure) = failed_before {
                self.failures.0.push((goal, failure));
                continue;
            }
            if let Err(error) = self.store.0.check_output_paths(&self.graph, known.drv) {
                let failure = Failure::new(FailureKind::Other, error.to_string());
                self.failures.0.push((goal, failure));
                continue;
            }
            self.slots.used += 1;
            self.starting.0.push(goal);
        }
        Ok(())
    }
}
