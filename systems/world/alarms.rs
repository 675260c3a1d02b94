//! When children are to be looked at although nothing happens to them: a heap, so that no system
//! looks at all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bevy_ecs::prelude::Entity;

/// The next instant for each child, in time since the run began. A child may stand here more than
/// once, and after its end: whoever takes an alarm looks what it is about.
#[derive(Debug, Default)]
pub struct Alarms {
    heap: BinaryHeap<Reverse<(Duration, Entity)>>,
}

impl Alarms {
    /// Has a child looked at then.
    pub fn set(&mut self, at: Duration, goal: Entity) {
        self.heap.push(Reverse((at, goal)));
    }

    /// The next instant.
    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A child that is to be looked at by `now`.
    pub fn pop_due(&mut self, now: Duration) -> Option<Entity> {
        let Reverse((at, goal)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(goal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_when_they_are_due_the_earliest_first() {
        let second = Duration::from_secs;
        let goal = |index| Entity::from_raw_u32(index).unwrap();
        let mut alarms = Alarms::default();
        for (at, index) in [(3, 1), (1, 2), (2, 1)] {
            alarms.set(second(at), goal(index));
        }
        assert_eq!(alarms.next(), Some(second(1)));
        assert_eq!(alarms.pop_due(Duration::ZERO), None);
        let due = std::iter::from_fn(|| alarms.pop_due(second(2)));
        assert_eq!(due.collect::<Vec<_>>(), [goal(2), goal(1)]);
        assert_eq!(alarms.next(), Some(second(3)));
    }
}
