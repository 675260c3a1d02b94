//! The faulty world's store: what is valid, in memory, with locks that others may hold and a
//! database that may fail. Asserts what the engine promises whoever uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_store::Error as StoreError;
use windrow_sys::mutex;

use crate::error::{Error, Result};
use crate::simulate::mishaps::{Chance, IoError, Mishaps};
use crate::world::{NewOutput, OutputLocks, Store};

/// The result codes of SQLite for a database that is locked, and for a disk that fails.
const SQLITE_BUSY: i32 = 5;
const SQLITE_IOERR: i32 = 10;

/// How often another process is met that has locked the same path.
const FOREIGN_LOCKS: u32 = 4;

/// What is on disk, for the store and for whoever looks at it afterwards.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The paths that are valid: all that outlives a crash.
    pub(super) valid: BTreeSet<PathId>,
    /// Those of them that other processes made.
    pub(super) made_by_others: BTreeSet<PathId>,
    /// What this engine has locked.
    pub(super) locked: BTreeSet<PathId>,
    /// Whether the database failed, which may end the run.
    pub(super) has_failed: bool,
    /// Whether it failed in a way that must.
    pub(super) is_broken: bool,
    calls: u64,
}

/// The same, shared.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    pub(super) fn new(valid: BTreeSet<PathId>) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            valid,
            ..Disk::default()
        })))
    }

    pub(super) fn look(&self) -> MutexGuard<'_, Disk> {
        mutex::lock(&self.0)
    }
}

pub(super) struct MemoryStore {
    disk: SharedDisk,
    /// Whether locks are to be taken.
    shared: bool,
    mishaps: Mishaps,
    chance: Chance,
    foreign: BTreeMap<PathId, u32>,
}

impl MemoryStore {
    pub(super) fn new(disk: SharedDisk, shared: bool, mishaps: Mishaps, chance: Chance) -> Self {
        Self {
            disk,
            shared,
            mishaps,
            chance,
            foreign: BTreeMap::new(),
        }
    }

    /// Counts a call of the database, which may fail for a bad disk. `again` tells that the engine
    /// calls once more if it does.
    fn call(&mut self, action: &'static str, again: bool) -> Result<()> {
        let mut disk = self.disk.look();
        let call = disk.calls;
        disk.calls += 1;
        let fails = |error: IoError| call == error.call || error.lasts && call > error.call;
        match self.mishaps.io_error {
            Some(error) if fails(error) => {
                disk.has_failed = true;
                disk.is_broken |= error.lasts || !again;
                Err(database(action, SQLITE_IOERR))
            }
            _ => Ok(()),
        }
    }

    /// Whether another process holds the lock of one of the paths. What it makes is there when it
    /// lets go.
    fn is_foreign(&mut self, paths: &[PathId]) -> bool {
        let Some(&first) = paths.first() else {
            return false;
        };
        let met = self.foreign.entry(first).or_default();
        if *met == FOREIGN_LOCKS || !self.chance.percent(self.mishaps.foreign_locks) {
            return false;
        }
        *met += 1;
        let makes = |path: &PathId| self.mishaps.made_by_others.contains(path);
        if paths.iter().all(makes) && self.chance.percent(50) {
            let mut disk = self.disk.look();
            for &path in paths {
                if disk.valid.insert(path) {
                    disk.made_by_others.insert(path);
                }
            }
        }
        true
    }
}

fn database(action: &'static str, code: i32) -> Error {
    StoreError::of_sqlite_code(action, Path::new("/s/db.sqlite"), code).into()
}

impl Store for MemoryStore {
    fn add_temp_roots(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<()> {
        self.call("add temporary roots", false)
    }

    fn valid(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        self.call("look up paths", false)?;
        let disk = self.disk.look();
        Ok(paths.iter().map(|path| disk.valid.contains(path)).collect())
    }

    fn check_output_paths(
        &mut self,
        _: &BuildGraph,
        _: windrow_components::ids::DrvId,
    ) -> Result<()> {
        self.call("look up the outputs of a derivation", false)
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn try_lock(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Option<OutputLocks>> {
        // Where nobody else is, a goal that ends need not give anything up.
        if !self.shared {
            return Ok(Some(OutputLocks::default()));
        }
        if self.is_foreign(paths) {
            return Ok(None);
        }
        let mut disk = self.disk.look();
        for &path in paths {
            assert!(disk.locked.insert(path), "{path:?} is locked twice");
        }
        Ok(Some(OutputLocks {
            locks: Vec::new(),
            paths: paths.to_vec(),
        }))
    }

    fn unlock(&mut self, locks: OutputLocks, delete: bool) {
        let mut disk = self.disk.look();
        for path in locks.paths {
            assert!(disk.locked.remove(&path), "{path:?} was not locked");
            assert!(
                !delete || disk.valid.contains(&path),
                "the lock file of {path:?} goes before it is valid"
            );
        }
    }

    fn register(&mut self, _: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        self.call("register paths", true)?;
        if self.chance.percent(self.mishaps.busy) {
            self.mishaps.busy = 0;
            return Err(database("register paths", SQLITE_BUSY));
        }
        let unwritable = |output: &&NewOutput| self.mishaps.unwritable.contains(&output.path);
        if let Some(output) = outputs.iter().find(unwritable) {
            let code = match output.path.index() % 2 {
                0 => libc::ENOSPC,
                _ => libc::EIO,
            };
            let source = io::Error::from_raw_os_error(code);
            return Err(Error::io("write", "/s/output")(source));
        }
        let mut disk = self.disk.look();
        disk.valid.extend(outputs.iter().map(|output| output.path));
        let built = outputs.iter().filter_map(|output| output.built.as_ref());
        for reference in built.flat_map(|built| &built.references) {
            assert!(
                disk.valid.contains(reference),
                "a path is valid only with its references"
            );
        }
        Ok(())
    }
}
