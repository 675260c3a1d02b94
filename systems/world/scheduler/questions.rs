//! What the scheduler's state is asked beside where a goal stands: reads it and changes nothing.

use std::time::Duration;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{BuildMode, Moment};
use windrow_components::ids::{DrvId, PathId};

use super::{Background, Completed, Ended, Scheduler};
use crate::failure::Failure;
use crate::report::Counts;

impl Scheduler {
    /// What is asked of a goal (Nix 1.8: `DerivationGoal::buildMode`).
    #[inline]
    pub fn mode_of(&self, goal: Entity) -> BuildMode {
        self.run.mode_of(goal)
    }

    /// Whether a goal is awake.
    pub fn is_awake(&self) -> bool {
        !self.awake.is_empty()
    }

    /// Whether a derivation's goal has ended.
    pub(crate) fn has_ended_goal(&self, drv: DrvId) -> bool {
        let goal = self.index.goal(drv);
        goal.is_some_and(|goal| self.stage(goal).outcome().is_some())
    }

    /// Goals that have become ready since the policy last ranked goals.
    pub fn newly_ready(&self) -> &[DrvId] {
        &self.newly_ready
    }

    /// How many slots are free for builds (Nix 1.8: `Worker::getNrLocalBuilds` against
    /// `maxBuildJobs`).
    #[inline]
    pub fn free_slots(&self) -> u32 {
        let slots = self.options.max_jobs.saturating_sub(self.used);
        slots.min(self.bound.left())
    }

    /// How many slots are free for fetches, which are not those of builds: there is at least one,
    /// for no other machine can do it.
    pub fn free_fetch_slots(&self) -> u32 {
        let slots = self.options.max_substitution_jobs.max(1);
        let slots = slots.saturating_sub(self.used_by_fetches);
        slots.min(self.bound.left())
    }

    /// Whether a path only lacks a slot to be fetched.
    pub fn has_ready_fetches(&self) -> bool {
        !self.fetches.is_empty() && !self.run.is_closing()
    }

    /// Whether a goal of this run holds a path (Nix 1.8: `pathIsLockedByMe`).
    pub fn holds(&self, path: PathId) -> bool {
        self.held.contains(path)
    }

    /// Goals whose outputs are complete.
    pub fn completed(&self) -> &Completed {
        &self.completed
    }

    /// Goals that have failed in this tick.
    pub fn failures(&self) -> &[(Entity, Failure)] {
        &self.failures
    }

    /// Goals that have ended since waiters were last told.
    pub fn ended(&self) -> &Ended {
        &self.ended
    }

    /// How many goals are where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether goals wait for locks that others hold.
    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// When a lock is to be tried again.
    pub fn next_retry(&self) -> Option<Duration> {
        self.parked.iter().map(|parked| parked.retry_at).min()
    }

    /// Whether a system has something to do in the next tick, so that there is no sleeping now.
    pub fn has_work(&self) -> bool {
        // Whoever could be offered to the hook has been.
        let startable = !self.desk.is_on() && self.has_startable();
        startable
            || !self.awake.is_empty()
            || !self.newly_ready.is_empty()
            || self.desk.is_pending()
            || !self.starting.is_empty()
            || !self.starting_fetches.is_empty()
            || (self.free_fetch_slots() > 0 && self.has_ready_fetches())
            || (!self.completed.is_empty() && self.completed.held_until.is_none())
            || !self.failures.is_empty()
            || !self.ended.is_empty()
            || self.has_post_build()
            || self.has_passed()
    }

    /// Whether children run, or other threads work for goals.
    pub fn is_busy(&self) -> bool {
        let Background {
            launching,
            scanning,
            verifying,
            hooks,
        } = self.background;
        self.counts.running + launching + scanning + verifying + hooks > 0
    }

    /// Whether requests have ended whose goals have not been given up.
    pub fn has_ended_requests(&self) -> bool {
        self.run.has_ended()
    }

    /// Whether requests have been closed, and with them perhaps goals been given up, since that was
    /// last [looked after](Scheduler::note_given_up).
    pub fn has_given_up_goals(&self) -> bool {
        self.wanted.given_up
    }

    /// Whether something could take a slot that becomes free.
    pub fn has_successors(&self) -> bool {
        self.pace.slots_before_paperwork
            && !self.desk.is_asking()
            && !(self.queue.is_empty() && self.newly_ready.is_empty())
    }

    /// Whether all that is complete was fetched, and others are looked at meanwhile, of which some
    /// may be complete in a moment.
    pub fn gathers_fetched(&self) -> bool {
        self.pace.slots_before_paperwork && self.is_scanning() && self.completed.are_fetched()
    }

    /// Whether builds are expected that have not been started.
    pub fn expects_starts(&self) -> bool {
        let Counts {
            expected,
            running,
            built,
            failed,
            not_built,
            ..
        } = self.counts;
        expected > running + built + failed + not_built
    }

    /// The moment before the next end.
    #[inline]
    pub fn moment(&self) -> Moment {
        self.ended.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::NewOutput;

    #[test]
    fn only_what_was_fetched_waits_and_only_for_what_is_looked_at() {
        let none: [NewOutput; 0] = [];
        let goal = |index| Entity::from_raw_u32(index).unwrap();
        let mut scheduler = Scheduler::new(crate::engine::default_options());
        scheduler.completed.push(goal(0), None, none.clone());
        assert!(!scheduler.gathers_fetched());
        scheduler.scan();
        assert!(scheduler.gathers_fetched());
        scheduler
            .completed
            .push(goal(1), Some(DrvId::from_index(0)), none.clone());
        assert!(!scheduler.gathers_fetched());
        let completed = scheduler.take_completed();
        scheduler.keep_completed(completed);
        scheduler.completed.push(goal(0), None, none.clone());
        assert!(scheduler.gathers_fetched());
        scheduler.scanned();
        assert!(!scheduler.gathers_fetched());
    }
}
