//! The hash of an archive that has its own hash in it: with zeros in the place of the hash part,
//! and the places hashed behind the archive (Nix's `HashModuloSink`).

use std::io::{self, Write};

use memchr::memmem;
use windrow_components::hash::{Hash, HashAlgo, Hasher};

use super::scan::HASH_PART;

/// Hashes what is written to it as if there were zeros for a hash part.
#[derive(Debug)]
pub struct ModuloHasher {
    hasher: Hasher,
    part: [u8; HASH_PART],
    /// Bytes that may be the beginning of the hash part.
    held: Vec<u8>,
    /// How many bytes came before them.
    offset: u64,
    /// Where the hash part stood.
    places: Vec<u64>,
}

impl ModuloHasher {
    /// A hasher that leaves out the hash part `part`.
    pub fn new(algo: HashAlgo, part: [u8; HASH_PART]) -> Self {
        Self {
            hasher: algo.hasher(),
            part,
            held: Vec::new(),
            offset: 0,
            places: Vec::new(),
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let found: Vec<usize> = memmem::find_iter(&self.held, &self.part).collect();
        for at in found {
            self.held[at..at + HASH_PART].fill(0);
            self.places.push(self.offset + at as u64);
        }
        self.pass(self.held.len().saturating_sub(HASH_PART - 1));
    }

    fn pass(&mut self, count: usize) {
        self.hasher.update(&self.held[..count]);
        self.held.drain(..count);
        self.offset += count as u64;
    }

    /// The hash of all bytes written.
    pub fn finish(mut self) -> Hash {
        self.pass(self.held.len());
        for place in self.places {
            self.hasher.update(format!("|{place}").as_bytes());
        }
        self.hasher.finish()
    }
}

impl Write for ModuloHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PART: [u8; 32] = *b"0123456789abcdfghijklmnpqrsvwxyz";

    proptest! {
        #[test]
        fn it_is_the_hash_of_what_it_stands_for(
            words in prop::collection::vec(
                prop_oneof![Just(PART.to_vec()), prop::collection::vec(any::<u8>(), 0..40),
                    Just(PART[..20].to_vec())],
                0..12,
            ),
            chunk in 1_usize..80,
        ) {
            let bytes = words.concat();
            let mut hasher = ModuloHasher::new(HashAlgo::Sha256, PART);
            for part in bytes.chunks(chunk) {
                hasher.write_all(part).unwrap();
            }
            // One after the other, by hand.
            let mut model = bytes.clone();
            let mut places = String::new();
            while let Some(at) = memmem::find(&model, &PART) {
                model[at..at + 32].fill(0);
                places += &format!("|{at}");
            }
            model.extend(places.into_bytes());
            prop_assert_eq!(hasher.finish(), HashAlgo::Sha256.hash(&model));
        }
    }
}
