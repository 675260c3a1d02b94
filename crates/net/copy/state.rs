//! Which paths of a copy wait for which: a path may be told of only when all that it refers to has
//! been. Plain bookkeeping; paths go by their places in the list.

use std::collections::{HashMap, HashSet};

use windrow_store::PathInfo;

use super::CopyError;

/// What all paths wait for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// For each path how many others it waits for, and one more until it is there itself.
    waits: Vec<usize>,
    referrers: Vec<Vec<usize>>,
    ended: Vec<bool>,
    left: usize,
}

impl Waiting {
    pub(super) fn new(paths: &[PathInfo]) -> Self {
        let places = paths.iter().enumerate().map(|(at, info)| (&*info.path, at));
        let places: HashMap<&str, usize> = places.collect();
        let mut this = Self {
            waits: vec![1; paths.len()],
            referrers: vec![Vec::new(); paths.len()],
            ended: vec![false; paths.len()],
            left: paths.len(),
        };
        for (at, info) in paths.iter().enumerate() {
            let others = info.references.iter().filter(|other| **other != info.path);
            for other in others.filter_map(|other| places.get(&**other)) {
                this.waits[at] += 1;
                this.referrers[*other].push(at);
            }
        }
        this
    }

    /// Something that the path waits for is there; whether that was the last.
    pub(super) fn arrived(&mut self, at: usize) -> bool {
        self.waits[at] -= 1;
        self.waits[at] == 0
    }

    /// A path has been told of; those that now wait for nothing.
    pub(super) fn told(&mut self, at: usize) -> Vec<usize> {
        self.end(at);
        let referrers = std::mem::take(&mut self.referrers[at]);
        let mut ready = referrers;
        ready.retain(|&other| self.arrived(other) && !self.ended[other]);
        ready
    }

    /// A path won't be told of, and so nothing that refers to it; all that this is news of.
    pub(super) fn give_up(&mut self, at: usize) -> Vec<usize> {
        let mut given_up = Vec::new();
        let mut next = vec![at];
        while let Some(at) = next.pop() {
            if !self.ended[at] {
                self.end(at);
                next.extend(&self.referrers[at]);
                given_up.push(at);
            }
        }
        given_up
    }

    fn end(&mut self, at: usize) {
        self.ended[at] = true;
        self.left -= 1;
    }

    /// Whether it has been told of, or won't be.
    pub(super) fn has_ended(&self, at: usize) -> bool {
        self.ended[at]
    }

    /// Whether all have.
    pub(super) fn have_all_ended(&self) -> bool {
        self.left == 0
    }
}

/// The places of all paths, each after those that it refers to.
pub(super) fn in_order(paths: &[PathInfo]) -> Vec<usize> {
    let mut waiting = Waiting::new(paths);
    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.retain(|&at| waiting.arrived(at));
    let mut next = 0;
    while let Some(&at) = order.get(next) {
        order.extend(waiting.told(at));
        next += 1;
    }
    order
}

/// The places of paths that refer to what is neither among them nor `there`, with one such
/// reference. `ask` says which of others are there all the same.
///
/// # Errors
/// Those of `ask`.
pub(super) fn lacking(
    paths: &[PathInfo],
    there: &HashSet<String>,
    ask: impl FnOnce(&[&str]) -> Result<Vec<bool>, CopyError>,
) -> Result<Vec<(usize, String)>, CopyError> {
    let copied: HashSet<&str> = paths.iter().map(|info| &*info.path).collect();
    let references = paths.iter().flat_map(|info| &info.references);
    let unknown = |path: &&String| !copied.contains(&***path) && !there.contains(*path);
    let mut unknown: Vec<&str> = references.filter(unknown).map(String::as_str).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let has = ask(&unknown)?;
    let absent = unknown.iter().zip(has).filter(|(_, has)| !has);
    let absent: HashSet<&str> = absent.map(|(path, _)| *path).collect();
    let lacks = |info: &PathInfo| {
        let mut references = info.references.iter();
        references.find(|it| absent.contains(&***it)).cloned()
    };
    let all = paths.iter().enumerate();
    Ok(all
        .filter_map(|(at, info)| Some((at, lacks(info)?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Paths of which each refers to itself and to some before it.
    fn paths(references: &[Vec<usize>]) -> Vec<PathInfo> {
        let name = |at: usize| format!("/s/{at}");
        let info = |(at, others): (usize, &Vec<usize>)| {
            let mut references: Vec<String> = others.iter().map(|&other| name(other)).collect();
            references.extend([name(at), "/s/elsewhere".to_owned()]);
            PathInfo {
                path: name(at),
                nar_hash: [0; 32],
                nar_size: 1,
                registration_time: 0,
                deriver: None,
                references,
                ultimate: false,
                sigs: Vec::new(),
                ca: None,
            }
        };
        references.iter().enumerate().map(info).collect()
    }

    proptest! {
        #[test]
        fn each_comes_after_what_it_refers_to_or_never(
            seeds in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
            order in any::<prop::sample::Index>(),
            bad in prop::collection::vec(any::<bool>(), 12),
        ) {
            let count = seeds.len();
            let references: Vec<Vec<usize>> = seeds.iter().enumerate().map(|(at, seeds)| {
                let mut others: Vec<usize> = match at {
                    0 => Vec::new(),
                    at => seeds.iter().map(|seed| seed.index(at)).collect(),
                };
                others.sort_unstable();
                others.dedup();
                others
            }).collect();
            let sorted = in_order(&paths(&references));
            prop_assert_eq!(sorted.len(), count);
            let position = |at: usize| sorted.iter().position(|&other| other == at);
            for (at, others) in references.iter().enumerate() {
                prop_assert!(others.iter().all(|&other| position(other) < position(at)));
            }
            let mut waiting = Waiting::new(&paths(&references));
            let mut told: Vec<usize> = Vec::new();
            let mut arrivals: Vec<usize> = (0..count).collect();
            arrivals.rotate_left(order.index(count));
            for at in arrivals {
                if bad[at] {
                    waiting.give_up(at);
                    continue;
                }
                let mut ready = Vec::new();
                if waiting.arrived(at) && !waiting.has_ended(at) {
                    ready.push(at);
                }
                while let Some(at) = ready.pop() {
                    prop_assert!(references[at].iter().all(|other| told.contains(other)));
                    told.push(at);
                    ready.extend(waiting.told(at));
                }
            }
            prop_assert!(waiting.have_all_ended());
            let mut lost = bad[..count].to_vec();
            for at in 0..count {
                lost[at] |= references[at].iter().any(|&other| lost[other]);
            }
            told.sort_unstable();
            let expected: Vec<usize> = (0..count).filter(|&at| !lost[at]).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
