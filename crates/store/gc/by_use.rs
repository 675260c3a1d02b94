//! Which of the dead go when the last use decides, and in which order: the least recently used
//! first, and nothing before what refers to it. Looks at the graph alone; deletes nothing.

use std::cmp::Reverse;

use crate::db::{Keep, StoreGraph};
use crate::error::Result;

/// What of the dead is to go, by last use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByUse {
    /// Only what was last used before that time, in seconds since 1970.
    pub used_before: Option<i64>,
    /// No more than it takes until the NARs of all valid paths have this many bytes together.
    pub max_size: Option<u64>,
}

/// The dead in the order in which they go, and when each was last used.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Those that may go, by place.
    pub(super) places: Vec<u32>,
    /// Those that were used too recently.
    pub(super) recent: Vec<u32>,
    /// By place, for the dead, when they were last used: they themselves, or anything that needs
    /// them.
    used: Vec<i64>,
}

impl Queue {
    /// When a dead path was last used, in seconds since 1970.
    pub(super) fn last_use(&self, at: u32) -> i64 {
        self.used[at as usize]
    }

    /// Puts `dead` places (ascending) in order, as they were used by themselves (`own`, by place).
    ///
    /// What needs a path has used it: what refers to it, and what keeps it by a setting. So nothing
    /// is older than what needs it, and all that was last used before some time can go at once.
    pub(super) fn new(
        (whole, keep): (&StoreGraph, Keep),
        dead: &[u32],
        own: &[i64],
        used_before: Option<i64>,
    ) -> Result<Self> {
        let used = spread(whole, keep, dead, own);
        let mut places = whole.graph.sorted_among(dead)?;
        places.reverse();
        // Stable: of what was used at the same time, what refers to something comes before it.
        places.sort_by_key(|&at| used[at as usize]);
        let old = |&at: &u32| used_before.is_none_or(|time| used[at as usize] < time);
        let recent = places.split_off(places.partition_point(old));
        Ok(Self {
            places,
            recent,
            used,
        })
    }
}

/// By place, for the dead: the last use of each and of all that needs it.
fn spread(whole: &StoreGraph, keep: Keep, dead: &[u32], own: &[i64]) -> Vec<i64> {
    let mut waits = vec![false; whole.graph.len()];
    dead.iter().for_each(|&at| waits[at as usize] = true);
    let mut used = vec![i64::MIN; whole.graph.len()];
    let mut latest_first = dead.to_vec();
    latest_first.sort_unstable_by_key(|&at| Reverse(own[at as usize]));
    let mut left = Vec::new();
    for start in latest_first {
        left.push(start);
        while let Some(at) = left.pop() {
            // Whoever came here before was used later.
            if std::mem::replace(&mut waits[at as usize], false) {
                used[at as usize] = own[start as usize];
                left.extend(whole.graph.references(at));
                left.extend(whole.kept_by(at, keep));
            }
        }
    }
    used
}

/// How many of the first `sizes` it takes to be rid of `excess` bytes; all, if they are too few.
pub(super) fn enough(sizes: impl IntoIterator<Item = u64>, excess: u64) -> usize {
    let mut left = excess;
    let taken = sizes.into_iter().take_while(|&size| {
        let is_needed = left > 0;
        left = left.saturating_sub(size);
        is_needed
    });
    taken.count()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::layout::tests::store_path;

    /// A store of that many paths in which references and kept paths are these pairs.
    fn store(
        count: usize,
        references: &[(u32, u32)],
        [outputs, derivations]: [&[(u32, u32)]; 2],
    ) -> StoreGraph {
        let mut whole = StoreGraph {
            outputs: outputs.to_vec().into(),
            derivations: derivations.to_vec().into(),
            ..StoreGraph::default()
        };
        for at in 0..count {
            let own = references.iter().filter(|(from, _)| *from == at as u32);
            whole
                .graph
                .push(store_path(at).into(), own.map(|&(_, to)| to));
        }
        whole
    }

    #[test]
    fn what_needs_a_path_has_used_it() {
        // 0 refers to 1, 1 to 2; 3 keeps 4 by a setting, and 4 refers to 2.
        let whole = store(5, &[(0, 1), (1, 2), (4, 2)], [&[(3, 4)], &[]]);
        let own = [30, 10, 5, 40, 20];
        let order = |outputs, before| {
            let keep = Keep {
                outputs,
                derivations: false,
            };
            let queue = Queue::new((&whole, keep), &[0, 1, 2, 3, 4], &own, before).unwrap();
            let used = queue.places.iter().map(|&at| (at, queue.last_use(at)));
            (used.collect::<Vec<_>>(), queue.recent)
        };
        let all = vec![(4, 20), (0, 30), (1, 30), (2, 30), (3, 40)];
        assert_eq!(order(false, None), (all.clone(), vec![]));
        assert_eq!(order(false, Some(40)), (all[..4].to_vec(), vec![3]));
        assert_eq!(order(false, Some(20)), (vec![], vec![4, 0, 1, 2, 3]));
        let (kept, _) = order(true, None);
        assert_eq!(kept[..2], [(0, 30), (1, 30)]);
        assert!(kept[2..].iter().all(|&(_, time)| time == 40));
    }

    #[test]
    fn no_more_goes_than_must() {
        for (sizes, excess, expected) in [
            (&[5, 5, 5][..], 0, 0),
            (&[5, 5, 5], 1, 1),
            (&[5, 5, 5], 5, 1),
            (&[5, 5, 5], 6, 2),
            (&[0, 0, 5, 5], 5, 3),
            (&[5, 5], 100, 2),
            (&[u64::MAX, u64::MAX], u64::MAX, 1),
            (&[], 1, 0),
        ] {
            assert_eq!(enough(sizes.iter().copied(), excess), expected);
        }
    }

    /// References from lower to higher places, other pairs of any kind, times, and the dead.
    type Case = (usize, Vec<(u32, u32)>, Vec<(u32, u32)>, Vec<i64>, Vec<bool>);

    fn case() -> impl Strategy<Value = Case> {
        (1usize..9).prop_flat_map(|count| {
            let pair = || (0..count as u32, 0..count as u32);
            let references = vec(pair().prop_map(|(a, b)| (a.min(b), a.max(b))), 0..14);
            let times = vec(0i64..5, count);
            (
                Just(count),
                references,
                vec(pair(), 0..6),
                times,
                vec(any::<bool>(), count),
            )
        })
    }

    /// The latest own use among a path and all dead ones from which it can be reached through dead
    /// ones.
    fn naive_use(count: usize, edges: &[(u32, u32)], own: &[i64], dead: &[bool], at: usize) -> i64 {
        let mut needing = vec![false; count];
        needing[at] = true;
        for _ in 0..count {
            for &(from, to) in edges {
                needing[from as usize] |= needing[to as usize] && dead[from as usize];
            }
        }
        let times = (0..count).filter(|&it| needing[it]).map(|it| own[it]);
        times.max().unwrap()
    }

    proptest! {
        #[test]
        fn the_queue_is_what_a_naive_model_says(
            (count, references, kept, own, roots) in case(),
            (outputs, before, by_derivations) in (any::<bool>(), proptest::option::of(0i64..6), any::<bool>()),
        ) {
            let pairs: [&[(u32, u32)]; 2] = match by_derivations {
                true => [&[], &kept],
                false => [&kept, &[]],
            };
            let whole = store(count, &references, pairs);
            let keep = Keep { outputs, derivations: true };
            let follows = by_derivations || outputs;
            let mut edges = references;
            edges.extend(kept.iter().filter(|_| follows));
            // What roots need is alive.
            let mut alive = roots;
            for _ in 0..count {
                for &(from, to) in &edges {
                    alive[to as usize] |= alive[from as usize];
                }
            }
            let dead: Vec<bool> = alive.iter().map(|alive| !alive).collect();
            let places: Vec<u32> = (0..count as u32).filter(|&at| dead[at as usize]).collect();
            let queue = Queue::new((&whole, keep), &places, &own, before).unwrap();

            let used = |at: u32| naive_use(count, &edges, &own, &dead, at as usize);
            for &at in &places {
                prop_assert_eq!(queue.last_use(at), used(at));
                let goes = before.is_none_or(|time| used(at) < time);
                prop_assert_eq!(queue.places.contains(&at), goes);
                prop_assert_eq!(queue.recent.contains(&at), !goes);
            }
            prop_assert_eq!(queue.places.len() + queue.recent.len(), places.len());
            prop_assert!(queue.places.is_sorted_by_key(|&at| used(at)));
            let place = |at: u32| queue.places.iter().position(|&it| it == at);
            for at in queue.places.iter().copied() {
                for &to in whole.graph.references(at) {
                    prop_assert!(place(to).is_none_or(|other| place(at).unwrap() < other));
                }
            }
            // What stays has all that it refers to.
            for &at in &queue.recent {
                for to in whole.graph.references(at) {
                    prop_assert!(!queue.places.contains(to));
                }
            }
        }
    }
}
