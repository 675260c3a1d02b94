//! A set of paths as one bit each: looking one up costs the same however many there are. Knows only their ids.

use crate::ids::PathId;

const BITS: usize = u64::BITS as usize;

/// A set of the paths of one run.
#[derive(Debug, Default)]
pub struct PathSet {
    words: Vec<u64>,
}

impl PathSet {
    /// Whether `path` is in it.
    #[inline]
    pub fn contains(&self, path: PathId) -> bool {
        let word = self.words.get(path.index() / BITS);
        word.is_some_and(|word| word >> (path.index() % BITS) & 1 == 1)
    }

    /// Puts `path` in; tells whether it was not there.
    #[inline]
    pub fn insert(&mut self, path: PathId) -> bool {
        let index = path.index() / BITS;
        if self.words.len() <= index {
            self.words.resize(index + 1, 0);
        }
        let word = &mut self.words[index];
        let before = std::mem::replace(word, *word | 1 << (path.index() % BITS));
        before != *word
    }

    /// Takes `path` out.
    #[inline]
    pub fn remove(&mut self, path: PathId) {
        if let Some(word) = self.words.get_mut(path.index() / BITS) {
            *word &= !(1 << (path.index() % BITS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in() {
        let mut set = PathSet::default();
        let ids = [0, 63, 64, 1000].map(PathId::from_index);
        for id in ids {
            assert!(!set.contains(id));
            set.remove(id);
            assert!(set.insert(id));
            assert!(!set.insert(id));
            assert!(set.contains(id));
        }
        set.remove(ids[1]);
        assert_eq!(ids.map(|id| set.contains(id)), [true, false, true, true]);
        assert!(!set.contains(PathId::from_index(65)));
    }
}
