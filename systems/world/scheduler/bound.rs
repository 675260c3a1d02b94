//! How many goals may hold locks and children at a time, for each takes descriptors and processes
//! whose number is limited (`ulimit -n`, `ulimit -u`). It shrinks where the system gives no
//! more, and grows again as goals end.

use std::time::Duration;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::Stage;
use windrow_components::graph::BuildGraph;

use super::{Backoff, Scheduler, Waiting};

/// How long a goal waits for what threads are about to give back.
const MOMENT: Duration = Duration::from_millis(20);

/// How many times in a row that may be in vain: half a second, for not every thread is known to the
/// engine. What records history syncs a file meanwhile, on a disk that others may keep busy.
const IN_VAIN_MAX: u32 = 25;

/// The bound, and how many goals count against it.
#[derive(Debug)]
pub(super) struct Bound {
    /// What the host can bear, as far as is known beforehand.
    most: u32,
    /// What it is at the moment.
    now: u32,
    /// How many goals hold their paths.
    pub(super) holding: u32,
    told: bool,
    /// How many times in a row goals could not be started though nothing else was under way.
    in_vain: u32,
}

impl Default for Bound {
    fn default() -> Self {
        Self {
            most: u32::MAX,
            now: u32::MAX,
            holding: 0,
            told: false,
            in_vain: 0,
        }
    }
}

impl Bound {
    /// How many more goals may hold their paths.
    #[inline]
    pub(super) fn left(&self) -> u32 {
        self.now.saturating_sub(self.holding)
    }

    /// A goal of this run could be started.
    #[inline]
    pub(super) fn note_start(&mut self) {
        self.in_vain = 0;
    }

    /// A goal of this run has ended.
    pub(super) fn widen(&mut self) {
        self.now = self.now.saturating_add(1).min(self.most);
    }
}

/// Whether a goal can wait for a while before it is started.
fn is_startable(stage: Stage) -> bool {
    matches!(stage, Stage::Ready | Stage::Starting | Stage::StartingFetch)
}

impl Scheduler {
    /// Has no more goals than that hold locks and children at a time; one may always.
    pub fn bound_holding(&mut self, most: u32) {
        self.bound.most = most.max(1);
        self.bound.now = self.bound.most;
    }

    /// Whether one more goal may hold its paths.
    pub fn may_hold_more(&self) -> bool {
        self.bound.left() > 0
    }

    /// Lets a goal that could not be started for want of descriptors or processes wait until
    /// another goal of this run ends, and until then has no more goals started than run now. What
    /// it held is given up. Tells whether it waits: where nothing else is under way it would wait
    /// in vain.
    pub fn wait_for_means(&mut self, graph: &BuildGraph, waiting: Waiting) -> bool {
        let goal = waiting.goal();
        let from = self.stage(goal);
        let others = self.bound.holding - u32::from(from.holds_paths());
        if others == 0 || !is_startable(from) {
            return false;
        }
        self.set(goal, Stage::Parked);
        if from.holds_paths() {
            self.release_of(graph, waiting.into());
        }
        self.bound.now = others;
        if self.is_unwanted(goal) {
            self.drop_ready(waiting.into());
        } else {
            self.any_goal.push(waiting);
        }
        true
    }

    /// The same where nothing else is under way: the goal tries again in a moment as long as
    /// threads are `busy`, which will give back what they have open, and then a few times more.
    pub fn try_once_more(&mut self, graph: &BuildGraph, waiting: Waiting, busy: bool) -> bool {
        let goal = waiting.goal();
        self.bound.in_vain += u32::from(!busy);
        if !is_startable(self.stage(goal)) || self.bound.in_vain > IN_VAIN_MAX {
            return false;
        }
        self.bound.now = 1;
        self.wait_a_while(graph, waiting, Backoff::Constant(MOMENT));
        true
    }

    /// Whether a goal that can't be started for want of descriptors or processes may try again.
    pub fn may_try_again(&self, goal: Entity) -> bool {
        self.has_others(goal) || self.bound.in_vain < IN_VAIN_MAX
    }

    /// Whether other goals than this one, which holds its own paths, hold any.
    pub fn has_others(&self, goal: Entity) -> bool {
        self.bound.holding > u32::from(self.stage(goal).holds_paths())
    }

    /// Whether nobody has been told that goals wait for want of descriptors or processes. Asked
    /// once.
    pub fn tells_of_means(&mut self) -> bool {
        !std::mem::replace(&mut self.bound.told, true)
    }

    /// Whether a goal that holds its locks can have a slot.
    pub fn has_slot_for(&self, goal: Entity) -> bool {
        debug_assert!(self.stage(goal) == Stage::Held);
        self.options.max_jobs > self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_grows_back_to_what_the_host_can_bear() {
        let mut bound = Bound {
            most: 3,
            now: 1,
            holding: 1,
            told: false,
            in_vain: 0,
        };
        assert_eq!(bound.left(), 0);
        bound.widen();
        assert_eq!(bound.left(), 1);
        (0..5).for_each(|_| bound.widen());
        assert_eq!(bound.left(), 2);
        bound.holding = 7;
        assert_eq!(bound.left(), 0);
    }
}
