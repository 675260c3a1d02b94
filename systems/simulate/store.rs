//! A store in memory: every derivation is there, nothing is built, and nobody else uses it.

use windrow_components::building::HashRewrites;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use crate::error::Result;
use crate::store::path_lock::OutputLocks;
use crate::world::{BuiltOutput, Store};

/// Knows which of the paths of a graph made by [`BuildGraph::from_tasks`] are valid.
pub(super) struct SimulatedStore {
    /// By path: derivations from the beginning, outputs once they are registered.
    valid: Vec<bool>,
}

impl SimulatedStore {
    pub(super) fn new(tasks: usize) -> Self {
        let mut valid = vec![true; tasks];
        valid.resize(2 * tasks, false);
        Self { valid }
    }
}

impl Store for SimulatedStore {
    fn add_temp_roots(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<()> {
        Ok(())
    }

    fn valid(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        Ok(paths.iter().map(|path| self.valid[path.index()]).collect())
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

    fn register(&mut self, _: &BuildGraph, outputs: &[BuiltOutput]) -> Result<()> {
        for output in outputs {
            self.valid[output.path.index()] = true;
        }
        Ok(())
    }
}
