//! The second system: locks the outputs of the best ready goals, as many as there are slots for
//! them.
//!
//! Only goals that can start now take locks, so that other engines on the store find the rest free.
//! After the lock the outputs are looked up again: someone else may have built them (Nix 1.8:
//! `tryToBuild`).

pub mod hook;

pub(crate) mod archives;
pub mod fetch;

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, Local, NonSendMut, Res, ResMut};
use hashbrown::HashSet;
use windrow_components::building::MissingOutputs;
use windrow_components::goal::{BuildMode, Outcome};
use windrow_components::graph::{BuildGraph, OutputRow};
use windrow_components::ids::{DrvId, PathId};
use windrow_components::paths::PathTable;

use crate::error::{Error, Result};
use crate::failure::{Failure, FailureKind};
use crate::finish::failure_cache::known_failure;
use crate::report::{BuildRef, Event};
use crate::world::{
    Backoff, Options, OutputLocks, ReadyGoal, Reporters, Scheduler, Services, Store, WaitNews,
    Waiting,
};

/// How long to wait before a lock held by someone else is tried the second time.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// Whether a derivation is to be built on this machine, which bothers neither the hook nor
/// substituters.
///
/// Nix 1.8: `willBuildLocally`.
pub fn stays_here(graph: &BuildGraph, options: &Options, drv: DrvId) -> bool {
    let runs_here = |system| options.platforms.iter().any(|known| known == system);
    graph.traits(drv).prefer_local && graph.system(drv).is_none_or(runs_here)
}

/// Lets a goal wait for a lock that somebody else holds, and tells the user so if it is for the
/// first time.
fn wait_for_others(
    scheduler: &mut Scheduler,
    graph: &BuildGraph,
    services: (&dyn Store, &mut Reporters),
    waiting: Waiting,
) {
    let (store, reporter) = services;
    let news = scheduler.wait_a_while(graph, waiting, Backoff::Doubling(FIRST_RETRY));
    if news == WaitNews::None || !reporter.wants_builds() {
        return;
    }
    let (path, name, paths) = match waiting {
        Waiting::Build(ready) => {
            let outputs = graph.outputs(ready.drv).iter();
            let outputs: Vec<PathId> = outputs.map(|row| row.path).collect();
            (
                graph.drv_path(ready.drv),
                graph.drv_name(ready.drv),
                outputs,
            )
        }
        Waiting::Fetch(fetch) => (fetch.path, graph.paths.name(fetch.path), vec![fetch.path]),
    };
    let is_long = news == WaitNews::Long;
    let what = is_long.then(|| store.describe_lock(graph, &paths));
    reporter.report(&Event::LockAwaited {
        build: BuildRef {
            id: waiting.goal().to_bits(),
            drv_path: &graph.full_path(path),
            name,
        },
        what: what.as_deref(),
    });
}

/// Takes locks for as many ready goals as there are free slots.
pub fn lock(
    mut commands: Commands,
    graph: Res<BuildGraph>,
    mut services: NonSendMut<Services>,
    mut scheduler: ResMut<Scheduler>,
    mut batch: Local<LockBatch>,
) {
    let has_hook = scheduler.desk.is_on();
    let Services { store, reporter } = &mut *services;
    let mut pass = LockPass {
        commands: &mut commands,
        graph: &graph,
        shared: store.is_shared(),
        store: &mut **store,
        reporter,
        scheduler: &mut scheduler,
    };
    let filled = if has_hook {
        pass.fill_with_hook(&mut batch)
    } else {
        pass.fill_slots(&mut batch)
    };
    if let Err(error) = filled {
        scheduler.abort(error);
    }
}

/// One run of the system.
struct LockPass<'a, 'w, 's> {
    commands: &'a mut Commands<'w, 's>,
    graph: &'a BuildGraph,
    store: &'a mut dyn Store,
    reporter: &'a mut Reporters,
    scheduler: &'a mut Scheduler,
    /// Whether others may use the store too.
    shared: bool,
}

/// A goal that holds its locks, while it is found out what it must build.
#[derive(Clone, Copy)]
struct Locked {
    ready: ReadyGoal,
    /// Where its outputs end in the list of all that were locked with it.
    end: u32,
    /// Whether it has one path as two of its outputs.
    doubled: bool,
}

/// Goals that were locked together. Kept for its memory.
#[derive(Default)]
pub struct LockBatch {
    goals: Vec<Locked>,
    outputs: Vec<PathId>,
    /// Which of these are valid after all.
    valid: Vec<bool>,
    /// The locks of each, if the store is shared.
    locks: Vec<OutputLocks>,
    /// What is about to be locked in a store that others use too.
    asking: Vec<ReadyGoal>,
    /// All outputs of that.
    to_root: Vec<PathId>,
}

impl LockBatch {
    fn clear(&mut self) {
        self.goals.clear();
        self.outputs.clear();
        self.locks.clear();
        self.asking.clear();
    }
}

impl LockPass<'_, '_, '_> {
    fn fill_slots(&mut self, round: &mut LockBatch) -> Result<()> {
        loop {
            let free = self.scheduler.free_slots() as usize;
            if free == 0 {
                return Ok(());
            }
            round.clear();
            let mut popped = false;
            while round.goals.len() + round.asking.len() < free
                && let Some(ready) = self.scheduler.pop_ready()
            {
                popped = true;
                // Nobody else's store, and a single output: nearly always so in simulations, and
                // then there is little to do.
                if !self.shared
                    && let [row] = self.graph.outputs(ready.drv)
                    && self.scheduler.hold(&[row.path])
                {
                    round.outputs.push(row.path);
                    let (end, doubled) = (round.outputs.len() as u32, false);
                    round.goals.push(Locked {
                        ready,
                        end,
                        doubled,
                    });
                } else if self.shared {
                    round.asking.push(ready);
                } else {
                    self.try_lock(ready, round)?;
                }
            }
            if !popped {
                return Ok(());
            }
            if !round.asking.is_empty() {
                self.lock_asking(round)?;
            }
            self.look_again(round, None)?;
        }
    }

    /// The same with a build hook, which is offered each build first, one at a time, whether there
    /// is a slot or not (Nix 1.8: `tryToBuild`).
    ///
    /// Nix 1.8: `DerivationGoal::tryBuildHook`.
    fn fill_with_hook(&mut self, round: &mut LockBatch) -> Result<()> {
        loop {
            if !self.scheduler.may_hold_more() {
                return Ok(());
            }
            let free_slot = self.scheduler.free_slots() > 0;
            let Some((ready, rank)) = self.scheduler.pop_for_hook() else {
                return Ok(());
            };
            let drv = ready.drv;
            // A hook can't build beside what is valid.
            let local = self.scheduler.mode_of(ready.goal) != BuildMode::Normal
                || stays_here(self.graph, &self.scheduler.options, drv);
            if local && !free_slot {
                self.scheduler.desk.wait_for_slot(drv, rank);
                continue;
            }
            if !local {
                if self.scheduler.desk.is_asking() {
                    self.scheduler.queue().push(drv, rank);
                    return Ok(());
                }
                let now = self.scheduler.now;
                let desk = &mut self.scheduler.desk;
                if desk.wait_with_kind(self.graph, (drv, rank), now) {
                    continue;
                }
            }
            round.clear();
            round.asking.push(ready);
            self.lock_asking(round)?;
            let offer = (!local).then_some((rank, free_slot));
            self.look_again(round, offer)?;
        }
    }

    /// Locks the outputs of what is asked for. All of them become temporary roots first, for the
    /// wanted ones alone are by now: what a builder makes is kept from collection until it is
    /// registered, and its lock files are as well.
    #[inline(never)]
    fn lock_asking(&mut self, round: &mut LockBatch) -> Result<()> {
        let mut asking = std::mem::take(&mut round.asking);
        let outputs = |ready: &ReadyGoal| self.graph.outputs(ready.drv).iter();
        let paths = asking.iter().flat_map(outputs).map(|row| row.path);
        round.to_root.clear();
        round.to_root.extend(paths);
        self.store.add_temp_roots(self.graph, &round.to_root)?;
        for ready in asking.drain(..) {
            self.try_lock(ready, round)?;
        }
        round.asking = asking;
        Ok(())
    }

    /// Locks a goal's outputs and adds it to the round, or lets it wait for whoever holds them.
    ///
    /// Nix 1.8: `DerivationGoal::tryToBuild`, `Worker::waitForAnyGoal`.
    #[inline(never)]
    fn try_lock(&mut self, ready: ReadyGoal, round: &mut LockBatch) -> Result<()> {
        let start = round.outputs.len();
        let rows = self.graph.outputs(ready.drv);
        let doubled = if let [row] = rows {
            round.outputs.push(row.path);
            false
        } else {
            push_sorted(&self.graph.paths, &mut round.outputs, rows)
        };
        let paths = &round.outputs[start..];
        if !self.scheduler.hold(paths) {
            self.scheduler.wait_for_any_goal(Waiting::Build(ready));
            round.outputs.truncate(start);
            return Ok(());
        }
        if self.shared && !self.lock_in_store(ready, start, round)? {
            return Ok(());
        }
        round.goals.push(Locked {
            ready,
            end: round.outputs.len() as u32,
            doubled,
        });
        Ok(())
    }

    /// Takes the locks that other processes see; tells whether nobody else has them.
    #[inline(never)]
    fn lock_in_store(
        &mut self,
        ready: ReadyGoal,
        start: usize,
        round: &mut LockBatch,
    ) -> Result<bool> {
        let locked = self.store.try_lock(self.graph, &round.outputs[start..]);
        if let Ok(Some(locks)) = locked {
            round.locks.push(locks);
            return Ok(true);
        }
        self.scheduler.release(&round.outputs[start..]);
        round.outputs.truncate(start);
        self.is_not_locked(ready, locked.err())?;
        Ok(false)
    }

    /// Somebody else holds a lock, or it can't be taken at all.
    #[cold]
    fn is_not_locked(&mut self, ready: ReadyGoal, problem: Option<Error>) -> Result<()> {
        match problem {
            None => wait_for_others(
                self.scheduler,
                self.graph,
                (&*self.store, self.reporter),
                Waiting::Build(ready),
            ),
            Some(error) if error.is_fatal() => return Err(error),
            Some(error) => {
                let failure = Failure::of_error(&error);
                self.scheduler.fail(ready.goal, failure);
            }
        }
        Ok(())
    }

    /// Looks up validity once more, now that nobody else can build these paths. What is still to be
    /// built gets a slot, or with `offer`, a rank and whether there is a slot, goes to the hook.
    ///
    /// Nix 1.8: `DerivationGoal::tryToBuild`, `DerivationGoal::checkPathValidity`.
    fn look_again(&mut self, round: &mut LockBatch, offer: Option<(u64, bool)>) -> Result<()> {
        self.store
            .valid_into(self.graph, &round.outputs, &mut round.valid)?;
        let ordinary =
            self.scheduler.run.mode() == BuildMode::Normal && self.store.failed_paths().is_none();
        let mut locks = round.locks.drain(..);
        let mut start = 0;
        for &Locked {
            ready,
            end,
            doubled,
        } in &round.goals
        {
            let part = start..end as usize;
            start = part.end;
            let valid = &round.valid[part.clone()];
            let locks = locks.next();
            let plain = ordinary && !doubled && !valid.contains(&true);
            self.scheduler.lock(ready.goal);
            if !plain && !self.is_any_made(ready.goal, &round.outputs[part.clone()], valid) {
                self.is_there(ready, locks);
                continue;
            }
            if let Some(locks) = locks {
                self.commands.entity(ready.goal).insert(locks);
            }
            if !plain && !self.note_what_is_there(ready, &round.outputs[part], valid)? {
                continue;
            }
            if let Err(error) = self.store.check_output_paths(self.graph, ready.drv) {
                if error.is_fatal() {
                    return Err(error);
                }
                let failure = Failure::of_error(&error);
                self.scheduler.fail(ready.goal, failure);
                continue;
            }
            match offer {
                Some((rank, willing)) => self.scheduler.desk.offer(ready, rank, willing),
                None => self.scheduler.take_slot(ready),
            }
        }
        Ok(())
    }

    /// Whether any output of a goal is to be made.
    #[inline(never)]
    fn is_any_made(&self, goal: Entity, paths: &[PathId], valid: &[bool]) -> bool {
        let mode = self.scheduler.mode_of(goal);
        let bad = &self.scheduler.repairs.bad;
        let mut each = paths.iter().zip(valid);
        each.any(|(&path, &valid)| is_made(mode, bad, path, valid))
    }

    /// Somebody else has made everything since.
    #[cold]
    fn is_there(&mut self, ready: ReadyGoal, locks: Option<OutputLocks>) {
        if let Some(locks) = locks {
            self.store.unlock(locks, true);
        }
        self.scheduler
            .end(self.graph, ready.into(), Outcome::Success);
    }
}

impl LockPass<'_, '_, '_> {
    /// Some of a locked goal's outputs are valid, or may have failed before: what that means for
    /// it. Tells whether it is to be built.
    #[inline(never)]
    fn note_what_is_there(
        &mut self,
        ReadyGoal { goal, drv }: ReadyGoal,
        paths: &[PathId],
        valid: &[bool],
    ) -> Result<bool> {
        let mode = self.scheduler.mode_of(goal);
        let those = |which: &dyn Fn(PathId, bool) -> bool| {
            let each = paths.iter().zip(valid);
            let those = each.filter(|(path, valid)| which(**path, **valid));
            those.map(|(&path, _)| path).collect::<Vec<_>>()
        };
        let there = those(&|_, valid| valid);
        if mode == BuildMode::Check {
            return self.note_what_to_compare(ReadyGoal { goal, drv }, paths, there);
        }
        if !there.is_empty() || paths.len() < self.graph.outputs(drv).len() {
            let bad = &self.scheduler.repairs.bad;
            let missing = those(&|path, valid| is_made(mode, bad, path, valid));
            let mut entity = self.commands.entity(goal);
            entity.insert(MissingOutputs(missing));
            if !there.is_empty() {
                // What is valid, even if it is to be made again, stays until something as good is
                // there.
                entity.insert(self.store.scratch_outputs(self.graph, drv, &there)?);
            }
        }
        // Someone else may have tried in vain while this goal waited for the lock.
        let missing = those(&|_, valid| !valid);
        if let Some(failure) = known_failure(self.store, self.graph, missing)? {
            self.scheduler.fail(goal, failure);
            return Ok(false);
        }
        Ok(true)
    }
}

impl LockPass<'_, '_, '_> {
    /// The same for a goal whose outputs are only compared with those that are valid. All are made
    /// under other names, since those that are not valid are not to become so.
    fn note_what_to_compare(
        &mut self,
        ReadyGoal { goal, drv }: ReadyGoal,
        paths: &[PathId],
        there: Vec<PathId>,
    ) -> Result<bool> {
        if there.is_empty() {
            let message = "outputs that were to be compared are not valid any more";
            let failure = Failure::new(FailureKind::Other, message);
            self.scheduler.fail(goal, failure);
            return Ok(false);
        }
        let scratch = self.store.scratch_outputs(self.graph, drv, paths)?;
        let mut entity = self.commands.entity(goal);
        entity.insert((MissingOutputs(there), scratch));
        Ok(true)
    }
}

/// Adds the paths of outputs, sorted by their names, each once: the order in which all lock them.
/// Tells whether one was there twice.
#[inline(never)]
fn push_sorted(paths: &PathTable, outputs: &mut Vec<PathId>, rows: &[OutputRow]) -> bool {
    let mut sorted: Vec<PathId> = rows.iter().map(|row| row.path).collect();
    sorted.sort_unstable_by(|&a, &b| paths.base_name(a).cmp(paths.base_name(b)));
    sorted.dedup();
    outputs.extend_from_slice(&sorted);
    sorted.len() < rows.len()
}

/// Whether an output is to be made.
fn is_made(mode: BuildMode, bad: &HashSet<PathId>, path: PathId, valid: bool) -> bool {
    match mode {
        BuildMode::Normal => !valid,
        BuildMode::Check => true,
        BuildMode::Repair => !valid || bad.contains(&path),
    }
}
