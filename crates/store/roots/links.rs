//! Indirect roots: symbolic links that keep a path and its closure alive.
//! The rules of Nix's `LocalFSStore::addPermRoot` and `addIndirectRoot`; deletes nothing.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use sha1::{Digest, Sha1};
use windrow_components::nix32;

use crate::Layout;
use crate::error::{Error, Result};
use windrow_sys::names::with_suffix;

/// Links a store path from anywhere outside the store, such as `./result`, and registers the
/// link in `gcroots/auto`, so that the path lives for as long as the link does. Returns the
/// link's absolute path.
///
/// # Errors
/// [`Error::RootExists`] if there is something at the link that isn't a link into the store;
/// [`Error::RootInStore`], [`Error::NotAStorePath`]; [`Error::File`] if a link can't be made.
pub fn add_indirect_root(layout: &Layout, link: &Path, store_path: &str) -> Result<PathBuf> {
    let link = normalise(link)?;
    make_root(layout, &link, store_path)?;
    let name = nix32::encode(&Sha1::digest(link.as_os_str().as_bytes()));
    replace_symlink(&layout.gcroots_dir().join("auto").join(name), &link)?;
    Ok(link)
}

/// Creates a link to a store path, or turns one that points into the store.
fn make_root(layout: &Layout, link: &Path, store_path: &str) -> Result<()> {
    layout.hash_part(store_path)?;
    let in_store = |path: &Path| {
        path.starts_with(&layout.store_dir) || path.starts_with(&layout.real_store_dir)
    };
    if in_store(link) {
        return Err(Error::RootInStore {
            link: link.to_owned(),
        });
    }
    let parent = link.parent().unwrap_or(link);
    fs::create_dir_all(parent).map_err(Error::io("create the directory", parent))?;
    match symlink(store_path, link) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create the symbolic link", link)(error)),
    }
    match fs::read_link(link) {
        Ok(target) if target == Path::new(store_path) => Ok(()),
        Ok(target) if in_store(&target) => replace_symlink(link, Path::new(store_path)),
        _ => Err(Error::RootExists {
            link: link.to_owned(),
        }),
    }
}

/// Puts a link in place at once, whatever was there.
fn replace_symlink(link: &Path, target: &Path) -> Result<()> {
    loop {
        let random = RandomState::new().hash_one(());
        let suffix = format!(".tmp-{}-{random}", std::process::id());
        let name = link.file_name().unwrap_or_default();
        let new = link.with_file_name(with_suffix(name, &suffix));
        match symlink(target, &new) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            made => made.map_err(Error::io("create the symbolic link", &new))?,
        }
        return fs::rename(&new, link).map_err(|error| {
            let _ = fs::remove_file(&new);
            Error::io("rename a symbolic link to", link)(error)
        });
    }
}

/// Makes a path absolute and takes out `.` and `..` by their letters alone: the name of the
/// registration is a hash of this, and links on the way may change.
fn normalise(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(Error::io("find", path))?;
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{scratch, store_path};

    fn store(directory: &tempfile::TempDir) -> Layout {
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        layout
    }

    fn registered(layout: &Layout) -> Vec<PathBuf> {
        let auto = fs::read_dir(layout.gcroots_dir().join("auto")).unwrap();
        auto.map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
            .collect()
    }

    #[test]
    fn an_indirect_root_is_made_and_turned() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let user = directory.path().canonicalize().unwrap().join("home");
        for number in [1, 2, 2] {
            let link = user.join("work/../result");
            let link = add_indirect_root(&layout, &link, &store_path(number)).unwrap();
            assert_eq!(link, user.join("result"));
            assert_eq!(
                fs::read_link(&link).unwrap(),
                Path::new(&store_path(number))
            );
            assert_eq!(registered(&layout), [link]);
        }
        assert_eq!(fs::read_dir(&user).unwrap().count(), 1);
    }

    #[test]
    fn a_link_with_the_longest_name_is_turned() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let link = directory
            .path()
            .canonicalize()
            .unwrap()
            .join("l".repeat(255));
        for number in [1, 2] {
            add_indirect_root(&layout, &link, &store_path(number)).unwrap();
        }
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(&store_path(2)));
    }

    #[test]
    fn what_is_no_link_into_the_store_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let (file, dir) = (directory.path().join("file"), directory.path().join("dir"));
        let foreign = directory.path().join("foreign");
        fs::write(&file, "precious").unwrap();
        fs::create_dir(&dir).unwrap();
        symlink("/nix/store-not", &foreign).unwrap();
        for link in [&file, &dir, &foreign] {
            let error = add_indirect_root(&layout, link, &store_path(1)).unwrap_err();
            assert!(matches!(error, Error::RootExists { .. }), "{error}");
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "precious");
        assert!(registered(&layout).is_empty());
    }

    #[test]
    fn roots_only_where_they_make_sense() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let link = layout.real_store_dir.join("result");
        let error = add_indirect_root(&layout, &link, &store_path(1)).unwrap_err();
        assert!(matches!(error, Error::RootInStore { .. }), "{error}");
        let error =
            add_indirect_root(&layout, &directory.path().join("result"), "/etc").unwrap_err();
        assert!(matches!(error, Error::NotAStorePath { .. }), "{error}");
    }
}
