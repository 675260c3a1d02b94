//! A store in memory: every derivation is there, nothing is built, and nobody else uses it.

use windrow_components::bit_set::PathSet;
use windrow_components::building::HashRewrites;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use crate::error::Result;
use crate::store::path_lock::OutputLocks;
use crate::world::{NewOutput, Store};

/// Knows which of the paths of a graph made by [`BuildGraph::from_tasks`] are valid.
pub(super) struct SimulatedStore {
    /// Derivations come first, and are valid from the beginning.
    tasks: usize,
    /// Outputs, once they are registered.
    built: PathSet,
}

impl SimulatedStore {
    pub(super) fn new(tasks: usize) -> Self {
        Self {
            tasks,
            built: PathSet::default(),
        }
    }
}

impl Store for SimulatedStore {
    fn add_temp_roots(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<()> {
        Ok(())
    }

    fn valid(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        let valid = |&path: &PathId| path.index() < self.tasks || self.built.contains(path);
        Ok(paths.iter().map(valid).collect())
    }

    fn load(&mut self, _: &mut BuildGraph, _: DrvId) -> Result<()> {
        Ok(())
    }

    fn check_output_paths(&mut self, _: &BuildGraph, _: DrvId) -> Result<()> {
        Ok(())
    }

    fn nar_hash(&mut self, _: &BuildGraph, _: PathId) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn try_lock(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<Option<OutputLocks>> {
        Ok(Some(OutputLocks::default()))
    }

    fn scratch_outputs(&mut self, _: &BuildGraph, _: DrvId, _: &[PathId]) -> Result<HashRewrites> {
        Ok(HashRewrites::default())
    }

    fn unlock(&mut self, _: OutputLocks, _: bool) {}

    fn input_closure(&mut self, _: &mut BuildGraph, _: DrvId) -> Result<Vec<PathId>> {
        Ok(Vec::new())
    }

    fn closure(&mut self, _: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>> {
        Ok(paths.to_vec())
    }

    fn register(&mut self, _: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        for output in outputs {
            self.built.insert(output.path);
        }
        Ok(())
    }
}
