//! What the substituters of a run are known to have, and what they are still to be asked. Who asks
//! them, and how, is the world's matter: a process each, or a table.

use bevy_ecs::prelude::Resource;
use hashbrown::{HashMap, HashSet};
use windrow_components::ids::PathId;
use windrow_components::substitution::SubstituteInfo;

/// Who can give a path, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// This substituter has it.
    At(usize),
    /// This substituter was asked and has not answered yet.
    Asked(usize),
    /// No substituter from there on.
    Nobody,
}

#[derive(Debug, Default)]
struct Substituter {
    program: String,
    disabled: bool,
    known: HashMap<PathId, Option<SubstituteInfo>>,
    to_ask: Vec<PathId>,
    /// Asked, or about to be, and not answered.
    open: HashSet<PathId>,
}

/// All substituters, in the order in which they are tried.
#[derive(Debug, Default, Resource)]
pub struct Substituters {
    rows: Vec<Substituter>,
    open: usize,
}

impl Substituters {
    /// Substituters of which nothing is known yet.
    pub fn new(programs: impl IntoIterator<Item = String>) -> Self {
        let row = |program| Substituter {
            program,
            ..Substituter::default()
        };
        Self {
            rows: programs.into_iter().map(row).collect(),
            open: 0,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether an answer is still to come.
    pub fn is_waiting(&self) -> bool {
        self.open > 0
    }

    /// The program of a substituter.
    pub fn program(&self, sub: usize) -> &str {
        &self.rows[sub].program
    }

    /// The first substituter, from `from` on, that has `path`; one of which that is not known is
    /// asked.
    ///
    /// Nix 1.8: `SubstitutionGoal::tryNext`.
    pub fn find(&mut self, path: PathId, from: usize) -> Find {
        for (sub, row) in self.rows.iter_mut().enumerate().skip(from) {
            match row.known.get(&path) {
                Some(Some(_)) if row.disabled => {}
                Some(Some(_)) => return Find::At(sub),
                Some(None) => {}
                None if row.disabled => {}
                None => {
                    if row.open.insert(path) {
                        row.to_ask.push(path);
                        self.open += 1;
                    }
                    return Find::Asked(sub);
                }
            }
        }
        Find::Nobody
    }

    /// What a substituter said of a path that it has.
    pub fn info(&self, sub: usize, path: PathId) -> Option<&SubstituteInfo> {
        self.rows[sub].known.get(&path)?.as_ref()
    }

    /// What is to be asked now, by substituter. It counts as asked from here on.
    pub fn take_questions(&mut self) -> Vec<(usize, Vec<PathId>)> {
        let rows = self.rows.iter_mut().enumerate();
        rows.filter(|(_, row)| !row.to_ask.is_empty())
            .map(|(sub, row)| (sub, std::mem::take(&mut row.to_ask)))
            .collect()
    }

    /// Takes in what a substituter said when it was asked for `asked`: what it has; the others it
    /// has not.
    pub fn answer(
        &mut self,
        sub: usize,
        asked: &[PathId],
        infos: impl IntoIterator<Item = (PathId, SubstituteInfo)>,
    ) {
        let row = &mut self.rows[sub];
        for (path, info) in infos {
            row.known.insert(path, Some(info));
        }
        for &path in asked {
            row.known.entry(path).or_insert(None);
            if row.open.remove(&path) {
                self.open -= 1;
            }
        }
    }

    /// Asks a substituter for nothing more. Gives the paths that it still owes an answer for.
    pub fn disable(&mut self, sub: usize) -> Vec<PathId> {
        let row = &mut self.rows[sub];
        row.disabled = true;
        row.to_ask.clear();
        let mut owed: Vec<PathId> = row.open.drain().collect();
        owed.sort_unstable();
        self.open -= owed.len();
        owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substituters_are_tried_in_order_and_asked_once() {
        let [one, two] = [0, 1].map(PathId::from_index);
        let mut substituters = Substituters::new(["a".to_owned(), "b".to_owned()]);
        assert_eq!(substituters.find(one, 0), Find::Asked(0));
        assert_eq!(substituters.find(one, 0), Find::Asked(0));
        assert_eq!(substituters.find(two, 0), Find::Asked(0));
        assert_eq!(substituters.take_questions(), [(0, vec![one, two])]);
        assert!(substituters.take_questions().is_empty() && substituters.is_waiting());
        substituters.answer(0, &[one, two], [(one, SubstituteInfo::default())]);
        assert!(!substituters.is_waiting());
        assert_eq!(substituters.find(one, 0), Find::At(0));
        assert_eq!(substituters.find(two, 0), Find::Asked(1));
        assert_eq!(substituters.take_questions(), [(1, vec![two])]);
        assert_eq!(substituters.disable(1), [two]);
        assert!(!substituters.is_waiting());
        assert_eq!(substituters.find(two, 0), Find::Nobody);
        assert_eq!(substituters.find(one, 1), Find::Nobody);
    }
}
