//! Store paths interned: one arena of base names, found by content, named by dense ids. Knows no
//! store directory.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::Result;
use crate::ids::PathId;
use crate::store_path::{HASH_LEN, StorePath};

/// Texts kept once each, back to back in one arena.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    text: String,
    /// Where each text ends; it starts where the one before ends.
    ends: Vec<usize>,
    found: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    pub(crate) fn get(&self, text: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(text);
        self.found
            .find(hash, |&index| self.text(index as usize) == text)
            .map(|&i| i as usize)
    }

    pub(crate) fn intern(&mut self, text: &str) -> usize {
        let hash = self.hasher.hash_one(text);
        let (arena, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        let text_at = |index: u32| slice(arena, ends, index as usize);
        let entry = self.found.entry(
            hash,
            |&index| text_at(index) == text,
            |&index| hasher.hash_one(text_at(index)),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => *entry.get() as usize,
            hashbrown::hash_table::Entry::Vacant(entry) => {
                let index = self.ends.len();
                entry.insert(u32::try_from(index).expect("fewer than 2^32 texts"));
                self.text.push_str(text);
                self.ends.push(self.text.len());
                index
            }
        }
    }

    pub(crate) fn text(&self, index: usize) -> &str {
        slice(&self.text, &self.ends, index)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], index: usize) -> &'a str {
    let start = if index == 0 { 0 } else { ends[index - 1] };
    &text[start..ends[index]]
}

/// All store paths a run has met.
#[derive(Debug, Default)]
pub struct PathTable {
    base_names: Interner,
}

impl PathTable {
    /// The id of the path `base`, `HASH-NAME`, new or not.
    ///
    /// # Errors
    /// [`crate::Error::BadStorePath`] when it is met for the first time and malformed.
    pub fn intern(&mut self, base: &str) -> Result<PathId> {
        if let Some(index) = self.base_names.get(base) {
            return Ok(PathId::from_index(index));
        }
        StorePath::from_base_name(base)?;
        Ok(PathId::from_index(self.base_names.intern(base)))
    }

    /// The id of a path already checked.
    pub fn intern_path(&mut self, path: &StorePath) -> PathId {
        PathId::from_index(self.base_names.intern(path.base_name()))
    }

    /// `HASH-NAME`.
    pub fn base_name(&self, path: PathId) -> &str {
        self.base_names.text(path.index())
    }

    /// The path by itself.
    ///
    /// # Panics
    /// Never: what was interned has been checked.
    pub fn store_path(&self, path: PathId) -> StorePath {
        StorePath::from_base_name(self.base_name(path)).expect("a path that was checked")
    }

    /// What follows the dash.
    pub fn name(&self, path: PathId) -> &str {
        &self.base_name(path)[HASH_LEN + 1..]
    }

    /// The 32 characters before the dash.
    pub fn hash_part(&self, path: PathId) -> [u8; HASH_LEN] {
        let mut hash = [0; HASH_LEN];
        hash.copy_from_slice(&self.base_name(path).as_bytes()[..HASH_LEN]);
        hash
    }

    /// How many paths there are; their ids are the numbers below.
    pub fn len(&self) -> usize {
        self.base_names.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_id() {
        let mut table = PathTable::default();
        let base = |n: usize| format!("{}-n{n}", "0".repeat(32));
        let ids: Vec<PathId> = (0..1000).map(|n| table.intern(&base(n)).unwrap()).collect();
        for (n, &id) in ids.iter().enumerate() {
            assert_eq!(id.index(), n);
            assert_eq!(table.intern(&base(n)).unwrap(), id);
            assert_eq!(table.base_name(id), base(n));
            assert_eq!(table.name(id), format!("n{n}"));
            assert_eq!(table.store_path(id).base_name(), base(n));
        }
        assert_eq!(table.len(), 1000);
        assert!(table.intern("nonsense").is_err());
        assert_eq!(table.len(), 1000);
    }
}
