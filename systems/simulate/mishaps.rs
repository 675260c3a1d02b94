//! What goes wrong in a faulty world, as plain data: the same seed makes the same mishaps.

use std::collections::BTreeSet;

use windrow_components::ids::{DrvId, PathId};

pub use crate::world::Mistake;

/// What goes wrong, apart from what [`Build`](super::scenario::Build) and
/// [`Offer`](super::scenario::Offer) say of each derivation and path. By default nothing does.
/// Chances are in percent.
#[derive(Debug, Clone, Default)]
pub struct Mishaps {
    /// Work through every list whose order is not promised in an order drawn by the seed.
    pub shuffle: bool,
    /// Of the attempts to lock, how many find another process holding the lock, a few times for
    /// each path.
    pub foreign_locks: u64,
    /// The paths that such a process makes valid itself before it gives up its lock.
    pub made_by_others: BTreeSet<PathId>,
    /// Of the transactions that register, how many are refused because the database is busy; one at
    /// most. That goes unnoticed if it is the one that registers all that is complete.
    pub busy: u64,
    /// When the database fails to read or write its disk.
    pub io_error: Option<IoError>,
    /// Outputs that can't be registered, for want of space or because their disk fails.
    pub unwritable: BTreeSet<PathId>,
    /// Derivations whose child is lost: it is gone, and so are its outputs.
    pub lost: BTreeSet<DrvId>,
    /// Of the builds to be started, how many find no build user free, a few times.
    pub no_user: u64,
    /// Of the offers to the hook, how many it dies of. After the third it is not asked any more.
    pub hook_dies_asked: u64,
    /// Derivations that the hook dies of after it has accepted them.
    pub hook_dies_building: BTreeSet<DrvId>,
    /// A substituter that dies, and before which of its answers, counted from 0.
    pub substituter_dies: Option<(usize, u64)>,
    /// Of the questions to substituters, how many are answered late.
    pub late_answers: u64,
    /// Before which tick the engine's process is killed, counted from 0.
    pub crash: Option<u64>,
    /// A mistake that the engine makes itself, to show that it is found. Only tests have a use for
    /// it.
    pub mistake: Option<Mistake>,
}

/// A database that fails to read or write its disk (`SQLITE_IOERR`).
#[derive(Debug, Clone, Copy)]
pub struct IoError {
    /// At which call of the store, counted from 0.
    pub call: u64,
    /// Whether it fails from there on, or only once.
    pub lasts: bool,
}

/// Numbers by chance, the same for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Whether something happens that has this chance.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}
