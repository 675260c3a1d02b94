//! How goals come to be and become ready: they are added, are looked at while they are awake, wait
//! for what they need, and stand in the queue for a slot until they are taken from it.

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::Entity;
use windrow_components::goal::{Stage, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use super::{Awake, ReadyFetch, ReadyGoal, Scheduler};
use crate::world::ReadyQueue;

impl Scheduler {
    /// Adds a goal that has just been made, awake.
    ///
    /// # Panics
    /// As [`GoalIndex::insert`](super::GoalIndex::insert).
    pub fn add(&mut self, entities: &Entities, target: Target, goal: Entity) {
        self.make_room(goal);
        self.index.insert(entities, target, goal);
        self.awake.goals.push(goal);
    }

    /// Adds goals of derivations that have been made in one go, awake.
    ///
    /// # Panics
    /// As [`GoalIndex::insert`](super::GoalIndex::insert).
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

    /// A derivation's goal waits for what substituters say of its outputs.
    pub fn ask_about(&mut self, drv: DrvId, outputs: &[PathId]) {
        for &path in outputs {
            self.askers.entry(path).or_default().push(drv);
        }
    }

    /// The same for the goals that wait for what substituters say of paths.
    pub fn wake_askers(&mut self, paths: impl IntoIterator<Item = PathId>) {
        for path in paths {
            for drv in self.askers.remove(&path).unwrap_or_default() {
                if let Some(goal) = self.index.goal(drv)
                    && self.stage(goal) == Stage::Info
                {
                    // It waits no more, and is woken once.
                    self.set(goal, Stage::New);
                    self.awaken_derivation(drv);
                }
            }
            for target in [Target::Path(path), Target::Repair(path)] {
                if let Some(goal) = self.index.get(target)
                    && self.stage(goal) == Stage::Info
                {
                    self.awaken(goal);
                }
            }
        }
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

    /// A path that only lacks a slot waits for its archive.
    ///
    /// # Panics
    /// If it lacks more.
    pub fn await_archive(&mut self, ReadyFetch { goal, path }: ReadyFetch) {
        let from = self.set(goal, Stage::Archive);
        assert!(from == Stage::Ready);
        self.awaiting.insert(goal, path);
    }

    /// A path's archive is here, or can't be had; nothing if the goal does not wait for it.
    pub fn archive_is_over(&mut self, goal: Entity) {
        if let Some(path) = self.awaiting.remove(&goal) {
            let from = self.set(goal, Stage::Ready);
            assert!(from == Stage::Archive);
            self.fetches.push_back(ReadyFetch { goal, path });
        }
    }

    /// Whether a goal waits for its archive.
    pub fn awaits_archive(&self, goal: Entity) -> bool {
        self.awaiting.contains_key(&goal)
    }

    /// Whether any does.
    pub fn awaits_archives(&self) -> bool {
        !self.awaiting.is_empty()
    }

    /// What was downloaded for a path that is about to be unpacked is gone: it is looked for again.
    ///
    /// # Panics
    /// If it was not about to.
    pub fn fetch_again(&mut self, fetch: ReadyFetch) {
        let from = self.set(fetch.goal, Stage::Ready);
        assert!(from == Stage::Fetching);
        self.held.remove(fetch.path);
        self.fetches.push_back(fetch);
    }

    /// The goals that only lack a slot, for a policy to change their order.
    pub fn queue(&mut self) -> &mut ReadyQueue {
        &mut self.queue
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
            let drv = match &mut self.may_start {
                None => self.queue.pop()?,
                Some(goals) => goals.pop_front()?,
            };
            let goal = self.index.goal(drv).expect("what is ready has a goal");
            let ready = ReadyGoal { goal, drv };
            if !self.drop_unwanted(ready) {
                return Some(ready);
            }
        }
    }

    /// From now on goals in the queue have to be placed on machines, and start when they are let
    /// ([`let_start`](Self::let_start)).
    pub fn place_goals(&mut self) {
        self.may_start.get_or_insert_default();
    }

    /// The best goal that has not been placed, and its rank. It goes back into the queue, or is let
    /// start in this or a later tick.
    pub fn pop_to_place(&mut self) -> Option<(DrvId, u64)> {
        loop {
            let (drv, rank) = self.queue.pop_ranked()?;
            let goal = self.index.goal(drv).expect("what is ready has a goal");
            if !self.drop_unwanted(ReadyGoal { goal, drv }) {
                return Some((drv, rank));
            }
        }
    }

    /// Lets a goal start that is ready and was taken from the queue.
    pub fn let_start(&mut self, drv: DrvId) {
        self.may_start.get_or_insert_default().push_back(drv);
    }

    /// Takes goals that have just become ready from the policy's sight, if that says so. They come
    /// back by [`place_again`](Self::place_again).
    pub fn hold_back(&mut self, mut holds: impl FnMut(DrvId) -> bool) {
        self.newly_ready.retain(|&drv| !holds(drv));
    }

    /// A goal that was held back, or taken from the queue and not let start, has to be ranked and
    /// placed.
    ///
    /// # Panics
    /// If it is not ready.
    pub fn place_again(&mut self, drv: DrvId) {
        let goal = self.index.goal(drv).expect("what is ready has a goal");
        assert!(self.stage(goal) == Stage::Ready);
        self.newly_ready.push(drv);
    }

    /// A goal's child is lost together with what it ran on: the goal is ready again.
    ///
    /// # Panics
    /// If no child of it runs.
    pub fn lose(&mut self, graph: &BuildGraph, ready: ReadyGoal) {
        let from = self.set(ready.goal, Stage::Ready);
        assert!(from == Stage::Running);
        self.cancelled.forget(ready.goal);
        self.release_of(graph, ready.into());
        self.newly_ready.push(ready.drv);
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
            if !self.drop_unwanted(fetch) {
                taken.push(fetch);
            }
        }
        taken
    }
}
