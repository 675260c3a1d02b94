//! What a pass does for goals that repair: asks for their contents to be looked at, and goes on by
//! what was found.

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{Outcome, Stage};
use windrow_components::ids::PathId;
use windrow_components::outputs::OutputSet;

use crate::error::Result;
use crate::failure::FailureKind;
use crate::substitute::pass::paths::PathItem;
use crate::substitute::pass::{Batch, Item, Pass};
use crate::world::{NewWaitee, Question, Verdict};

impl Pass<'_, '_> {
    /// Has the outputs of a derivation looked at.
    pub(super) fn ask_for_contents(&mut self, item: Item) {
        let graph = &*self.graph;
        let rows = graph.outputs(item.drv).iter();
        let outputs = rows.map(|row| {
            let wanted = graph.output_sets.wants(item.wanted, row.name);
            (row.path, graph.full_path(row.path), wanted)
        });
        let question = Question {
            goal: item.goal,
            wanted: item.wanted,
            drv_path: Some(graph.full_path(graph.drv_path(item.drv))),
            outputs: outputs.collect(),
        };
        self.scheduler.repairs.questions.push(question);
        self.scheduler.wait(item.goal, Stage::Verifying);
    }

    /// Has a path by itself looked at.
    pub(super) fn ask_for_path(&mut self, goal: Entity, path: PathId) {
        let question = Question {
            goal,
            wanted: OutputSet::ALL,
            drv_path: None,
            outputs: vec![(path, self.graph.full_path(path), true)],
        };
        self.scheduler.repairs.questions.push(question);
        self.scheduler.wait(goal, Stage::Verifying);
    }

    /// Makes temporary roots of the paths that are looked at by themselves.
    #[inline(never)]
    pub(super) fn keep_what_is_repaired(&mut self, batch: &Batch) -> Result<()> {
        if batch.paths.is_empty() {
            return Ok(());
        }
        self.store.add_temp_roots(self.graph, &batch.paths)
    }

    /// Goes on with the goals whose contents have been looked at: what is bad is treated as what is
    /// missing, and what the outputs refer to gets goals of its own (`repairClosure`).
    ///
    /// Nix 1.8: `DerivationGoal::repairClosure`, `DerivationGoal::closureRepaired`.
    pub(super) fn judge(&mut self, batch: &mut Batch) {
        for item in std::mem::take(&mut batch.verified) {
            let grown = self.scheduler.repairs.judged.get(&item.goal) != Some(&item.wanted);
            match self.scheduler.repairs.verdicts.remove(&item.goal) {
                // More is wanted than was looked at (Nix 1.8: `needRestart`).
                Some(Verdict::Good | Verdict::Closure(_)) if grown => self.ask_for_contents(item),
                Some(Verdict::Good) => self.end_derivation(item, Outcome::Success),
                Some(Verdict::Bad) => batch.items.push(item),
                Some(Verdict::Closure(targets)) => {
                    self.scheduler.wait(item.goal, Stage::Closure);
                    batch
                        .requests
                        .extend(targets.into_iter().map(|target| NewWaitee {
                            waiter: item.goal,
                            target,
                            wanted: OutputSet::ALL,
                        }));
                }
                Some(Verdict::Unknown(reason)) => {
                    let path = self.graph.full_path(self.graph.drv_path(item.drv));
                    let message = format!("cannot repair the outputs of '{path}': {reason}");
                    self.fail(item.goal, FailureKind::Other, message);
                }
                // Woken by something else; the answer is on its way.
                None => {}
            }
        }
        // Nix 1.8: `closureRepaired`.
        for (item, failed) in std::mem::take(&mut batch.closures) {
            let judged = self.scheduler.repairs.judged.remove(&item.goal);
            if failed == 0 && judged != Some(item.wanted) {
                self.ask_for_contents(item);
            } else if failed > 0 {
                let path = self.graph.full_path(self.graph.drv_path(item.drv));
                let message = format!(
                    "some paths in the output closure of derivation '{path}' could not be repaired"
                );
                self.fail(item.goal, FailureKind::Dependency, message);
            } else {
                self.end_derivation(item, Outcome::Success);
            }
        }
        for (goal, path) in std::mem::take(&mut batch.path_repairs) {
            match self.scheduler.repairs.verdicts.remove(&goal) {
                Some(Verdict::Good) => self.end(goal, path, Outcome::Success),
                Some(Verdict::Unknown(reason)) => {
                    let path = self.graph.full_path(path);
                    let message = format!("cannot repair path '{path}': {reason}");
                    self.fail(goal, FailureKind::Other, message);
                }
                Some(Verdict::Bad | Verdict::Closure(_)) => {
                    self.substituters.retry(path, self.scheduler.now);
                    batch.try_next.push(PathItem::corrupt((goal, path)));
                }
                None => {}
            }
        }
    }
}
