//! Puts a new tree where a valid path lies, so that at no time nothing lies there (Nix 1.8:
//! `replaceValidPath`, which first took the old one away).

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::{Error, Result};
use crate::files::beside::unique_beside;
use crate::files::canonical::{InodesSeen, canonicalise};
use crate::files::copy::copy_tree;
use crate::files::in_place::replace_in_place;
use windrow_sys::interrupt::Shield;
use windrow_sys::tree::delete_path;

/// Replaces `place`, which may be missing, by `new` on the same file system; `new` is gone
/// afterwards. The old tree is deleted, or stays as `PLACE.old-PID-RAND` for a collector to delete
/// if that fails. Where the old one can't be renamed, as a directory of an overlay's lower layer
/// can't, what is in it is replaced instead.
///
/// # Errors
/// When the new one can't take its place; the old one is there still, or again, or if it could not
/// be renamed, some of its files are new.
///
/// Nix 1.8: `replaceValidPath`.
pub fn replace_valid_path(place: &Path, new: &Path) -> Result<()> {
    let shield = Shield::new();
    let opened = open_for_moving(new);
    let old = replace_with(place, new, exchange)?;
    if opened {
        close_again(place)?;
    }
    drop(shield);
    delete_old(old.as_deref());
    Ok(())
}

/// Renames a tree, even a directory that its owner may not write to, which moving it elsewhere
/// takes. One that can't be renamed there is copied, and deleted where it was: `to` must not be
/// valid yet, unless it is a file or link.
///
/// # Errors
/// When it can neither be renamed nor copied.
pub fn move_tree(from: &Path, to: &Path) -> Result<()> {
    let opened = open_for_moving(from);
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return move_copy(from, to),
        renamed => renamed.map_err(Error::io("move an output to", to))?,
    }
    if opened {
        close_again(to)?;
    }
    Ok(())
}

fn move_copy(from: &Path, to: &Path) -> Result<()> {
    delete_path(to)?;
    copy_tree(from, to)?;
    canonicalise(to, None, &mut InodesSeen::new())?;
    // What stays bears a name that collectors delete.
    let _ = delete_path(from);
    Ok(())
}

/// Makes a directory writable to an owner who is not root; whether it has done so.
fn open_for_moving(path: &Path) -> bool {
    if nix::unistd::geteuid().is_root() {
        return false;
    }
    let closed = std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.permissions().mode() & 0o200 == 0);
    closed && std::fs::set_permissions(path, Permissions::from_mode(0o755)).is_ok()
}

fn close_again(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o555))
        .map_err(Error::io("set the mode of", path))
}

/// Where the old one lies now, to be deleted, if it was there and could be renamed.
fn replace_with(
    place: &Path,
    new: &Path,
    exchange: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<Option<PathBuf>> {
    // Protected by the same root while it is there.
    let old = unique_beside(place, "old");
    match exchange(new, place) {
        // The old one has the new one's name now, which may be one that someone else would build
        // under.
        Ok(()) => std::fs::rename(new, &old).map_err(moved(place))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_missing(place) => {
            std::fs::rename(new, place).map_err(moved(place))?;
            return Ok(None);
        }
        // Not every file system can exchange. For a moment, then, nothing lies there.
        Err(_) => {
            match std::fs::rename(place, &old) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    return replace_in_place(place, new).map(|()| None);
                }
                renamed => renamed.map_err(moved(place))?,
            }
            if let Err(error) = std::fs::rename(new, place) {
                std::fs::rename(&old, place).map_err(moved(place))?;
                return Err(moved(place)(error));
            }
        }
    }
    Ok(Some(old))
}

fn delete_old(old: Option<&Path>) {
    // What stays bears a name that collectors delete.
    let _ = old.map(delete_path);
}

fn is_missing(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn moved(place: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io("replace the path", place)
}

/// Lets two paths change places in one step.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn cannot(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_new_one_takes_the_place_and_nothing_else_is_left() {
        for exchanges in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let (place, new) = (directory.path().join("place"), directory.path().join("new"));
            fs::create_dir(&place).unwrap();
            fs::write(place.join("file"), "old").unwrap();
            fs::write(&new, "new").unwrap();
            if exchanges {
                replace_valid_path(&place, &new).unwrap();
            } else {
                delete_old(replace_with(&place, &new, cannot).unwrap().as_deref());
            }
            assert_eq!(fs::read_to_string(&place).unwrap(), "new");
            assert_eq!(names(directory.path()), ["place"]);
        }
    }

    #[test]
    fn a_missing_place_is_filled() {
        let directory = tempfile::tempdir().unwrap();
        let (place, new) = (directory.path().join("place"), directory.path().join("new"));
        fs::write(&new, "new").unwrap();
        replace_valid_path(&place, &new).unwrap();
        assert_eq!(names(directory.path()), ["place"]);
    }

    #[test]
    fn the_old_one_is_put_back_when_there_is_no_new_one() {
        for exchanges in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let (place, new) = (directory.path().join("place"), directory.path().join("new"));
            fs::write(&place, "old").unwrap();
            let result = if exchanges {
                replace_valid_path(&place, &new)
            } else {
                replace_with(&place, &new, cannot).map(|old| delete_old(old.as_deref()))
            };
            assert!(result.unwrap_err().to_string().contains("place'"));
            assert_eq!(fs::read_to_string(&place).unwrap(), "old");
            assert_eq!(names(directory.path()), ["place"]);
        }
    }
}
