//! Files of temporary roots that other processes write.

use std::io::Write as _;

use windrow_store::Layout;
use windrow_store::gc::roots::temporary;
use windrow_sys::flock;

use crate::shared::{path, seeds as seeds_of};

/// Every record that has its end is found, as it stands there.
pub fn check(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let layout = Layout {
        store_dir: "/nix/store".to_owned(),
        real_store_dir: root.join("store"),
        state_dir: root.to_owned(),
        log_dir: root.join("log"),
    };
    std::fs::create_dir(layout.temproots_dir()).expect("a directory");
    let mut file = std::fs::File::create_new(layout.temproots_dir().join("7")).expect("a file");
    file.write_all(bytes).expect("it is written");
    // Its owner lives.
    assert!(flock::try_lock_exclusive(&file).expect("it can be locked"));
    let found = temporary(&layout).expect("it can be read");
    let mut naive = Vec::new();
    let mut record = Vec::new();
    for &byte in bytes {
        match byte {
            0 => naive.push(String::from_utf8_lossy(&std::mem::take(&mut record)).into_owned()),
            byte => record.push(byte),
        }
    }
    let found: Vec<String> = found.into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, naive);
}

/// Roots, one of them cut short.
pub fn seeds() -> Vec<Vec<u8>> {
    let (a, b) = (path("a"), path("b"));
    seeds_of([
        format!("{a}\0{b}\0"),
        format!("{a}\0{b}"),
        format!("\0\0{a}\nx\0d"),
        String::new(),
    ])
}
