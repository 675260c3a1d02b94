//! File trees through directory handles: walked, created and deleted at any depth without
//! recursion, without following links, and with a bounded number of open descriptors.

mod create;
mod delete;
mod flags;
mod list;
mod node;
mod stack;
mod walk;

pub use create::NewTree;
pub use delete::{delete_path, delete_store_path};
pub use node::magic_link;
pub use node::{Kind, Node, Opened};
pub use stack::{DirStack, Left, Trail};
pub use walk::{Order, Visitor, walk};
pub use walk::{unsupported, walk_in};

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// Splits `path` into an open handle on its parent directory and its last name, so that whatever
/// happens to the parent's own path later, the work stays in one directory.
///
/// Fails with [`Error::NoFileName`] if there is no last name, and with [`Error::Io`] if the parent
/// cannot be opened.
fn open_parent(path: &Path) -> Result<(std::os::fd::OwnedFd, CString)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::NoFileName {
            path: path.to_owned(),
        });
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let handle = openat(AT_FDCWD, parent, flags, Mode::empty())
        .map_err(|errno| Error::io("open the directory", parent)(errno.into()))?;
    Ok((handle, c_string(name.as_bytes(), path)?))
}

/// Turns the bytes of a path into a C string; a NUL in them is an [`Error::Io`] on `path`.
fn c_string(bytes: &[u8], path: &Path) -> Result<CString> {
    CString::new(bytes).map_err(|nul| Error::io("use the path", path)(nul.into()))
}
