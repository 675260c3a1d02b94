//! Removing extended attributes, so that two stores with the same contents behave the same.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

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

/// The value of an attribute of an open file, if it has it; at most 4096 bytes.
pub fn get(file: BorrowedFd<'_>, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::fgetxattr(file, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

/// Gives an open file an attribute.
///
/// # Errors
/// When the file system has none, or no space for it.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let set = rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty());
    set.map_err(|errno| Errno::from_raw(errno.raw_os_error()))
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

/// Takes from a new file or directory the access lists that it has from the directory it lies in.
pub fn drop_inherited(new: BorrowedFd<'_>) -> Result<(), Errno> {
    let subject = Subject::Handle(new);
    let privileges = list_privileges(subject)?;
    remove_all(subject, &privileges)
}

/// Removes the attributes that [`list_removable`] or [`list_privileges`] returned.
pub fn remove_all(subject: Subject<'_>, names: &[u8]) -> Result<(), Errno> {
    split(names).try_for_each(|name| {
        let removed = match subject {
            Subject::Handle(handle) => rustix::fs::fremovexattr(handle, name),
            Subject::Path(path) => rustix::fs::removexattr(path, name),
        };
        match removed {
            // Removing one may take another with it, as the two kinds of access lists do.
            Err(rustix::io::Errno::NODATA) => Ok(()),
            result => result.map_err(errno),
        }
    })
}

/// Whether what is made in a directory gets access rights from an access list of the directory.
pub fn has_default_acl(directory: &Path) -> bool {
    let name = c"system.posix_acl_default";
    let mut list = [0_u8; 1024];
    let size = rustix::fs::getxattr(directory, name, &mut list);
    // One that is longer is there as well.
    size.map_or_else(|errno| errno == rustix::io::Errno::RANGE, |size| size > 0)
}

fn list(subject: Subject<'_>, names: &mut [u8]) -> Result<usize, Errno> {
    let listed = match subject {
        Subject::Handle(handle) => rustix::fs::flistxattr(handle, names),
        Subject::Path(path) => rustix::fs::listxattr(path, names),
    };
    listed.map_err(errno)
}

/// The same error, as the rest of this crate has it.
fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

fn split(names: &[u8]) -> impl Iterator<Item = &CStr> {
    names
        .split_inclusive(|&byte| byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}
