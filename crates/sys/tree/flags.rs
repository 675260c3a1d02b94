//! The flags of files that keep even root from deleting them: immutable and append-only. They are
//! taken from regular files and directories only, through handles that no link leads astray.

use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::geteuid;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::node::{Kind, Node};

/// Those that keep a file from being deleted, or names in a directory.
const KEPT: IFlags = IFlags::APPEND.union(IFlags::IMMUTABLE);

/// Takes the flags from an entry and from the directory in the same tree that holds it. Returns
/// whether there were any, so that another try is worth it. Only root may, and only some file
/// systems have them.
pub(super) fn release(node: &Node<'_>) -> bool {
    if !geteuid().is_root() {
        return false;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let release_at = |name: &std::ffi::CStr| {
        openat(node.parent(), name, flags, Mode::empty())
            .is_ok_and(|handle| release_open(handle.as_fd()))
    };
    // What the whole tree lies in is not the builder's, and may have them for a reason.
    let of_directory = !node.is_root() && release_at(c".");
    let is_file = node.stat().is_ok_and(|stat| has_flags(stat.st_mode));
    (is_file && release_at(node.name())) | of_directory
}

/// As [`release`], for an open file alone.
pub(super) fn release_open(handle: BorrowedFd<'_>) -> bool {
    // A device would take the request for one of its own.
    if !geteuid().is_root() || !fstat(handle).is_ok_and(|stat| has_flags(stat.st_mode)) {
        return false;
    }
    ioctl_getflags(handle)
        .is_ok_and(|flags| flags.intersects(KEPT) && ioctl_setflags(handle, flags - KEPT).is_ok())
}

fn has_flags(mode: libc::mode_t) -> bool {
    matches!(Kind::from_mode(mode), Kind::Regular | Kind::Directory)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::delete_path;
    use super::*;

    #[test]
    fn trees_with_flags_are_deleted_and_what_they_lie_in_keeps_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, outside) = (
            directory.path().join("tree"),
            directory.path().join("outside"),
        );
        fs::create_dir_all(tree.join("a/b")).unwrap();
        for file in [&outside, &tree.join("a/file"), &tree.join("a/b/file")] {
            fs::write(file, "gold").unwrap();
        }
        symlink(&outside, tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        let handle = File::open(&outside).unwrap();
        let before = ioctl_getflags(&handle);
        if !before.is_ok_and(|flags| ioctl_setflags(&handle, flags | IFlags::IMMUTABLE).is_ok()) {
            eprintln!("skipped: it takes root and a file system with the immutable flag");
            return;
        }
        for (name, flag) in [
            ("a/file", IFlags::IMMUTABLE),
            ("a/b/file", IFlags::APPEND),
            ("a/b", IFlags::IMMUTABLE),
            ("a", IFlags::APPEND),
            ("", IFlags::IMMUTABLE),
        ] {
            let handle = File::open(tree.join(name)).unwrap();
            let flags = ioctl_getflags(&handle).unwrap();
            ioctl_setflags(&handle, flags | flag).unwrap();
        }
        assert!(fs::remove_dir_all(&tree).is_err());
        let deleted = delete_path(&tree);
        let kept = ioctl_getflags(&handle).unwrap();
        // So that the directory can go, whatever came of it.
        ioctl_setflags(&handle, kept - KEPT).unwrap();
        deleted.unwrap();
        assert!(!tree.exists());
        assert_eq!(kept & KEPT, IFlags::IMMUTABLE);
    }
}
