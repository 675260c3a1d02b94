//! Which derivations have another as an input: in rows where a whole graph came at once, in linked
//! lists where it came derivation by derivation.

use crate::ids::{DrvId, dense_id};
use crate::task_graph::TaskGraph;

dense_id! {
    /// A link of a list.
    pub(super) LinkId
}

#[derive(Debug, Clone, Copy)]
struct Link {
    drv: DrvId,
    /// The one that was added before it.
    next: Option<LinkId>,
}

/// The edges of a graph the other way round.
#[derive(Debug, Default)]
pub(super) struct Dependents {
    /// Where the rows of each derivation that came with the whole graph begin, and one more.
    starts: Vec<u32>,
    rows: Vec<DrvId>,
    /// The last link of each derivation.
    heads: Vec<Option<LinkId>>,
    links: Vec<Link>,
}

impl Dependents {
    /// Those of a graph whose tasks have the ids of their derivations.
    pub(super) fn of_tasks(tasks: &TaskGraph) -> Self {
        let (starts, rows) = tasks.successors().into_rows();
        let rows = rows.into_iter();
        Self {
            starts,
            rows: rows.map(|task| DrvId::from_index(task.index())).collect(),
            heads: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Notes that `drv` has `input` as an input.
    pub(super) fn add(&mut self, input: DrvId, drv: DrvId) {
        if self.heads.len() <= input.index() {
            self.heads.resize(input.index() + 1, None);
        }
        let place = LinkId::from_index(self.links.len());
        let next = self.heads[input.index()].replace(place);
        self.links.push(Link { drv, next });
    }

    /// Those that have `input` as an input.
    #[inline]
    pub(super) fn of(&self, input: DrvId) -> impl Iterator<Item = DrvId> {
        let at = input.index();
        let rows = match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(&start), Some(&end)) => &self.rows[start as usize..end as usize],
            _ => &[],
        };
        let mut place = self.heads.get(at).copied().flatten();
        let links = std::iter::from_fn(move || {
            let link = self.links[place?.index()];
            place = link.next;
            Some(link.drv)
        });
        rows.iter().copied().chain(links)
    }

    /// How many each of `count` derivations has.
    pub(super) fn counts(&self, count: usize) -> Vec<u32> {
        let rows = self.starts.windows(2).map(|pair| pair[1] - pair[0]);
        let mut counts: Vec<u32> = rows.collect();
        counts.resize(count, 0);
        for (input, &head) in self.heads.iter().enumerate() {
            let mut place = head;
            while let Some(link) = place {
                counts[input] += 1;
                place = self.links[link.index()].next;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_graph::{Builder, Limits, TaskId, TimeUnit};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_and_links_hold_the_same_edges(
            edges in proptest::collection::btree_set((0..12_usize, 0..12_usize), 0..50),
        ) {
            let edges: Vec<_> = edges.into_iter().filter(|(input, drv)| input < drv).collect();
            let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
            for _ in 0..12 {
                builder.add_task(None, None).unwrap();
            }
            let mut linked = Dependents::default();
            for &(input, drv) in &edges {
                builder.add_edge(TaskId::from_index(input), TaskId::from_index(drv)).unwrap();
                linked.add(DrvId::from_index(input), DrvId::from_index(drv));
            }
            let rows = Dependents::of_tasks(&builder.finish().unwrap());
            for input in 0..12 {
                let of = |dependents: &Dependents| {
                    let mut all: Vec<usize> = dependents.of(DrvId::from_index(input)).map(DrvId::index).collect();
                    all.sort_unstable();
                    all
                };
                let plain: Vec<usize> = edges.iter().filter(|edge| edge.0 == input).map(|edge| edge.1).collect();
                prop_assert_eq!(of(&linked), plain.clone());
                prop_assert_eq!(of(&rows), plain);
            }
            prop_assert_eq!(rows.counts(12), linked.counts(12));
        }
    }
}
