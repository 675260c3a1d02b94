//! Sets of dense numbers, and of paths, as one bit each: looking one up costs the same however many there are.

use crate::ids::PathId;

const BITS: usize = u64::BITS as usize;

/// A set of numbers that are not much greater than there are of them.
#[derive(Debug, Default)]
pub struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// Whether `number` is in it.
    #[inline]
    pub fn contains(&self, number: usize) -> bool {
        let word = self.words.get(number / BITS);
        word.is_some_and(|word| word >> (number % BITS) & 1 == 1)
    }

    /// Puts `number` in; tells whether it was not there.
    #[inline]
    pub fn insert(&mut self, number: usize) -> bool {
        let index = number / BITS;
        if self.words.len() <= index {
            self.words.resize(index + 1, 0);
        }
        let word = &mut self.words[index];
        let before = std::mem::replace(word, *word | 1 << (number % BITS));
        before != *word
    }

    /// Takes `number` out; tells whether it was there.
    #[inline]
    pub fn remove(&mut self, number: usize) -> bool {
        let Some(word) = self.words.get_mut(number / BITS) else {
            return false;
        };
        let before = std::mem::replace(word, *word & !(1 << (number % BITS)));
        before != *word
    }
}

/// A set of the paths of one run.
#[derive(Debug, Default)]
pub struct PathSet(BitSet);

impl PathSet {
    /// Whether `path` is in it.
    #[inline]
    pub fn contains(&self, path: PathId) -> bool {
        self.0.contains(path.index())
    }

    /// Puts `path` in; tells whether it was not there.
    #[inline]
    pub fn insert(&mut self, path: PathId) -> bool {
        self.0.insert(path.index())
    }

    /// Takes `path` out; tells whether it was there.
    #[inline]
    pub fn remove(&mut self, path: PathId) -> bool {
        self.0.remove(path.index())
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
            assert!(!set.remove(id));
            assert!(set.insert(id));
            assert!(!set.insert(id));
            assert!(set.contains(id));
        }
        assert!(set.remove(ids[1]));
        assert!(!set.remove(ids[1]));
        assert_eq!(ids.map(|id| set.contains(id)), [true, false, true, true]);
        assert!(!set.contains(PathId::from_index(65)));
    }
}
