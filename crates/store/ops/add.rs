//! Adds sources to the store: copied under a lock, canonical, registered.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::store_path::{HashMode, StorePath};

use crate::db::{PathInfo, Registration};
use crate::error::{Error, Result};
use crate::files::canonical::{InodesSeen, canonicalise};
use crate::files::copy::copy_tree;
use crate::local::LocalStore;
use crate::locks::path_lock::{self, PathLock, try_lock_all};
use crate::nar::digest::{feed_flat, feed_nar, hash_nar};
use windrow_sys::interrupt::{Grace, Owing};
use windrow_sys::tree::delete_path;
use windrow_sys::waiting::Wait;

/// How long to wait before a path that someone else is adding is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(10);

impl LocalStore {
    /// Copies a file or directory into the store under `name`, unless it is there (Nix's
    /// `addToStore`). Returns its path. A store that is only looked at remembers it as a draft.
    ///
    /// # Errors
    /// When it can't be read, holds something that no store can, or the store can't be written.
    pub fn add_source(&mut self, source: &Path, name: &str) -> Result<StorePath> {
        self.add_fixed(source, name, HashMode::Recursive, HashAlgo::Sha256)
    }

    /// Copies a file or directory to where a fixed output with its contents would be, unless it is
    /// there (Nix's `addToStoreSlow`). Returns its path.
    ///
    /// # Errors
    /// As [`LocalStore::add_source`]; [`File`](crate::Error::File) for a flat hash of something
    /// else.
    pub fn add_fixed(
        &mut self,
        source: &Path,
        name: &str,
        mode: HashMode,
        algo: HashAlgo,
    ) -> Result<StorePath> {
        let hash = content_hash(source, mode, algo)?;
        let path = self.store_dir().fixed_path(name, mode, &hash)?;
        self.add_contents(source, path, (mode, algo), &hash, Vec::new())
    }

    /// Copies a tree into the store under `name`, unless it is there, as something that refers to
    /// `references`: valid full store paths (Nix's `makeFixedOutputPath` with references). Returns
    /// its path.
    ///
    /// # Errors
    /// As [`LocalStore::add_source`], and when a reference is not valid.
    pub fn add_referring(
        &mut self,
        source: &Path,
        name: &str,
        mut references: Vec<String>,
    ) -> Result<StorePath> {
        references.sort_unstable();
        references.dedup();
        let (mode, algo) = (HashMode::Recursive, HashAlgo::Sha256);
        let hash = content_hash(source, mode, algo)?;
        let mut nar_sha256 = [0; 32];
        nar_sha256.copy_from_slice(hash.as_bytes());
        let all = references.iter().map(String::as_str);
        let path = self
            .store_dir()
            .source_path(name, &nar_sha256, all, false)?;
        self.add_contents(source, path, (mode, algo), &hash, references)
    }

    /// Copies contents of this hash to their place in the store, unless they are there.
    fn add_contents(
        &mut self,
        source: &Path,
        path: StorePath,
        (mode, algo): (HashMode, HashAlgo),
        hash: &Hash,
        references: Vec<String>,
    ) -> Result<StorePath> {
        let full = self.store_dir().display(&path);
        if self.is_read_only() {
            self.drafts.add_source(full);
            return Ok(path);
        }
        self.keep(&[&full])?;
        if self.database.is_valid(&full)? {
            return Ok(path);
        }
        let real = self.layout().real_path(&full);
        let locks = lock(&[&real])?;
        if self.database.is_valid(&full)? {
            release(locks);
            return Ok(path);
        }
        let _owing = Owing::new();
        delete_path(&real)?;
        let copied = copy_as(source, &real, (mode, algo), hash);
        if copied.is_err() {
            // What can't be deleted, or not in time, goes with the next collection.
            let _grace = Grace::new();
            let _ = delete_path(&real);
        }
        let (nar_hash, nar_size) = copied?;
        let recursive = match mode {
            HashMode::Recursive => "r:",
            HashMode::Flat => "",
        };
        let info = PathInfo {
            ca: Some(format!("fixed:{recursive}{}", hash.prefixed_base32())),
            ..path_info(full, nar_hash, nar_size, references)
        };
        self.register(&[Registration {
            info,
            outputs: Vec::new(),
        }])?;
        release(locks);
        Ok(path)
    }
}

/// Copies a tree to its place in the store; the hash and size of its archive.
///
/// # Errors
/// When it can't be copied, or is not what was hashed before. What was copied is still there then.
fn copy_as(
    source: &Path,
    real: &Path,
    (mode, algo): (HashMode, HashAlgo),
    hash: &Hash,
) -> Result<([u8; 32], u64)> {
    copy_tree(source, real)?;
    canonicalise(real, None, &mut InodesSeen::default())?;
    if content_hash(real, mode, algo)? != *hash {
        return Err(windrow_sys::Error::TreeChanged {
            path: source.to_owned(),
        }
        .into());
    }
    hash_nar(real)
}

/// The hash that says where in the store the contents of `path` belong.
fn content_hash(path: &Path, mode: HashMode, algo: HashAlgo) -> Result<Hash> {
    let mut hasher = algo.hasher();
    match mode {
        HashMode::Flat => feed_flat(path, |chunk| hasher.update(chunk))?,
        HashMode::Recursive => feed_nar(path, |chunk| hasher.update(chunk))?,
    };
    Ok(hasher.finish())
}

pub(super) fn path_info(
    path: String,
    nar_hash: [u8; 32],
    nar_size: u64,
    references: Vec<String>,
) -> PathInfo {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    PathInfo {
        path,
        nar_hash,
        nar_size,
        registration_time: i64::try_from(now).unwrap_or(i64::MAX),
        deriver: None,
        references,
        ultimate: false,
        sigs: Vec::new(),
        ca: None,
    }
}

/// Locks all the paths, waiting for whoever is adding one of them now.
pub(crate) fn lock<P: AsRef<Path>>(real: &[P]) -> Result<Vec<PathLock>> {
    let mut wait = Wait::new();
    loop {
        if let Some(locks) = try_lock_all(real)? {
            return Ok(locks);
        }
        let first = real.first().map_or(Path::new(""), AsRef::as_ref);
        wait.sleep(LOCK_RETRY, || path_lock::held_by_others(real))
            .map_err(Error::io("lock", first))?;
    }
}

pub(crate) fn release(locks: Vec<PathLock>) {
    for lock in locks {
        // A lock file that stays is only litter, which the collector sweeps up.
        let _ = lock.delete();
    }
}
