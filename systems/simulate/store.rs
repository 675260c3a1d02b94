//! A store in memory: every derivation is there, nothing is built, and nobody else uses it.

use windrow_components::bit_set::PathSet;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use crate::error::Result;
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
    fn valid(&mut self, graph: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        let mut valid = Vec::new();
        self.valid_into(graph, paths, &mut valid)?;
        Ok(valid)
    }

    fn valid_into(
        &mut self,
        _: &BuildGraph,
        paths: &[PathId],
        valid: &mut Vec<bool>,
    ) -> Result<()> {
        let is_valid = |&path: &PathId| path.index() < self.tasks || self.built.contains(path);
        valid.clear();
        valid.extend(paths.iter().map(is_valid));
        Ok(())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn register(&mut self, _: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        for output in outputs {
            self.built.insert(output.path);
        }
        Ok(())
    }
}
