//! A set of store paths with the references among them, and the order in which Nix prints such
//! sets. Plain numbers: members stand for their places in the sorted list of paths.

use crate::error::{Error, Result};

/// Store paths, sorted, and who among them refers to whom.
#[derive(Debug, Default, Clone)]
pub struct PathGraph {
    paths: Vec<Box<str>>,
    /// Where the references of each path end in `references`.
    ends: Vec<u32>,
    references: Vec<u32>,
    /// Which paths refer to themselves.
    loops: Vec<bool>,
}

impl PathGraph {
    /// Adds the next path, which must sort after all that are there.
    pub fn push(&mut self, path: Box<str>, references: impl Iterator<Item = u32>) {
        let own = self.paths.len() as u32;
        let start = self.references.len();
        let mut refers_to_itself = false;
        for other in references {
            if other == own {
                refers_to_itself = true;
            } else {
                self.references.push(other);
            }
        }
        self.loops.push(refers_to_itself);
        self.references[start..].sort_unstable();
        self.paths.push(path);
        self.ends.push(self.references.len() as u32);
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path at a place.
    pub fn path(&self, at: u32) -> &str {
        &self.paths[at as usize]
    }

    /// The place of a path.
    pub fn find(&self, path: &str) -> Option<u32> {
        let found = self.paths.binary_search_by(|known| (**known).cmp(path));
        found.ok().map(|at| at as u32)
    }

    /// The places of the paths that begin like this.
    pub fn starting_with(&self, prefix: &str) -> std::ops::Range<u32> {
        let start = self.paths.partition_point(|path| **path < *prefix);
        let length = self.paths[start..]
            .iter()
            .take_while(|path| path.starts_with(prefix))
            .count();
        start as u32..(start + length) as u32
    }

    /// The other paths that the path at a place refers to, sorted.
    pub fn references(&self, at: u32) -> &[u32] {
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.ends[before as usize]);
        &self.references[start as usize..self.ends[at as usize] as usize]
    }

    /// Whether the path at a place refers to itself.
    pub fn refers_to_itself(&self, at: u32) -> bool {
        self.loops[at as usize]
    }

    /// All places, what is referred to before what refers to it, in the order of Nix's
    /// `topoSortPaths` read backwards.
    ///
    /// # Errors
    /// [`Error::ReferenceCycle`] if there is no such order.
    pub fn sorted(&self) -> Result<Vec<u32>> {
        self.sort(0..self.paths.len() as u32, |_| true)
    }

    /// The same for some members only, which must be given in ascending order.
    ///
    /// # Errors
    /// [`Error::ReferenceCycle`] if there is no such order.
    pub fn sorted_among(&self, members: &[u32]) -> Result<Vec<u32>> {
        self.sort(members.iter().copied(), |at| {
            members.binary_search(&at).is_ok()
        })
    }

    fn sort(
        &self,
        starts: impl Iterator<Item = u32>,
        is_member: impl Fn(u32) -> bool,
    ) -> Result<Vec<u32>> {
        const UNSEEN: u8 = 0;
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![UNSEEN; self.paths.len()];
        let mut order = Vec::new();
        // A path and how many of its references were followed.
        let mut stack: Vec<(u32, usize)> = Vec::new();
        for start in starts {
            if state[start as usize] == UNSEEN {
                state[start as usize] = OPEN;
                stack.push((start, 0));
            }
            while let Some((at, followed)) = stack.last_mut() {
                let at = *at;
                if let Some(&next) = self.references(at).get(*followed) {
                    *followed += 1;
                    if !is_member(next) {
                        continue;
                    }
                    match state[next as usize] {
                        UNSEEN => {
                            state[next as usize] = OPEN;
                            stack.push((next, 0));
                        }
                        OPEN => {
                            return Err(Error::ReferenceCycle {
                                path: self.path(next).to_owned(),
                                parent: self.path(at).to_owned(),
                            });
                        }
                        _ => {}
                    }
                } else {
                    state[at as usize] = DONE;
                    order.push(at);
                    stack.pop();
                }
            }
        }
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(references: &[&[u32]]) -> PathGraph {
        let mut graph = PathGraph::default();
        for (number, references) in references.iter().enumerate() {
            graph.push(format!("p{number}").into(), references.iter().copied());
        }
        graph
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let graph = graph(&[&[2, 0, 1], &[3], &[1], &[]]);
        assert_eq!(graph.references(0), [1, 2]);
        assert_eq!(graph.sorted().unwrap(), [3, 1, 2, 0]);
        // 2 reaches 3 only through 1, which is not a member.
        assert_eq!(graph.sorted_among(&[0, 2, 3]).unwrap(), [2, 0, 3]);
        assert_eq!(graph.find("p2"), Some(2));
        assert_eq!(graph.find("p9"), None);
        assert_eq!(graph.starting_with("p2"), 2..3);
        assert!(graph.starting_with("q").is_empty());
    }

    #[test]
    fn circles_are_refused() {
        let error = graph(&[&[1], &[2], &[0]]).sorted().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cycle detected in the references of 'p0' from 'p2'"
        );
    }

    #[test]
    fn depth_is_no_trouble() {
        let long: Vec<Vec<u32>> = (0..200_000).map(|n| vec![n + 1]).chain([vec![]]).collect();
        let mut graph = PathGraph::default();
        for (number, references) in long.iter().enumerate() {
            graph.push(format!("{number:09}").into(), references.iter().copied());
        }
        assert_eq!(graph.sorted().unwrap()[0], 200_000);
    }
}
