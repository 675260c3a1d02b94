//! The folder a builder works in: made private, named after the derivation, gone afterwards.
//!
//! A folder that a builder left as it was is renamed for the next one: file systems such as ext4 look for a
//! new inode past every one that was freed in the last seconds, so removing and making folders is dear.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bevy_ecs::prelude::Resource;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::error::{Error, Result};
use crate::store::tree::delete_path;

/// How many numbers are tried before the name is given up.
const ATTEMPTS: u32 = 100_000;
/// Nobody but the owner may enter.
const MODE: u32 = 0o700;
/// How many spare folders are kept at most.
const SPARE_MAX: usize = 64;

/// Empty folders of builds that are over, for the next ones.
#[derive(Debug, Default, Resource)]
pub struct SpareDirs {
    dirs: Vec<PathBuf>,
}

impl SpareDirs {
    /// Makes `PARENT/nix-build-NAME.drv-N` with the first free N, for nobody but us (the seed's `createTempDir`).
    ///
    /// # Errors
    /// When `parent` can't be written, or all numbers are taken.
    pub fn create(&mut self, parent: &Path, drv_file_name: &str) -> Result<PathBuf> {
        for number in 0..ATTEMPTS {
            let path = parent.join(OsString::from(format!(
                "nix-build-{drv_file_name}-{number}"
            )));
            match self
                .reuse(&path)
                .unwrap_or_else(|| DirBuilder::new().mode(MODE).create(&path))
            {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create the build directory", path)(error)),
            }
        }
        let taken = io::Error::from(ErrorKind::AlreadyExists);
        Err(Error::io(
            "find a free name for a build directory in",
            parent,
        )(taken))
    }

    /// Gives `path` to a spare folder of the same parent. `None` if there is none.
    fn reuse(&mut self, path: &Path) -> Option<io::Result<()>> {
        let index = self
            .dirs
            .iter()
            .rposition(|spare| spare.parent() == path.parent())?;
        match renameat2(
            AT_FDCWD,
            &self.dirs[index],
            AT_FDCWD,
            path,
            RenameFlags::RENAME_NOREPLACE,
        ) {
            Ok(()) => {
                self.dirs.swap_remove(index);
                Some(Ok(()))
            }
            Err(nix::Error::EEXIST) => Some(Err(ErrorKind::AlreadyExists.into())),
            // Somebody deleted it, or this file system can't rename like this: make a new one.
            Err(_) => {
                let _ = delete_path(&self.dirs.swap_remove(index));
                None
            }
        }
    }

    /// Takes a folder back if it is as it was made: empty, private, without anything attached. Tells whether
    /// it did; else the caller must delete it.
    pub fn take_back(&mut self, dir: &Path) -> bool {
        let keep = self.dirs.len() < SPARE_MAX && is_pristine(dir);
        if keep {
            self.dirs.push(dir.to_owned());
        }
        keep
    }

    /// Deletes all spare folders.
    pub fn delete(&mut self) {
        for dir in self.dirs.drain(..) {
            // What can't be deleted stays in the temporary folder, which is no harm to the store.
            let _ = delete_path(&dir);
        }
    }
}

fn is_pristine(dir: &Path) -> bool {
    let as_made = std::fs::symlink_metadata(dir).is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.mode() & 0o7777 == MODE
            && metadata.uid() == nix::unistd::geteuid().as_raw()
    });
    as_made
        && std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
        && crate::store::has_no_attributes(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_free_number_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let mut dirs = SpareDirs::default();
        let first = dirs.create(parent.path(), "x.drv").unwrap();
        let second = dirs.create(parent.path(), "x.drv").unwrap();
        assert!(first.ends_with("nix-build-x.drv-0") && second.ends_with("nix-build-x.drv-1"));
        assert_eq!(
            first.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        let error = dirs
            .create(&parent.path().join("absent"), "x.drv")
            .unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn only_untouched_folders_are_used_again_and_none_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let mut dirs = SpareDirs::default();
        let made = dirs.create(parent.path(), "a.drv").unwrap();
        std::fs::write(made.join("file"), "").unwrap();
        assert!(!dirs.take_back(&made));
        std::fs::remove_file(made.join("file")).unwrap();
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!dirs.take_back(&made));
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o700)).unwrap();
        let inode = made.metadata().unwrap().ino();
        assert!(dirs.take_back(&made));

        let others = parent.path().join("nix-build-b.drv-0");
        std::fs::create_dir(&others).unwrap();
        let again = dirs.create(parent.path(), "b.drv").unwrap();
        assert!(again.ends_with("nix-build-b.drv-1") && others.exists());
        assert_eq!(again.metadata().unwrap().ino(), inode);
        assert!(dirs.take_back(&again));
        dirs.delete();
        assert!(!again.exists());
    }
}
