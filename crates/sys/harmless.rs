//! Makes what a builder left harmless to all who may be let in to look at it, as outputs are made
//! canonical: nothing of it gives anybody privileges. What it holds, and whose it is, stays.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::error::Result;
use crate::tree::{Kind, Node, Opened, Order, Visitor, magic_link, walk};
use crate::xattr::{self, Subject};

/// The permission bits that a file keeps: no set-user-id, set-group-id and sticky bit, and nobody
/// but its owner may write to it.
const KEPT: libc::mode_t = 0o755;
/// Those that a file with several names keeps, for the others may lie elsewhere.
const KEPT_OF_LINKED: libc::mode_t = 0o777;

/// Takes from all of `path` set-id and sticky bits, access lists, and the attributes by which
/// programs have capabilities, and deletes devices, and other names of files that are neither
/// `builder_uid`'s nor this process's. Owners, times, contents and links stay.
///
/// To be called when nothing of the builder runs any more. No link is followed.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if a call fails and
/// [`Error::TreeChanged`](crate::Error::TreeChanged) if files are exchanged at the same time. The
/// tree is to be kept from others then.
pub fn make_harmless(path: &Path, builder_uid: u32) -> Result<()> {
    let owners = [builder_uid, geteuid().as_raw()];
    walk(path, Order::Any, &mut Disarmer { owners })
}

/// Lets everybody look at a directory that a builder of that user left, the first of `dirs`, once
/// it is harmless, and at those in it that follow. If that fails, nobody but its owner may enter it
/// any more.
///
/// # Errors
/// Those of [`make_harmless`], and [`Error::Io`](crate::Error::Io) if a mode can't be set.
pub fn open_to_all(dirs: &[&Path], builder_uid: u32) -> Result<()> {
    let set_mode = |dir: &Path, mode| {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .map_err(crate::Error::io("set the mode of", dir))
    };
    let Some((outer, _)) = dirs.split_first() else {
        return Ok(());
    };
    // From within, so that the outermost keeps others out until all is done.
    let mut inwards = dirs.iter().rev();
    let opened = make_harmless(outer, builder_uid)
        .and_then(|()| inwards.try_for_each(|dir| set_mode(dir, 0o755)));
    if opened.is_err() {
        // That this fails, too, is told by the same error.
        let _ = set_mode(outer, 0o700);
    }
    opened
}

struct Disarmer {
    /// Whose files may have other names.
    owners: [u32; 2],
}

impl Visitor for Disarmer {
    type Dir = FileStat;

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, FileStat)>> {
        let kind = node.kind()?;
        match kind {
            Kind::Directory => {
                let Opened { handle, stat, .. } = node.open_owned(kind)?;
                return Ok(Some((handle, stat)));
            }
            // It has no mode, and what it leads to is not its own.
            Kind::Symlink => return Ok(None),
            Kind::Regular | Kind::Other => {}
        }
        let (pin, stat) = node.pin(kind)?;
        if is_device(&stat) || (stat.st_nlink > 1 && !self.owners.contains(&stat.st_uid)) {
            unlinkat(node.parent(), node.name(), UnlinkatFlags::NoRemoveDir)
                .map_err(node.failed("delete"))?;
            return Ok(None);
        }
        let kept = if stat.st_nlink > 1 {
            KEPT_OF_LINKED
        } else {
            KEPT
        };
        disarm(
            node,
            pin.as_fd(),
            stat.st_mode & 0o7777,
            kept & stat.st_mode,
        )?;
        Ok(None)
    }

    fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, stat: FileStat) -> Result<()> {
        // It may have been widened to get in.
        let found = stat.st_mode & 0o7777;
        let present = if found & 0o700 == 0o700 {
            found
        } else {
            libc::mode_t::MAX
        };
        disarm(node, handle.as_fd(), present, found & KEPT)
    }
}

/// Whether it stands for a device. One with the number 0 is what overlay file systems mark files
/// with that are gone, and harms nobody, but nobody can use it either.
fn is_device(stat: &FileStat) -> bool {
    matches!(stat.st_mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
}

/// The mode comes first, for it is what can do harm at once. All goes through the inode that
/// `handle` holds, never again by name.
fn disarm(
    node: &Node<'_>,
    handle: BorrowedFd<'_>,
    present: libc::mode_t,
    wanted: libc::mode_t,
) -> Result<()> {
    let magic = magic_link(handle);
    let set_mode = |node: &Node<'_>| {
        let mode = Mode::from_bits_truncate(wanted);
        fchmodat(
            AT_FDCWD,
            magic.as_c_str(),
            mode,
            FchmodatFlags::FollowSymlink,
        )
        .map_err(node.failed("set the mode of"))
    };
    if present != wanted {
        set_mode(node)?;
    }
    let subject = Subject::Path(&magic);
    let privileges =
        xattr::list_privileges(subject).map_err(node.failed("list the extended attributes of"))?;
    if !privileges.is_empty() {
        xattr::remove_all(subject, &privileges)
            .map_err(node.failed("remove the extended attributes of"))?;
        // What an access list allowed the group was its limit, and is for the group alone now.
        set_mode(node)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::process::Command;

    use super::*;

    fn set_mode(path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn nothing_but_harmful_bits_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, outside) = (
            directory.path().join("tree"),
            directory.path().join("outside"),
        );
        fs::create_dir_all(tree.join("sub/closed")).unwrap();
        fs::write(&outside, "precious").unwrap();
        set_mode(&outside, 0o4777);
        symlink(&outside, tree.join("link")).unwrap();
        let files = [
            ("suid", 0o4755, 0o755),
            ("sgid", 0o2711, 0o711),
            ("open", 0o666, 0o644),
            ("plain", 0o640, 0o640),
            ("sub/none", 0o4000, 0o000),
            ("sub/closed/suid", 0o6700, 0o700),
        ];
        for (name, before, _) in files {
            fs::write(tree.join(name), name).unwrap();
            set_mode(tree.join(name), before);
        }
        fs::hard_link(tree.join("open"), tree.join("sub/again")).unwrap();
        fs::hard_link(tree.join("suid"), directory.path().join("elsewhere")).unwrap();
        set_mode(tree.join("open"), 0o4666);
        nix::unistd::mkfifo(&tree.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        set_mode(tree.join("fifo"), 0o4622);
        set_mode(tree.join("sub/closed"), 0o3000);
        set_mode(tree.join("sub"), 0o1777);
        make_harmless(&tree, geteuid().as_raw()).unwrap();
        assert_eq!(mode(tree.join("sub")), 0o755);
        assert_eq!(mode(tree.join("sub/closed")), 0o000);
        set_mode(tree.join("sub/closed"), 0o700);
        for (name, _, after) in files {
            // The files with two names are still open to the group, whose other names may need it.
            let after = if name == "open" { 0o666 } else { after };
            assert_eq!(mode(tree.join(name)), after, "{name}");
        }
        assert_eq!(mode(tree.join("fifo")), 0o600);
        assert_eq!(mode(&outside), 0o4777, "a link was followed");
        assert_eq!(fs::read_link(tree.join("link")).unwrap(), outside);
        assert_eq!(fs::read(tree.join("suid")).unwrap(), b"suid");
    }

    #[test]
    fn access_lists_go() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        set_mode(&file, 0o640);
        // The owner, user 1, the group, the limit and others.
        let mut acl = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in [
            (1, 6, u32::MAX),
            (2, 7, 1),
            (4, 4, u32::MAX),
            (16, 7, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            acl.extend(u16::to_le_bytes(tag));
            acl.extend(u16::to_le_bytes(rights));
            acl.extend(u32::to_le_bytes(id));
        }
        let name = c"system.posix_acl_access";
        let handle = fs::File::open(&file).unwrap();
        let link = magic_link(handle.as_fd());
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&link, name, &acl, flags).is_err() {
            eprintln!("skipped: this file system has no access lists");
            return;
        }
        assert_eq!(mode(&file), 0o670);
        make_harmless(directory.path(), geteuid().as_raw()).unwrap();
        assert!(
            xattr::list_privileges(Subject::Path(&link))
                .unwrap()
                .is_empty()
        );
        assert_eq!(mode(&file), 0o650);
    }

    #[test]
    fn devices_and_names_of_files_of_others_are_deleted() {
        if !geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        const BUILDER: u32 = 54_321;
        let directory = tempfile::tempdir().unwrap();
        let (tree, outside) = (
            directory.path().join("tree"),
            directory.path().join("outside"),
        );
        fs::create_dir(&tree).unwrap();
        fs::write(&outside, "precious").unwrap();
        set_mode(&outside, 0o4755);
        let own = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        own(&outside, BUILDER + 1);
        set_mode(&outside, 0o4755);
        fs::hard_link(&outside, tree.join("theirs")).unwrap();
        fs::write(tree.join("own"), "").unwrap();
        own(&tree.join("own"), BUILDER);
        fs::hard_link(tree.join("own"), tree.join("again")).unwrap();
        set_mode(tree.join("own"), 0o4755);
        let made = Command::new("mknod")
            .arg(tree.join("null"))
            .args(["c", "1", "3"])
            .status();
        let made = made.is_ok_and(|status| status.success());
        make_harmless(&tree, BUILDER).unwrap();
        assert!(!tree.join("theirs").exists() && outside.exists());
        assert_eq!(mode(&outside), 0o4755);
        assert_eq!(mode(tree.join("again")), 0o755);
        assert_eq!(tree.join("own").metadata().unwrap().uid(), BUILDER);
        if made {
            assert!(!tree.join("null").exists());
        }
    }
}
