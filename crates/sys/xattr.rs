//! Removing extended attributes, so that two stores with the same contents behave the same.
//! The calls are made here because the `nix` crate has none for them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Attributes that belong to the machine's security policy or the file server, not to the file;
/// the defaults of Nix's `ignored-acls`.
const KEPT: [&CStr; 3] = [c"security.selinux", c"system.nfs4_acl", c"security.csm"];

/// Whose attributes are meant.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A file or directory that is open for reading.
    Handle(BorrowedFd<'a>),
    /// A path, whose last name is followed; for links, the magic link of a pinning handle.
    Path(&'a CStr),
}

/// The names of all attributes that do not belong in the store, each ending in NUL.
pub fn list_removable(subject: Subject<'_>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    let names = match list(subject, &mut small) {
        Ok(size) => small[..size].to_vec(),
        Err(Errno::ENOTSUP) => Vec::new(),
        Err(Errno::ERANGE) => {
            // The kernel's own limit on such a list.
            let mut large = vec![0; 64 * 1024];
            let size = list(subject, &mut large)?;
            large.truncate(size);
            large
        }
        Err(errno) => return Err(errno),
    };
    Ok(split(&names)
        .filter(|name| !KEPT.contains(name))
        .flat_map(CStr::to_bytes_with_nul)
        .copied()
        .collect())
}

/// As [`list_removable`], but only the names of those that give rights to somebody: access lists,
/// and capabilities of programs.
pub fn list_privileges(subject: Subject<'_>) -> Result<Vec<u8>, Errno> {
    let names = list_removable(subject)?;
    let gives_rights = |name: &&CStr| {
        let name = name.to_bytes();
        name.starts_with(b"system.") || name.starts_with(b"security.")
    };
    let names = split(&names).filter(gives_rights);
    Ok(names.flat_map(CStr::to_bytes_with_nul).copied().collect())
}

/// Removes the attributes that [`list_removable`] or [`list_privileges`] returned.
pub fn remove_all(subject: Subject<'_>, names: &[u8]) -> Result<(), Errno> {
    split(names).try_for_each(|name| {
        let result = match subject {
            // SAFETY: the descriptor is open while it is borrowed, the name ends in NUL.
            Subject::Handle(handle) => unsafe {
                libc::fremovexattr(handle.as_raw_fd(), name.as_ptr())
            },
            // SAFETY: path and name end in NUL and are only read.
            Subject::Path(path) => unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) },
        };
        match Errno::result(result) {
            // Removing one may take another with it, as the two kinds of access lists do.
            Err(Errno::ENODATA) => Ok(()),
            result => result.map(drop),
        }
    })
}

fn list(subject: Subject<'_>, names: &mut [u8]) -> Result<usize, Errno> {
    let (room, size) = (names.as_mut_ptr().cast(), names.len());
    let result = match subject {
        // SAFETY: the descriptor is open while it is borrowed, and the kernel writes at most
        // `size` bytes to `names`, which is exclusively borrowed.
        Subject::Handle(handle) => unsafe { libc::flistxattr(handle.as_raw_fd(), room, size) },
        // SAFETY: the path ends in NUL, and the kernel writes at most `size` bytes to `names`.
        Subject::Path(path) => unsafe { libc::listxattr(path.as_ptr(), room, size) },
    };
    Errno::result(result).map(|size| usize::try_from(size).unwrap_or(0))
}

fn split(names: &[u8]) -> impl Iterator<Item = &CStr> {
    names
        .split_inclusive(|&byte| byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}
