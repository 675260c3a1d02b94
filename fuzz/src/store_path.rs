//! Store paths, their names, and what lies in them.

use windrow_components::derivation::name_from_base;
use windrow_components::store_path::{NAME_MAX_LEN, StorePath, check_name};

use crate::shared::{path, seeds as seeds_of, store};

/// The characters that a name may have, said once more.
fn naive_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    let reserved = |name: &str| {
        matches!(name, "." | "..") || name.starts_with(".-") || name.starts_with("..-")
    };
    !name.is_empty()
        && name.len() <= NAME_MAX_LEN
        && name.bytes().all(allowed)
        && !reserved(name)
}

/// What is read is written as it was; names are those of the rule.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let store = store();
    assert_eq!(check_name(text).is_ok(), naive_name(text), "{text:?}");
    let _ = name_from_base(text);
    if let Ok(path) = StorePath::from_base_name(text) {
        assert_eq!(path.base_name(), text);
        assert_eq!(format!("{}-{}", path.hash_part(), path.name()), text);
        assert!(check_name(path.name()).is_ok());
    }
    if let Ok(path) = store.parse(text) {
        assert_eq!(store.display(&path), text);
        assert_eq!(store.enclosing(text).ok().as_ref(), Some(&path));
    }
    if let Ok(path) = store.enclosing(text) {
        let full = store.display(&path);
        assert!(text == full || text.starts_with(&format!("{full}/")));
    }
    let _ = windrow_components::store_path::placeholder(text);
}

/// Paths and names, right and wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = seeds_of([path("hello-1.0"), path("x.drv"), path("a/bin/b"), path("")]);
    seeds.extend(seeds_of([
        "8rhh74q2l84v5z1fa0n941xhbpgw3ncf-a+b_c?d=e",
        ".x",
        "..-",
        "/nix/store/8rhh74q2l84v5z1fa0n941xhbpgw3nce-x",
    ]));
    seeds
}
