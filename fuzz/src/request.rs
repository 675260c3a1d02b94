//! What clients ask a cache for that is served: a path and the part of an archive.

use windrow_net::serve::{Part, Route};

use crate::shared::seeds as seeds_of;

/// Names of archives lead back to themselves, and parts lie in the whole.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, range) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(Route::Archive(name)) = Route::parse(path) {
        let again = Route::parse(&format!("/{}", name.url()));
        assert_eq!(again, Some(Route::Archive(name)));
    }
    for size in [1, 1000, u64::MAX] {
        if let Part::Bytes { from, length } = Part::parse(range, size) {
            assert!(length > 0 && from.checked_add(length).is_some_and(|end| end <= size));
        }
    }
}

/// Paths of each kind, with parts.
pub fn seeds() -> Vec<Vec<u8>> {
    let part = "0123456789abcdfghijklmnpqrsvwxyz";
    let hash = "1".repeat(52);
    seeds_of([
        "/",
        "/nix-cache-info",
        &format!("/{part}.narinfo"),
        &format!("/{part}.ls"),
        &format!("/nar/{part}-{hash}.nar\nbytes=5-17"),
        &format!("/nar/{part}-{hash}.nar.zst\nbytes=-5"),
        &format!("/log/{part}-a%2bb.drv\nbytes=99999999999999999999-"),
    ])
}
