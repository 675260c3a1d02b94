//! The whole store as a graph: every valid path and what each keeps alive, read in one go. For work
//! that looks at everything anyway, as a collection does; its cost does not depend on what is asked
//! of it.

use hashbrown::HashMap;

use super::Database;
use crate::db::path_graph::PathGraph;
use crate::error::Result;

const ACTION: &str = "read all references";

/// In which ways paths keep others alive beyond references.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Derivations keep their valid outputs (the setting `keep-outputs`).
    pub outputs: bool,
    /// Paths keep the derivation that built them (the setting `keep-derivations`).
    pub derivations: bool,
}

/// What the database says of a path beside its references.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// The size of its NAR in bytes; 0 if that is not known.
    pub nar_size: u64,
    /// When it was registered, in seconds since 1970.
    pub registered: i64,
}

/// From where to where paths keep each other alive, sorted.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Vec<(u32, u32)>);

impl Pairs {
    fn of(&self, at: u32) -> impl Iterator<Item = u32> {
        let start = self.0.partition_point(|&(from, _)| from < at);
        let rows = self.0[start..].iter();
        rows.take_while(move |&&(from, _)| from == at)
            .map(|&(_, to)| to)
    }
}

impl From<Vec<(u32, u32)>> for Pairs {
    fn from(mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        Self(pairs)
    }
}

/// Every valid path with its references, and the other ways in which paths keep each other alive.
#[derive(Debug, Default)]
pub struct StoreGraph {
    /// The paths and their references.
    pub graph: PathGraph,
    /// By place what else is known of each path; nothing unless it was asked for.
    pub facts: Vec<Facts>,
    /// From derivations to their outputs.
    pub(crate) outputs: Pairs,
    /// From paths to their derivations.
    pub(crate) derivations: Pairs,
}

impl StoreGraph {
    /// What the path at a place keeps alive beyond its references.
    pub fn kept_by(&self, at: u32, keep: Keep) -> impl Iterator<Item = u32> {
        let outputs = keep.outputs.then(|| self.outputs.of(at));
        let derivations = keep.derivations.then(|| self.derivations.of(at));
        let derivations = derivations.into_iter().flatten();
        outputs.into_iter().flatten().chain(derivations)
    }

    /// For each path, what would go with it: its referrers, and what keeps it alive by a setting.
    pub fn reversed(&self, keep: Keep) -> Vec<Vec<u32>> {
        let mut above = vec![Vec::new(); self.graph.len()];
        for at in 0..self.graph.len() as u32 {
            let references = self.graph.references(at).iter().copied();
            references
                .chain(self.kept_by(at, keep))
                .for_each(|to| above[to as usize].push(at));
        }
        above
    }
}

impl Database {
    /// Reads everything: paths, references and these ways of keeping others; with `facts`, what
    /// else is known of each path.
    ///
    /// # Errors
    /// Those of a damaged or unreadable database.
    pub fn whole(&self, keep: Keep, facts: bool) -> Result<StoreGraph> {
        self.read(|| self.read_whole(keep, facts).map_err(self.failed_to(ACTION)))
    }

    fn read_whole(&self, keep: Keep, with_facts: bool) -> rusqlite::Result<StoreGraph> {
        let mut places: HashMap<i64, u32> = HashMap::new();
        let mut listed: Vec<(Box<str>, i64)> = Vec::new();
        let mut list = self
            .connection
            .prepare("select id, path from ValidPaths not indexed")?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            listed.push((row.get_ref(1)?.as_str()?.into(), row.get(0)?));
        }
        listed.sort_unstable();
        places.extend(listed.iter().zip(0..).map(|((_, id), place)| (*id, place)));
        let pairs = |sql: &str| -> rusqlite::Result<Pairs> {
            let mut list = self.connection.prepare(sql)?;
            let mut rows = list.query([])?;
            let mut pairs = Vec::new();
            while let Some(row) = rows.next()? {
                let (from, to) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
                if let (Some(&from), Some(&to)) = (places.get(&from), places.get(&to)) {
                    pairs.push((from, to));
                }
            }
            Ok(Pairs::from(pairs))
        };
        let references = pairs("select referrer, reference from Refs")?;
        let outputs = match keep.outputs {
            true => pairs(
                "select d.drv, v.id from DerivationOutputs d join ValidPaths v on v.path = d.path",
            )?,
            false => Pairs::default(),
        };
        let derivations = match keep.derivations {
            true => pairs(
                "select v.id, d.id from ValidPaths v join ValidPaths d on d.path = v.deriver",
            )?,
            false => Pairs::default(),
        };
        let facts = match with_facts {
            true => self.read_facts(&places)?,
            false => Vec::new(),
        };
        let mut graph = PathGraph::default();
        let mut left = references.0.iter().peekable();
        for (at, (path, _)) in listed.into_iter().enumerate() {
            let own = std::iter::from_fn(|| left.next_if(|&&(from, _)| from == at as u32));
            graph.push(path, own.map(|&(_, to)| to));
        }
        Ok(StoreGraph {
            graph,
            facts,
            outputs,
            derivations,
        })
    }

    fn read_facts(&self, places: &HashMap<i64, u32>) -> rusqlite::Result<Vec<Facts>> {
        let mut facts = vec![Facts::default(); places.len()];
        let sql = "select id, narSize, registrationTime from ValidPaths not indexed";
        let mut list = self.connection.prepare(sql)?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(&place) = places.get(&row.get::<_, i64>(0)?) {
                let nar_size = row.get::<_, Option<i64>>(1)?.unwrap_or(0);
                facts[place as usize] = Facts {
                    nar_size: u64::try_from(nar_size).unwrap_or(0),
                    registered: row.get(2)?,
                };
            }
        }
        Ok(facts)
    }

    /// Makes paths invalid in one transaction, given with whether they were valid before: referrers
    /// come before what they refer to. Says for each whether its files may go: not if something
    /// refers to it now, nor if it has become valid since.
    ///
    /// # Errors
    /// Those of a damaged, full or unwritable database.
    pub fn invalidate_unneeded(&mut self, paths: &[(&str, bool)]) -> Result<Vec<bool>> {
        const ACTION: &str = "invalidate paths";
        self.write(|| {
            let failed = || self.failed_to(ACTION);
            let mut find = self.statement(ACTION, "select id from ValidPaths where path = ?")?;
            let mut needed = self.statement(
                ACTION,
                "select 1 from Refs where reference = ?1 and referrer != ?1 limit 1",
            )?;
            let mut delete = self.statement(ACTION, "delete from ValidPaths where id = ?")?;
            let mut may_go = Vec::with_capacity(paths.len());
            for &(path, was_valid) in paths {
                let mut rows = find.query([path]).map_err(failed())?;
                let id = match rows.next().map_err(failed())? {
                    Some(row) => Some(row.get::<_, i64>(0).map_err(failed())?),
                    None => None,
                };
                drop(rows);
                let goes = match id {
                    None => true,
                    Some(id) => was_valid && !needed.exists([id]).map_err(failed())?,
                };
                if let Some(id) = id.filter(|_| goes) {
                    delete.execute([id]).map_err(failed())?;
                }
                may_go.push(goes);
            }
            Ok(may_go)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, registration};
    use super::*;
    use crate::layout::tests::store_path;

    #[test]
    fn settings_add_ways_of_staying_alive() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let mut drv = registration(1, &[]);
        drv.outputs = vec![
            ("out".to_owned(), store_path(2)),
            ("dev".to_owned(), store_path(9)),
        ];
        let mut out = registration(2, &[3]);
        out.info.deriver = Some(store_path(1));
        database
            .register(&[drv, out, registration(3, &[3])])
            .unwrap();
        for (outputs, derivations, kept) in [
            (false, false, vec![]),
            (true, false, vec![(0, 1)]),
            (false, true, vec![(1, 0)]),
            (true, true, vec![(0, 1), (1, 0)]),
        ] {
            let keep = Keep {
                outputs,
                derivations,
            };
            let whole = database.whole(keep, true).unwrap();
            let pairs = (0..3).flat_map(|at| whole.kept_by(at, keep).map(move |to| (at, to)));
            assert_eq!(pairs.collect::<Vec<_>>(), kept);
            assert_eq!(whole.graph.references(1), [2]);
            assert_eq!(whole.reversed(keep)[2], [1]);
            assert_eq!(whole.reversed(keep)[1].len(), usize::from(outputs));
            let facts = Facts {
                nar_size: 120,
                registered: 1000,
            };
            assert_eq!(whole.facts, [facts; 3]);
        }
    }

    #[test]
    fn what_is_needed_or_new_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        database
            .register(&[
                registration(1, &[1]),
                registration(2, &[1]),
                registration(3, &[]),
            ])
            .unwrap();
        let path: Vec<String> = (0..5).map(store_path).collect();
        let ask = [(&*path[1], true), (&*path[3], false), (&*path[4], false)];
        assert_eq!(
            database.invalidate_unneeded(&ask).unwrap(),
            [false, false, true]
        );
        let ask = [(&*path[2], true), (&*path[1], true)];
        assert_eq!(database.invalidate_unneeded(&ask).unwrap(), [true, true]);
        assert_eq!(database.all_valid_paths().unwrap(), [&*path[3]]);
    }
}
