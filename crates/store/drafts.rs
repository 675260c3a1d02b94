//! What a store that is only looked at would have if it were written: sources and derivations of
//! graphs, so that what they take can be planned without leaving anything behind.

use hashbrown::{HashMap, HashSet};

/// Paths that were worked out and not written.
#[derive(Debug, Default)]
pub struct Drafts {
    /// The contents of derivations, by full path.
    derivations: HashMap<String, Vec<u8>>,
    /// The full paths of sources.
    sources: HashSet<String>,
}

impl Drafts {
    /// Whether a full path is among them.
    pub fn contains(&self, path: &str) -> bool {
        self.derivations.contains_key(path) || self.sources.contains(path)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.derivations.is_empty() && self.sources.is_empty()
    }

    /// The contents of a derivation.
    pub(crate) fn derivation(&self, path: &str) -> Option<&[u8]> {
        self.derivations.get(path).map(Vec::as_slice)
    }

    pub(crate) fn add_source(&mut self, path: String) {
        self.sources.insert(path);
    }

    pub(crate) fn add_derivation(&mut self, path: String, text: Vec<u8>) {
        self.derivations.insert(path, text);
    }
}
