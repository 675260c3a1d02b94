//! Lets one user search a directory that stays closed to all others: what is above a build user's
//! own build directory, which the builder may open to everybody.

use std::ffi::CStr;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{XattrFlags, lsetxattr};
use rustix::io::Errno;

use crate::ids::Owner;
use crate::process::launch::action::c_path;

const ATTRIBUTE: &CStr = c"system.posix_acl_access";
/// The version that comes first in such an attribute.
const VERSION: u32 = 2;
/// For entries that are about nobody in particular.
const NOBODY: u32 = u32::MAX;

/// What an entry is about (`ACL_USER_OBJ` and so on), in the order in which they must stand.
const DIRECTORY_OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// The name of a build user's own build directory.
pub const BUILD: &str = "build";

/// Makes such a directory in `dir`, which is ours, and which its user can then search. It is still
/// ours as well.
///
/// # Errors
/// When it can't be made, or the user not be let in.
pub fn make_build_dir(dir: &Path, user: Owner) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir.join(BUILD))?;
    admit(dir, user)
}

/// Lets `user` search the directory, which is ours, and nobody else. On a file system without
/// access control lists everybody in the user's group can search it as well.
///
/// # Errors
/// When its mode or list can't be set.
fn admit(dir: &Path, user: Owner) -> io::Result<()> {
    let entries = [
        (DIRECTORY_OWNER, 0o7, NOBODY),
        (USER, 0o1, user.uid),
        (GROUP, 0, NOBODY),
        (MASK, 0o1, NOBODY),
        (OTHERS, 0, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(u32::to_le_bytes(id));
    }
    let path = c_path(dir);
    match lsetxattr(&path, ATTRIBUTE, &list, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    std::os::unix::fs::lchown(dir, None, Some(user.gid))?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o710))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;

    #[test]
    fn one_user_comes_in_and_others_do_not() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let above = tempfile::tempdir().unwrap();
        std::fs::set_permissions(above.path(), Permissions::from_mode(0o755)).unwrap();
        let dir = above.path().join("closed");
        DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let user = Owner {
            uid: 31_501,
            gid: 31_500,
        };
        make_build_dir(&dir, user).unwrap();
        let open = dir.join(BUILD);
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let can = |uid: u32, script: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.args(["-c", script, "sh"]).args([&dir, &open]);
            shell.uid(uid).gid(user.gid);
            shell.stderr(std::process::Stdio::null());
            shell.status().unwrap().success()
        };
        assert!(can(user.uid, "echo > $2/file; cd $2 && [ $(pwd) = $2 ]"));
        assert!(!can(user.uid, "ls $1") && !can(user.uid, "echo > $1/file"));
        assert!(!can(user.uid, "chmod 777 $1"));
        // Of the same group, as build users are.
        assert!(!can(user.uid + 1, "ls $2"));
        assert!(!can(user.uid + 1, "cat $2/file"));
    }
}
