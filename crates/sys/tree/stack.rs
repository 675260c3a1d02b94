//! The chain of directories from a tree's root to where the work is, with few of them open.
//! Ancestors beyond the limit are closed and found again through "..", by their identity.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use crate::error::{Error, Result};

/// How many directory handles one stack keeps open.
const OPEN_MAX: usize = 32;

/// The names from the root of a tree down to one of its directories.
#[derive(Debug)]
pub struct Trail<'p> {
    root: &'p Path,
    /// The first is the root's own, which `root` already ends with.
    names: Vec<CString>,
}

impl Trail<'_> {
    /// Whether the walk has not entered the root.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The path of `name` within the directory the trail leads to, for messages only. With an
    /// empty trail, `name` is the root's.
    pub fn path(&self, name: &CStr) -> PathBuf {
        let mut path = self.root.to_owned();
        let below = self
            .names
            .iter()
            .map(CString::as_c_str)
            .chain([name])
            .skip(1);
        path.extend(below.map(|name| OsStr::from_bytes(name.to_bytes())));
        path
    }
}

/// A directory identified beyond its name.
type Inode = (libc::dev_t, libc::ino_t);

/// A directory that was left, as [`DirStack::pop`] returns it.
#[derive(Debug)]
pub struct Left<T> {
    /// Its name in its parent.
    pub name: CString,
    /// Still open.
    pub handle: OwnedFd,
    /// What was kept for it.
    pub state: T,
}

/// The open directories of a walk, innermost last, each with a `T` of the walker's.
///
/// The innermost one always has an open handle.
#[derive(Debug)]
pub struct DirStack<'p, T> {
    trail: Trail<'p>,
    states: Vec<T>,
    /// The outermost directories, whose handles were given up.
    closed: Vec<Inode>,
    /// The innermost directories; empty only if the whole stack is.
    open: VecDeque<OwnedFd>,
    /// How many of these there may be.
    open_max: usize,
}

impl<'p, T> DirStack<'p, T> {
    /// An empty stack for the tree at `root`; the path is used in messages only.
    pub fn new(root: &'p Path) -> Self {
        let trail = Trail {
            root,
            names: Vec::new(),
        };
        Self {
            trail,
            states: Vec::new(),
            closed: Vec::new(),
            open: VecDeque::new(),
            open_max: open_max(crate::limits::descriptors()),
        }
    }

    /// The names of the directories on the stack.
    pub fn trail(&self) -> &Trail<'p> {
        &self.trail
    }

    /// The innermost directory.
    pub fn top(&mut self) -> Option<(BorrowedFd<'_>, &mut T)> {
        Some((self.open.back()?.as_fd(), self.states.last_mut()?))
    }

    /// The handle of the innermost directory.
    pub fn handle(&self) -> Option<BorrowedFd<'_>> {
        self.open.back().map(OwnedFd::as_fd)
    }

    /// Enters `handle`, which is `name` within the innermost directory.
    pub fn push(&mut self, name: CString, handle: OwnedFd, state: T) -> Result<()> {
        if self.open.len() >= self.open_max
            && let Some(outermost) = self.open.front()
        {
            let inode = identify(outermost.as_fd())
                .map_err(|errno| Error::io("look at", self.trail.path(&name))(errno.into()))?;
            self.closed.push(inode);
            self.open.pop_front();
        }
        self.trail.names.push(name);
        self.states.push(state);
        self.open.push_back(handle);
        Ok(())
    }

    /// Leaves the innermost directory; its parent, if any, is open again afterwards.
    ///
    /// Fails with [`Error::TreeChanged`] if the directory has been moved away from its parent.
    pub fn pop(&mut self) -> Result<Option<Left<T>>> {
        let (Some(name), Some(handle), Some(state)) = (
            self.trail.names.pop(),
            self.open.pop_back(),
            self.states.pop(),
        ) else {
            return Ok(None);
        };
        if self.open.is_empty()
            && let Some(expected) = self.closed.pop()
        {
            let failed = |errno: Errno| {
                Error::io("return to the parent of", self.trail.path(&name))(errno.into())
            };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let parent = openat(&handle, c"..", flags, Mode::empty()).map_err(failed)?;
            if identify(parent.as_fd()).map_err(failed)? != expected {
                return Err(Error::TreeChanged {
                    path: self.trail.path(&name),
                });
            }
            self.open.push_back(parent);
        }
        Ok(Some(Left {
            name,
            handle,
            state,
        }))
    }
}

/// How many directories of a walk are open at a time where that number of descriptors is allowed:
/// others walk at the same time, and need some as well.
fn open_max(descriptors: usize) -> usize {
    (descriptors / 16).clamp(2, OPEN_MAX)
}

fn identify(handle: BorrowedFd<'_>) -> Result<Inode, Errno> {
    fstat(handle).map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn enter(stack: &mut DirStack<'_, usize>, root: &Path, depth: usize) {
        let name = if depth == 0 {
            root.as_os_str()
        } else {
            OsStr::new("d")
        };
        let name = CString::new(name.as_bytes()).unwrap();
        let handle = match stack.handle() {
            Some(parent) => openat(parent, name.as_c_str(), OFlag::O_RDONLY, Mode::empty()),
            None => nix::fcntl::open(root, OFlag::O_RDONLY, Mode::empty()),
        };
        stack.push(name, handle.unwrap(), depth).unwrap();
    }

    fn chain(root: &Path, depth: usize) -> PathBuf {
        let deepest = (0..depth).fold(root.to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&deepest).unwrap();
        deepest
    }

    #[test]
    fn few_directories_are_open_where_few_descriptors_are_allowed() {
        assert_eq!([16, 64, 1024, usize::MAX].map(open_max), [2, 4, 32, 32]);
    }

    #[test]
    fn closed_ancestors_come_back_as_themselves() {
        [OPEN_MAX, 2].into_iter().for_each(leave_closed_ancestors);
    }

    fn leave_closed_ancestors(open_max: usize) {
        let directory = tempfile::tempdir().unwrap();
        chain(directory.path(), 100);
        let mut stack = DirStack::new(directory.path());
        stack.open_max = open_max;
        for depth in 0..=100 {
            enter(&mut stack, directory.path(), depth);
            assert!(stack.open.len() <= open_max);
        }
        for depth in (0..=100).rev() {
            let path = stack.trail().path(c"x");
            let here = fstat(stack.handle().unwrap()).unwrap();
            assert_eq!(
                fs::metadata(path.parent().unwrap()).unwrap().ino(),
                here.st_ino
            );
            assert_eq!(stack.pop().unwrap().unwrap().state, depth);
        }
        assert!(stack.pop().unwrap().is_none());
    }

    #[test]
    fn a_directory_moved_elsewhere_does_not_lead_the_walk_away() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (
            directory.path().join("root"),
            directory.path().join("outside"),
        );
        chain(&root, 60);
        fs::create_dir(&outside).unwrap();
        let mut stack = DirStack::new(&root);
        for depth in 0..=60 {
            enter(&mut stack, &root, depth);
        }
        // The parent of level 29 is closed when the walk returns to it.
        let victim = (0..29).fold(root.clone(), |path, _| path.join("d"));
        fs::rename(&victim, outside.join("d")).unwrap();
        let error = loop {
            match stack.pop() {
                Ok(left) => assert!(left.unwrap().state > 29),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::TreeChanged { path } if path == victim));
    }
}
