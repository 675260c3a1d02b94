//! What is alive: all that roots lead to along references, and by settings from paths to
//! derivations and back. Marks a whole store at once; deletes nothing.

use hashbrown::HashSet;

use super::HashPart;
use super::sweep::Entry;
use crate::Layout;
use crate::db::{Keep, StoreGraph};
use crate::error::Result;

/// Which valid paths are alive, and by what else entries are protected.
pub(super) struct Liveness<'a> {
    whole: &'a StoreGraph,
    keep: Keep,
    /// The places of roots, temporary ones among them.
    roots: Vec<u32>,
    alive: Vec<bool>,
    /// Hash parts of temporary roots.
    parts: HashSet<HashPart>,
}

impl<'a> Liveness<'a> {
    /// Marks what `roots` and temporary roots with these hash parts lead to, along references and
    /// what else keeps paths alive.
    pub(super) fn mark(
        layout: &Layout,
        (whole, keep): (&'a StoreGraph, Keep),
        roots: &[String],
        parts: &HashSet<HashPart>,
    ) -> Self {
        let graph = &whole.graph;
        let mut places: Vec<u32> = roots.iter().filter_map(|path| graph.find(path)).collect();
        for part in parts {
            let part = str::from_utf8(part).unwrap_or_default();
            let prefix = format!("{}/{part}-", layout.store_dir);
            places.extend(graph.starting_with(&prefix));
        }
        Self {
            whole,
            keep,
            alive: reached(whole, &places, keep),
            roots: places,
            parts: parts.clone(),
        }
    }

    /// What would be alive if paths kept others in these ways, by place.
    pub(super) fn alive_with(&self, keep: Keep) -> Vec<bool> {
        reached(self.whole, &self.roots, keep)
    }

    /// What is alive, by place.
    pub(super) fn alive(&self) -> &[bool] {
        &self.alive
    }

    /// The places of roots, temporary ones among them.
    pub(super) fn roots(&self) -> &[u32] {
        &self.roots
    }

    fn protects(&self, entry: &Entry) -> bool {
        entry.part.is_some_and(|part| self.parts.contains(&part))
    }

    /// The dead among the entries of the store directory: valid paths by place, ascending, and
    /// whatever else.
    pub(super) fn dead(&self, layout: &Layout, entries: &[Entry]) -> (Vec<u32>, Vec<Entry>) {
        let (mut valid, mut unknown) = (Vec::new(), Vec::new());
        for entry in entries {
            match self.whole.graph.find(&entry.path(layout)) {
                Some(at) if !self.alive[at as usize] => valid.push(at),
                Some(_) => {}
                None if !self.protects(entry) && !entry.is_held(layout) => {
                    unknown.push(entry.clone());
                }
                None => {}
            }
        }
        valid.sort_unstable();
        (valid, unknown)
    }

    /// What is alive, sorted.
    pub(super) fn list(&self, layout: &Layout, entries: &[Entry]) -> Vec<String> {
        let places = (0..self.alive.len() as u32).filter(|&at| self.alive[at as usize]);
        let mut paths: Vec<String> = places
            .map(|at| self.whole.graph.path(at).to_owned())
            .collect();
        let others = entries.iter().filter(|entry| self.protects(entry));
        paths.extend(others.map(|entry| entry.path(layout)));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// The same places in an order in which they can be deleted.
    pub(super) fn referrers_first(&self, places: &[u32]) -> Result<Vec<u32>> {
        let mut order = self.whole.graph.sorted_among(places)?;
        order.reverse();
        Ok(order)
    }

    /// What goes when `target` is deleted, in order: it and all that needs it. None if something of
    /// that is alive or not among `targets` (sorted).
    pub(super) fn closure_within(
        &self,
        layout: &Layout,
        target: &str,
        targets: &[String],
    ) -> Result<Option<Vec<String>>> {
        let Some(start) = self.whole.graph.find(target) else {
            let part = layout.hash_part(target)?;
            let free = !self.parts.contains(part);
            return Ok(free.then(|| vec![target.to_owned()]));
        };
        let above = self.whole.reversed(self.keep);
        let mut seen: HashSet<u32> = HashSet::from([start]);
        let mut left = vec![start];
        while let Some(at) = left.pop() {
            let path = self.whole.graph.path(at);
            let wanted = targets
                .binary_search_by(|other| other.as_str().cmp(path))
                .is_ok();
            if self.alive[at as usize] || !wanted {
                return Ok(None);
            }
            left.extend(above[at as usize].iter().filter(|&&next| seen.insert(next)));
        }
        let mut places: Vec<u32> = seen.into_iter().collect();
        places.sort_unstable();
        let order = self.referrers_first(&places)?;
        Ok(Some(
            order
                .iter()
                .map(|&at| self.whole.graph.path(at).to_owned())
                .collect(),
        ))
    }
}

/// What can be reached from places, by place.
fn reached(whole: &StoreGraph, from: &[u32], keep: Keep) -> Vec<bool> {
    let mut reached = vec![false; whole.graph.len()];
    let mut left = from.to_vec();
    while let Some(at) = left.pop() {
        if !std::mem::replace(&mut reached[at as usize], true) {
            left.extend(whole.graph.references(at));
            left.extend(whole.kept_by(at, keep));
        }
    }
    reached
}
