//! How goals come to hold paths and their locks, wait for those that others hold, and give them up.

use std::time::Duration;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{Stage, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use windrow_sys::waiting::LONG;

use super::{Goal, Parked, ReadyGoal, Scheduler, Waiting};

/// How long a goal waits before it tries again.
#[derive(Debug, Clone, Copy)]
pub enum Backoff {
    /// As long as this, whenever it waits.
    Constant(Duration),
    /// As long as this, then every time twice as long, up to the poll interval.
    Doubling(Duration),
}

/// What there is to say of a goal that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitNews {
    /// It waits for the first time.
    First,
    /// It has waited for so long by now that its user wants to know for whom.
    Long,
    /// Nothing new.
    None,
}

/// How a goal waits for others' locks.
#[derive(Debug, Clone, Copy)]
pub(super) struct GoalWait {
    since: Duration,
    /// How long it waited last; every time twice as long, up to the poll interval.
    last: Duration,
    /// Whether it was told that this is long.
    is_long: bool,
}

impl Scheduler {
    /// Holds paths for a goal, all or none; tells whether none was held before.
    #[inline]
    pub fn hold(&mut self, paths: &[PathId]) -> bool {
        let held = &mut self.held;
        let Some(busy) = paths.iter().position(|&path| !held.insert(path)) else {
            return true;
        };
        self.release(&paths[..busy]);
        false
    }

    /// Gives up paths for which no lock could be had.
    pub fn release(&mut self, paths: &[PathId]) {
        for &path in paths {
            self.held.remove(path);
        }
    }

    /// A goal has the locks of its paths, which it holds.
    ///
    /// # Panics
    /// If it was not ready.
    #[inline]
    pub fn lock(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::Held);
        assert!(from == Stage::Ready);
        if !self.waits.is_empty() {
            self.waits.remove(&goal);
        }
    }

    /// Lets a goal wait until any goal of this run ends, for one of them works on the same path
    /// (Nix 1.8: `Worker::waitForAnyGoal`).
    ///
    /// # Panics
    /// If it was not ready.
    pub fn wait_for_any_goal(&mut self, waiting: Waiting) {
        let from = self.set(waiting.goal(), Stage::Parked);
        assert!(from == Stage::Ready);
        self.any_goal.push(waiting);
    }

    /// Lets a goal try again after a while (Nix 1.8: `Worker::waitForAWhile`). What it held is
    /// given up. Tells how its wait is to be told.
    ///
    /// # Panics
    /// If it was neither ready nor about to start.
    pub fn wait_a_while(
        &mut self,
        graph: &BuildGraph,
        waiting: Waiting,
        wait: Backoff,
    ) -> WaitNews {
        let goal = waiting.goal();
        let from = self.set(goal, Stage::Parked);
        let may_wait = [Stage::Ready, Stage::Starting, Stage::StartingFetch];
        assert!(may_wait.contains(&from));
        if from.holds_paths() {
            self.release_of(graph, waiting.into());
            self.cancelled.forget(goal);
        }
        if self.is_unwanted(goal) {
            self.drop_ready(waiting.into());
            return WaitNews::None;
        }
        let limit = self.options.lock_poll_interval;
        let before = self.waits.get(&goal);
        let wait = match (wait, before) {
            (Backoff::Doubling(_), Some(before)) => (before.last * 2).min(limit),
            (Backoff::Doubling(first) | Backoff::Constant(first), _) => first,
        };
        let now = self.now;
        let retry_at = now + wait;
        self.parked.push(Parked { waiting, retry_at });
        let (since, was_long) =
            before.map_or((now, false), |before| (before.since, before.is_long));
        let is_long = was_long || now.saturating_sub(since) >= LONG;
        let news = match before {
            None => WaitNews::First,
            Some(_) if is_long && !was_long => WaitNews::Long,
            Some(_) => WaitNews::None,
        };
        let last = wait;
        self.waits.insert(
            goal,
            GoalWait {
                since,
                last,
                is_long,
            },
        );
        news
    }

    /// Makes goals ready again whose locks are due for another try.
    pub fn retry_parked(&mut self) {
        let now = self.now;
        let due = self.parked.extract_if(.., |it| it.retry_at <= now);
        for due in due.collect::<Vec<_>>() {
            self.make_ready_again(due.waiting);
        }
    }

    /// Makes goals ready again that wait for any goal to end.
    pub fn retry_any_goal(&mut self) {
        self.bound.widen();
        for due in std::mem::take(&mut self.any_goal) {
            self.make_ready_again(due);
        }
    }

    fn make_ready_again(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Build(ready) => self.make_ready(ready.goal, ready.drv),
            Waiting::Fetch(fetch) => self.make_fetch_ready(fetch),
        }
    }

    /// A build that no hook took holds nothing while it waits.
    ///
    /// # Panics
    /// If it did not hold its locks.
    pub fn give_back(&mut self, graph: &BuildGraph, ready: ReadyGoal) {
        let from = self.set(ready.goal, Stage::Ready);
        assert!(from == Stage::Held);
        self.cancelled.forget(ready.goal);
        self.release_of(graph, ready.into());
    }

    #[inline]
    pub(super) fn release_of(&mut self, graph: &BuildGraph, goal: Goal) {
        match goal.target {
            Target::Derivation(drv) => {
                for row in graph.outputs(drv) {
                    self.held.remove(row.path);
                }
            }
            Target::Path(path) | Target::Repair(path) => {
                self.held.remove(path);
            }
        }
    }
}
