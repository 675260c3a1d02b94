//! Deleting trees that a builder may have made hostile: of any depth, with directories nobody may
//! enter, with files that are immutable, and with links or directories being exchanged at the same
//! time.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::flags;
use super::node::{Kind, Node, Opened};
use super::open_parent;
use super::walk::{Order, Visitor, walk_in};
use crate::error::{Error, Result};

/// How often a deletion is begun. Whoever else deletes gets further each time.
const ATTEMPTS: u32 = 1000;

/// Deletes a file, link or whole directory and returns the bytes freed: the sizes of the files
/// whose last link went.
///
/// What is missing, be it `path` itself or an entry that another process deletes at the same time,
/// is no error. Links are deleted, never followed. The first failure ends the work.
pub fn delete_path(path: &Path) -> Result<u64> {
    delete(path, 1)
}

/// As [`delete_path`], for a path of the store: a file with two names counts as freed, as the other
/// name probably is the one in `.links`, which goes as well.
pub fn delete_store_path(path: &Path) -> Result<u64> {
    delete(path, 2)
}

fn delete(path: &Path, names: u64) -> Result<u64> {
    let mut deleter = Deleter { freed: 0, names };
    walk_what_vanishes(path, &mut deleter)?;
    Ok(deleter.freed)
}

/// Visits a tree that others may delete at the same time, as a collector and the owner of what is
/// to go well may: begins anew wherever a directory vanished while it was open.
fn walk_what_vanishes(path: &Path, visitor: &mut impl Visitor) -> Result<()> {
    let is_gone = |error: &Error| match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    };
    let mut attempt = 1;
    loop {
        let (parent, name) = match open_parent(path) {
            Err(error) if is_gone(&error) => return Ok(()),
            parent => parent?,
        };
        match walk_in(parent.as_fd(), name, path, Order::Any, visitor) {
            Err(error) if is_gone(&error) && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

struct Deleter {
    freed: u64,
    /// How many names a file may have that is freed with one of them.
    names: u64,
}

impl Visitor for Deleter {
    type Dir = ();

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
        let Some(stat) = stat_if_there(node)? else {
            return Ok(None);
        };
        if Kind::from_mode(stat.st_mode) == Kind::Directory {
            let Opened { handle, mode, .. } = node.open_owned(Kind::Directory)?;
            if mode & 0o700 != 0o700 {
                let widen = || fchmod(&handle, Mode::from_bits_truncate(mode | 0o700));
                match widen() {
                    Err(Errno::EPERM) if flags::release_open(handle.as_fd()) => widen(),
                    result => result,
                }
                .map_err(node.failed("make writable"))?;
            }
            return Ok(Some((handle, ())));
        }
        if unlink(node, UnlinkatFlags::NoRemoveDir)? && stat.st_nlink <= self.names {
            self.freed += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(None)
    }

    fn leave(&mut self, node: &Node<'_>, _handle: OwnedFd, _dir: ()) -> Result<()> {
        unlink(node, UnlinkatFlags::RemoveDir).map(drop)
    }
}

fn stat_if_there(node: &Node<'_>) -> Result<Option<FileStat>> {
    match fstatat(node.parent(), node.name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(node.failed("look at")(errno)),
    }
}

/// Whether the name was still there.
fn unlink(node: &Node<'_>, flag: UnlinkatFlags) -> Result<bool> {
    let once = || unlinkat(node.parent(), node.name(), flag);
    let result = match once() {
        Err(Errno::EPERM) if flags::release(node) => once(),
        result => result,
    };
    match result {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(node.failed("delete")(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_deleted_and_their_targets_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, outside) = (
            directory.path().join("tree"),
            directory.path().join("outside"),
        );
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "gold").unwrap();
        symlink(&outside, tree.join("sub/link")).unwrap();
        symlink(&outside, directory.path().join("link")).unwrap();
        fs::hard_link(outside.join("precious"), tree.join("hard")).unwrap();

        // The size of a link is the length of its target; the hard-linked file frees nothing.
        assert_eq!(
            delete_path(&tree).unwrap(),
            outside.as_os_str().len() as u64
        );
        delete_path(Path::new(&format!("{}/link/", directory.path().display()))).unwrap();
        assert!(!tree.exists());
        assert!(!directory.path().join("link").is_symlink());
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"gold");
    }

    /// Deletes, but somebody else deletes `victim` right after `trigger` was opened.
    struct Vanishing<'a> {
        deleter: Deleter,
        trigger: &'a Path,
        victim: &'a Path,
    }

    impl Visitor for Vanishing<'_> {
        type Dir = ();

        fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
            let opened = self.deleter.visit(node)?;
            if opened.is_some() && node.path() == self.trigger {
                fs::remove_dir_all(self.victim).unwrap();
            }
            Ok(opened)
        }

        fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, dir: ()) -> Result<()> {
            self.deleter.leave(node, handle, dir)
        }
    }

    #[test]
    fn what_others_delete_at_the_same_time_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        // So deep that the way back up is found through the directories themselves.
        let deepest = (0..100).fold(tree.join("b"), |path, _| path.join("d"));
        for (trigger, victim) in [
            (&tree, &tree),
            (&tree.join("a"), &tree.join("a")),
            (&deepest, &tree.join("b")),
            (&deepest, &deepest),
        ] {
            fs::create_dir_all(&deepest).unwrap();
            fs::create_dir_all(tree.join("a/sub")).unwrap();
            let mut visitor = Vanishing {
                deleter: Deleter { freed: 0, names: 1 },
                trigger,
                victim,
            };
            walk_what_vanishes(&tree, &mut visitor).unwrap();
            assert!(!tree.exists(), "{}", victim.display());
        }
    }

    /// Deletes, but puts a link to `outside` in a directory's place right after it was opened.
    struct Disturbed<'a> {
        deleter: Deleter,
        directory: &'a Path,
        outside: &'a Path,
    }

    impl Visitor for Disturbed<'_> {
        type Dir = ();

        fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
            let opened = self.deleter.visit(node)?;
            if node.path() == self.directory {
                fs::rename(self.directory, self.directory.with_extension("moved")).unwrap();
                symlink(self.outside, self.directory).unwrap();
            }
            Ok(opened)
        }

        fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, dir: ()) -> Result<()> {
            self.deleter.leave(node, handle, dir)
        }
    }

    #[test]
    fn a_link_put_in_place_of_a_directory_leads_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        for directory in [&tree.join("sub/below"), &outside.join("below")] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("file"), "gold").unwrap();
        }
        let directory = tree.join("sub");
        let mut disturbed = Disturbed {
            deleter: Deleter { freed: 0, names: 1 },
            directory: &directory,
            outside: &outside,
        };
        let (parent, name) = open_parent(&tree).unwrap();
        let result = walk_in(parent.as_fd(), name, &tree, Order::Any, &mut disturbed);
        assert!(matches!(result, Err(Error::Io { path, .. }) if path == directory));
        assert!(!tree.join("sub.moved/below").exists());
        assert_eq!(fs::read(outside.join("below/file")).unwrap(), b"gold");
    }

    #[test]
    fn closed_directories_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "12345").unwrap();
        fs::set_permissions(tree.join("a/b/file"), Permissions::from_mode(0o000)).unwrap();
        for (path, mode) in [("a/b", 0o000), ("a", 0o500), (".", 0o400)] {
            fs::set_permissions(tree.join(path), Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(delete_path(&tree).unwrap(), 5);
        assert!(!tree.exists());
    }

    #[test]
    fn what_is_missing_is_no_error_and_what_has_no_name_is() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(delete_path(&directory.path().join("nothing")).unwrap(), 0);
        assert_eq!(delete_path(&directory.path().join("no/thing")).unwrap(), 0);
        assert!(matches!(
            delete_path(Path::new("/")),
            Err(Error::NoFileName { .. })
        ));
        let above = directory.path().join("..");
        assert!(matches!(delete_path(&above), Err(Error::NoFileName { .. })));
    }
}
