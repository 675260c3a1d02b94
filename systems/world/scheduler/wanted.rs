//! Which goals no request needs any more, and which ends do not count for whoever asks now.

use bevy_ecs::prelude::Entity;
use hashbrown::HashMap;
use windrow_components::goal::{BuildMode, Outcome, Stage, Target};
use windrow_components::ids::{DrvId, PathId};
use windrow_components::request::ChildLimits;

use super::{Goal, Scheduler};
use crate::failure::Failure;
use crate::world::goal_set::GoalSet;

/// Whether a path is still to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A goal for it has not ended.
    Wanted,
    /// It is valid.
    Met,
    /// Nobody wants it any more.
    Dropped,
}

/// Whom a goal waits for, as it said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// All inputs of the derivation it is for.
    Inputs(DrvId),
    /// This goal.
    Goal(Entity),
}

/// What requests that come and go need.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Goals that no request needs: each ends as cancelled when it is next looked at.
    unwanted: GoalSet,
    /// Goals that have ended, and are taken up again by whoever asks for them.
    stale: GoalSet,
    /// Goals that have ended other than well since a request last began.
    ended_badly: Vec<Entity>,
    /// Goals that were taken up again after they had come far enough to carry what a build needs.
    reopened: Vec<Entity>,
    /// Who asked whom since [`Scheduler::take_asked`], while more than one request needs goals.
    asked: Vec<(Entity, Asked)>,
    is_shared: bool,
    /// Whether requests have been closed, and nobody has looked yet what goes with them.
    pub(super) given_up: bool,
    limits: HashMap<Entity, ChildLimits>,
}

impl Scheduler {
    /// Whether no request needs a goal any more.
    #[inline]
    pub fn is_unwanted(&self, goal: Entity) -> bool {
        self.wanted.unwanted.contains(goal)
    }

    /// No request needs a goal any more. It ends when it is next looked at; if it has a child, or
    /// is about to, that is killed.
    pub fn unwant(&mut self, goal: Entity) {
        let stage = self.stage(goal);
        if stage.outcome().is_none() && self.wanted.unwanted.insert(goal) {
            self.cancel(goal);
            match stage {
                Stage::Parked => self.drop_parked(goal),
                Stage::Archive => {
                    self.awaiting.remove(&goal);
                    self.fail(goal, Failure::cancelled());
                }
                _ => {}
            }
        }
    }

    /// Ends a goal that waits for a lock.
    fn drop_parked(&mut self, goal: Entity) {
        let parked = self.parked.iter().map(|parked| parked.waiting);
        let mut waiting = parked.chain(self.any_goal.iter().copied());
        let found = waiting.find(|waiting| waiting.goal() == goal);
        self.parked.retain(|parked| parked.waiting.goal() != goal);
        self.any_goal.retain(|waiting| waiting.goal() != goal);
        self.waits.remove(&goal);
        if let Some(waiting) = found {
            self.drop_ready(waiting.into());
        }
    }

    /// Requests have been closed, or what goes with them has been looked after.
    pub fn note_given_up(&mut self, given_up: bool) {
        self.wanted.given_up = given_up;
    }

    /// A request needs a goal after all. If its child is being killed, it ends as cancelled
    /// nevertheless, and who needs it asks for it again.
    pub fn want(&mut self, goal: Entity) {
        self.wanted.unwanted.remove(goal);
    }

    /// Whether a path is still to be fetched.
    pub fn need_of(&self, path: PathId) -> Need {
        let targets = [Target::Path(path), Target::Repair(path)];
        let goals = targets.iter().filter_map(|&target| self.index.get(target));
        let mut need = Need::Dropped;
        for goal in goals {
            match self.stage(goal).outcome() {
                None if self.is_unwanted(goal) => {}
                None => return Need::Wanted,
                Some(Outcome::Success) => need = Need::Met,
                Some(_) => {}
            }
        }
        need
    }

    /// Whether a goal has ended other than well since a request last began.
    pub fn has_ended_badly(&self) -> bool {
        !self.wanted.ended_badly.is_empty()
    }

    /// A goal has ended so.
    #[inline]
    pub(super) fn note_end(&mut self, goal: Entity, how: Outcome) {
        self.wanted.unwanted.remove(goal);
        match how {
            Outcome::Success => {}
            Outcome::Cancelled => drop(self.wanted.stale.insert(goal)),
            _ => self.wanted.ended_badly.push(goal),
        }
    }

    /// A request begins: what has failed for those that have ended is tried again if it needs that,
    /// and what has ended for a request of another mode is looked at again. A failure of what is
    /// `needed` by a request under way counts for both.
    pub fn make_ends_stale(
        &mut self,
        (before, now): (BuildMode, BuildMode),
        needed: impl Fn(Entity) -> bool,
    ) {
        let mut ended = std::mem::take(&mut self.wanted.ended_badly);
        ended.retain(|&goal| {
            let counts = needed(goal);
            if !counts && self.stage(goal).outcome().is_some() {
                self.wanted.stale.insert(goal);
            }
            counts
        });
        self.wanted.ended_badly = ended;
        if before == BuildMode::Normal && now == BuildMode::Normal {
            return;
        }
        let goals: Vec<Entity> = self.index.all().map(|(_, goal)| goal).collect();
        for goal in goals {
            if self.stage(goal).outcome().is_some() {
                self.wanted.stale.insert(goal);
            }
        }
    }

    /// Whether a goal has ended in a way that does not count for whoever asks for it now.
    #[inline]
    pub fn is_stale(&self, goal: Entity) -> bool {
        self.wanted.stale.contains(goal)
    }

    /// Takes up a goal again whose end does not count any more: that of a derivation, or a path's.
    ///
    /// # Panics
    /// If it has not ended.
    pub fn reopen_stale(&mut self, goal: Entity, drv: Option<DrvId>) {
        let from = self.set(goal, Stage::New);
        assert!(from.outcome().is_some());
        self.wanted.stale.remove(goal);
        self.wanted.reopened.push(goal);
        match drv {
            Some(drv) => {
                let now = self.ended.tick();
                self.index.reopen(drv, now);
                self.awaken_derivation(drv);
            }
            None => self.awaken(goal),
        }
    }

    /// Takes the goals that carry what is left of an earlier try.
    pub fn take_reopened(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.wanted.reopened)
    }

    /// Lets a goal begin anew that is needed again after what it waited for was cancelled.
    ///
    /// # Panics
    /// If it was ready already.
    pub fn restart(&mut self, goal: Entity, is_derivation: bool) {
        let from = self.set(goal, Stage::New);
        assert!(from.is_before_ready());
        if from == Stage::Inputs && is_derivation {
            self.expect_one_less();
        }
    }

    /// Ends a goal that only lacks a slot if no request needs it; tells whether it did.
    #[inline]
    pub(super) fn drop_unwanted(&mut self, ready: impl Into<Goal>) -> bool {
        let goal = ready.into();
        let unwanted = self.is_unwanted(goal.entity);
        if unwanted {
            self.drop_ready(goal);
        }
        unwanted
    }

    /// Ends a goal that holds nothing, as cancelled.
    pub(super) fn drop_ready(&mut self, goal: Goal) {
        let from = self.set(goal.entity, Stage::Done(Outcome::Cancelled));
        assert!(matches!(from, Stage::Ready | Stage::Parked));
        if let Some(drv) = goal.drv() {
            self.expect_one_less();
            self.forget_work(drv);
        }
        self.ended.push(goal.entity, goal.drv(), Outcome::Cancelled);
        self.cancelled.forget(goal.entity);
        self.note_end(goal.entity, Outcome::Cancelled);
    }

    /// Whether a request that waits can begin now.
    pub fn can_begin(&self) -> bool {
        self.run.can_begin(|| {
            let is_waking = self.is_awake() || !self.ended.is_empty() || !self.failures.is_empty();
            self.held.is_empty() && self.background.verifying == 0 && !is_waking
        })
    }

    /// Takes the next request, if it can begin now.
    pub fn next_request(&mut self) -> Option<Entity> {
        match self.can_begin() {
            true => self.run.next_waiting(),
            false => None,
        }
    }

    /// More than one request has needed goals: from now on it is followed which needs which.
    pub fn share(&mut self) {
        self.wanted.is_shared = true;
    }

    /// Whether it is followed which request needs which goal.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.wanted.is_shared
    }

    /// A goal asks for others.
    #[inline]
    pub fn note_asked(&mut self, waiter: Entity, asked: Asked) {
        if self.wanted.is_shared {
            self.wanted.asked.push((waiter, asked));
        }
    }

    /// Whether goals have asked for others that requests are to be followed to.
    pub fn has_asked(&self) -> bool {
        !self.wanted.asked.is_empty()
    }

    /// Takes who has asked whom.
    pub fn take_asked(&mut self) -> Vec<(Entity, Asked)> {
        std::mem::take(&mut self.wanted.asked)
    }

    /// Sets when a goal's child is killed.
    pub fn set_limits(&mut self, goal: Entity, limits: ChildLimits) {
        self.wanted.limits.insert(goal, limits);
    }

    /// What was set for a goal; else what counts for all. It holds however many requests are under
    /// way, so what the only one of them says has to be set before another begins.
    pub fn own_limits(&self, goal: Entity) -> ChildLimits {
        let own = self.wanted.limits.get(&goal).copied();
        own.unwrap_or(self.options.limits)
    }

    /// When a goal's child is killed.
    pub fn limits_of(&self, goal: Entity) -> ChildLimits {
        let own = self.wanted.limits.get(&goal).copied();
        own.or_else(|| self.run.sole_limits())
            .unwrap_or(self.options.limits)
    }
}
