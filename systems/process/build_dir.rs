//! The folder a builder works in: made private, named after the derivation, gone afterwards.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How many numbers are tried before the name is given up.
const ATTEMPTS: u32 = 100_000;

/// Makes `PARENT/nix-build-NAME.drv-N` with the first free N, for nobody but us (the seed's `createTempDir`).
///
/// # Errors
/// When `parent` can't be written, or all numbers are taken.
pub fn create(parent: &Path, drv_file_name: &str) -> Result<PathBuf> {
    for number in 0..ATTEMPTS {
        let path = parent.join(OsString::from(format!(
            "nix-build-{drv_file_name}-{number}"
        )));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create the build directory", path)(error)),
        }
    }
    let taken = std::io::Error::from(ErrorKind::AlreadyExists);
    Err(Error::io(
        "find a free name for a build directory in",
        parent,
    )(taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_free_number_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let first = create(parent.path(), "x.drv").unwrap();
        let second = create(parent.path(), "x.drv").unwrap();
        assert!(first.ends_with("nix-build-x.drv-0") && second.ends_with("nix-build-x.drv-1"));
        assert_eq!(
            first.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        let error = create(&parent.path().join("absent"), "x.drv").unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
