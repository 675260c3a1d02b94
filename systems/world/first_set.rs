//! A set of numbers below a bound of which the smallest is taken: a bit each, and above them words
//! that say which words below are not empty, 64 to 1. Adding and taking touch one word a level, of
//! which a million numbers have four.

const BITS: usize = u64::BITS as usize;

/// The set.
#[derive(Debug, Default)]
pub(super) struct FirstSet {
    /// The numbers' own bits.
    words: Vec<u64>,
    /// For each level the bits of those words below that are not empty; a single word last.
    above: Vec<Vec<u64>>,
    /// The first word that is not empty, if one is.
    first: usize,
}

impl FirstSet {
    /// An empty set for numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        let words = vec![0; bound.div_ceil(BITS)];
        let mut above: Vec<Vec<u64>> = Vec::new();
        let mut below = words.len();
        while below > 1 {
            below = below.div_ceil(BITS);
            above.push(vec![0; below]);
        }
        Self {
            words,
            above,
            first: 0,
        }
    }

    /// Adds a number.
    ///
    /// # Panics
    /// If it is not below the bound.
    #[inline]
    pub(super) fn insert(&mut self, number: usize) {
        let at = number / BITS;
        if at < self.first || self.words[self.first] == 0 {
            self.first = at;
        }
        let word = &mut self.words[at];
        let before = std::mem::replace(word, *word | 1 << (number % BITS));
        if before == 0 {
            self.note_filled(at);
        }
    }

    fn note_filled(&mut self, mut at: usize) {
        for level in &mut self.above {
            let word = &mut level[at / BITS];
            let before = std::mem::replace(word, *word | 1 << (at % BITS));
            if before != 0 {
                return;
            }
            at /= BITS;
        }
    }

    /// Takes the smallest number.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<usize> {
        let first = self.first;
        let word = self.words.get_mut(first)?;
        if *word == 0 {
            return None;
        }
        let number = first * BITS + word.trailing_zeros() as usize;
        *word &= *word - 1;
        if *word == 0 {
            self.note_emptied(first);
        }
        Some(number)
    }

    /// The first word is empty now: finds the next.
    fn note_emptied(&mut self, mut at: usize) {
        for level in &mut self.above {
            let word = &mut level[at / BITS];
            *word &= !(1 << (at % BITS));
            if *word != 0 {
                break;
            }
            at /= BITS;
        }
        let mut first = 0;
        for level in self.above.iter().rev() {
            let word = level[first];
            if word == 0 {
                return;
            }
            first = first * BITS + word.trailing_zeros() as usize;
        }
        self.first = first;
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.words.get(self.first).is_none_or(|&word| word == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_smallest_comes_first(
            bound in prop_oneof![0..70_usize, 4000..5000_usize, 262_100..262_200_usize],
            steps in proptest::collection::vec(any::<Option<prop::sample::Index>>(), 0..200),
        ) {
            let mut set = FirstSet::new(bound);
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Some(index) if bound > 0 => {
                        let number = index.index(bound);
                        set.insert(number);
                        model.insert(number);
                    }
                    _ => prop_assert_eq!(set.pop(), model.pop_first()),
                }
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
            while let Some(number) = model.pop_first() {
                prop_assert_eq!(set.pop(), Some(number));
            }
            prop_assert_eq!(set.pop(), None);
        }
    }
}
