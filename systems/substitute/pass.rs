//! One pass over a batch of awake goals: the seed's `init` to `inputsRealised`, each step for all at once.

mod outputs;
mod paths;
mod repair;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut, World};
use bevy_ecs::system::{SystemParam, SystemState};
use windrow_components::goal::{
    BuildMode, DerivationGoal, Outcome, Stage, SubstitutionGoal, Target, Waitees,
};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::{OutputSubstitution, Substitution};

use crate::columns::{Cells, Column, Place, place};
use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::failure_cache;
use crate::goals::{self, Request, Tying, Unmade};
use crate::lock::fetch::FetchQueue;
use crate::repair::Repairs;
use crate::substitute::substituters::Substituters;
use crate::world::{
    Ended, Failures, GoalIndex, NewlyReady, Options, ReadyGoal, RunState, Store, StoreHandle, Tally,
};

use paths::PathItem;

/// A derivation's goal, as one step of a pass hands it to the next.
#[derive(Debug, Clone, Copy)]
struct Item {
    goal: Entity,
    place: Place,
    drv: DrvId,
    wanted: OutputSet,
    mode: BuildMode,
    /// Whether substituters have been asked for what it lacks.
    asked: bool,
}

/// What the goals of a batch are found to be at. Kept from pass to pass for its room.
#[derive(Debug, Default)]
pub struct Batch {
    awake: Vec<Entity>,
    /// Derivation goals whose `.drv` has yet to be found valid.
    new: Vec<Item>,
    /// Derivation goals whose `.drv` is valid.
    present: Vec<Item>,
    /// Derivation goals whose derivation is loaded.
    loaded: Vec<Item>,
    /// Derivation goals whose outputs substituters were asked for, and what came of that.
    substituted: Vec<(Item, Waitees)>,
    /// Derivation goals whose outputs no substitute brought.
    to_build: Vec<Item>,
    /// Derivation goals whose outputs' contents have been looked at.
    verified: Vec<Item>,
    /// Derivation goals all of whose closure has been repaired, or not: how much of it failed.
    closures: Vec<(Item, u32)>,
    /// Path goals whose contents have been looked at.
    path_repairs: Vec<(Entity, Place, PathId)>,
    /// Derivation goals all of whose inputs have ended, and how many of those failed.
    inputs_done: Vec<(Item, u32)>,
    /// Path goals whose path has yet to be found valid.
    path_goals: Vec<PathItem>,
    /// Path goals that go to the next substituter.
    try_next: Vec<PathItem>,
    /// What path goals are to carry from now on.
    substitutions: Vec<(Entity, Substitution)>,
    /// What derivation goals are to carry from now on.
    output_substitutions: Vec<(Entity, OutputSubstitution)>,
    /// What goals ask for, those of one goal together.
    requests: Vec<Request>,
    unmade: Unmade,
    paths: Vec<PathId>,
    valid: Vec<bool>,
}

impl Batch {
    /// An empty list of goals that has room already.
    pub(super) fn take_awake(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.awake)
    }

    /// Gives the list back.
    pub(super) fn keep_awake(&mut self, mut awake: Vec<Entity>) {
        awake.clear();
        self.awake = awake;
    }

    fn clear(&mut self) {
        self.new.clear();
        self.present.clear();
        self.loaded.clear();
        self.to_build.clear();
        self.verified.clear();
        self.closures.clear();
        self.path_repairs.clear();
        self.inputs_done.clear();
        self.path_goals.clear();
        self.substituted.clear();
        self.try_next.clear();
        self.requests.clear();
    }
}

/// Takes each goal of `awake` as far as it goes without waiting.
///
/// # Errors
/// When the store as a whole can't be used. What concerns one goal only makes that goal fail.
pub(super) fn run(
    world: &mut World,
    looking: &mut SystemState<Looking<'static, 'static>>,
    tying: &mut SystemState<Tying<'static, 'static>>,
    awake: &[Entity],
    batch: &mut Batch,
) -> Result<()> {
    batch.clear();
    {
        let mut looking = looking
            .get_mut(world)
            .expect("everything of a run is there");
        let mut pass = looking.open();
        pass.sort_out(awake, batch);
        pass.look_for_derivations(batch)?;
        pass.load_derivations(batch);
        pass.outputs_substituted(batch);
        pass.look_for_outputs(batch)?;
        pass.judge(batch);
        pass.fail_what_failed_before(batch)?;
        pass.prefer_substitutes(batch)?;
        pass.refuse_checks(batch)?;
        pass.ask_for_inputs(batch)?;
        pass.check_inputs(batch);
        pass.look_for_paths(batch)?;
        pass.try_next(batch)?;
        batch.unmade.note(pass.index, &batch.requests);
    }
    for (goal, substitution) in batch.substitutions.drain(..) {
        world.entity_mut(goal).insert(substitution);
    }
    for (goal, substitution) in batch.output_substitutions.drain(..) {
        world.entity_mut(goal).insert(substitution);
    }
    if !batch.requests.is_empty() {
        batch.unmade.make(world);
        let mut tying = tying.get_mut(world).expect("everything of a run is there");
        tying.open().fulfil(&batch.requests);
    }
    Ok(())
}

/// What a pass touches, as a system's parameter.
#[derive(SystemParam)]
pub struct Looking<'w, 's> {
    entities: &'w Entities,
    derivations: Column<'w, 's, DerivationGoal>,
    substitutions: Query<'w, 's, &'static SubstitutionGoal>,
    stages: Column<'w, 's, Stage>,
    outcomes: Column<'w, 's, Outcome>,
    waitees: Column<'w, 's, Waitees>,
    graph: ResMut<'w, BuildGraph>,
    store: NonSendMut<'w, StoreHandle>,
    index: ResMut<'w, GoalIndex>,
    tally: ResMut<'w, Tally>,
    ended: ResMut<'w, Ended>,
    failures: ResMut<'w, Failures>,
    ready: ResMut<'w, NewlyReady>,
    run: Res<'w, RunState>,
    repairs: ResMut<'w, Repairs>,
    options: Res<'w, Options>,
    substituters: ResMut<'w, Substituters>,
    progress: Query<'w, 's, &'static mut Substitution>,
    retries: Query<'w, 's, &'static mut OutputSubstitution>,
    fetches: ResMut<'w, FetchQueue>,
}

impl<'s> Looking<'_, 's> {
    fn open(&mut self) -> Pass<'_, 's> {
        Pass {
            entities: self.entities,
            derivations: self.derivations.open(self.entities),
            substitutions: self.substitutions.as_readonly(),
            stages: self.stages.open(self.entities),
            outcomes: self.outcomes.open(self.entities),
            waitees: self.waitees.open(self.entities),
            graph: &mut self.graph,
            store: &mut *self.store.0,
            index: &mut self.index,
            tally: &mut self.tally,
            ended: &mut self.ended,
            failures: &mut self.failures,
            ready: &mut self.ready,
            run: &self.run,
            repairs: &mut self.repairs,
            options: &self.options,
            substituters: &mut self.substituters,
            progress: self.progress.reborrow(),
            retries: self.retries.reborrow(),
            fetches: &mut self.fetches,
        }
    }
}

/// What a pass touches.
struct Pass<'a, 's> {
    entities: &'a Entities,
    derivations: Cells<'a, DerivationGoal>,
    substitutions: Query<'a, 's, &'static SubstitutionGoal>,
    stages: Cells<'a, Stage>,
    outcomes: Cells<'a, Outcome>,
    waitees: Cells<'a, Waitees>,
    graph: &'a mut BuildGraph,
    store: &'a mut dyn Store,
    index: &'a mut GoalIndex,
    tally: &'a mut Tally,
    ended: &'a mut Ended,
    failures: &'a mut Failures,
    ready: &'a mut NewlyReady,
    run: &'a RunState,
    repairs: &'a mut Repairs,
    options: &'a Options,
    substituters: &'a mut Substituters,
    progress: Query<'a, 's, &'static mut Substitution>,
    retries: Query<'a, 's, &'static mut OutputSubstitution>,
    fetches: &'a mut FetchQueue,
}

impl Pass<'_, '_> {
    fn sort_out(&mut self, awake: &[Entity], batch: &mut Batch) {
        for &goal in awake {
            let Some(place) = place(self.entities, goal) else {
                continue;
            };
            let Some(&mut DerivationGoal { drv, wanted }) = self.derivations.at(place) else {
                let stage = self.stages.at(place).copied();
                match self.substitutions.get(goal).copied() {
                    Ok(SubstitutionGoal { path, repair: true }) => match stage {
                        Some(Stage::New) => self.ask_for_path(goal, place, path),
                        Some(Stage::Verifying) => batch.path_repairs.push((goal, place, path)),
                        _ => self.sort_out_path((goal, place, path), batch),
                    },
                    Ok(known) => self.sort_out_path((goal, place, known.path), batch),
                    Err(_) => {}
                }
                continue;
            };
            let item = Item {
                goal,
                place,
                drv,
                wanted,
                mode: self.run.mode_of(goal),
                asked: false,
            };
            let failed = self.waitees.at(place).map_or(0, |waitees| waitees.failed);
            match self.stages.at(place).copied() {
                Some(Stage::New) => batch.new.push(item),
                Some(Stage::Derivation) if failed == 0 => batch.present.push(item),
                Some(Stage::Derivation) => {
                    let path = self.graph.full_path(self.graph.drv_path(drv));
                    let message = format!(
                        "cannot build missing derivation '{path}': it is not in the store and no \
                         substituter has it"
                    );
                    self.fail(goal, FailureKind::Other, message);
                }
                Some(Stage::Verifying) => batch.verified.push(item),
                Some(Stage::Closure) => batch.closures.push((item, failed)),
                Some(Stage::Outputs) => {
                    let waitees = self.waitees.at(place).copied().unwrap_or_default();
                    batch.substituted.push((item, waitees));
                }
                Some(Stage::Inputs) if failed == 0 && self.retries_substitutes(goal) => {
                    batch.loaded.push(item);
                }
                Some(Stage::Inputs) => batch.inputs_done.push((item, failed)),
                _ => {}
            }
        }
    }

    /// Finds which of the new goals' derivations are valid; asks for substitutes of the others.
    fn look_for_derivations(&mut self, batch: &mut Batch) -> Result<()> {
        let paths = batch.new.iter().map(|item| self.graph.drv_path(item.drv));
        batch.paths.clear();
        batch.paths.extend(paths);
        self.rooted_validity(batch)?;
        for ((&item, &path), &valid) in batch.new.iter().zip(&batch.paths).zip(&batch.valid) {
            if valid {
                batch.present.push(item);
                continue;
            }
            self.set_stage(item.place, Stage::Derivation);
            batch.requests.push(Request {
                waiter: item.goal,
                target: Target::Path(path),
                wanted: OutputSet::ALL,
            });
        }
        Ok(())
    }

    /// The seed's `haveDerivation`: loads what is not loaded.
    fn load_derivations(&mut self, batch: &mut Batch) {
        for &item in &batch.present {
            if !self.graph.is_loaded(item.drv)
                && let Err(error) = self.store.load(self.graph, item.drv)
            {
                self.fail(item.goal, FailureKind::Other, error.to_string());
            } else {
                batch.loaded.push(item);
            }
        }
    }

    /// Looks which wanted outputs are missing.
    fn look_for_outputs(&mut self, batch: &mut Batch) -> Result<()> {
        batch.paths.clear();
        for item in &batch.loaded {
            let graph = &*self.graph;
            let rows = graph.outputs(item.drv).iter();
            let wanted = rows.filter(|row| graph.output_sets.wants(item.wanted, row.name));
            batch.paths.extend(wanted.map(|row| row.path));
        }
        self.rooted_validity(batch)?;
        let mut valid = batch.valid.iter();
        for &item in &batch.loaded {
            let graph = &*self.graph;
            let mut all_valid = true;
            for row in graph.outputs(item.drv) {
                if graph.output_sets.wants(item.wanted, row.name) {
                    all_valid &= valid.next() == Some(&true);
                }
            }
            if let Some(unknown) = self.unknown_output(item) {
                let path = self.graph.full_path(self.graph.drv_path(item.drv));
                let message = format!("derivation '{path}' has no output {unknown}");
                self.fail(item.goal, FailureKind::Other, message);
            } else if item.mode == BuildMode::Repair {
                self.ask_for_contents(item);
            } else if all_valid && item.mode == BuildMode::Normal {
                self.end(item.goal, item.place, Outcome::Success);
            } else {
                batch.to_build.push(item);
            }
        }
        Ok(())
    }

    /// The seed's `pathFailed`, before anything is done for a goal.
    fn fail_what_failed_before(&mut self, batch: &mut Batch) -> Result<()> {
        if self.store.failed_paths().is_none() {
            return Ok(());
        }
        let mut to_build = std::mem::take(&mut batch.to_build);
        for item in to_build.drain(..) {
            let rows = self.graph.outputs(item.drv).iter();
            let outputs: Vec<PathId> = rows.map(|row| row.path).collect();
            let store = &mut *self.store;
            let valid = store.valid(self.graph, &outputs)?;
            let missing = outputs.into_iter().zip(valid).filter(|(_, valid)| !valid);
            let missing = missing.map(|(path, _)| path);
            match failure_cache::known_failure(store, self.graph, missing)? {
                Some(failure) => self.failures.0.push((item.goal, failure)),
                None => batch.to_build.push(item),
            }
        }
        Ok(())
    }

    /// Fails goals that are to compare outputs which are not there.
    fn refuse_checks(&mut self, batch: &mut Batch) -> Result<()> {
        let mut impossible = Vec::new();
        for item in &batch.to_build {
            if item.mode == BuildMode::Check {
                let rows = self.graph.outputs(item.drv).iter();
                let outputs: Vec<PathId> = rows.map(|row| row.path).collect();
                if self.store.valid(self.graph, &outputs)?.contains(&false) {
                    impossible.push(*item);
                }
            }
        }
        for item in impossible {
            batch.to_build.retain(|other| other.goal != item.goal);
            let path = self.graph.full_path(self.graph.drv_path(item.drv));
            let message = format!(
                "some outputs of '{path}' are not valid, so checking is not possible; build it first"
            );
            self.fail(item.goal, FailureKind::Other, message);
        }
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

    /// The seed's `outputsSubstituted`: nothing but building is left, so the inputs are asked for.
    fn ask_for_inputs(&mut self, batch: &mut Batch) -> Result<()> {
        batch.paths.clear();
        for item in &batch.to_build {
            batch.paths.extend(self.graph.sources(item.drv));
        }
        self.rooted_validity(batch)?;
        let mut valid = batch.valid.iter();
        for &item in &batch.to_build {
            self.tally.counts.expected += 1;
            let before = batch.requests.len();
            let waiter = item.goal;
            for input in self.graph.inputs(item.drv) {
                batch.requests.push(Request {
                    waiter,
                    target: Target::Derivation(input.drv),
                    wanted: input.wanted,
                });
            }
            for &source in self.graph.sources(item.drv) {
                if valid.next() != Some(&true) {
                    batch.requests.push(Request {
                        waiter,
                        target: Target::Path(source),
                        wanted: OutputSet::ALL,
                    });
                }
            }
            // From here on all outputs count, for all will be built.
            if let Some(known) = self.derivations.at(item.place) {
                known.wanted = OutputSet::ALL;
            }
            if batch.requests.len() > before {
                self.set_stage(item.place, Stage::Inputs);
            } else {
                if let Some(waitees) = self.waitees.at(item.place) {
                    waitees.wait_for(0);
                }
                batch.inputs_done.push((item, 0));
            }
        }
        Ok(())
    }

    /// The seed's `inputsRealised`: a goal with all its inputs is ready to be built.
    fn check_inputs(&mut self, batch: &Batch) {
        for &(item, failed) in &batch.inputs_done {
            if failed > 0 {
                let path = self.graph.full_path(self.graph.drv_path(item.drv));
                let message = format!(
                    "cannot build derivation '{path}': {failed} dependencies couldn't be built"
                );
                self.fail(item.goal, FailureKind::Dependency, message);
            } else if let Some(message) = self.unknown_input_output(item.drv) {
                self.fail(item.goal, FailureKind::Other, message);
            } else {
                self.set_stage(item.place, Stage::Ready);
                let Item { goal, drv, .. } = item;
                self.ready.0.push(ReadyGoal { goal, drv });
            }
        }
    }

    /// A complaint about an output that the derivation needs of an input which has no such output.
    fn unknown_input_output(&self, drv: DrvId) -> Option<String> {
        let graph = &*self.graph;
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

    /// Makes the batch's paths temporary roots, then looks which are valid: in this order no collection can
    /// come between.
    fn rooted_validity(&mut self, batch: &mut Batch) -> Result<()> {
        batch.valid.clear();
        if batch.paths.is_empty() {
            return Ok(());
        }
        self.store.add_temp_roots(self.graph, &batch.paths)?;
        batch.valid = self.store.valid(self.graph, &batch.paths)?;
        Ok(())
    }

    fn set_stage(&mut self, place: Place, to: Stage) {
        if let Some(stage) = self.stages.at(place) {
            *stage = to;
        }
    }

    fn end(&mut self, goal: Entity, place: Place, how: Outcome) {
        if let (Some(stage), Some(outcome)) = (self.stages.at(place), self.outcomes.at(place)) {
            goals::end(stage, outcome, self.ended, goal, how);
        }
    }

    fn fail(&mut self, goal: Entity, kind: FailureKind, message: String) {
        self.failures.0.push((goal, Failure::new(kind, message)));
    }
}
