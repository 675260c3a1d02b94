//! Which files derivations choose: their globs are read here, and trees made of what they chose.
//! Derivations that look into the same sources share what was found there.

use std::rc::Rc;

use hashbrown::HashMap;

use super::place::{Places, Position};
use super::sources::{Glob, Sources, strings};
use super::tree::{Candidate, Pool};
use super::value::Value;
use super::wording::nearest;
use super::{GraphError, SelectionError, Source, Tree};

/// The sources, and all trees out of them.
pub(super) struct Forest<'f> {
    sources: Sources<'f>,
    pools: Vec<Pool>,
    /// By the entries of `sources` whose files they are.
    by_entries: HashMap<Vec<u32>, u32>,
    trees: Vec<Tree>,
    by_tree: HashMap<Tree, u32>,
}

/// What one derivation, or a family of them, chooses.
pub(super) struct Chosen {
    /// Where its headers are looked for.
    pub(super) pool: u32,
    /// The files that each derivation of a family is for.
    pub(super) each: Vec<u32>,
    /// The files that a tree has beside them.
    pub(super) roots: Rc<[u32]>,
}

/// A glob, or a path, in an entry of `sources`.
struct Choice {
    text: String,
    place: Position,
    entry: u32,
    /// Where the path in the entry begins in `text`; its end, if the entry as a whole is meant.
    inside: usize,
}

impl<'f> Forest<'f> {
    pub(super) fn new(sources: Sources<'f>) -> Self {
        Self {
            sources,
            pools: Vec::new(),
            by_entries: HashMap::new(),
            trees: Vec::new(),
            by_tree: HashMap::new(),
        }
    }

    /// The sources.
    pub(super) fn sources(&mut self) -> &mut Sources<'f> {
        &mut self.sources
    }

    /// Reads `each`, `tree` and `headers` of a derivation; `None` if it has neither of the first
    /// two. `of` names the derivation.
    pub(super) fn choose<'a>(
        &mut self,
        [each, tree, headers]: [Option<Value<'a>>; 3],
        of: &str,
        places: &Places<'a>,
    ) -> Result<Option<Chosen>, GraphError> {
        let Some(asks) = each.or(tree) else {
            return match headers {
                Some(value) => {
                    let reason = "only \"each\" and \"tree\" have headers looked for";
                    let key = "headers";
                    Err(SelectionError::NoEffect { key, reason }.at(value.place(places)))
                }
                None => Ok(None),
            };
        };
        let each = self.choices(each, "each", of, places)?;
        let tree = self.choices(tree, "tree", of, places)?;
        let headers = self.choices(headers, "headers", of, places)?;
        if let Some(choice) = headers
            .iter()
            .find(|choice| choice.inside < choice.text.len())
        {
            return Err(self.sources.no_source(&choice.text, choice.place));
        }
        let all = each.iter().chain(&tree).chain(&headers);
        let mut entries: Vec<u32> = all.map(|choice| choice.entry).collect();
        entries.sort_unstable();
        entries.dedup();
        let pool = self.pool(entries, asks.place(places))?;
        let files = |choices: &[Choice]| -> Result<Vec<u32>, GraphError> {
            let mut files = Vec::new();
            for choice in choices {
                files.extend(self.files(pool, choice)?);
            }
            files.sort_unstable();
            files.dedup();
            Ok(files)
        };
        Ok(Some(Chosen {
            pool,
            each: files(&each)?,
            roots: files(&tree)?.into(),
        }))
    }

    fn choices<'a>(
        &self,
        value: Option<Value<'a>>,
        key: &str,
        of: &str,
        places: &Places<'a>,
    ) -> Result<Vec<Choice>, GraphError> {
        let Some(value) = value else {
            return Ok(Vec::new());
        };
        let texts = strings(value, &format!("the {key:?} of derivation {of:?}"), places)?;
        let choice = |(text, place): (String, Position)| match self.sources.owner(&text) {
            Some((entry, rest)) => Ok(Choice {
                inside: text.len() - rest.len(),
                text,
                place,
                entry,
            }),
            None => Err(self.sources.no_source(&text, place)),
        };
        texts.into_iter().map(choice).collect()
    }

    fn pool(&mut self, entries: Vec<u32>, place: Position) -> Result<u32, GraphError> {
        if let Some(pool) = self.by_entries.get(&entries) {
            return Ok(*pool);
        }
        let pool = self.pools.len() as u32;
        self.pools
            .push(Pool::new(&entries, &mut self.sources, place)?);
        self.by_entries.insert(entries, pool);
        Ok(pool)
    }

    /// The files of a pool that a choice means; at least one.
    fn files(&self, pool: u32, choice: &Choice) -> Result<Vec<u32>, GraphError> {
        let pool = &self.pools[pool as usize];
        let name = &self.sources.get(choice.entry).name;
        let rest = &choice.text[choice.inside..];
        let chosen = if rest.is_empty() {
            pool.of_entry(choice.entry, |_| true)
        } else if rest.contains(['*', '?', '[', '{', '\\']) {
            let glob = Glob::new(rest, choice.place)?;
            pool.of_entry(choice.entry, |file| {
                let path = file.path.get(name.len() + 1..);
                path.is_some_and(|path| glob.is_like(path))
            })
        } else if let Some(file) = pool.find(&choice.text) {
            vec![file]
        } else {
            let name = name.clone();
            let files = pool.of_entry(choice.entry, |_| true);
            let paths = files.iter().map(|&file| {
                pool.file(file)
                    .path
                    .get(choice.inside..)
                    .unwrap_or_default()
            });
            let (file, nearest) = (rest.to_owned(), nearest(rest, paths));
            let unknown = SelectionError::UnknownFile {
                name,
                file,
                nearest,
            };
            return Err(unknown.at(choice.place));
        };
        if chosen.is_empty() {
            let (glob, name) = (choice.text.clone(), name.clone());
            return Err(SelectionError::NothingChosen { glob, name }.at(choice.place));
        }
        Ok(chosen)
    }

    /// A file of a pool.
    pub(super) fn file(&self, pool: u32, file: u32) -> &Candidate {
        self.pools[pool as usize].file(file)
    }

    /// The path of a file in its source.
    pub(super) fn path_in_source(&self, pool: u32, file: u32) -> &str {
        let file = self.file(pool, file);
        let name = &self.sources.get(file.entry).name;
        match file.path[name.len()..].strip_prefix('/') {
            Some(path) => path,
            // The source is the file.
            None => name.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// The tree of files of a pool and all that they include, by its index among all trees.
    pub(super) fn tree(
        &mut self,
        pool: u32,
        roots: &[u32],
        mentions: &mut dyn FnMut(&str) -> bool,
    ) -> Result<u32, GraphError> {
        let pool = &mut self.pools[pool as usize];
        let tree = pool.tree(roots, &mut self.sources, mentions)?;
        let next = self.trees.len() as u32;
        let index = *self.by_tree.entry(tree).or_insert_with_key(|tree| {
            self.trees.push(tree.clone());
            next
        });
        Ok(index)
    }

    /// All sources and trees that are to be in the store.
    pub(super) fn finish(self) -> Result<(Vec<Source>, Vec<Tree>), GraphError> {
        Ok((self.sources.finish()?, self.trees))
    }
}
