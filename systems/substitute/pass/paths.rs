//! Goals for one path: valid already, at a substituter, or nowhere (Nix 1.8:
//! `SubstitutionGoal::init`, `tryNext`, `gotInfo` and `referencesValid`).

use bevy_ecs::prelude::Entity;
use hashbrown::HashSet;
use windrow_components::goal::{Moment, Outcome, Stage, Target};
use windrow_components::ids::PathId;
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::Substitution;

use crate::error::Result;
use crate::helpers::Find;
use crate::substitute::pass::{Batch, Pass};
use crate::world::{NewWaitee, Place, ReadyFetch};

/// A path's goal, as one step of a pass hands it to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathItem {
    goal: Entity,
    path: PathId,
    /// Who gives it.
    substitution: Substitution,
}

impl PathItem {
    /// A path whose contents are bad, before any substituter was looked at.
    pub(super) fn corrupt((goal, path): (Entity, PathId)) -> Self {
        Self {
            goal,
            path,
            substitution: Substitution::default(),
        }
    }
}

impl Pass<'_, '_> {
    /// A path's goal is awake: puts it where its stage says.
    pub(super) fn sort_out_path(
        &mut self,
        (goal, place, path): (Entity, Place, PathId),
        batch: &mut Batch,
    ) {
        let item = |substitution| PathItem {
            goal,
            path,
            substitution,
        };
        let waitees = self.waitees.at(place).copied().unwrap_or_default();
        if waitees.shortfalls.has(Outcome::Cancelled) && self.scheduler.stage(goal) == Stage::Inputs
        {
            self.scheduler.restart(goal, false);
            if let Some(waitees) = self.waitees.at(place) {
                waitees.wait_for(0, Moment::NEVER);
            }
        }
        match self.scheduler.stage(goal) {
            Stage::New => batch.path_goals.push(item(Substitution::default())),
            Stage::Info => {
                let known = self
                    .substituting
                    .get(goal)
                    .ok()
                    .and_then(|(_, known, _)| known);
                batch
                    .try_next
                    .push(item(known.copied().unwrap_or_default()));
            }
            // Something else has woken it.
            Stage::Inputs if waitees.left > 0 => {}
            Stage::Inputs if waitees.failed == 0 => {
                self.references_valid(item(Substitution::default()))
            }
            Stage::Inputs => {
                let short = waitees.shortfalls;
                let incomplete = short.has(Outcome::NoSubstituters)
                    || short.has(Outcome::IncompleteClosure)
                    || short.has(Outcome::NotDelivered);
                if incomplete && let Ok((_, Some(mut known), _)) = self.substituting.get_mut(goal) {
                    // What another process makes valid is not counted as made here, but some goal
                    // ends with it.
                    known.ended_at = self.scheduler.moment().next();
                }
                self.end(
                    goal,
                    path,
                    match incomplete {
                        true => Outcome::IncompleteClosure,
                        false => Outcome::Failed,
                    },
                );
            }
            _ => {}
        }
    }

    /// What is valid is done, for the rest substituters are asked.
    ///
    /// Nix 1.8: `SubstitutionGoal::init`.
    pub(super) fn look_for_paths(&mut self, batch: &mut Batch) -> Result<()> {
        batch.paths.clear();
        batch
            .paths
            .extend(batch.path_goals.iter().map(|item| item.path));
        self.rooted_validity(batch)?;
        for (item, &valid) in batch.path_goals.iter().zip(&batch.valid) {
            if valid {
                self.end(item.goal, item.path, Outcome::Success);
            } else {
                self.substituters.retry(item.path, self.scheduler.now);
                batch.try_next.push(*item);
            }
        }
        Ok(())
    }

    /// The best substituter that has the path; its references come first.
    ///
    /// Nix 1.8: `SubstitutionGoal::tryNext`.
    pub(super) fn try_next(&mut self, batch: &mut Batch) -> Result<()> {
        let mut found = Vec::new();
        // Each answer wakes whoever waits for it.
        let mut seen = HashSet::new();
        for mut item in batch.try_next.drain(..) {
            if !seen.insert(item.goal) {
                continue;
            }
            match self.substituters.find(item.path, self.scheduler.now) {
                Find::At(sub) => {
                    item.substitution.sub = sub;
                    self.substituters.choose(sub, item.path);
                    batch.substitutions.push((item.goal, item.substitution));
                    found.push(item);
                }
                Find::Asked => {
                    batch.substitutions.push((item.goal, item.substitution));
                    self.scheduler.wait(item.goal, Stage::Info);
                }
                // Whoever asked should build it, unless someone had it (the "hack" of Nix 1.8).
                Find::Failed { program: true } => self.end(item.goal, item.path, Outcome::Failed),
                Find::Failed { program: false } => {
                    self.end(item.goal, item.path, Outcome::NotDelivered);
                }
                Find::Nobody => self.end(item.goal, item.path, Outcome::NoSubstituters),
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        batch.paths.clear();
        let mut ends = Vec::with_capacity(found.len());
        for item in &found {
            let info = self.substituters.info(item.substitution.sub, item.path);
            let references = info.map_or(&[][..], |info| &info.references);
            let others = references.iter().filter(|&&path| path != item.path);
            batch.paths.extend(others);
            ends.push(batch.paths.len());
        }
        self.rooted_validity(batch)?;
        let mut start = 0;
        for (item, end) in found.iter().zip(ends) {
            let before = batch.requests.len();
            for (&path, &valid) in batch.paths[start..end].iter().zip(&batch.valid[start..end]) {
                if !valid {
                    batch.requests.push(NewWaitee {
                        waiter: item.goal,
                        target: Target::Path(path),
                        wanted: OutputSet::ALL,
                    });
                }
            }
            start = end;
            if batch.requests.len() == before {
                self.references_valid(*item);
            } else {
                self.scheduler.wait(item.goal, Stage::Inputs);
            }
        }
        Ok(())
    }

    /// A path whose references are valid only lacks a slot.
    ///
    /// Nix 1.8: `SubstitutionGoal::referencesValid`.
    fn references_valid(&mut self, item: PathItem) {
        let (goal, path) = (item.goal, item.path);
        self.scheduler.make_fetch_ready(ReadyFetch { goal, path });
    }
}
