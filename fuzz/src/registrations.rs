//! Registrations as `nix-store --load-db` and `--register-validity` read them.

use windrow_store::PathInfo;
use windrow_store::text::registrations::{Reader, write};

use crate::shared::{path, seeds as seeds_of, store};

fn read(bytes: &[u8], hashes: bool) -> (Vec<PathInfo>, bool) {
    let store = store();
    let mut reader = Reader::new(bytes, &store, hashes);
    let mut found = Vec::new();
    loop {
        match reader.read() {
            Ok(Some(info)) => found.push(info),
            Ok(None) => return (found, true),
            Err(error) => {
                assert!(error.to_string().contains("line"), "{error}");
                return (found, false);
            }
        }
    }
}

/// What is read is written and read again as the same, whatever comes after it.
pub fn check(bytes: &[u8]) {
    read(bytes, false);
    let (found, _) = read(bytes, true);
    let mut text = Vec::new();
    for info in &found {
        write(&mut text, info).expect("memory takes it");
    }
    assert_eq!(read(&text, true), (found, true));
}

/// With hashes and without, with references and without.
pub fn seeds() -> Vec<Vec<u8>> {
    let (a, b) = (path("a"), path("b"));
    let hash = "3".repeat(64);
    seeds_of([
        format!("{a}\n{hash}\n120\n\n0\n"),
        format!("{a}\n{hash}\n120\n{b}.drv\n2\n{a}\n{b}\n{b}\n{hash}\n1\n\n0\n"),
        format!("{a}\n{b}.drv\n1\n{b}\n"),
        format!("{a}\n\n18446744073709551615\n"),
    ])
}
