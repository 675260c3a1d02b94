//! Paths made canonical by their text alone, as Nix does with the paths it is configured with.
//! Knows nothing of the file system: a symlink in front of `..` is not followed.

use std::path::{Component, Path, PathBuf};

/// Returns `path` without trailing or double slashes, `.` and `..`, or `None` if it isn't absolute.
///
/// `..` at the root stays at the root (`canonPath` of Nix, without resolving symlinks).
pub fn canonicalise(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_nix() {
        for (given, clean) in [
            ("/a/../b//", "/b"),
            ("/a/b/./c/", "/a/b/c"),
            ("/", "/"),
            ("/../x", "/x"),
            ("//a", "/a"),
            ("/a/...", "/a/..."),
        ] {
            let result = canonicalise(Path::new(given));
            assert_eq!(result.as_deref(), Some(Path::new(clean)), "{given}");
        }
        for relative in ["", "a", "./a", "../a"] {
            assert_eq!(canonicalise(Path::new(relative)), None, "{relative}");
        }
    }

    proptest! {
        #[test]
        fn is_stable_and_clean(path in "/[a./]{0,20}") {
            let once = canonicalise(Path::new(&path)).unwrap();
            prop_assert_eq!(canonicalise(&once).unwrap(), once.clone());
            let text = once.to_str().unwrap();
            prop_assert!(!text.contains("//"));
            prop_assert!(text.split('/').all(|name| name != "." && name != ".."));
            prop_assert!(text == "/" || !text.ends_with('/'));
        }
    }
}
