//! Names in the store directory for what is no store path: made beside one, or about to be deleted.
//! Collectors, Nix's too, go by the name alone; these are the names they leave alone while in use.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use windrow_components::store_path::{HASH_LEN, NAME_MAX_LEN};

/// The longest base name of a store path, in bytes.
const BASE_MAX: usize = HASH_LEN + 1 + NAME_MAX_LEN;

/// `PLACE` and a suffix, in characters that names of store paths have. A collector leaves it alone
/// for as long as the path that belongs at `place` is a temporary root, and deletes it afterwards.
///
/// Both is so because of the hash part. Nix looks at that only if the whole could be a store path,
/// so the name is cut where it would be too long for one: the hash part alone tells paths apart.
pub fn beside(place: &Path, suffix: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().as_bytes();
    let kept = name.len().min(BASE_MAX.saturating_sub(suffix.len()));
    let name = [&name[..kept], suffix.as_bytes()].concat();
    place.with_file_name(OsString::from_vec(name))
}

/// The same with a number that nobody else has, or can foresee: `PLACE.KIND-PID-RANDOM`.
pub fn unique_beside(place: &Path, kind: &str) -> PathBuf {
    beside(
        place,
        &format!(".{kind}-{}-{}", std::process::id(), random()),
    )
}

/// A free name in the same directory for what is to be deleted. No store path begins with a dot,
/// so a collector deletes it if its owner does not.
pub fn trash(place: &Path) -> PathBuf {
    let name = format!(".windrow-trash-{}-{}", std::process::id(), random());
    place.with_file_name(name)
}

fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::store_path::StorePath;

    fn base(path: &Path) -> &str {
        path.file_name().unwrap().to_str().unwrap()
    }

    #[test]
    fn names_have_the_hash_part_of_their_path_and_could_be_store_paths() {
        let hash = "0".repeat(HASH_LEN);
        for name in ["x".to_owned(), "y".repeat(NAME_MAX_LEN)] {
            let place = PathBuf::from(format!("/store/{hash}-{name}"));
            for made in [
                beside(&place, ".chroot"),
                unique_beside(&place, "copy"),
                unique_beside(&place, "rewrite"),
            ] {
                assert_eq!(made.parent(), place.parent());
                let made = StorePath::from_base_name(base(&made)).unwrap();
                assert_eq!(made.hash_part(), hash);
            }
            let trash = trash(&place);
            assert!(base(&trash).starts_with('.') && base(&trash).len() < 64);
        }
        let place = Path::new("/store/00000000000000000000000000000000-x");
        assert_eq!(base(&beside(place, ".tmp")), format!("{hash}-x.tmp"));
        assert_ne!(unique_beside(place, "copy"), unique_beside(place, "copy"));
    }
}
