//! Sorts the goals that are awake by the step at which they go on.

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{DerivationGoal, Moment, Outcome, Stage, SubstitutionGoal, Target};

use crate::failure::FailureKind;
use crate::substitute::pass::{Batch, Item, Pass};
use crate::world::{Awake, Goal, Row, place};

impl Pass<'_, '_> {
    /// Sorts the goals that are awake by what they are to do next.
    ///
    /// Nix 1.8: `Goal::work`, `DerivationGoal::work`.
    #[inline(never)]
    pub(super) fn sort_out(&mut self, awake: &Awake, batch: &mut Batch) {
        batch.paths.clear();
        for &goal in &awake.goals {
            let Some(place) = place(self.entities, goal) else {
                continue;
            };
            if let Some(row) = self.derivations.row_of(place) {
                self.sort_out_derivation(goal, row, batch);
                continue;
            }
            let Ok((Some(&known), ..)) = self.substituting.get(goal) else {
                continue;
            };
            if self.scheduler.is_unwanted(goal) {
                self.cancel_path(goal, known);
                continue;
            }
            match known {
                SubstitutionGoal { path, repair: true } => match self.scheduler.stage(goal) {
                    Stage::New => {
                        batch.paths.push(path);
                        self.ask_for_path(goal, path);
                    }
                    Stage::Verifying => batch.path_repairs.push((goal, path)),
                    _ => self.sort_out_path((goal, place, path), batch),
                },
                _ => self.sort_out_path((goal, place, known.path), batch),
            }
        }
        for &drv in &awake.derivations {
            let Some((goal, row)) = self.scheduler.index.goal_and_row(drv) else {
                continue;
            };
            match self.scheduler.stage(goal) {
                Stage::New if self.graph.is_loaded(drv) && !self.scheduler.is_unwanted(goal) => {
                    let item = self.item(goal, row);
                    batch.items.push(item);
                }
                _ => self.sort_out_derivation(goal, row, batch),
            }
        }
    }

    /// A goal of which nothing is known yet but what it is for.
    #[inline]
    fn item(&mut self, goal: Entity, row: Row) -> Item {
        let DerivationGoal { drv, wanted } = *self.derivations.row(row);
        Item {
            goal,
            row,
            drv,
            wanted,
            mode: self.scheduler.mode_of(goal),
            present: self.graph.is_of_tasks(),
            asked: false,
        }
    }

    #[inline(never)]
    fn sort_out_derivation(&mut self, goal: Entity, row: Row, batch: &mut Batch) {
        let item = self.item(goal, row);
        let drv = item.drv;
        let stage = self.scheduler.stage(goal);
        if self.scheduler.is_unwanted(goal) && stage.is_before_ready() {
            let (entity, target) = (goal, Target::Derivation(drv));
            self.scheduler
                .end(self.graph, Goal { entity, target }, Outcome::Cancelled);
            return;
        }
        if self.waitees.row(row).shortfalls.has(Outcome::Cancelled) && stage.is_before_ready() {
            self.scheduler.restart(goal, true);
            self.waitees.row(row).wait_for(0, Moment::NEVER);
        }
        match self.scheduler.stage(goal) {
            Stage::New if self.graph.is_loaded(drv) => batch.items.push(item),
            Stage::New => batch.unloaded.push(item),
            Stage::Inputs => {
                let failed = self.waitees.row(row).failed;
                if failed == 0
                    && self.scheduler.has_asked_for_outputs
                    && self.retries_substitutes(goal)
                {
                    batch.loaded.push(item);
                } else {
                    batch.inputs_done.push((item, failed));
                }
            }
            Stage::Derivation if self.waitees.row(row).failed == 0 => {
                let present = true;
                batch.unloaded.push(Item { present, ..item });
            }
            Stage::Derivation => {
                let path = self.graph.full_path(self.graph.drv_path(drv));
                let message = format!(
                    "cannot build missing derivation '{path}': it is not in the store and no \
                     substituter has it"
                );
                self.fail(goal, FailureKind::Other, message);
            }
            Stage::Verifying => batch.verified.push(item),
            Stage::Closure => {
                let failed = self.waitees.row(row).failed;
                batch.closures.push((item, failed));
            }
            Stage::Outputs => batch.substituted.push((item, *self.waitees.row(row))),
            _ => {}
        }
    }

    /// Ends a path's goal that no request needs any more.
    #[inline(never)]
    fn cancel_path(&mut self, entity: Entity, SubstitutionGoal { path, .. }: SubstitutionGoal) {
        if self.scheduler.stage(entity).is_before_ready() {
            let target = Target::Path(path);
            self.scheduler
                .end(self.graph, Goal { entity, target }, Outcome::Cancelled);
        }
    }
}
