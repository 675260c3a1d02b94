//! Hashes in every spelling.

use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::nix32;

use crate::shared::seeds as seeds_of;

/// Every spelling of what is read is read as the same.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let algos = HashAlgo::ALL.into_iter().map(Some);
    for algo in algos.chain([None]) {
        let Ok(hash) = Hash::parse(text, algo) else {
            continue;
        };
        assert!(algo.is_none_or(|algo| algo == hash.algo()));
        assert_eq!(hash.as_bytes().len(), hash.algo().size());
        for text in [hash.sri(), hash.prefixed_base16(), hash.prefixed_base32()] {
            assert_eq!(Hash::parse(&text, None).ok(), Some(hash), "{text}");
        }
        for text in [hash.base16(), hash.base32()] {
            assert_eq!(Hash::parse(&text, Some(hash.algo())).ok(), Some(hash), "{text}");
        }
    }
    let mut decoded = [0; 20];
    if nix32::decode_into(bytes, &mut decoded).is_some() {
        assert_eq!(nix32::encode(&decoded).as_bytes(), bytes);
    }
}

/// One hash of each algorithm in all spellings.
pub fn seeds() -> Vec<Vec<u8>> {
    let hashes = HashAlgo::ALL.map(|algo| algo.hash(b"x"));
    let spellings = hashes.iter().flat_map(|hash| {
        [hash.sri(), hash.prefixed_base16(), hash.prefixed_base32(), hash.base16(), hash.base32()]
    });
    seeds_of(spellings)
}
