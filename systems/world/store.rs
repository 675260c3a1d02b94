//! The store behind a trait, so that the same systems run on a real one and on one in memory; and
//! what is registered in it.

use bevy_ecs::prelude::Component;
use windrow_components::bit_set::PathSet;
use windrow_components::building::HashRewrites;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_store::locks::path_lock::PathLock;
use windrow_store::own::failed_paths::FailedPaths;

use crate::error::Result;

/// A store as the systems see it: real (SQLite and a directory) or simulated (memory). A method
/// that is not given does what is right without files, roots, locks and references: nothing.
pub trait Store {
    /// Keeps paths from being collected as long as this process lives (`addTempRoot`).
    ///
    /// # Errors
    /// When the roots can't be written.
    fn add_temp_roots(&mut self, _graph: &BuildGraph, _paths: &[PathId]) -> Result<()> {
        Ok(())
    }

    /// Which of the paths are valid, in their order (`queryValidPaths`).
    ///
    /// # Errors
    /// When the database can't be read.
    fn valid(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>>;

    /// The same into a list that is used again and again.
    ///
    /// # Errors
    /// As [`Store::valid`].
    fn valid_into(
        &mut self,
        graph: &BuildGraph,
        paths: &[PathId],
        valid: &mut Vec<bool>,
    ) -> Result<()> {
        *valid = self.valid(graph, paths)?;
        Ok(())
    }

    /// Reads a derivation into the graph (`derivationFromPath`).
    ///
    /// # Errors
    /// When its file can't be read, or is not what its path says.
    fn load(&mut self, _graph: &mut BuildGraph, _drv: DrvId) -> Result<()> {
        Ok(())
    }

    /// Checks that a derivation about to be built names the output paths that its contents give.
    ///
    /// # Errors
    /// When it does not.
    fn check_output_paths(&mut self, _graph: &BuildGraph, _drv: DrvId) -> Result<()> {
        Ok(())
    }

    /// The SHA-256 of the NAR that a valid path was registered with.
    ///
    /// # Errors
    /// When the database can't be read.
    fn nar_hash(&mut self, _graph: &BuildGraph, _path: PathId) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    /// Whether others may use the store at the same time, so that paths must be locked.
    fn is_shared(&self) -> bool {
        true
    }

    /// Locks all of the paths, or none if any is locked by someone else (`lockPaths`). A store that
    /// nobody else uses need not be asked.
    ///
    /// # Errors
    /// When a lock file can't be made.
    fn try_lock(&mut self, _graph: &BuildGraph, _paths: &[PathId]) -> Result<Option<OutputLocks>> {
        Ok(Some(OutputLocks::default()))
    }

    /// What to say of a wait for the locks of these paths: which of them somebody else holds, and
    /// who.
    fn describe_lock(&self, _graph: &BuildGraph, _paths: &[PathId]) -> String {
        "locks that others hold".to_owned()
    }

    /// Does what [`Store::try_lock`] and [`Store::check_output_paths`] will need for a derivation
    /// whose inputs are not valid yet, as far as that can be done ahead. What goes wrong is told by
    /// these.
    fn prepare(&mut self, _graph: &BuildGraph, _drv: DrvId) {}

    /// Scratch paths for outputs that are valid although others of the same derivation are to be
    /// built (`addHashRewrite`), kept from collection.
    ///
    /// # Errors
    /// When the roots can't be written.
    fn scratch_outputs(
        &mut self,
        _graph: &BuildGraph,
        _drv: DrvId,
        _valid: &[PathId],
    ) -> Result<HashRewrites> {
        Ok(HashRewrites::default())
    }

    /// The failures that are remembered, if the setting `build-cache-failure` asks for that.
    fn failed_paths(&mut self) -> Option<&FailedPaths> {
        None
    }

    /// Gives locks up; with `delete` their files go too, which only outputs that are valid allow.
    fn unlock(&mut self, _locks: OutputLocks, _delete: bool) {}

    /// What goals have used of it since this was asked last; `None` where nobody wants to know.
    fn take_used(&mut self) -> Option<Used> {
        None
    }

    /// Tidies up when no goal needs the store any more.
    fn close(&mut self, _graph: &BuildGraph) {}

    /// The closure of everything a derivation's builder may refer to: the wanted outputs of its
    /// inputs, and its sources.
    ///
    /// # Errors
    /// When the database can't be read.
    fn input_closure(&mut self, _graph: &mut BuildGraph, _drv: DrvId) -> Result<Vec<PathId>> {
        Ok(Vec::new())
    }

    /// The closure of valid paths, themselves included (`computeFSClosure`).
    ///
    /// # Errors
    /// When the database can't be read.
    fn closure(&mut self, _graph: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>> {
        Ok(paths.to_vec())
    }

    /// Makes sure that what is built can be signed, if it is to be.
    ///
    /// # Errors
    /// When a key can't be read.
    fn may_build(&mut self) -> Result<()> {
        Ok(())
    }

    /// Valid paths were built once more and came out the same: from now on they count as built
    /// here, and are signed. None of them, if it was registered so already.
    ///
    /// # Errors
    /// When a key can't be read, or the database not be written.
    fn trust(&mut self, _graph: &BuildGraph, _paths: &[PathId]) -> Result<()> {
        Ok(())
    }

    /// A hook is told to build outputs, which it may register itself at any time.
    fn begin_by_hook(&mut self, _graph: &BuildGraph, _paths: &[PathId]) {}

    /// A hook that was to build outputs has ended: it has registered some, and not the others.
    fn end_by_hook(&mut self, _graph: &BuildGraph, _registered: &[PathId], _others: &[PathId]) {}

    /// Registers outputs as valid, all in one transaction (`registerValidPaths`).
    ///
    /// # Errors
    /// When one refers to a path that is not valid, references form a circle, or the database can't
    /// be written. Then none is registered.
    fn register(&mut self, graph: &BuildGraph, outputs: &[NewOutput]) -> Result<()>;
}

/// What goals used of a store.
#[derive(Debug, Default)]
pub struct Used {
    /// What they asked for and was valid.
    pub found: PathSet,
    /// What they registered.
    pub made: PathSet,
}

/// Locks on all outputs of a derivation (Nix 1.8: `outputLocks`). Empty in a simulated world.
#[derive(Debug, Default, Component)]
#[component(storage = "SparseSet")]
pub struct OutputLocks {
    /// One for each output, by path.
    pub locks: Vec<PathLock>,
    /// What they lock.
    pub paths: Vec<PathId>,
}

/// An output that lacks only its registration.
#[derive(Debug, Clone)]
pub struct NewOutput {
    /// Its path.
    pub path: PathId,
    /// What is on disk there; nothing in a world that has no disks.
    pub built: Option<Box<BuiltOutput>>,
}

impl From<BuiltOutput> for NewOutput {
    fn from(built: BuiltOutput) -> Self {
        Self {
            path: built.path,
            built: Some(Box::new(built)),
        }
    }
}

/// An output that is on disk, hashed and canonical.
#[derive(Debug, Clone)]
pub struct BuiltOutput {
    /// Its path.
    pub path: PathId,
    /// The derivation that made it, if that is known.
    pub deriver: Option<PathId>,
    /// The SHA-256 of its NAR.
    pub nar_hash: [u8; 32],
    /// The length of its NAR in bytes.
    pub nar_size: u64,
    /// The paths it refers to.
    pub references: Vec<PathId>,
    /// Whether it was built here, and not fetched from somewhere.
    pub ultimate: bool,
    /// Where its path depends on its contents alone, how they are addressed.
    pub content_address: Option<String>,
    /// The signatures that it came with.
    pub sigs: Vec<String>,
    /// For a fetched derivation its outputs, by name and full path.
    pub drv_outputs: Vec<(String, String)>,
}
