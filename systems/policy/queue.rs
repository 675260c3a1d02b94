//! The queue of goals that only lack a slot, in the order of their ranks. Adding one, taking the best and changing a
//! rank are logarithmic.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bevy_ecs::prelude::{Entity, Resource};
use windrow_components::ids::DrvId;

use crate::world::ReadyGoal;

/// Goals that only lack a slot, best first.
#[derive(Debug, Default, Resource)]
pub struct ReadyQueue {
    /// Rank, derivation and entity of each as one number, so that comparing two is one comparison.
    heap: BinaryHeap<Reverse<u128>>,
    /// If ranks may change, the rank under which each derivation stands here, or `ABSENT`. What stands in the heap
    /// under another one is void.
    ranks: Option<Vec<u64>>,
    /// How many of the heap are void.
    void: usize,
}

const ABSENT: u64 = u64::MAX;

fn key(ReadyGoal { goal, drv }: ReadyGoal, rank: u64) -> u128 {
    u128::from(rank) << 64 | (drv.index() as u128) << 32 | u128::from(goal.index_u32())
}

fn rank_of(key: u128) -> u64 {
    (key >> 64) as u64
}

fn drv_of(key: u128) -> DrvId {
    DrvId::from_index((key >> 32) as u32 as usize)
}

impl ReadyQueue {
    /// Adds a goal with its rank: the smaller comes first, and of equals the derivation that was met first.
    pub fn push(&mut self, ready: ReadyGoal, rank: u64) {
        if let Some(ranks) = &mut self.ranks {
            let index = ready.drv.index();
            if ranks.len() <= index {
                ranks.resize(index + 1, ABSENT);
            }
            ranks[index] = rank;
        }
        self.heap.push(Reverse(key(ready, rank)));
    }

    /// Takes the best goal.
    pub fn pop(&mut self) -> Option<ReadyGoal> {
        self.pop_ranked().map(|(ready, _)| ready)
    }

    /// Takes the best goal with its rank.
    pub fn pop_ranked(&mut self) -> Option<(ReadyGoal, u64)> {
        loop {
            let Reverse(key) = self.heap.pop()?;
            let drv = drv_of(key);
            if let Some(ranks) = &mut self.ranks {
                let rank = &mut ranks[drv.index()];
                if *rank != rank_of(key) {
                    self.void -= 1;
                    continue;
                }
                *rank = ABSENT;
            }
            // Goals are never despawned, so that their index is all there is to know of an entity.
            let goal = Entity::from_raw_u32(key as u32)?;
            return Some((ReadyGoal { goal, drv }, rank_of(key)));
        }
    }

    /// Whether no goal is ready.
    pub fn is_empty(&self) -> bool {
        self.heap.len() == self.void
    }

    /// From now on ranks of goals that stand here may be changed. They must be below `u64::MAX` then.
    pub fn let_ranks_change(&mut self) {
        debug_assert!(self.heap.is_empty());
        self.ranks = Some(Vec::new());
    }

    /// Gives a goal a smaller rank, if it stands here.
    ///
    /// # Panics
    /// Without [`ReadyQueue::let_ranks_change`].
    pub fn improve(&mut self, ready: ReadyGoal, rank: u64) {
        let ranks = self.ranks.as_mut().expect("a queue whose ranks may change");
        if let Some(known) = ranks.get_mut(ready.drv.index())
            && *known != ABSENT
            && rank < *known
        {
            *known = rank;
            self.void += 1;
            self.heap.push(Reverse(key(ready, rank)));
        }
    }

    /// Ranks everything anew, in time proportional to what stands here.
    pub fn rank_again(&mut self, mut rank: impl FnMut(DrvId) -> u64) {
        let mut keys = std::mem::take(&mut self.heap).into_vec();
        if let Some(ranks) = &mut self.ranks {
            // A goal that came back may stand here twice under one rank, of which one is void.
            keys.retain(|&Reverse(key)| {
                let rank = &mut ranks[drv_of(key).index()];
                *rank == rank_of(key) && std::mem::replace(rank, ABSENT) != ABSENT
            });
            self.void = 0;
        }
        for Reverse(key) in &mut keys {
            let drv = drv_of(*key);
            let new = rank(drv);
            *key = u128::from(new) << 64 | u128::from(*key as u64);
            if let Some(ranks) = &mut self.ranks {
                ranks[drv.index()] = new;
            }
        }
        self.heap = keys.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ready(index: u32) -> ReadyGoal {
        ReadyGoal {
            goal: Entity::from_raw_u32(index).unwrap(),
            drv: DrvId::from_index(index as usize),
        }
    }

    fn drain(queue: &mut ReadyQueue) -> Vec<u32> {
        let goals = std::iter::from_fn(|| queue.pop());
        goals.map(|ready| ready.goal.index_u32()).collect()
    }

    #[test]
    fn best_rank_first_then_first_met() {
        let mut queue = ReadyQueue::default();
        for (index, rank) in [(3, 5), (2, 3), (1, 5), (0, 3)] {
            queue.push(ready(index), rank);
        }
        queue.rank_again(|drv| {
            if drv.index() == 3 {
                4
            } else {
                3 + drv.index() as u64 % 2 * 2
            }
        });
        assert_eq!(drain(&mut queue), [0, 2, 3, 1]);
        assert!(queue.is_empty());
    }

    proptest! {
        /// Against a list that is sorted whenever the best is taken.
        #[test]
        fn changed_ranks_count(steps in proptest::collection::vec((0..4_u8, 0..12_u32, 0..9_u64), 0..80)) {
            let mut queue = ReadyQueue::default();
            queue.let_ranks_change();
            let mut plain: Vec<(u64, u32)> = Vec::new();
            for (step, index, rank) in steps {
                let place = plain.iter().position(|&(_, known)| known == index);
                match step {
                    0 if place.is_none() => {
                        queue.push(ready(index), rank);
                        plain.push((rank, index));
                    }
                    1 => {
                        queue.improve(ready(index), rank);
                        if let Some(place) = place {
                            plain[place].0 = plain[place].0.min(rank);
                        }
                    }
                    2 => {
                        plain.sort_unstable();
                        let best = (!plain.is_empty()).then(|| plain.remove(0).1);
                        prop_assert_eq!(queue.pop().map(|ready| ready.goal.index_u32()), best);
                    }
                    3 => {
                        let new = |index: u32| u64::from(index) * rank % 7;
                        queue.rank_again(|drv| new(drv.index() as u32));
                        plain.iter_mut().for_each(|(rank, index)| *rank = new(*index));
                    }
                    _ => {}
                }
                prop_assert_eq!(queue.is_empty(), plain.is_empty());
            }
            plain.sort_unstable();
            prop_assert_eq!(drain(&mut queue), plain.into_iter().map(|(_, index)| index).collect::<Vec<_>>());
        }
    }
}
