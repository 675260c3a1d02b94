//! Puts a new tree where a directory lies that can't be renamed, entry by entry: the second way of
//! `replace`. A directory of an overlay's lower layer, such as one that came with a container's
//! image, can't be (EXDEV); the files in it can be replaced.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use hashbrown::HashSet;
use windrow_sys::tree::delete_path;

use super::canonical::{InodesSeen, canonicalise};
use super::replace::move_tree;
use crate::error::{Error, Result};

/// Directories with longer paths are replaced whole, so that no name in them is too long for the
/// system, and no stack too short.
const PATH_LEN_MAX: usize = 1024;

/// Makes `place` what `new` is, which is gone afterwards. Every file is replaced in one step and
/// nothing is deleted before what is to be there has come, so whoever is interrupted, even by a
/// kill, leaves each file old or new; done again, it goes on. Only where a directory takes the
/// place of a file, or a file that of a directory, nothing lies there for a moment.
///
/// # Errors
/// When something can't be moved or deleted.
pub(super) fn replace_in_place(place: &Path, new: &Path) -> Result<()> {
    put(place, new)?;
    canonicalise(place, None, &mut InodesSeen::new())?;
    Ok(())
}

fn put(place: &Path, new: &Path) -> Result<()> {
    let (old_is_dir, new_is_dir) = (is_dir(place), is_dir(new));
    if old_is_dir && new_is_dir && place.as_os_str().len() < PATH_LEN_MAX {
        return merge(place, new);
    }
    if old_is_dir || new_is_dir {
        delete_path(place)?;
    }
    move_tree(new, place)
}

fn merge(place: &Path, new: &Path) -> Result<()> {
    for dir in [place, new] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir, mode).map_err(Error::io("set the mode of", dir))?;
    }
    let wanted = names(new)?;
    for name in &wanted {
        put(&place.join(name), &new.join(name))?;
    }
    for name in names(place)?.difference(&wanted) {
        delete_path(&place.join(name))?;
    }
    fs::remove_dir(new).map_err(Error::io("delete", new))
}

fn names(dir: &Path) -> Result<HashSet<OsString>> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let names = entries.map(|entry| Ok(entry?.file_name()));
    let names: io::Result<HashSet<OsString>> = names.collect();
    names.map_err(Error::io("list", dir))
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;
    use crate::nar::digest::hash_nar;

    /// Plants what a description says: `name/` is a directory, `name->target` a link, and
    /// `name=contents` a file.
    fn plant(root: &Path, entries: &[&str]) {
        fs::create_dir(root).unwrap();
        for entry in entries {
            if let Some(dir) = entry.strip_suffix('/') {
                fs::create_dir_all(root.join(dir)).unwrap();
            } else if let Some((name, target)) = entry.split_once("->") {
                symlink(target, root.join(name)).unwrap();
            } else if let Some((name, contents)) = entry.split_once('=') {
                fs::write(root.join(name), contents).unwrap();
            }
        }
    }

    #[test]
    fn a_directory_becomes_another_entry_by_entry() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let old = [
            "same/",
            "same/deep/",
            "same/deep/file=old",
            "gone/",
            "gone/file=",
            "extra=x",
            "was-file=x",
            "was-dir/",
            "was-dir/file=x",
            "link->nowhere",
            "kept=kept",
        ];
        let new = [
            "same/",
            "same/deep/",
            "same/deep/file=new",
            "same/more=",
            "was-dir=x",
            "was-file/",
            "was-file/in=x",
            "link->elsewhere",
            "kept=kept",
            "empty/",
        ];
        plant(&at("place"), &old);
        for path in [at("new"), at("pattern")] {
            plant(&path, &new);
            canonicalise(&path, None, &mut InodesSeen::new()).unwrap();
        }
        canonicalise(&at("place"), None, &mut InodesSeen::new()).unwrap();
        let inode = |path: &str| fs::metadata(at(path)).unwrap().ino();
        let before = inode("place/same/deep");
        replace_in_place(&at("place"), &at("new")).unwrap();
        assert_eq!(
            hash_nar(&at("place")).unwrap(),
            hash_nar(&at("pattern")).unwrap()
        );
        assert_eq!(inode("place/same/deep"), before, "no directory was renamed");
        assert!(!at("new").exists());
        let metadata = fs::metadata(at("place/same")).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o555, 1));
    }

    #[test]
    fn what_is_too_deep_to_be_named_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for root in ["place", "new", "pattern"] {
            crate::files::sample::plant_chain(&at(root), 1500);
        }
        fs::set_permissions(at("new"), Permissions::from_mode(0o755)).unwrap();
        replace_in_place(&at("place"), &at("new")).unwrap();
        assert_eq!(
            hash_nar(&at("place")).unwrap(),
            hash_nar(&at("pattern")).unwrap()
        );
        for root in ["place", "pattern"] {
            delete_path(&at(root)).unwrap();
        }
    }
}
