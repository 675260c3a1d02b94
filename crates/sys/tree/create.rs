//! Growing a new tree through directory handles, for restored archives and copied sources.
//! Every name is created exclusively, so nothing outside the new tree can ever be written.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::open_parent;
use super::stack::DirStack;
use crate::error::{Error, Result};

/// A tree in the making; names are given relative to the directory entered last.
///
/// Modes are the usual 0666 and 0777 less the process's umask, which must leave the owner's bits
/// alone. A tree that failed half-way is left for the caller to delete.
#[derive(Debug)]
pub struct NewTree<'p> {
    parent: OwnedFd,
    root: CString,
    stack: DirStack<'p, ()>,
}

impl<'p> NewTree<'p> {
    /// Prepares a tree at `root`, whose parent must exist; nothing is created yet.
    pub fn new(root: &'p Path) -> Result<Self> {
        let (parent, name) = open_parent(root)?;
        Ok(Self {
            parent,
            root: name,
            stack: DirStack::new(root),
        })
    }

    /// The name of the root, which is what the first thing created must be called.
    pub fn root_name(&self) -> &CStr {
        &self.root
    }

    /// The path that `name` would get, for messages only.
    pub fn path(&self, name: &CStr) -> PathBuf {
        self.stack.trail().path(name)
    }

    /// Creates a directory and enters it.
    pub fn enter(&mut self, name: &CStr) -> Result<()> {
        let failed = |errno: Errno| self.failed("create the directory", name, errno);
        mkdirat(self.here(), name, Mode::from_bits_truncate(0o777)).map_err(failed)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = openat(self.here(), name, flags, Mode::empty()).map_err(failed)?;
        self.stack.push(name.to_owned(), handle, ())
    }

    /// Leaves the directory entered last.
    pub fn leave(&mut self) -> Result<()> {
        self.stack.pop().map(drop)
    }

    /// Creates an empty regular file and opens it for writing.
    pub fn file(&mut self, name: &CStr, executable: bool) -> Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = if executable { 0o777 } else { 0o666 };
        openat(
            self.here(),
            name,
            flags | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(mode),
        )
        .map(File::from)
        .map_err(|errno| self.failed("create", name, errno))
    }

    /// Creates a symbolic link.
    pub fn symlink(&mut self, name: &CStr, target: &CStr) -> Result<()> {
        symlinkat(target, self.here(), name)
            .map_err(|errno| self.failed("create the link", name, errno))
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.handle().unwrap_or(self.parent.as_fd())
    }

    fn failed(&self, action: &'static str, name: &CStr, errno: Errno) -> Error {
        Error::io(action, self.path(name))(errno.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_that_exists_is_overwritten_or_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        symlink(directory.path().join("elsewhere"), &root).unwrap();
        let mut tree = NewTree::new(&root).unwrap();
        let name = tree.root_name().to_owned();
        for result in [
            tree.enter(&name),
            tree.file(&name, false).map(drop),
            tree.symlink(&name, c"target"),
        ] {
            let error = result.unwrap_err();
            assert!(
                matches!(&error, Error::Io { path, .. } if *path == root),
                "{error}"
            );
        }
        assert!(!directory.path().join("elsewhere").exists());

        fs::remove_file(&root).unwrap();
        tree.enter(&name).unwrap();
        tree.file(c"file", true).unwrap();
        assert!(tree.file(c"file", true).is_err());
        tree.leave().unwrap();
        assert!(root.join("file").is_file());
    }
}
