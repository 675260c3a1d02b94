//! The way into the store for a single file whose contents are at hand, such as a derivation:
//! created with the metadata that [`canonicalise`](super::canonicalise) gives to trees.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::sys::stat::fstat;
use nix::unistd::{getegid, geteuid};

use super::{Metadata, settle};
use crate::error::{Error, Result};
use windrow_sys::tree::delete_path;

/// The mode of a file that is no program.
const MODE: u32 = 0o444;

/// Writes a file with canonical metadata, and replaces what is there: whatever the directory that
/// it lies in hands down to new files, a group or an access list, this one does not have. It is
/// returned still open.
///
/// # Errors
/// When it can't be made or written.
pub fn write_canonical(path: &Path, contents: &[u8]) -> Result<File> {
    let create = || {
        let mut options = File::options();
        options.write(true).create_new(true).mode(MODE).open(path)
    };
    let mut file = match create() {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            delete_path(path)?;
            create()
        }
        other => other,
    }
    .map_err(Error::io("create", path))?;
    file.write_all(contents).map_err(Error::io("write", path))?;
    let stat = fstat(&file).map_err(|errno| Error::io("look at", path)(errno.into()))?;
    let metadata = Metadata {
        mode: stat.st_mode & 0o7777,
        stat,
    };
    settle(file.as_fd(), &metadata, MODE, (geteuid(), getegid()))
        .map_err(|failed| Error::io(failed.action, path)(failed.errno.into()))?;
    Ok(file)
}
