//! One name in a directory while a tree is walked, and the ways to look at it and to open it.
//! Everything goes through the parent's handle; no method here follows a symbolic link.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat, fstatat};

use rustix::fs::FileType;

use super::stack::Trail;
use crate::error::{Error, Result};

/// The type of a file, as far as the store tells types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device.
    Other,
}

impl Kind {
    /// The type in a `st_mode`.
    pub fn from_mode(mode: libc::mode_t) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            _ => Self::Other,
        }
    }

    /// The type in a directory entry, unless the file system left it out.
    pub(super) fn from_file_type(kind: FileType) -> Option<Self> {
        match kind {
            FileType::Unknown => None,
            FileType::RegularFile => Some(Self::Regular),
            FileType::Directory => Some(Self::Directory),
            FileType::Symlink => Some(Self::Symlink),
            _ => Some(Self::Other),
        }
    }
}

/// A file or directory that [`Node::open_owned`] opened.
#[derive(Debug)]
pub struct Opened {
    /// Open for reading.
    pub handle: OwnedFd,
    /// The metadata from before the opening.
    pub stat: FileStat,
    /// The permission bits it has now: those in `stat`, and more if they had to be widened.
    pub mode: libc::mode_t,
}

/// One name in a directory.
pub struct Node<'a> {
    pub(super) parent: BorrowedFd<'a>,
    pub(super) name: &'a CStr,
    pub(super) hint: Option<Kind>,
    pub(super) trail: &'a Trail<'a>,
}

impl Node<'_> {
    /// The directory that holds it, or the working directory's marker for a root given by path.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent
    }

    /// Its name in [`Node::parent`]; for a root given by path, that path.
    pub fn name(&self) -> &CStr {
        self.name
    }

    /// Whether it is the root of the walk.
    pub fn is_root(&self) -> bool {
        self.trail.is_empty()
    }

    /// Its whole path, for messages only.
    pub fn path(&self) -> PathBuf {
        self.trail.path(self.name)
    }

    /// Turns a failed system call on this node into an [`Error::Io`].
    pub fn failed(&self, action: &'static str) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::io(action, self.path())(errno.into())
    }

    /// Its type: what the directory said, else what the inode says.
    pub fn kind(&self) -> Result<Kind> {
        match self.hint {
            Some(kind) => Ok(kind),
            None => Ok(Kind::from_mode(self.stat()?.st_mode)),
        }
    }

    /// Its metadata, by name.
    pub fn stat(&self) -> Result<FileStat> {
        fstatat(self.parent, self.name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(self.failed("look at"))
    }

    /// The target of a symbolic link.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        readlinkat(self.parent, self.name)
            .map(OsString::into_vec)
            .map_err(self.failed("read the link"))
    }

    /// Opens a directory for reading.
    pub fn open_directory(&self) -> Result<OwnedFd> {
        self.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(self.failed("open the directory"))
    }

    /// Opens a regular file for reading and returns its metadata too.
    ///
    /// Fails with [`Error::TreeChanged`] if it is no longer a regular file.
    pub fn open_file(&self) -> Result<(File, FileStat)> {
        let handle = self.open(READ_FILE).map_err(self.failed("open"))?;
        let stat = self.stat_as(handle.as_fd(), Kind::Regular)?;
        Ok((handle.into(), stat))
    }

    /// Opens a regular file or directory that this process owns, whatever its mode says.
    ///
    /// Where the mode forbids it, the owner's missing bits (read for files; read, write and search
    /// for directories) are added first, on the very inode and not by name. Fails with
    /// [`Error::TreeChanged`] if it is not a `kind`.
    pub fn open_owned(&self, kind: Kind) -> Result<Opened> {
        let flags = if kind == Kind::Directory {
            OFlag::O_RDONLY | OFlag::O_DIRECTORY
        } else {
            READ_FILE
        };
        match self.open(flags) {
            Ok(handle) => {
                let stat = self.stat_as(handle.as_fd(), kind)?;
                Ok(Opened {
                    handle,
                    mode: stat.st_mode & 0o7777,
                    stat,
                })
            }
            Err(Errno::EACCES) => {
                let (pin, stat) = self.pin(kind)?;
                let missing = if kind == Kind::Directory {
                    0o700
                } else {
                    0o400
                };
                let mode = stat.st_mode & 0o7777 | missing;
                let link = magic_link(pin.as_fd());
                fchmodat(
                    AT_FDCWD,
                    link.as_c_str(),
                    Mode::from_bits_truncate(mode),
                    FchmodatFlags::FollowSymlink,
                )
                .map_err(self.failed("make readable"))?;
                let handle = openat(
                    AT_FDCWD,
                    link.as_c_str(),
                    flags | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .map_err(self.failed("open"))?;
                Ok(Opened { handle, stat, mode })
            }
            Err(errno) => Err(self.failed("open")(errno)),
        }
    }

    /// A handle that names the inode but cannot read it, and the metadata; needs no permission on
    /// the file itself. Fails with [`Error::TreeChanged`] if it is not a `kind`.
    pub fn pin(&self, kind: Kind) -> Result<(OwnedFd, FileStat)> {
        let handle = self.open(OFlag::O_PATH).map_err(self.failed("open"))?;
        let stat = self.stat_as(handle.as_fd(), kind)?;
        Ok((handle, stat))
    }

    fn open(&self, flags: OFlag) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.parent, self.name, flags, Mode::empty())
    }

    fn stat_as(&self, handle: BorrowedFd<'_>, kind: Kind) -> Result<FileStat> {
        let stat = fstat(handle).map_err(self.failed("look at"))?;
        if Kind::from_mode(stat.st_mode) == kind {
            Ok(stat)
        } else {
            Err(Error::TreeChanged { path: self.path() })
        }
    }
}

/// Without blocking, in case a fifo was put in the file's place.
const READ_FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// The path under which the kernel gives access to the very inode that `handle` pins.
pub fn magic_link(handle: BorrowedFd<'_>) -> CString {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    CString::new(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::DirStack;
    use super::*;

    /// Opens `name` in every way there is, having been told that it is a `hint`.
    fn open_all(directory: &File, name: &CStr, hint: Kind) -> [Result<()>; 4] {
        let stack: DirStack<'_, ()> = DirStack::new("root".as_ref());
        let node = Node {
            parent: directory.as_fd(),
            name,
            hint: Some(hint),
            trail: stack.trail(),
        };
        [
            node.open_directory().map(drop),
            node.open_file().map(drop),
            node.open_owned(hint).map(drop),
            node.pin(hint).map(drop),
        ]
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_never_opened() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("dir")).unwrap();
        fs::write(directory.path().join("file"), "x").unwrap();
        symlink("dir", directory.path().join("to-dir")).unwrap();
        symlink("file", directory.path().join("to-file")).unwrap();
        let handle = File::open(directory.path()).unwrap();
        for (name, hint) in [
            (c"to-dir", Kind::Directory),
            (c"to-file", Kind::Regular),
            (c"file", Kind::Directory),
            (c"dir", Kind::Regular),
        ] {
            let [directory, file, owned, pin] = open_all(&handle, name, hint);
            assert_eq!(directory.is_ok(), name == c"dir");
            assert_eq!(file.is_ok(), name == c"file");
            assert!(owned.is_err() && pin.is_err(), "{name:?} as {hint:?}");
        }
        let results = open_all(&handle, c"dir", Kind::Directory);
        assert_eq!(
            results.map(|result| result.is_ok()),
            [true, false, true, true]
        );
        let results = open_all(&handle, c"file", Kind::Regular);
        assert_eq!(
            results.map(|result| result.is_ok()),
            [false, true, true, true]
        );
    }
}
