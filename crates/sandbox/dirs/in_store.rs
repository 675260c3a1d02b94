//! The directory of a run in the store, for what builders in a sandbox make. A temporary root of
//! its own, which ends with the run, keeps it from every collector: Nix's up to 2.3 look for
//! `ROOT.chroot`, later ones for the hash part of a root.

use std::fmt::Debug;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windrow_components::nix32;

use crate::dirs::run_dir::{IN_STORE_SUFFIX, RunDir};
use windrow_sys::tree::delete_path;
use windrow_sys::xattr;

/// How many bytes the hash part of a store path stands for.
const HASH_BYTES: usize = 20;

/// The store that builders see, as far as their directories need it.
#[derive(Debug, Clone)]
pub struct HostStore {
    /// The store directory that stands in store paths.
    pub store_dir: String,
    /// Where its entries lie on this machine.
    pub real_store_dir: PathBuf,
    /// Whoever keeps collectors away.
    pub keeper: Arc<dyn KeepPath>,
}

/// Keeps paths of a store from being collected.
pub trait KeepPath: Debug + Send + Sync {
    /// Keeps the store path from every collector, for as long as what is returned lives.
    ///
    /// # Errors
    /// When that can't be promised.
    fn keep(&self, store_path: &str) -> io::Result<Box<dyn Kept>>;
}

/// A path is kept while this lives.
pub trait Kept: Debug + Send + Sync {}

/// The directory. Dropped, it goes with all that is in it.
#[derive(Debug)]
pub struct InStore {
    path: PathBuf,
    _root: Box<dyn Kept>,
}

impl InStore {
    /// Makes it, for nobody but us, under a name that nobody has, and notes it in the run's
    /// directory.
    ///
    /// # Errors
    /// When it can't be made, or not be kept from collectors.
    pub fn create(store: &HostStore, run: &RunDir) -> io::Result<Self> {
        let mut hash = [0; HASH_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut hash)?;
        let name = format!("{}{IN_STORE_SUFFIX}", nix32::encode(&hash));
        let path = store.real_store_dir.join(&name);
        run.note_in_store(&path)?;
        let root = name.strip_suffix(".chroot").unwrap_or(&name);
        let root = format!("{}/{root}", store.store_dir);
        let root = store.keeper.keep(&root)?;
        DirBuilder::new().mode(0o700).create(&path)?;
        let made = Self { path, _root: root };
        // Outputs must not get from it what the store directory hands down.
        xattr::drop_inherited(File::open(&made.path)?.as_fd())?;
        Ok(made)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for InStore {
    fn drop(&mut self) {
        // What can't be deleted has no root any more, so the next collector tries.
        let _ = delete_path(&self.path);
    }
}
