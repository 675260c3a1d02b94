//! Which of the ready goals comes first. A policy ranks goals; the queue keeps them in that order.

mod fifo;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bevy_ecs::prelude::{Entity, Resource};

pub use fifo::fifo;

/// A goal with its rank: the smaller comes first, and of equals the one that was ready first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    rank: u64,
    turn: u64,
    goal: Entity,
}

/// Goals that only lack a slot, best first. Taking the best is logarithmic.
#[derive(Debug, Default, Resource)]
pub struct ReadyQueue {
    heap: BinaryHeap<Reverse<Ranked>>,
    turns: u64,
}

impl ReadyQueue {
    /// Adds a goal with its rank.
    pub fn push(&mut self, goal: Entity, rank: u64) {
        self.turns += 1;
        self.heap.push(Reverse(Ranked {
            rank,
            turn: self.turns,
            goal,
        }));
    }

    /// Takes the best goal.
    pub fn pop(&mut self) -> Option<Entity> {
        self.heap.pop().map(|Reverse(ranked)| ranked.goal)
    }

    /// Whether no goal is ready.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_rank_first_then_first_come() {
        let mut queue = ReadyQueue::default();
        let goal = |index| Entity::from_raw_u32(index).unwrap();
        for (index, rank) in [(0, 5), (1, 3), (2, 5), (3, 3)] {
            queue.push(goal(index), rank);
        }
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop())
            .map(|g| g.index_u32())
            .collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert!(queue.is_empty());
    }
}
