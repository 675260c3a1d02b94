//! Goals whose children are to be killed, for nobody wants them any more.

use bevy_ecs::prelude::Entity;
use hashbrown::HashSet;

use super::Scheduler;

/// Goals that were cancelled and have not ended.
#[derive(Debug, Default)]
pub(super) struct Cancelled {
    goals: HashSet<Entity>,
    /// Those of them whose children have not been killed yet.
    new: Vec<Entity>,
}

impl Cancelled {
    /// A goal has ended.
    #[inline]
    pub(super) fn forget(&mut self, goal: Entity) {
        if !self.goals.is_empty() {
            self.goals.remove(&goal);
        }
    }
}

impl Scheduler {
    /// Cancels a goal that has a child, or is about to have one: from [`Stage::Held`] to
    /// [`Stage::Scanning`]. The child is killed in this or the next tick; a process that another
    /// thread is making is killed when it has been made. When the child has been waited for, and
    /// its log is closed and its build directory given up, the goal ends as
    /// [`Outcome::Cancelled`]: slot, paths and locks are free then, and its waiters are told. It is
    /// reported as cancelled, not as failed; it counts for no exit status and is not remembered as
    /// a failure. What had ended well before it could be killed ends well. A second call does
    /// nothing, nor does one for a goal that has ended.
    ///
    /// What comes before [`Stage::Held`] holds nothing and has no child: it needs only be taken out
    /// of the lists it stands in, and ended. A simulated child runs to its end.
    ///
    /// Nix 1.8: `Worker::removeGoal`.
    ///
    /// [`Stage::Held`]: windrow_components::goal::Stage::Held
    /// [`Stage::Scanning`]: windrow_components::goal::Stage::Scanning
    /// [`Outcome::Cancelled`]: windrow_components::goal::Outcome::Cancelled
    pub fn cancel(&mut self, goal: Entity) {
        if self.stage(goal).holds_paths() && self.cancelled.goals.insert(goal) {
            self.cancelled.new.push(goal);
        }
    }

    /// Whether a goal was cancelled and has not ended.
    #[inline]
    pub fn is_cancelled(&self, goal: Entity) -> bool {
        !self.cancelled.goals.is_empty() && self.cancelled.goals.contains(&goal)
    }

    /// Whether children of cancelled goals are still to be killed.
    pub fn has_cancelled(&self) -> bool {
        !self.cancelled.new.is_empty()
    }

    /// Takes the goals that were cancelled and whose children are to be killed now.
    pub fn take_cancelled(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.cancelled.new)
    }
}
