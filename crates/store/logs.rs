//! Logs of builds: where they lie, under each of the names that releases of Nix gave them. Writing
//! and printing them is others' business.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a log that is not compressed has in its mode if its end could not be written: a bit that
/// means nothing else for a file, and takes no room on a full disk.
pub const CUT: u32 = 0o1000;

/// Whether a log, of which that is the mode, has been cut. One that is compressed has no end then.
pub fn is_marked_cut(mode: u32) -> bool {
    mode & CUT != 0
}

/// Where the log of a derivation is kept, under Nix's directory scheme; `drv_base_name` is a base
/// name of a store path.
pub fn log_path(log_dir: &Path, drv_base_name: &str, compressed: bool) -> PathBuf {
    let (directory, rest) = drv_base_name.split_at(2);
    let extension = if compressed { ".bz2" } else { "" };
    log_dir
        .join("drvs")
        .join(directory)
        .join(format!("{rest}{extension}"))
}

/// A log that was found.
#[derive(Debug)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// The file, open.
    pub file: File,
    /// Whether it is compressed, with bzip2.
    pub is_compressed: bool,
}

/// The log of a derivation, whose base name is that of a store path (Nix's
/// `LocalFSStore::getBuildLogExact`); none if there is none.
///
/// # Errors
/// When there is one that can't be opened.
pub fn find(log_dir: &Path, drv_base_name: &str) -> Result<Option<Found>> {
    let flat = log_dir.join("drvs").join(drv_base_name);
    let candidates = [
        (log_path(log_dir, drv_base_name, false), false),
        (log_path(log_dir, drv_base_name, true), true),
        (flat.clone(), false),
        (flat.with_added_extension("bz2"), true),
    ];
    for (path, is_compressed) in candidates {
        match File::open(&path) {
            Ok(file) => {
                return Ok(Some(Found {
                    path,
                    file,
                    is_compressed,
                }));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open the log", path)(error)),
        }
    }
    Ok(None)
}
