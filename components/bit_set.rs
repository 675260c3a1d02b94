//! Sets of dense numbers, and of paths, as one bit each, that grow with what is put in.

use fixedbitset::FixedBitSet;

use crate::ids::PathId;

/// A set of numbers that are not much greater than there are of them.
#[derive(Debug, Clone, Default)]
pub struct BitSet(FixedBitSet);

impl BitSet {
    /// Whether `number` is in it.
    #[inline]
    pub fn contains(&self, number: usize) -> bool {
        self.0.contains(number)
    }

    /// Puts `number` in; tells whether it was not there.
    #[inline]
    pub fn insert(&mut self, number: usize) -> bool {
        if number >= self.0.len() {
            self.grow(number);
        }
        !self.0.put(number)
    }

    /// Makes room for `number`, and for as many again, as numbers mostly come in their order.
    #[cold]
    fn grow(&mut self, number: usize) {
        self.0.grow((number + 1).max(2 * self.0.len()));
    }

    /// Takes `number` out; tells whether it was there.
    #[inline]
    pub fn remove(&mut self, number: usize) -> bool {
        let there = self.0.contains(number);
        if there {
            self.0.remove(number);
        }
        there
    }

    /// What is in it, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.ones()
    }
}

/// A set of the paths of one run.
#[derive(Debug, Default)]
pub struct PathSet(BitSet);

impl PathSet {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().next().is_none()
    }

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

    /// What is in it, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PathId> {
        self.0.iter().map(PathId::from_index)
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
