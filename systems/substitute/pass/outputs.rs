//! Substitutes for a derivation's outputs: asked for before it is built (Nix 1.8:
//! `haveDerivation`), and what came of that (`outputsSubstituted`).

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{BuildMode, Outcome, Stage, Target, Waitees};
use windrow_components::ids::DrvId;
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::{OutputSubstitution, Retry};

use crate::error::Result;
use crate::failure::FailureKind;
use crate::lock::stays_here;
use crate::substitute::pass::{Batch, Item, Pass};
use crate::world::NewWaitee;

impl Pass<'_, '_> {
    /// Whether a derivation's outputs may come from substituters.
    ///
    /// Nix 1.8: `willBuildLocally`.
    fn may_substitute(&self, drv: DrvId) -> bool {
        let traits = self.graph.traits(drv);
        let allowed =
            traits.allow_substitutes && !stays_here(self.graph, &self.scheduler.options, drv);
        allowed || self.scheduler.options.always_allow_substitutes
    }

    /// What a goal asked substituters for, if it did.
    fn asked_outputs(&self, goal: Entity) -> Option<&OutputSubstitution> {
        self.substituting.get(goal).ok()?.2
    }

    /// Goals that may get what they lack from substituters ask for that first; the others are left
    /// to be built.
    ///
    /// Nix 1.8: `DerivationGoal::outputsSubstituted`.
    pub(super) fn prefer_substitutes(&mut self, batch: &mut Batch) -> Result<()> {
        if self.substituters.is_empty() || batch.items.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut batch.items);
        let (mut ask, build): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| {
            // What was looked at again after that is as bad as before.
            let repaired =
                item.mode == BuildMode::Repair && self.asked_outputs(item.goal).is_some();
            !item.asked && !repaired && self.may_substitute(item.drv)
        });
        batch.items = build;
        self.choose_builds(&mut ask, batch)?;
        batch.paths.clear();
        let graph = &*self.graph;
        for item in &ask {
            let rows = graph.outputs(item.drv).iter();
            let wanted = rows.filter(|row| graph.output_sets.wants(item.wanted, row.name));
            batch.paths.extend(wanted.map(|row| row.path));
        }
        self.rooted_validity(batch)?;
        let mut known = batch.paths.iter().zip(&batch.valid);
        for &item in &ask {
            let before = batch.requests.len();
            for row in self.graph.outputs(item.drv) {
                if !self.graph.output_sets.wants(item.wanted, row.name) {
                    continue;
                }
                let valid = known.next().is_some_and(|(_, valid)| *valid);
                let bad = item.mode == BuildMode::Repair
                    && self.scheduler.repairs.bad.contains(&row.path);
                let target = match valid {
                    true => Target::Repair(row.path),
                    false => Target::Path(row.path),
                };
                let again = batch.requests[before..].iter().any(|r| r.target == target);
                if (!valid || bad) && !again {
                    batch.requests.push(NewWaitee {
                        waiter: item.goal,
                        target,
                        wanted: OutputSet::ALL,
                    });
                }
            }
            if batch.requests.len() == before {
                // It lacks nothing, and is built again to be compared.
                batch.items.push(item);
                continue;
            }
            self.scheduler.wait(item.goal, Stage::Outputs);
            let retry = self.asked_outputs(item.goal).map(|known| known.retry);
            let asked = OutputSubstitution {
                asked: item.wanted,
                retry: retry.unwrap_or_default(),
            };
            batch.output_substitutions.push((item.goal, asked));
        }
        Ok(())
    }

    /// Judges what substituters made of the outputs that were asked of them.
    ///
    /// Nix 1.8: `DerivationGoal::outputsSubstituted`.
    pub(super) fn outputs_substituted(&mut self, batch: &mut Batch) {
        let substituted: Vec<(Item, Waitees)> = batch.substituted.drain(..).collect();
        for (mut item, waitees) in substituted {
            if waitees.shortfalls.has(Outcome::Failed) && !self.scheduler.options.fallback {
                let path = self.graph.full_path(self.graph.drv_path(item.drv));
                let message = format!(
                    "some substitutes for the outputs of derivation '{path}' failed (usually happens \
                     due to networking issues); try '--fallback' to build derivation from source"
                );
                self.fail(item.goal, FailureKind::Other, message);
                continue;
            }
            item.asked = true;
            if let Ok((.., Some(mut known))) = self.substituting.get_mut(item.goal) {
                let incomplete = waitees.shortfalls.has(Outcome::IncompleteClosure);
                if incomplete && known.retry == Retry::NoNeed {
                    known.retry = Retry::AfterInputs;
                }
                // More outputs have been asked for since (Nix 1.8: `needRestart`).
                item.asked = known.asked == item.wanted;
            }
            batch.loaded.push(item);
        }
    }

    /// A goal has all its inputs: whether its outputs are to be asked for once more, since what a
    /// substitute lacked may be there now.
    pub(super) fn retries_substitutes(&mut self, goal: Entity) -> bool {
        let Ok((.., Some(mut known))) = self.substituting.get_mut(goal) else {
            return false;
        };
        let retry = known.retry == Retry::AfterInputs;
        if retry {
            known.retry = Retry::Done;
            self.scheduler.expect_one_less();
        }
        retry
    }
}
