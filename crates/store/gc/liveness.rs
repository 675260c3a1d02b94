//! What is alive: all that roots lead to along references, and by settings from paths to
//! derivations and back. Marks a whole store at once; deletes nothing.

use hashbrown::HashSet;

use super::HashPart;
use super::sweep::Entry;
use crate::Layout;
use crate::db::StoreGraph;
use crate::error::Result;

/// Which valid paths are alive, and by what else entries are protected.
pub(super) struct Liveness<'a> {
    whole: &'a StoreGraph,
    alive: Vec<bool>,
    /// Hash parts of temporary roots.
    parts: HashSet<HashPart>,
}

impl<'a> Liveness<'a> {
    /// Marks what `roots` and temporary roots with these hash parts lead to.
    pub(super) fn mark(
        layout: &Layout,
        whole: &'a StoreGraph,
        roots: &[String],
        parts: &HashSet<HashPart>,
    ) -> Self {
        let mut live = Self {
            whole,
            alive: vec![false; whole.graph.len()],
            parts: parts.clone(),
        };
        let mut left: Vec<u32> = roots
            .iter()
            .filter_map(|path| whole.graph.find(path))
            .collect();
        for part in parts {
            let part = str::from_utf8(part).unwrap_or_default();
            left.extend(
                whole
                    .graph
                    .starting_with(&format!("{}/{part}-", layout.store_dir)),
            );
        }
        while let Some(at) = left.pop() {
            if !std::mem::replace(&mut live.alive[at as usize], true) {
                left.extend(whole.graph.references(at));
                left.extend(whole.kept_by(at));
            }
        }
        live
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
        let above = self.whole.reversed();
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
