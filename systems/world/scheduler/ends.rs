//! How goals end: their outputs are complete, they fail, or they end otherwise. Those that ended
//! may be taken up again. What the run counts of them, and the end of the run itself.

use std::time::Duration;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{Outcome, Stage};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use super::{Completed, End, Goal, Scheduler};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::report::Counts;
use crate::world::NewOutput;

impl Scheduler {
    /// A goal's outputs are complete, and to be registered.
    #[inline]
    pub fn complete(
        &mut self,
        goal: Entity,
        drv: Option<DrvId>,
        outputs: impl IntoIterator<Item = impl Into<NewOutput>>,
    ) {
        debug_assert!(self.stage(goal) == Stage::Scanning);
        self.completed.push(goal, drv, outputs);
    }

    /// Takes all that is complete; its capacity comes back by [`Scheduler::keep_completed`].
    pub fn take_completed(&mut self) -> Completed {
        std::mem::take(&mut self.completed)
    }

    /// Lets what is complete wait until then for more to be registered with; tells until when it
    /// waits.
    pub fn hold_completed(&mut self, until: Duration) -> Duration {
        *self.completed.held_until.get_or_insert(until)
    }

    /// What is complete is not to be repaired any more; the paths.
    pub fn mark_completed_good(&mut self) -> Vec<PathId> {
        let outputs = self.completed.outputs().iter();
        let paths: Vec<PathId> = outputs.map(|output| output.path).collect();
        for path in &paths {
            self.repairs.bad.remove(path);
        }
        paths
    }

    /// Gives the list back.
    pub fn keep_completed(&mut self, mut completed: Completed) {
        completed.clear();
        self.completed = completed;
    }

    /// A goal has failed, and ends with this tick. What it holds, and its slot, it has until then.
    /// Of one that was cancelled it is only the end.
    pub fn fail(&mut self, goal: Entity, mut failure: Failure) {
        debug_assert!(self.stage(goal).outcome().is_none());
        if self.is_cancelled(goal) {
            failure.kind = FailureKind::Cancelled;
        }
        self.failures.push((goal, failure));
    }

    /// Takes all failures.
    pub fn take_failures(&mut self) -> Vec<(Entity, Failure)> {
        std::mem::take(&mut self.failures)
    }

    /// A goal has ended (Nix 1.8: `Goal::amDone`): it gives up its slot and the paths it holds, and
    /// its waiters are told when the tick ends. Tells whether it held its locks, which are then to
    /// be given up in the store.
    ///
    /// # Panics
    /// If it had ended before.
    #[inline]
    pub fn end(&mut self, graph: &BuildGraph, goal: Goal, how: Outcome) -> bool {
        let from = self.set(goal.entity, Stage::Done(how));
        assert!(from.outcome().is_none());
        self.ended.push(goal.entity, goal.drv(), how);
        self.cancelled.forget(goal.entity);
        self.note_end(goal.entity, how);
        if let Some(drv) = goal.drv() {
            self.forget_work(drv);
        }
        let is_there = how == Outcome::Success && !from.is_made();
        self.counts.there += u32::from(is_there);
        let may_be_expected = is_there || how == Outcome::Cancelled;
        if may_be_expected && goal.drv().is_some() && from.is_expected() {
            self.expect_one_less();
        }
        if from.holds_paths() {
            self.release_of(graph, goal);
        }
        from.holds_paths()
    }

    /// Takes up a goal again that ended well for fewer outputs; Nix 1.8 would make a new one.
    ///
    /// # Panics
    /// If it did not.
    pub fn reopen(&mut self, goal: Entity, drv: DrvId) {
        let from = self.set(goal, Stage::New);
        assert!(from == Stage::Done(Outcome::Success));
        let now = self.ended.tick();
        self.index.reopen(drv, now);
        self.awaken_derivation(drv);
    }

    /// Takes up a path's goal again that lacked references which may be there now; Nix 1.8 would
    /// make a new one.
    ///
    /// # Panics
    /// If it did not.
    pub fn reopen_path(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::New);
        assert!(from == Stage::Done(Outcome::IncompleteClosure));
        self.awaken(goal);
    }

    /// Takes the goals that have ended since waiters were last told.
    pub fn take_ended(&mut self) -> Vec<End> {
        self.ended.take()
    }

    /// Gives the list back.
    pub fn keep_ended(&mut self, ends: Vec<End>) {
        self.ended.keep(ends);
    }

    /// Counts derivations that must be built, as far as is known.
    pub fn expect_builds(&mut self, drvs: impl ExactSizeIterator<Item = DrvId>) {
        self.counts.expected += u32::try_from(drvs.len()).unwrap_or(u32::MAX);
        self.note_work(drvs);
    }

    /// One of them may be had from a substituter after all; it is counted again if it must be
    /// built.
    pub fn expect_one_less(&mut self) {
        self.counts.expected -= 1;
    }

    /// Counts what has become valid: a build, or a fetched path.
    #[inline]
    pub fn count_success(&mut self, built: bool) {
        self.counts.built += u32::from(built);
        self.counts.fetched += u32::from(!built);
    }

    /// The counts, which are told now.
    pub fn take_progress(&mut self) -> Counts {
        self.told = Some(self.counts);
        self.counts
    }

    /// Counts a derivation that failed, apart from those that could not be built for its failure.
    pub fn count_failure(&mut self, kind: FailureKind) {
        match kind {
            FailureKind::Dependency => self.counts.not_built += 1,
            _ => self.counts.failed += 1,
        }
    }

    /// Ends the run, whatever its goals.
    pub fn abort(&mut self, error: Error) {
        self.run.fatal = Some(error);
    }
}
