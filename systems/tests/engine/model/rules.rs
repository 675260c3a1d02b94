//! Nix 1.8's rules, one function for each kind of goal, and what a disk, a child or a hook that
//! fails does to them.

use std::collections::{BTreeMap, BTreeSet};

use windrow_components::ids::{DrvId, PathId};
use windrow_systems::failure::{FailureKind, FailureKinds};
use windrow_systems::simulate::scenario::Scenario;
use windrow_systems::world::Reply;

/// How something ends by the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Failed,
    NoSubstituters,
    IncompleteClosure,
    /// Binary caches have it and could not deliver it.
    NotDelivered,
    /// No request needed it any more.
    Cancelled,
    /// Never: it needs a slot and there is none.
    Waits,
}

/// Nix 1.8's rules, one function for each kind of goal.
pub(super) struct Model<'a> {
    pub(super) world: &'a Scenario,
    pub(super) valid: BTreeSet<PathId>,
    pub(super) derivations: BTreeMap<DrvId, End>,
    pub(super) failed_paths: BTreeSet<PathId>,
    pub(super) built: BTreeSet<DrvId>,
    pub(super) failures: FailureKinds,
    pub(super) any_failure: bool,
}

impl<'a> Model<'a> {
    /// Nothing has been done yet in that world.
    pub(super) fn new(world: &'a Scenario) -> Self {
        Self {
            world,
            valid: world.valid.clone(),
            derivations: BTreeMap::new(),
            failed_paths: BTreeSet::new(),
            built: BTreeSet::new(),
            failures: FailureKinds::default(),
            any_failure: false,
        }
    }

    /// `SubstitutionGoal`: the first substituter that has it decides on its references, each may
    /// fail to deliver. That programs do is a failure; what caches fail to deliver can be built.
    pub(super) fn path(&mut self, path: PathId) -> End {
        if self.valid.contains(&path) {
            return End::Success;
        }
        if self.failed_paths.contains(&path) {
            return End::Failed;
        }
        let world = self.world;
        let programs = world.substituters.len() - world.caches;
        let mut failed = None;
        for (nth, substituter) in world.substituters.iter().enumerate() {
            let Some(offer) = substituter.get(&path) else {
                continue;
            };
            let others = offer.references.iter().filter(|&&other| other != path);
            let ends: Vec<End> = others.map(|&other| self.path(other)).collect();
            if ends.iter().any(|&end| end != End::Success) {
                let lacks = [
                    End::NoSubstituters,
                    End::IncompleteClosure,
                    End::NotDelivered,
                ];
                if ends.iter().any(|end| lacks.contains(end)) {
                    return End::IncompleteClosure;
                }
                return self.path_failed(path);
            }
            if !offer.fails && world.mishaps.unwritable.contains(&path) {
                self.failures.add(FailureKind::Other);
                return self.path_failed(path);
            }
            if !offer.fails {
                self.valid.insert(path);
                return End::Success;
            }
            *failed.get_or_insert(false) |= nth < programs;
        }
        match failed {
            Some(true) => self.path_failed(path),
            Some(false) => End::NotDelivered,
            None => End::NoSubstituters,
        }
    }

    fn path_failed(&mut self, path: PathId) -> End {
        self.failed_paths.insert(path);
        self.any_failure = true;
        End::Failed
    }

    /// `DerivationGoal`.
    pub(super) fn derivation(&mut self, drv: DrvId) -> End {
        if let Some(&end) = self.derivations.get(&drv) {
            return end;
        }
        let end = match self.realise(drv) {
            Ok(end) => end,
            Err(kind) => {
                self.failures.add(kind);
                self.any_failure = true;
                End::Failed
            }
        };
        self.derivations.insert(drv, end);
        end
    }

    fn missing(&self, drv: DrvId) -> Vec<PathId> {
        let rows = self.world.graph.outputs(drv).iter().map(|row| row.path);
        rows.filter(|path| !self.valid.contains(path)).collect()
    }

    /// Substitutes of the outputs; tells whether one lacked references.
    fn substitute(&mut self, drv: DrvId) -> Result<bool, FailureKind> {
        let missing = self.missing(drv);
        let ends: Vec<End> = missing.into_iter().map(|path| self.path(path)).collect();
        if ends.contains(&End::Failed) && !self.world.options.fallback {
            return Err(FailureKind::Other);
        }
        Ok(ends.contains(&End::IncompleteClosure))
    }

    fn realise(&mut self, drv: DrvId) -> Result<End, FailureKind> {
        let world = self.world;
        if self.path(world.graph.drv_path(drv)) != End::Success {
            return Err(FailureKind::Other);
        }
        if self.missing(drv).is_empty() {
            return Ok(End::Success);
        }
        let traits = world.graph.traits(drv);
        let substitutes = traits.allow_substitutes && !traits.prefer_local;
        let retry = substitutes && self.substitute(drv)?;
        if self.missing(drv).is_empty() {
            return Ok(End::Success);
        }
        let inputs = world.graph.inputs(drv).map(|input| input.drv);
        let mut ends: Vec<End> = inputs.map(|input| self.derivation(input)).collect();
        let sources = world.graph.sources(drv).to_vec();
        ends.extend(sources.into_iter().map(|source| self.path(source)));
        if ends.contains(&End::Waits) {
            return Ok(End::Waits);
        }
        if ends.iter().any(|&end| end != End::Success) {
            return Err(FailureKind::Dependency);
        }
        if retry {
            self.substitute(drv)?;
            if self.missing(drv).is_empty() {
                return Ok(End::Success);
            }
        }
        let build = &world.builds[&drv];
        let accepts = build.replies.last() == Some(&Reply::Accept);
        let away = world.hook && !traits.prefer_local && accepts;
        if !away && world.options.max_jobs == 0 {
            return Ok(End::Waits);
        }
        if let Some(kind) = build.failure {
            return Err(kind);
        }
        if world.mishaps.lost.contains(&drv) {
            return Err(FailureKind::Other);
        }
        if away && world.mishaps.hook_dies_building.contains(&drv) {
            return Err(FailureKind::Hook { status: 9 });
        }
        let missing = self.missing(drv);
        self.built.insert(drv);
        if missing
            .iter()
            .any(|path| world.mishaps.unwritable.contains(path))
        {
            return Err(FailureKind::Other);
        }
        self.valid.extend(missing);
        Ok(End::Success)
    }
}
