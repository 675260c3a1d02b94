//! Writes derivations to the store: locked, written and registered in batches, so that any number
//! of them takes a bounded number of descriptors and transactions.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Scope, scope};

use windrow_components::hash::HashAlgo;
use windrow_components::progress;
use windrow_components::store_path::StorePath;
use windrow_sys::limits::spare_descriptors;
use windrow_sys::threads::spawn_scoped;
use windrow_sys::{bounded, interrupt};

use super::add::{lock, path_info, release};
use crate::db::{PathInfo, Registration};
use crate::error::{Error, Result};
use crate::files::canonical::write_canonical;
use crate::local::LocalStore;
use crate::locks::path_lock::PathLock;
use crate::nar::digest::hash_nar_of_contents;

/// How many derivations are locked and registered together, at most: each takes a descriptor. The
/// index pages that a transaction changes are spread over the whole database, so that few large
/// ones write much less than many small ones.
const BATCH: usize = 2_000;
/// How many descriptors are left to databases and what else is opened while derivations are locked.
const RESERVED_DESCRIPTORS: usize = 16;

/// A derivation to be written.
#[derive(Debug)]
pub struct NewDerivation {
    /// Its path.
    pub path: StorePath,
    /// Its contents.
    pub text: Vec<u8>,
    /// The full paths it refers to.
    pub references: Vec<String>,
    /// Its outputs, by name and full path.
    pub outputs: Vec<(String, String)>,
}

impl LocalStore {
    /// Writes derivations that are not valid yet (Nix's `writeDerivation`). Those they refer to
    /// come before them. A store that is only looked at remembers them as drafts. Those of before
    /// an error are in the store.
    ///
    /// # Errors
    /// When the store can't be written, or a reference is not valid.
    pub fn add_derivations(&mut self, drvs: impl IntoIterator<Item = NewDerivation>) -> Result<()> {
        let mut drvs = drvs.into_iter();
        if self.is_read_only() {
            for drv in drvs {
                let full = self.store_dir().display(&drv.path);
                self.drafts.add_derivation(full, drv.text);
            }
            return Ok(());
        }
        let spare = spare_descriptors().saturating_sub(RESERVED_DESCRIPTORS);
        // While one batch is written, the locks of the one before are given back.
        let most = BATCH.min(spare / 3).max(1);
        scope(|scope| {
            let mut releaser = Releaser(None);
            loop {
                let batch: Vec<_> = drvs.by_ref().take(most).collect();
                if batch.is_empty() {
                    return Ok(());
                }
                interrupt::check()
                    .map_err(Error::io("write derivations to", self.store_dir().as_str()))?;
                let count = batch.len();
                let locks = self.add_batch(batch)?;
                progress::add(count as u64);
                match count < most {
                    true => release(locks),
                    false => releaser.release(scope, locks),
                }
            }
        })
    }

    /// Adds a batch, and returns the locks that were needed.
    fn add_batch(&mut self, mut batch: Vec<NewDerivation>) -> Result<Vec<PathLock>> {
        let path = |drv: &NewDerivation| self.store_dir().display(&drv.path);
        let mut full: Vec<String> = batch.iter().map(path).collect();
        self.keep(&full.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.drop_valid(&mut full, &mut batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let real: Vec<_> = full
            .iter()
            .map(|path| self.layout().real_path(path))
            .collect();
        let locks = lock(&real)?;
        self.drop_valid(&mut full, &mut batch)?;
        let written = full.into_iter().zip(batch);
        let written: Result<Vec<_>> = written
            .map(|(full, drv)| self.write_derivation(full, drv))
            .collect();
        self.register(&written?)?;
        Ok(locks)
    }

    /// Writes one to its place.
    fn write_derivation(&self, full: String, drv: NewDerivation) -> Result<Registration> {
        let real = self.layout().real_path(&full);
        if drv.text.len() as u64 > bounded::DERIVATION_MAX {
            // Nobody could read it again.
            let source = bounded::too_large(bounded::DERIVATION_MAX);
            return Err(Error::io("write derivation", real)(source));
        }
        write_canonical(&real, &drv.text)?;
        let (nar_hash, nar_size) = hash_nar_of_contents(&drv.text);
        let hash = HashAlgo::Sha256.hash(&drv.text);
        let info = PathInfo {
            ca: Some(format!("text:{}", hash.prefixed_base32())),
            ..path_info(full, nar_hash, nar_size, drv.references)
        };
        Ok(Registration {
            info,
            outputs: drv.outputs,
        })
    }

    /// Drops what is valid from a batch, whose full paths are given too.
    fn drop_valid(&self, full: &mut Vec<String>, batch: &mut Vec<NewDerivation>) -> Result<()> {
        let paths: Vec<&str> = full.iter().map(String::as_str).collect();
        let valid = self.database.valid_paths(&paths)?;
        let mut each = valid.iter();
        full.retain(|_| each.next() == Some(&false));
        let mut each = valid.iter();
        batch.retain(|_| each.next() == Some(&false));
        Ok(())
    }
}

/// A thread that gives locks back, once there are many: deleting their files takes as long as
/// making them.
struct Releaser(Option<SyncSender<Vec<PathLock>>>);

impl Releaser {
    fn release<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, locks: Vec<PathLock>) {
        if self.0.is_none() {
            // No more than one batch waits for it, so that descriptors are bounded.
            let (give, take) = sync_channel(0);
            let thread = spawn_scoped(scope, move || take.into_iter().for_each(release));
            self.0 = thread.is_ok().then_some(give);
        }
        match &self.0 {
            Some(give) => {
                if let Err(unsent) = give.send(locks) {
                    release(unsent.0);
                }
            }
            None => release(locks),
        }
    }
}
