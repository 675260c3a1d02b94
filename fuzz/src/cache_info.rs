//! What caches say of themselves.

use windrow_net::cache_info::CacheInfo;

use crate::shared::seeds as seeds_of;

/// What is read is written and read as the same.
pub fn check(bytes: &[u8]) {
    match CacheInfo::parse(bytes) {
        Ok(info) => assert_eq!(CacheInfo::parse(info.to_string().as_bytes()), Ok(info)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Files of caches.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n",
        "StoreDir: /nix/store",
        "Priority:-7\r\nX: y\nno colon\n",
        "<!DOCTYPE html>\n",
    ])
}
