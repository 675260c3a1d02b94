//! Canonical metadata: what modes, times and owners every file in the store has, so that a path's
//! contents are all that tells it from another. Whatever enters a store passes here: trees through
//! [`canonicalise`], single texts through [`write_canonical`].

mod text;

pub use text::write_canonical;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hashbrown::HashSet;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid};

use windrow_sys::tree::{Kind, Node, Opened, Order, Visitor, magic_link, unsupported, walk};
use windrow_sys::xattr::{self, Subject};
use windrow_sys::{Error, Result};

/// The modification time of everything in the store, in seconds since 1970.
const MTIME: i64 = 1;

/// The hard-linked files that one build's outputs were already canonicalised with.
///
/// One set serves all outputs of a build: the second name of an inode no longer belongs to the
/// build user, and being in this set is what tells it from a link to somebody else's file.
#[derive(Debug, Default)]
pub struct InodesSeen(HashSet<(libc::dev_t, libc::ino_t)>);

impl InodesSeen {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Gives all of `path` the store's metadata, as `canonicalisePathMetaData` does: mode 0444 or
/// 0555, modification time 1, this process's user and group, no extended attributes but those of
/// Nix's `ignored-acls`.
///
/// With `build_uid`, everything must belong to that user or, if it is a file with several names,
/// have been met before by the same `seen`; else [`Error::ForeignOwner`]. Fails with
/// [`Error::UnsupportedFileType`] on fifos, sockets and devices, with [`Error::TreeChanged`] if
/// files are exchanged at the same time, and with [`Error::Io`] if a call fails. No link is
/// followed. Directories are finished after their entries, so a failure never leaves one that looks
/// done.
pub fn canonicalise(path: &Path, build_uid: Option<u32>, seen: &mut InodesSeen) -> Result<()> {
    let mut canonicaliser = Canonicaliser {
        build_uid,
        uid: geteuid(),
        gid: getegid(),
        seen,
    };
    walk(path, Order::Any, &mut canonicaliser)
}

struct Canonicaliser<'s> {
    build_uid: Option<u32>,
    uid: Uid,
    gid: Gid,
    seen: &'s mut InodesSeen,
}

impl Visitor for Canonicaliser<'_> {
    type Dir = Metadata;

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, Metadata)>> {
        match node.kind()? {
            Kind::Directory => {
                let Opened {
                    handle,
                    stat,
                    mut mode,
                } = node.open_owned(Kind::Directory)?;
                self.admit(node, &stat)?;
                if mode & 0o500 != 0o500 {
                    mode |= 0o700;
                    set_mode(node, &handle, mode)?;
                }
                return Ok(Some((handle, Metadata { stat, mode })));
            }
            Kind::Regular => {
                let Opened { handle, stat, mode } = node.open_owned(Kind::Regular)?;
                if self.admit(node, &stat)? {
                    let wanted = match stat.st_mode & 0o7777 {
                        done @ (0o444 | 0o555) => done,
                        mode if mode & 0o100 != 0 => 0o555,
                        _ => 0o444,
                    };
                    self.settle(node, handle.as_fd(), &Metadata { stat, mode }, wanted)?;
                }
            }
            Kind::Symlink => {
                let (pin, stat) = node.pin(Kind::Symlink)?;
                if self.admit(node, &stat)? {
                    self.settle_link(node, pin.as_fd(), &stat)?;
                }
            }
            Kind::Other => return Err(unsupported(node)),
        }
        Ok(None)
    }

    fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, metadata: Metadata) -> Result<()> {
        self.settle(node, handle.as_fd(), &metadata, 0o555)
    }
}

/// What a file or directory has, and may have to lose.
struct Metadata {
    /// As it was found.
    stat: FileStat,
    /// Its present permission bits, where they were widened to get in.
    mode: libc::mode_t,
}

impl Canonicaliser<'_> {
    /// Whether there is anything to do: false for another name of an inode that is done, an
    /// error for what may not be in the output at all.
    fn admit(&mut self, node: &Node<'_>, stat: &FileStat) -> Result<bool> {
        let inode = (stat.st_dev, stat.st_ino);
        let directory = Kind::from_mode(stat.st_mode) == Kind::Directory;
        match self.build_uid {
            Some(build_uid) if stat.st_uid != build_uid => {
                if directory || !self.seen.0.contains(&inode) {
                    let owner = stat.st_uid;
                    return Err(Error::ForeignOwner {
                        path: node.path(),
                        owner,
                        build_uid,
                    });
                }
                return Ok(false);
            }
            _ => {}
        }
        // An inode with a single name will not be met again.
        if stat.st_nlink > 1 && !directory {
            self.seen.0.insert(inode);
        }
        Ok(true)
    }

    fn settle(
        &self,
        node: &Node<'_>,
        handle: BorrowedFd<'_>,
        metadata: &Metadata,
        wanted: libc::mode_t,
    ) -> Result<()> {
        settle(handle, metadata, wanted, (self.uid, self.gid))
            .map_err(|failed| node.failed(failed.action)(failed.errno))
    }

    /// Links have no mode. All goes through the pinned inode, never again by name.
    fn settle_link(&self, node: &Node<'_>, pin: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
        let magic = magic_link(pin);
        let subject = Subject::Path(&magic);
        let surplus = xattr::list_removable(subject).map_err(node.failed(LIST_XATTRS))?;
        if !surplus.is_empty() {
            xattr::remove_all(subject, &surplus).map_err(node.failed(REMOVE_XATTRS))?;
        }
        if must_chown(stat, self.uid, self.gid) {
            fchownat(
                pin,
                c"",
                Some(self.uid),
                Some(self.gid),
                AtFlags::AT_EMPTY_PATH,
            )
            .map_err(node.failed(SET_OWNER))?;
        }
        if stat.st_mtime != MTIME {
            utimensat(
                AT_FDCWD,
                magic.as_c_str(),
                &TimeSpec::UTIME_OMIT,
                &TimeSpec::new(MTIME, 0),
                UtimensatFlags::FollowSymlink,
            )
            .map_err(node.failed(SET_TIME))?;
        }
        Ok(())
    }
}

fn must_chown(stat: &FileStat, uid: Uid, gid: Gid) -> bool {
    stat.st_uid != uid.as_raw() || stat.st_gid != gid.as_raw()
}

/// A call that failed on a file.
struct Failed {
    /// What it was to do, as an infinitive.
    action: &'static str,
    errno: Errno,
}

/// Gives an open file or directory its metadata, all but the mode alike for all of the store.
///
/// The mode comes before the owner: a file must lose its set-user-id bit before it becomes the
/// property of another user.
fn settle(
    handle: BorrowedFd<'_>,
    Metadata { stat, mode }: &Metadata,
    wanted: libc::mode_t,
    (uid, gid): (Uid, Gid),
) -> Result<(), Failed> {
    let failed = |action| move |errno| Failed { action, errno };
    let set_mode = |mode| {
        let mode = Mode::from_bits_truncate(mode);
        fchmod(handle, mode).map_err(failed(SET_MODE))
    };
    let mut mode = *mode;
    let subject = Subject::Handle(handle);
    let surplus = xattr::list_removable(subject).map_err(failed(LIST_XATTRS))?;
    if !surplus.is_empty() {
        // Only a writable file can lose attributes of the user's, even to its owner.
        if mode & 0o200 == 0 {
            mode |= 0o200;
            set_mode(mode)?;
        }
        xattr::remove_all(subject, &surplus).map_err(failed(REMOVE_XATTRS))?;
    }
    if mode != wanted {
        set_mode(wanted)?;
    }
    if must_chown(stat, uid, gid) {
        fchown(handle, Some(uid), Some(gid)).map_err(failed(SET_OWNER))?;
    }
    if stat.st_mtime != MTIME {
        futimens(handle, &TimeSpec::UTIME_OMIT, &TimeSpec::new(MTIME, 0))
            .map_err(failed(SET_TIME))?;
    }
    Ok(())
}

const LIST_XATTRS: &str = "list the extended attributes of";
const REMOVE_XATTRS: &str = "remove the extended attributes of";
const SET_MODE: &str = "set the mode of";
const SET_OWNER: &str = "set the owner of";
const SET_TIME: &str = "set the modification time of";

fn set_mode(node: &Node<'_>, handle: impl AsFd, mode: libc::mode_t) -> Result<()> {
    fchmod(handle, Mode::from_bits_truncate(mode)).map_err(node.failed(SET_MODE))
}

#[cfg(test)]
mod tests;
