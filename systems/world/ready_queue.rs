//! The queue of goals that only lack a slot, in the order of their ranks. Adding one, taking the
//! best and changing a rank are logarithmic; where the order of all derivations is known
//! beforehand, the base of that logarithm is 64.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bevy_ecs::prelude::Resource;
use windrow_components::ids::DrvId;

use super::first_set::FirstSet;

/// Goals that only lack a slot, best first.
///
/// Nix 1.8: `Worker::waitForBuildSlot`.
#[derive(Debug, Default, Resource)]
pub struct ReadyQueue {
    /// If the order was worked out beforehand, those that are in it. They come before all in the
    /// heap.
    planned: Option<Planned>,
    /// Rank and derivation of each as one number, so that comparing two is one comparison.
    heap: BinaryHeap<Reverse<u128>>,
    /// If ranks may change, the rank under which each derivation stands here, or `ABSENT`. What
    /// stands in the heap under another one is void.
    ranks: Option<Vec<u64>>,
    /// How many of the heap are void.
    void: usize,
}

const ABSENT: u64 = u64::MAX;

fn key(drv: DrvId, rank: u64) -> u128 {
    u128::from(rank) << 32 | drv.index() as u128
}

/// Goals of derivations whose order is known.
#[derive(Debug)]
struct Planned {
    /// The place of each derivation in the order.
    places: Vec<u32>,
    /// The derivation at each place.
    order: Vec<DrvId>,
    /// The places of those that are ready.
    ready: FirstSet,
}

impl Planned {
    fn new(order: Vec<DrvId>) -> Self {
        let mut places = vec![0; order.len()];
        for (place, &drv) in (0..).zip(&order) {
            places[drv.index()] = place;
        }
        Self {
            places,
            ready: FirstSet::new(order.len()),
            order,
        }
    }

    /// Adds a goal, if its place is known.
    #[inline]
    fn push(&mut self, drv: DrvId) -> bool {
        let Some(&place) = self.places.get(drv.index()) else {
            return false;
        };
        self.ready.insert(place as usize);
        true
    }

    #[inline]
    fn pop(&mut self) -> Option<(DrvId, u64)> {
        let place = self.ready.pop()?;
        Some((self.order[place], place as u64))
    }
}

fn rank_of(key: u128) -> u64 {
    (key >> 32) as u64
}

fn drv_of(key: u128) -> DrvId {
    DrvId::from_index(key as u32 as usize)
}

impl ReadyQueue {
    /// Adds a goal with its rank: the smaller comes first, and of equals the derivation that was
    /// met first. In an order that was given to [`ReadyQueue::follow`] it has its place already,
    /// which is its rank then.
    #[inline]
    pub fn push(&mut self, drv: DrvId, rank: u64) {
        if let Some(planned) = &mut self.planned
            && planned.push(drv)
        {
            return;
        }
        if let Some(ranks) = &mut self.ranks {
            let index = drv.index();
            if ranks.len() <= index {
                ranks.resize(index + 1, ABSENT);
            }
            ranks[index] = rank;
        }
        self.heap.push(Reverse(key(drv, rank)));
    }

    /// Takes the best goal.
    #[inline]
    pub fn pop(&mut self) -> Option<DrvId> {
        self.pop_ranked().map(|(drv, _)| drv)
    }

    /// Takes the best goal with its rank.
    #[inline]
    pub fn pop_ranked(&mut self) -> Option<(DrvId, u64)> {
        if let Some(planned) = &mut self.planned
            && let Some(next) = planned.pop()
        {
            return Some(next);
        }
        self.pop_from_heap()
    }

    fn pop_from_heap(&mut self) -> Option<(DrvId, u64)> {
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
            return Some((drv, rank_of(key)));
        }
    }

    /// Whether no goal is ready.
    pub fn is_empty(&self) -> bool {
        let planned = self.planned.as_ref();
        self.heap.len() == self.void && planned.is_none_or(|planned| planned.ready.is_empty())
    }

    /// From now on goals come in that order of all derivations known so far, which must not have
    /// one twice; those of derivations that come to be known later come after them.
    ///
    /// # Panics
    /// In debug builds, in a queue whose ranks may change one by one.
    pub fn follow(&mut self, order: Vec<DrvId>) {
        debug_assert!(self.ranks.is_none());
        let mut before = std::mem::take(self);
        self.planned = Some(Planned::new(order));
        while let Some((drv, rank)) = before.pop_ranked() {
            self.push(drv, rank);
        }
    }

    /// From now on ranks of goals that stand here may be changed. They must be below `u64::MAX`
    /// then.
    pub fn let_ranks_change(&mut self) {
        debug_assert!(self.heap.is_empty());
        self.ranks = Some(Vec::new());
    }

    /// Gives a goal a smaller rank, if it stands here.
    ///
    /// # Panics
    /// Without [`ReadyQueue::let_ranks_change`].
    pub fn improve(&mut self, drv: DrvId, rank: u64) {
        let ranks = self.ranks.as_mut().expect("a queue whose ranks may change");
        if let Some(known) = ranks.get_mut(drv.index())
            && *known != ABSENT
            && rank < *known
        {
            *known = rank;
            self.void += 1;
            self.heap.push(Reverse(key(drv, rank)));
        }
    }

    /// Ranks everything anew, in time proportional to what stands here, but what has a place in a
    /// known order.
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
            *key = self::key(drv, new);
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

    fn drv(index: u32) -> DrvId {
        DrvId::from_index(index as usize)
    }

    fn drain(queue: &mut ReadyQueue) -> Vec<u32> {
        let drvs = std::iter::from_fn(|| queue.pop());
        drvs.map(|drv| drv.index() as u32).collect()
    }

    #[test]
    fn best_rank_first_then_first_met() {
        let mut queue = ReadyQueue::default();
        for (index, rank) in [(3, 5), (2, 3), (1, 5), (0, 3)] {
            queue.push(drv(index), rank);
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

    #[test]
    fn a_known_order_comes_before_ranks_and_can_be_exchanged() {
        let mut queue = ReadyQueue::default();
        let order = |indices: &[usize]| indices.iter().map(|&at| DrvId::from_index(at)).collect();
        for index in [4, 0, 3] {
            queue.push(drv(index), 9 - u64::from(index));
        }
        queue.follow(order(&[2, 1, 0, 3]));
        for index in [1, 5] {
            queue.push(drv(index), 6);
        }
        assert_eq!(queue.pop_ranked(), Some((drv(1), 1)));
        queue.follow(order(&[3, 4, 1, 0, 2]));
        assert!(!queue.is_empty());
        assert_eq!(drain(&mut queue), [3, 4, 0, 5]);
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
                        queue.push(drv(index), rank);
                        plain.push((rank, index));
                    }
                    1 => {
                        queue.improve(drv(index), rank);
                        if let Some(place) = place {
                            plain[place].0 = plain[place].0.min(rank);
                        }
                    }
                    2 => {
                        plain.sort_unstable();
                        let best = (!plain.is_empty()).then(|| plain.remove(0).1);
                        prop_assert_eq!(queue.pop().map(|drv| drv.index() as u32), best);
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
