//! A set of goals, as a bit for each.

use bevy_ecs::prelude::Entity;
use windrow_components::bit_set::BitSet;

/// A set of goals, by the numbers of their entities; goals are never despawned.
#[derive(Debug, Default)]
pub(super) struct GoalSet {
    numbers: BitSet,
    len: usize,
}

impl GoalSet {
    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a goal is one of them. That costs next to nothing if there is none.
    #[inline]
    pub(super) fn contains(&self, goal: Entity) -> bool {
        self.len > 0 && self.numbers.contains(goal.index_u32() as usize)
    }

    /// Adds a goal; tells whether it was not there.
    pub(super) fn insert(&mut self, goal: Entity) -> bool {
        let new = self.numbers.insert(goal.index_u32() as usize);
        self.len += usize::from(new);
        new
    }

    /// Takes out a goal; tells whether it was there.
    #[inline]
    pub(super) fn remove(&mut self, goal: Entity) -> bool {
        let there = self.len > 0 && self.numbers.remove(goal.index_u32() as usize);
        self.len -= usize::from(there);
        there
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entity> {
        let goal = |number| Entity::from_raw_u32(number as u32).expect("the number of an entity");
        self.numbers.iter().map(goal)
    }
}
