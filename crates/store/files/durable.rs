//! Paths on disk before the database says that they are valid, so that a machine that stops leaves
//! no valid path with empty files (settings `fsync-store-paths` and `sync-before-registering`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use super::replace::replace_valid_path;
use windrow_sys::tree::{Kind, Node, Order, Visitor, walk};
use windrow_sys::{Error, Result};

/// What is written to disk before paths are registered. By default nothing is: the system writes
/// files when it sees fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durability {
    /// The files and directories of the paths.
    pub store_paths: bool,
    /// All that is in memory for the file system of the store.
    pub file_system: bool,
}

impl Durability {
    /// Whether there is anything to do before paths are registered.
    pub fn is_wanted(self) -> bool {
        self.store_paths || self.file_system
    }

    /// Replaces a path, as [`replace_valid_path`] does. If it may be valid, `new` is on disk before
    /// anything is lost; that it took the place is for [`Durability::write_out`] to see to.
    ///
    /// # Errors
    /// As [`replace_valid_path`], and when `new` can't be written.
    pub fn replace(self, place: &Path, new: &Path) -> crate::Result<()> {
        if self.is_wanted() && !place.symlink_metadata().is_err_and(is_missing) {
            self.write_out(&[new])?;
        }
        replace_valid_path(place, new)
    }

    /// Writes these paths to disk, with their names in the directories they lie in. What is missing
    /// is passed over.
    ///
    /// # Errors
    /// When they can't be written. They must not be registered then.
    pub fn write_out<P: AsRef<Path>>(self, paths: &[P]) -> Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        let mut above = BTreeSet::new();
        for path in paths.iter().map(AsRef::as_ref) {
            if path.symlink_metadata().is_err_and(is_missing) {
                continue;
            }
            if self.store_paths {
                walk(path, Order::Any, &mut Syncer)?;
            }
            above.extend(path.parent());
        }
        for dir in above {
            let handle = File::open(dir).map_err(Error::io("open", dir))?;
            if self.store_paths {
                sync_directory(&handle).map_err(Error::io(TO_DISK, dir))?;
            }
            if self.file_system {
                let synced = rustix::fs::syncfs(&handle);
                synced.map_err(|errno| Error::io(TO_DISK, dir)(errno.into()))?;
            }
        }
        Ok(())
    }
}

/// What could not be done, as an infinitive.
const TO_DISK: &str = "write to disk";

fn is_missing(error: io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Some file systems write directories to disk at once, and know no way to ask for it.
fn sync_directory(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

struct Syncer;

impl Visitor for Syncer {
    type Dir = ();

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
        match node.kind()? {
            Kind::Directory => return Ok(Some((node.open_directory()?, ()))),
            Kind::Regular => {
                let (file, _) = node.open_file()?;
                file.sync_all()
                    .map_err(|error| Error::io(TO_DISK, node.path())(error))?;
            }
            // A link is an entry of its directory.
            Kind::Symlink | Kind::Other => {}
        }
        Ok(None)
    }

    fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, (): ()) -> Result<()> {
        sync_directory(&File::from(handle)).map_err(|error| Error::io(TO_DISK, node.path())(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_written_and_what_is_missing_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", tree.join("a/link")).unwrap();
        let missing = directory.path().join("missing");
        for store_paths in [false, true] {
            for file_system in [false, true] {
                let durability = Durability {
                    store_paths,
                    file_system,
                };
                durability.write_out(&[&tree, &missing]).unwrap();
                durability.write_out(&[tree.join("a/link")]).unwrap();
            }
        }
    }
}
