//! Texts kept back to back, named by their places in the order in which they came; and such with a
//! table, which keeps each once.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts back to back. One costs its bytes and four more.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: String,
    ends: Vec<u32>,
}

impl Texts {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the bytes would be more than can be counted with one more text.
    pub(super) fn is_full(&self, text: &str) -> bool {
        u32::try_from(self.bytes.len() + text.len()).is_err()
    }

    /// Adds a text; there must be room for it.
    pub(super) fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(super) fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[index] as usize]
    }

    /// Whether no two are alike, and none is empty.
    pub(super) fn are_unique(&self) -> bool {
        let mut seen = Table::default();
        (0..self.len()).all(|index| {
            let text = self.get(index);
            !text.is_empty() && seen.insert(self, text, index as u32) == index as u32
        })
    }
}

/// Numbers of texts by what they are.
#[derive(Debug, Default)]
struct Table {
    found: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Table {
    /// The number of a text that is among `texts` already, else `new`.
    fn insert(&mut self, texts: &Texts, text: &str, new: u32) -> u32 {
        let hash = self.hasher.hash_one(text);
        let is_it = |&number: &u32| texts.get(number as usize) == text;
        let hash_of = |&number: &u32| self.hasher.hash_one(texts.get(number as usize));
        *self.found.entry(hash, is_it, hash_of).or_insert(new).get()
    }

    fn find(&self, texts: &Texts, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        let is_it = |&number: &u32| texts.get(number as usize) == text;
        self.found.find(hash, is_it).copied()
    }
}

/// Texts of which each is kept once, and numbered as it is first met.
#[derive(Debug, Default)]
pub(super) struct Interned {
    texts: Texts,
    table: Table,
}

impl Interned {
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The number of a text; none if there are too many bytes.
    pub(super) fn intern(&mut self, text: &str) -> Option<u32> {
        if self.texts.is_full(text) {
            return self.find(text);
        }
        let new = self.len() as u32;
        let number = self.table.insert(&self.texts, text, new);
        if number == new {
            self.texts.push(text);
        }
        Some(number)
    }

    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.table.find(&self.texts, text)
    }

    pub(super) fn get(&self, number: u32) -> &str {
        self.texts.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_kept_once(words in prop::collection::vec("[ab\u{e9}]{0,3}", 0..60)) {
            let mut interned = Interned::default();
            let mut naive: HashMap<&str, u32> = HashMap::new();
            for word in &words {
                prop_assert_eq!(interned.find(word), naive.get(&**word).copied());
                let next = naive.len() as u32;
                let number = *naive.entry(word).or_insert(next);
                prop_assert_eq!(interned.intern(word), Some(number));
                prop_assert_eq!(interned.get(number), word);
            }
            let mut texts = Texts::default();
            words.iter().for_each(|word| texts.push(word));
            let unique = naive.len() == words.len() && !naive.contains_key("");
            prop_assert_eq!(texts.are_unique(), unique);
        }
    }
}
