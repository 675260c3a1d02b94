//! What a derivation chooses of the sources for itself.

use std::rc::Rc;

use super::forest::Chosen;

/// The files of one derivation.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// Where its headers are looked for.
    pub(super) pool: u32,
    /// The file that it is for: its number, its path in trees, and its path in its source without
    /// extension.
    pub(super) file: Option<(u32, Rc<str>, String)>,
    /// The tree, once something refers to it.
    pub(super) tree: Option<u32>,
    roots: Rc<[u32]>,
}

impl Own {
    /// What a derivation chooses that may be one of a family.
    pub(super) fn new(chosen: &Chosen, file: Option<(u32, Rc<str>, String)>) -> Self {
        Self {
            pool: chosen.pool,
            file,
            tree: None,
            roots: Rc::clone(&chosen.roots),
        }
    }

    /// The files that its tree has whatever they include.
    pub(super) fn roots(&self) -> Vec<u32> {
        let file = self.file.iter().map(|(file, ..)| *file);
        self.roots.iter().copied().chain(file).collect()
    }
}
