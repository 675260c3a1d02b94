//! Inputs of derivations that are to be built: asked for, all of a batch together, and looked at
//! when they have ended.

use windrow_components::count::count;
use windrow_components::goal::{Moment, Outcome, Stage, Target};
use windrow_components::graph::InputRow;
use windrow_components::ids::DrvId;
use windrow_components::outputs::OutputSet;

use crate::error::Result;
use crate::failure::FailureKind;
use crate::substitute::pass::{Batch, Pass};
use crate::world::{Asked, GoalSlot, NewWaitee, goals};

impl Pass<'_, '_> {
    /// Nothing but building is left, so the inputs are asked for.
    ///
    /// Nix 1.8: `DerivationGoal::outputsSubstituted`.
    #[inline(never)]
    pub(super) fn ask_for_inputs(&mut self, batch: &mut Batch) -> Result<()> {
        batch.paths.clear();
        if self.graph.has_sources() {
            for item in &batch.items {
                batch.paths.extend(self.graph.sources(item.drv));
            }
        }
        self.rooted_validity(batch)?;
        let drvs = batch.items.iter().map(|item| item.drv);
        self.scheduler.expect_builds(drvs);
        for &item in &batch.items {
            // From here on all outputs count, for all will be built.
            self.derivations.row(item.row).wanted = OutputSet::ALL;
            self.scheduler.wait(item.goal, Stage::Inputs);
            self.waitees.row(item.row).wait_for(0, Moment::NEVER);
        }
        self.ask_for_derivations(batch);
        let mut valid = batch.valid.iter();
        for &item in &batch.items {
            let waitees = self.waitees.row(item.row);
            let before = batch.requests.len();
            if !batch.valid.is_empty() {
                for &source in self.graph.sources(item.drv) {
                    if valid.next() != Some(&true) {
                        batch.requests.push(NewWaitee {
                            waiter: item.goal,
                            target: Target::Path(source),
                            wanted: OutputSet::ALL,
                        });
                        waitees.left += 1;
                    }
                }
            }
            // What failed already ends the waiting, but all the others are asked for nevertheless.
            if waitees.shortfalls.has(Outcome::Failed) && !self.scheduler.run.keep_going() {
                waitees.left = 0;
            }
            if waitees.left == 0 && batch.requests.len() == before {
                batch.inputs_done.push((item, waitees.failed));
            }
        }
        Ok(())
    }

    /// Asks for the input derivations of all goals of a batch, and counts them, those that have
    /// ended already as such.
    #[inline(never)]
    fn ask_for_derivations(&mut self, batch: &mut Batch) {
        let Batch { items, unmade, .. } = batch;
        for item in &*items {
            let (inputs, sets) = self.graph.inputs_and_sets(item.drv);
            let mut left = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
            for InputRow { drv, wanted } in inputs {
                match self.scheduler.index.goal_slot(drv) {
                    GoalSlot::Empty => unmade.ask(&mut self.scheduler.index, drv, wanted),
                    GoalSlot::Asked(nth) => unmade.widen(nth, wanted, sets),
                    GoalSlot::Taken(goal, row) => {
                        let known = self.derivations.row(row);
                        if self.scheduler.is_stale(goal) {
                            known.wanted = sets.union(known.wanted, wanted);
                            self.scheduler.reopen_stale(goal, Some(drv));
                            continue;
                        }
                        goals::widen(self.scheduler, sets, known, goal, wanted);
                        if let Some(outcome) = self.scheduler.stage(goal).outcome() {
                            left -= 1;
                            self.waitees.row(item.row).note(outcome);
                        }
                    }
                }
            }
            let waitees = self.waitees.row(item.row);
            waitees.left = left;
            // What was taken up again just now is waited for.
            waitees.since = self.scheduler.moment();
            self.scheduler
                .note_asked(item.goal, Asked::Inputs(item.drv));
        }
    }

    /// A goal with all its inputs is ready to be built.
    ///
    /// Nix 1.8: `DerivationGoal::inputsRealised`.
    #[inline(never)]
    pub(super) fn check_inputs(&mut self, batch: &Batch) {
        for &(item, failed) in &batch.inputs_done {
            if failed > 0 {
                let path = self.graph.full_path(self.graph.drv_path(item.drv));
                let failed = count(failed, "dependency");
                let message =
                    format!("cannot build derivation '{path}': {failed} couldn't be built");
                self.fail(item.goal, FailureKind::Dependency, message);
            } else if let Some(message) = self.unknown_input_output(item.drv) {
                self.fail(item.goal, FailureKind::Other, message);
            } else {
                self.scheduler.make_ready(item.goal, item.drv);
            }
        }
    }

    /// A complaint about an output that the derivation needs of an input which has no such output.
    fn unknown_input_output(&self, drv: DrvId) -> Option<String> {
        let graph = &*self.graph;
        if !graph.has_input_sets() {
            return None;
        }
        for input in graph.inputs(drv) {
            if input.wanted == OutputSet::ALL {
                continue;
            }
            let outputs = graph.outputs(input.drv);
            for &name in graph.output_sets.names(input.wanted) {
                if !outputs.iter().any(|row| row.name == name) {
                    return Some(format!(
                        "derivation '{}' requires non-existent output '{}' from input derivation '{}'",
                        graph.full_path(graph.drv_path(drv)),
                        graph.name_text(name),
                        graph.full_path(graph.drv_path(input.drv)),
                    ));
                }
            }
        }
        None
    }
}
