//! Walks along references, referrers, outputs and derivers, from one state of the database.
//! A step costs what the paths reached cost, not what the store holds (Nix's `computeFSClosure`).

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rusqlite::{CachedStatement, OptionalExtension};

use super::Database;
use crate::db::path_graph::PathGraph;
use crate::error::{Error, Result};

const ACTION: &str = "walk along references";

/// Which ways a closure goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// From a path to those that refer to it, and not to those it refers to.
    pub referrers: bool,
    /// From derivations to their valid outputs (against the arrows: from outputs to their valid
    /// derivers).
    pub outputs: bool,
    /// From paths to the valid derivation that built them (against the arrows: from derivations to
    /// their outputs).
    pub derivers: bool,
}

/// What a walk begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkRoot<'a> {
    /// The path itself, valid or not.
    Path(&'a str),
    /// What a valid path refers to.
    References(&'a str),
    /// What refers to a path.
    Referrers(&'a str),
    /// All that can be reached from a path. Without [`Edges::referrers`] it must be valid.
    Closure(&'a str),
}

impl Database {
    /// The paths that the seeds give, with the references among them.
    ///
    /// # Errors
    /// [`Error::PathNotValid`] for a seed that must be valid; those of a damaged or unreadable
    /// database.
    pub fn walk(&self, seeds: &[WalkRoot<'_>], edges: Edges) -> Result<PathGraph> {
        self.read(|| {
            let mut walk = Walk::new(self)?;
            for seed in seeds {
                walk.plant(*seed, edges)?;
            }
            walk.into_graph()
        })
    }
}

/// A member of the set.
struct Member {
    /// Its row, or a negative number for a path that isn't valid.
    id: i64,
    path: String,
    references: Option<std::ops::Range<usize>>,
    /// Whether the closure went on from here.
    expanded: bool,
}

struct Walk<'d> {
    database: &'d Database,
    find: CachedStatement<'d>,
    path_of: CachedStatement<'d>,
    references: CachedStatement<'d>,
    referrers: CachedStatement<'d>,
    outputs: CachedStatement<'d>,
    derivers: CachedStatement<'d>,
    deriver: CachedStatement<'d>,
    members: Vec<Member>,
    index: HashMap<i64, u32>,
    invalid: HashMap<String, u32>,
    /// The rows that members refer to, one after the other.
    edges: Vec<i64>,
}

impl<'d> Walk<'d> {
    fn new(database: &'d Database) -> Result<Self> {
        let statement = |sql| database.statement(ACTION, sql);
        Ok(Self {
            database,
            find: statement("select id from ValidPaths where path = ?")?,
            path_of: statement("select path from ValidPaths where id = ?")?,
            references: statement("select reference from Refs where referrer = ?")?,
            referrers: statement("select referrer from Refs where reference = ?")?,
            outputs: statement(
                "select v.id from DerivationOutputs d join ValidPaths v on v.path = d.path where d.drv = ?",
            )?,
            derivers: statement("select drv from DerivationOutputs where path = ?")?,
            deriver: statement(
                "select d.id from ValidPaths v join ValidPaths d on d.path = v.deriver where v.id = ?",
            )?,
            members: Vec::new(),
            index: HashMap::new(),
            invalid: HashMap::new(),
            edges: Vec::new(),
        })
    }

    fn plant(&mut self, seed: WalkRoot<'_>, edges: Edges) -> Result<()> {
        let (WalkRoot::Path(path)
        | WalkRoot::References(path)
        | WalkRoot::Referrers(path)
        | WalkRoot::Closure(path)) = seed;
        let found = self.find.query_row([path], |row| row.get(0)).optional();
        let id: Option<i64> = found.map_err(self.database.failed_to(ACTION))?;
        match (seed, id) {
            (WalkRoot::Path(_), Some(id)) => drop(self.member(id)?),
            (WalkRoot::References(_), Some(id)) => {
                for id in ids(self.database, &mut self.references, id)? {
                    self.member(id)?;
                }
            }
            (WalkRoot::Referrers(_), Some(id)) => {
                for id in ids(self.database, &mut self.referrers, id)? {
                    self.member(id)?;
                }
            }
            (WalkRoot::Closure(_), Some(id)) => self.close(id, edges)?,
            (WalkRoot::Referrers(_), None) => {}
            (WalkRoot::Path(_), None) => self.add_invalid(path),
            (WalkRoot::Closure(_), None) if edges.referrers => {
                self.add_invalid(path);
                if edges.outputs {
                    let found = self.derivers.query_map([path], |row| row.get(0));
                    let derivers: rusqlite::Result<Vec<i64>> = found.and_then(Iterator::collect);
                    for id in derivers.map_err(self.database.failed_to(ACTION))? {
                        self.close(id, edges)?;
                    }
                }
            }
            (WalkRoot::References(_) | WalkRoot::Closure(_), None) => {
                return Err(Error::PathNotValid {
                    path: path.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn add_invalid(&mut self, path: &str) {
        if !self.invalid.contains_key(path) {
            let at = self.members.len() as u32;
            self.invalid.insert(path.to_owned(), at);
            self.members.push(Member {
                id: -1 - i64::from(at),
                path: path.to_owned(),
                references: Some(0..0),
                expanded: true,
            });
        }
    }

    fn member(&mut self, id: i64) -> Result<u32> {
        match self.index.entry(id) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(new) => {
                let path = self.path_of.query_row([id], |row| row.get(0));
                let path = path.map_err(self.database.failed_to(ACTION))?;
                let at = self.members.len() as u32;
                self.members.push(Member {
                    id,
                    path,
                    references: None,
                    expanded: false,
                });
                Ok(*new.insert(at))
            }
        }
    }

    fn close(&mut self, id: i64, edges: Edges) -> Result<()> {
        let mut left = vec![self.member(id)?];
        while let Some(at) = left.pop() {
            let member = &mut self.members[at as usize];
            if std::mem::replace(&mut member.expanded, true) {
                continue;
            }
            let id = member.id;
            let is_derivation = member.path.ends_with(".drv");
            let mut next = if edges.referrers {
                ids(self.database, &mut self.referrers, id)?
            } else {
                let range = self.look_up_references(at)?;
                self.edges[range].to_vec()
            };
            let to_outputs = if edges.referrers {
                edges.derivers
            } else {
                edges.outputs
            };
            if to_outputs && is_derivation {
                next.extend(ids(self.database, &mut self.outputs, id)?);
            }
            if edges.outputs && edges.referrers {
                let path = &self.members[at as usize].path;
                let found = self.derivers.query_map([path], |row| row.get(0));
                let derivers: rusqlite::Result<Vec<i64>> = found.and_then(Iterator::collect);
                next.extend(derivers.map_err(self.database.failed_to(ACTION))?);
            }
            if edges.derivers && !edges.referrers {
                next.extend(ids(self.database, &mut self.deriver, id)?);
            }
            for id in next {
                let at = self.member(id)?;
                if !self.members[at as usize].expanded {
                    left.push(at);
                }
            }
        }
        Ok(())
    }

    fn look_up_references(&mut self, at: u32) -> Result<std::ops::Range<usize>> {
        let member = &mut self.members[at as usize];
        if let Some(range) = &member.references {
            return Ok(range.clone());
        }
        let start = self.edges.len();
        let mut rows = self
            .references
            .query([member.id])
            .map_err(self.database.failed_to(ACTION))?;
        while let Some(row) = rows.next().map_err(self.database.failed_to(ACTION))? {
            self.edges
                .push(row.get(0).map_err(self.database.failed_to(ACTION))?);
        }
        let range = start..self.edges.len();
        member.references = Some(range.clone());
        Ok(range)
    }

    fn into_graph(mut self) -> Result<PathGraph> {
        for at in 0..self.members.len() {
            self.look_up_references(at as u32)?;
        }
        let mut order: Vec<u32> = (0..self.members.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| {
            self.members[a as usize]
                .path
                .cmp(&self.members[b as usize].path)
        });
        let mut rank = vec![0; order.len()];
        for (place, &at) in order.iter().enumerate() {
            rank[at as usize] = place as u32;
        }
        let mut graph = PathGraph::default();
        for at in order {
            let member = &mut self.members[at as usize];
            let path = std::mem::take(&mut member.path);
            let range = member.references.clone().unwrap_or_default();
            let inside = self.edges[range].iter().filter_map(|id| self.index.get(id));
            graph.push(path.into(), inside.map(|&at| rank[at as usize]));
        }
        Ok(graph)
    }
}

fn ids(database: &Database, statement: &mut CachedStatement<'_>, id: i64) -> Result<Vec<i64>> {
    let found = statement.query_map([id], |row| row.get(0));
    found
        .and_then(Iterator::collect)
        .map_err(database.failed_to(ACTION))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, registration};
    use super::*;
    use crate::layout::tests::store_path;

    fn numbers(graph: &PathGraph) -> Vec<usize> {
        let number = |path: &str| (0..20).find(|&n| store_path(n) == path).unwrap();
        graph
            .sorted()
            .unwrap()
            .iter()
            .map(|&at| number(graph.path(at)))
            .collect()
    }

    #[test]
    fn closures_go_both_ways_and_come_sorted() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let batch = [
            registration(1, &[1, 4, 3]),
            registration(3, &[4]),
            registration(4, &[]),
            registration(2, &[1]),
        ];
        database.register(&batch).unwrap();
        let walk = |seed, referrers| {
            let edges = Edges {
                referrers,
                ..Edges::default()
            };
            database.walk(&[seed], edges).map(|graph| numbers(&graph))
        };
        let path: Vec<String> = (0..10).map(store_path).collect();
        assert_eq!(
            walk(WalkRoot::Closure(&path[2]), false).unwrap(),
            [4, 3, 1, 2]
        );
        assert_eq!(
            walk(WalkRoot::Closure(&path[4]), true).unwrap(),
            [4, 3, 1, 2]
        );
        assert_eq!(
            walk(WalkRoot::References(&path[1]), false).unwrap(),
            [4, 3, 1]
        );
        assert_eq!(walk(WalkRoot::Referrers(&path[4]), false).unwrap(), [3, 1]);
        assert!(
            walk(WalkRoot::Referrers(&path[9]), false)
                .unwrap()
                .is_empty()
        );
        assert_eq!(walk(WalkRoot::Closure(&path[9]), true).unwrap(), [9]);
        let error = walk(WalkRoot::Closure(&path[9]), false).unwrap_err();
        assert!(matches!(error, Error::PathNotValid { .. }), "{error}");
    }
}
