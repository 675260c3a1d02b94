//! Dependencies first, otherwise the order of the file; and the cycles that make this impossible.
//! Walks with a stack of its own, so a chain of any length is fine.

use super::resolve::Edge;

/// The edges of all derivations: those of derivation i are `edges[starts[i]..starts[i + 1]]`.
pub(super) struct Edges<'g> {
    pub(super) starts: &'g [u32],
    pub(super) edges: &'g [Edge],
}

/// A cycle: its derivations, each needing the next and the last the first, and the edge that closes
/// it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    pub(super) chain: Vec<u32>,
    /// Index of the edge from the last derivation to the first.
    pub(super) closing_edge: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Unseen,
    /// On the stack: to meet it again is a cycle.
    Open,
    Done,
}

/// All derivations so that each comes after those it needs, and otherwise as in the file.
pub(super) fn topological(graph: &Edges<'_>) -> Result<Vec<u32>, Cycle> {
    let count = graph.starts.len() - 1;
    let mut order = Vec::with_capacity(count);
    let mut marks = vec![Mark::Unseen; count];
    // Each open derivation with the edge to follow next.
    let mut open: Vec<(u32, u32)> = Vec::new();
    for root in 0..count as u32 {
        if marks[root as usize] != Mark::Unseen {
            continue;
        }
        marks[root as usize] = Mark::Open;
        open.push((root, graph.starts[root as usize]));
        while let Some((node, next)) = open.last_mut() {
            if *next == graph.starts[*node as usize + 1] {
                marks[*node as usize] = Mark::Done;
                order.push(*node);
                open.pop();
                continue;
            }
            let edge = *next;
            *next += 1;
            let to = graph.edges[edge as usize].to;
            match marks[to as usize] {
                Mark::Done => {}
                Mark::Unseen => {
                    marks[to as usize] = Mark::Open;
                    open.push((to, graph.starts[to as usize]));
                }
                Mark::Open => {
                    let chain = open
                        .iter()
                        .map(|(node, _)| *node)
                        .skip_while(|node| *node != to);
                    return Err(Cycle {
                        chain: chain.collect(),
                        closing_edge: edge,
                    });
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::super::place::Spot;
    use super::*;
    use proptest::prelude::*;

    fn order(needs: &[Vec<u32>]) -> Result<Vec<u32>, Cycle> {
        let mut starts = vec![0];
        let mut edges = Vec::new();
        for needed in needs {
            let spot = Spot {
                string: 0,
                index: 0,
            };
            edges.extend(needed.iter().map(|&to| Edge { to, spot }));
            starts.push(edges.len() as u32);
        }
        topological(&Edges {
            starts: &starts,
            edges: &edges,
        })
    }

    #[test]
    fn the_order_of_the_file_stays_where_it_can() {
        assert_eq!(
            order(&[vec![], vec![0], vec![], vec![1, 0]]),
            Ok(vec![0, 1, 2, 3])
        );
        assert_eq!(
            order(&[vec![2, 1], vec![], vec![], vec![]]),
            Ok(vec![2, 1, 0, 3])
        );
    }

    #[test]
    fn a_cycle_is_named_without_the_way_to_it() {
        let cycle = order(&[vec![1], vec![4, 2], vec![3], vec![4, 1], vec![]]).unwrap_err();
        assert_eq!(
            cycle,
            Cycle {
                chain: vec![1, 2, 3],
                closing_edge: 5
            }
        );
    }

    proptest! {
        #[test]
        fn dependencies_come_first(
            needs in prop::collection::vec(prop::collection::vec(0_u32..40, 0..4), 0..40),
        ) {
            let count = needs.len() as u32;
            let needs: Vec<Vec<u32>> = needs
                .into_iter()
                .map(|needed| needed.into_iter().filter(|&to| to < count).collect())
                .collect();
            match order(&needs) {
                Ok(order) => {
                    let mut position = vec![usize::MAX; needs.len()];
                    for (at, &node) in order.iter().enumerate() {
                        position[node as usize] = at;
                    }
                    for (node, needed) in needs.iter().enumerate() {
                        prop_assert_ne!(position[node], usize::MAX);
                        for &to in needed {
                            prop_assert!(position[to as usize] < position[node]);
                        }
                    }
                }
                Err(Cycle { chain, .. }) => {
                    for (at, &node) in chain.iter().enumerate() {
                        let next = chain[(at + 1) % chain.len()];
                        prop_assert!(needs[node as usize].contains(&next));
                    }
                }
            }
        }
    }
}
