//! Sets of output names, interned: what a goal is asked for, and what a derivation needs of
//! another.

use hashbrown::HashMap;

use crate::ids::NameId;

/// A set of output names, a row of an [`OutputSets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutputSet(u32);

impl OutputSet {
    /// All outputs, however many there are (in Nix 1.8 the empty set).
    pub const ALL: Self = Self(0);
}

/// The few different sets that a graph has.
#[derive(Debug)]
pub struct OutputSets {
    sets: Vec<Box<[NameId]>>,
    known: HashMap<Box<[NameId]>, OutputSet>,
}

impl Default for OutputSets {
    fn default() -> Self {
        Self {
            sets: vec![Box::default()],
            known: HashMap::new(),
        }
    }
}

impl OutputSets {
    /// The set of exactly these names; without any it is [`OutputSet::ALL`].
    pub fn intern(&mut self, names: &mut Vec<NameId>) -> OutputSet {
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return OutputSet::ALL;
        }
        if let Some(&set) = self.known.get(&names[..]) {
            return set;
        }
        let set = OutputSet(u32::try_from(self.sets.len()).expect("fewer than 2^32 sets"));
        self.sets.push(names[..].into());
        self.known.insert(names[..].into(), set);
        set
    }

    /// The names of a set; none for [`OutputSet::ALL`].
    pub fn names(&self, set: OutputSet) -> &[NameId] {
        &self.sets[set.0 as usize]
    }

    /// Whether `set` asks for the output `name`.
    #[inline]
    pub fn wants(&self, set: OutputSet, name: NameId) -> bool {
        set == OutputSet::ALL || self.names(set).binary_search(&name).is_ok()
    }

    /// The set of everything in either.
    pub fn union(&mut self, one: OutputSet, other: OutputSet) -> OutputSet {
        if one == OutputSet::ALL || other == OutputSet::ALL {
            return OutputSet::ALL;
        }
        if one == other {
            return one;
        }
        let mut names = self.names(one).to_vec();
        names.extend_from_slice(self.names(other));
        self.intern(&mut names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_ends_at_all() {
        let mut sets = OutputSets::default();
        let [out, dev] = [0, 1].map(NameId::from_index);
        let one = sets.intern(&mut vec![out]);
        let other = sets.intern(&mut vec![dev]);
        let both = sets.union(one, other);
        assert_eq!(both, sets.intern(&mut vec![dev, out, dev]));
        assert!(sets.wants(both, out) && sets.wants(both, dev) && !sets.wants(one, dev));
        assert_eq!(sets.union(both, OutputSet::ALL), OutputSet::ALL);
        assert!(sets.wants(OutputSet::ALL, dev));
        assert_eq!(sets.intern(&mut vec![]), OutputSet::ALL);
    }
}
