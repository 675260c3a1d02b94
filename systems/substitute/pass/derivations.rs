//! Derivations: whether they are there and what they say; which of their outputs are missing, and
//! which are not to be built.

use windrow_components::goal::{BuildMode, Outcome, Stage, Target};
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::finish::failure_cache;
use crate::substitute::pass::{Batch, Item, Pass};
use crate::world::NewWaitee;

impl Pass<'_, '_> {
    /// Finds which of the derivations that are not loaded are valid; asks for substitutes of the
    /// others.
    ///
    /// Nix 1.8: `DerivationGoal::init`.
    #[inline(never)]
    pub(super) fn look_for_derivations(&mut self, batch: &mut Batch) -> Result<()> {
        batch.paths.clear();
        let unknown = batch.unloaded.iter().filter(|item| !item.present);
        batch
            .paths
            .extend(unknown.map(|item| self.graph.drv_path(item.drv)));
        self.rooted_validity(batch)?;
        let mut valid = batch.valid.iter();
        batch.unloaded.retain_mut(|item| {
            item.present = item.present || valid.next() == Some(&true);
            if !item.present {
                self.lacks_derivation(*item, &mut batch.requests);
            }
            item.present
        });
        Ok(())
    }

    /// A goal waits for its `.drv` to be substituted.
    #[inline(never)]
    fn lacks_derivation(&mut self, item: Item, requests: &mut Vec<NewWaitee>) {
        self.scheduler.wait(item.goal, Stage::Derivation);
        requests.push(NewWaitee {
            waiter: item.goal,
            target: Target::Path(self.graph.drv_path(item.drv)),
            wanted: OutputSet::ALL,
        });
    }

    /// Loads what is not loaded.
    ///
    /// Nix 1.8: `DerivationGoal::haveDerivation`, `DerivationGoal::checkPathValidity`.
    #[inline(never)]
    pub(super) fn load_derivations(&mut self, batch: &mut Batch) {
        for item in batch.unloaded.drain(..) {
            if !self.graph.is_loaded(item.drv)
                && let Err(error) = self.store.load(self.graph, item.drv)
            {
                self.fail(item.goal, FailureKind::Other, error.to_string());
            } else {
                batch.items.push(item);
            }
        }
    }

    /// Looks which derivations that were loaded before are valid, and which wanted outputs of all
    /// of them are missing.
    #[inline(never)]
    pub(super) fn look_for_outputs(&mut self, batch: &mut Batch) -> Result<()> {
        batch.items.append(&mut batch.loaded);
        batch.paths.clear();
        for item in &batch.items {
            let graph = &*self.graph;
            if !item.present {
                batch.paths.push(graph.drv_path(item.drv));
            }
            for row in graph.outputs(item.drv) {
                if graph.output_sets.wants(item.wanted, row.name) {
                    batch.paths.push(row.path);
                }
            }
        }
        self.rooted_validity(batch)?;
        let mut valid = batch.valid.iter().copied();
        batch.items.retain(|&item| {
            let graph = &*self.graph;
            let present = item.present || valid.next() == Some(true);
            let mut all_valid = true;
            for row in graph.outputs(item.drv) {
                if graph.output_sets.wants(item.wanted, row.name) {
                    all_valid &= valid.next() == Some(true);
                }
            }
            if !present {
                self.lacks_derivation(item, &mut batch.requests);
            } else if item.wanted != OutputSet::ALL
                && let Some(unknown) = self.unknown_output(item)
            {
                let path = self.graph.full_path(self.graph.drv_path(item.drv));
                let message = format!("derivation '{path}' has no output {unknown}");
                self.fail(item.goal, FailureKind::Other, message);
            } else if item.mode == BuildMode::Repair {
                self.ask_for_contents(item);
            } else if all_valid && item.mode == BuildMode::Normal {
                self.end_derivation(item, Outcome::Success);
            } else {
                return true;
            }
            false
        });
        Ok(())
    }

    /// A wanted output that the derivation does not have.
    fn unknown_output(&self, item: Item) -> Option<String> {
        let graph = &*self.graph;
        let outputs = graph.outputs(item.drv);
        let names = graph.output_sets.names(item.wanted);
        let unknown = names
            .iter()
            .find(|&&name| !outputs.iter().any(|row| row.name == name))?;
        let outputs: Vec<&str> = outputs
            .iter()
            .map(|row| graph.name_text(row.name))
            .collect();
        Some(format!(
            "'{}'; it has {}",
            graph.name_text(*unknown),
            outputs.join(", ")
        ))
    }

    /// Fails goals whose outputs are known not to build, before anything is done for them (Nix 1.8:
    /// `pathFailed`).
    #[inline(never)]
    pub(super) fn fail_what_failed_before(&mut self, batch: &mut Batch) -> Result<()> {
        if self.store.failed_paths().is_none() {
            return Ok(());
        }
        let mut problem = None;
        batch.items.retain(|item| {
            let failed = self.failed_before(item.drv).unwrap_or_else(|error| {
                problem.get_or_insert(error);
                None
            });
            let passes = failed.is_none();
            if let Some(failure) = failed {
                self.scheduler.fail(item.goal, failure);
            }
            passes
        });
        problem.map_or(Ok(()), Err)
    }

    fn failed_before(&mut self, drv: DrvId) -> Result<Option<Failure>> {
        let rows = self.graph.outputs(drv).iter();
        let outputs: Vec<PathId> = rows.map(|row| row.path).collect();
        let valid = self.store.valid(self.graph, &outputs)?;
        let missing = outputs.into_iter().zip(valid).filter(|(_, valid)| !valid);
        let missing = missing.map(|(path, _)| path);
        failure_cache::known_failure(self.store, self.graph, missing)
    }

    /// Fails goals that are to compare outputs which are not there.
    #[inline(never)]
    pub(super) fn refuse_checks(&mut self, batch: &mut Batch) -> Result<()> {
        if self.scheduler.run.mode() != BuildMode::Check {
            return Ok(());
        }
        let mut problem = None;
        batch.items.retain(|item| {
            if item.mode != BuildMode::Check {
                return true;
            }
            let sets = &self.graph.output_sets;
            let rows = self.graph.outputs(item.drv).iter();
            let rows = rows.filter(|row| sets.wants(item.wanted, row.name));
            let outputs: Vec<PathId> = rows.map(|row| row.path).collect();
            match self.store.valid(self.graph, &outputs) {
                Ok(valid) if valid.contains(&false) => {
                    let path = self.graph.full_path(self.graph.drv_path(item.drv));
                    let message = format!(
                        "some outputs of '{path}' are not valid, so checking is not possible; build it \
                         first"
                    );
                    self.fail(item.goal, FailureKind::Other, message);
                    false
                }
                Ok(_) => true,
                Err(error) => {
                    problem.get_or_insert(error);
                    true
                }
            }
        });
        problem.map_or(Ok(()), Err)
    }
}
