//! One pass over a batch of awake goals: `init` to `inputsRealised` of Nix 1.8, each step for all
//! at once.

mod outputs;
mod paths;
mod repair;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Entity, NonSendMut, Query, ResMut, World};
use bevy_ecs::system::SystemState;
use paths::PathItem;
use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::goal::{
    BuildMode, DerivationGoal, Moment, Outcome, Stage, SubstitutionGoal, Target, Waitees,
};
use windrow_components::graph::{BuildGraph, InputRow};
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::{OutputSubstitution, Substitution};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::finish::failure_cache;
use crate::helpers::Substituters;
use crate::world::children::Condemned;
use crate::world::{
    AddWaitees, Asked, Awake, Cells, Column, Goal, GoalSlot, NewWaitee, Row, Scheduler, Services,
    Store, Unmade, goals, place,
};

/// A derivation's goal, as one step of a pass hands it to the next.
#[derive(Debug, Clone, Copy)]
struct Item {
    goal: Entity,
    row: Row,
    drv: DrvId,
    wanted: OutputSet,
    mode: BuildMode,
    /// Whether its `.drv` is known to be valid.
    present: bool,
    /// Whether substituters have been asked for what it lacks.
    asked: bool,
}

/// What the goals of a batch are found to be at. Kept from pass to pass for its memory.
#[derive(Debug, Default)]
pub struct Batch {
    awake: Awake,
    /// Derivation goals on their way from being new to being built: each step takes out those that
    /// go no further, and puts in those that begin with the next one.
    items: Vec<Item>,
    /// Derivation goals whose derivation has yet to be loaded.
    unloaded: Vec<Item>,
    /// Derivation goals whose derivation is loaded.
    loaded: Vec<Item>,
    /// Derivation goals whose outputs substituters were asked for, and what came of that.
    substituted: Vec<(Item, Waitees)>,
    /// Derivation goals whose outputs' contents have been looked at.
    verified: Vec<Item>,
    /// Derivation goals all of whose closure has been repaired, or not: how much of it failed.
    closures: Vec<(Item, u32)>,
    /// Path goals whose contents have been looked at.
    path_repairs: Vec<(Entity, PathId)>,
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
    /// What goals ask for, those of one goal together; but not derivations' inputs.
    requests: Vec<NewWaitee>,
    unmade: Unmade,
    paths: Vec<PathId>,
    valid: Vec<bool>,
}

impl Batch {
    /// An empty list of goals that has memory already.
    pub(super) fn take_awake(&mut self) -> Awake {
        std::mem::take(&mut self.awake)
    }

    /// Gives the list back.
    pub(super) fn keep_awake(&mut self, mut awake: Awake) {
        awake.clear();
        self.awake = awake;
    }

    fn clear(&mut self) {
        self.items.clear();
        self.unloaded.clear();
        self.loaded.clear();
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
    params: &mut SystemState<Params<'static, 'static>>,
    waitees: &mut SystemState<AddWaitees<'static, 'static>>,
    awake: &Awake,
    batch: &mut Batch,
) -> Result<()> {
    batch.clear();
    {
        let params = params.get_mut(world);
        let (
            entities,
            mut derivations,
            mut waitees,
            substituting,
            graph,
            services,
            scheduler,
            known,
        ) = params.expect("everything of a run is there");
        let (mut graph, mut services) = (graph, services);
        let (mut scheduler, mut substituters) = (scheduler, known);
        let mut pass = Pass {
            entities,
            derivations: derivations.open(entities, &scheduler.index),
            waitees: waitees.open(entities, &scheduler.index),
            substituting,
            graph: &mut graph,
            store: &mut *services.store,
            scheduler: &mut scheduler,
            substituters: &mut substituters,
        };
        pass.sort_out(awake, batch);
        pass.keep_what_is_repaired(batch)?;
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
        batch
            .unmade
            .note(&mut pass.scheduler.index, &batch.requests);
    }
    for (goal, substitution) in batch.substitutions.drain(..) {
        world.entity_mut(goal).insert(substitution);
    }
    if !batch.output_substitutions.is_empty() {
        world.resource_mut::<Scheduler>().has_asked_for_outputs = true;
    }
    for (goal, substitution) in batch.output_substitutions.drain(..) {
        world.entity_mut(goal).insert(substitution);
    }
    batch.unmade.make(world);
    strip_reopened(world);
    if !batch.requests.is_empty() {
        let waitees = waitees.get_mut(world);
        let mut waitees = waitees.expect("everything of a run is there");
        waitees.fulfil(&batch.requests);
    }
    Ok(())
}

/// What may be left of an earlier build on a goal that is taken up again.
type BuildRemains = (MissingOutputs, HashRewrites, OutputSubstitution, Condemned);

/// Takes from goals that were taken up again what is left of their earlier builds.
fn strip_reopened(world: &mut World) {
    let mut scheduler = world.resource_mut::<Scheduler>();
    for goal in scheduler.take_reopened() {
        world.entity_mut(goal).remove::<BuildRemains>();
    }
}

/// The components of path goals, and those by which derivations' goals remember what they asked
/// substituters for.
type Substituting = (
    Option<&'static SubstitutionGoal>,
    Option<&'static mut Substitution>,
    Option<&'static mut OutputSubstitution>,
);

/// The parameters of a pass.
pub(super) type Params<'w, 's> = (
    &'w Entities,
    Column<'w, 's, DerivationGoal>,
    Column<'w, 's, Waitees>,
    Query<'w, 's, Substituting>,
    ResMut<'w, BuildGraph>,
    NonSendMut<'w, Services>,
    ResMut<'w, Scheduler>,
    ResMut<'w, Substituters>,
);

/// What a pass touches.
struct Pass<'a, 's> {
    entities: &'a Entities,
    derivations: Cells<'a, DerivationGoal>,
    waitees: Cells<'a, Waitees>,
    substituting: Query<'a, 's, Substituting>,
    graph: &'a mut BuildGraph,
    store: &'a mut dyn Store,
    scheduler: &'a mut Scheduler,
    substituters: &'a mut Substituters,
}

// Most goals go straight through these steps, each of which is a loop over a whole batch. Were they
// inlined into one function, what is rare in them would leave the loops no registers.
impl Pass<'_, '_> {
    /// Sorts the goals that are awake by what they are to do next.
    ///
    /// Nix 1.8: `Goal::work`, `DerivationGoal::work`.
    #[inline(never)]
    fn sort_out(&mut self, awake: &Awake, batch: &mut Batch) {
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

    /// Finds which of the derivations that are not loaded are valid; asks for substitutes of the
    /// others.
    ///
    /// Nix 1.8: `DerivationGoal::init`.
    #[inline(never)]
    fn look_for_derivations(&mut self, batch: &mut Batch) -> Result<()> {
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
    fn load_derivations(&mut self, batch: &mut Batch) {
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
    fn look_for_outputs(&mut self, batch: &mut Batch) -> Result<()> {
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

    /// Fails goals whose outputs are known not to build, before anything is done for them (Nix 1.8:
    /// `pathFailed`).
    #[inline(never)]
    fn fail_what_failed_before(&mut self, batch: &mut Batch) -> Result<()> {
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
    fn refuse_checks(&mut self, batch: &mut Batch) -> Result<()> {
        if self.scheduler.run.mode() != BuildMode::Check {
            return Ok(());
        }
        let mut problem = None;
        batch.items.retain(|item| {
            if item.mode != BuildMode::Check {
                return true;
            }
            let rows = self.graph.outputs(item.drv).iter();
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

    /// Nothing but building is left, so the inputs are asked for.
    ///
    /// Nix 1.8: `DerivationGoal::outputsSubstituted`.
    #[inline(never)]
    fn ask_for_inputs(&mut self, batch: &mut Batch) -> Result<()> {
        batch.paths.clear();
        if self.graph.has_sources() {
            for item in &batch.items {
                batch.paths.extend(self.graph.sources(item.drv));
            }
        }
        self.rooted_validity(batch)?;
        self.scheduler.expect_builds(batch.items.len());
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
                            self.scheduler.reopen_stale(goal, drv);
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

    /// Makes the batch's paths temporary roots, then looks which are valid: in this order no
    /// collection can come between.
    fn rooted_validity(&mut self, batch: &mut Batch) -> Result<()> {
        batch.valid.clear();
        if batch.paths.is_empty() {
            return Ok(());
        }
        self.store.add_temp_roots(self.graph, &batch.paths)?;
        self.store
            .valid_into(self.graph, &batch.paths, &mut batch.valid)
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

    /// Ends a path's goal.
    fn end(&mut self, goal: Entity, path: PathId, how: Outcome) {
        let target = Target::Path(path);
        let goal = Goal {
            entity: goal,
            target,
        };
        self.scheduler.end(self.graph, goal, how);
    }

    fn end_derivation(&mut self, item: Item, how: Outcome) {
        let (entity, target) = (item.goal, Target::Derivation(item.drv));
        self.scheduler.end(self.graph, Goal { entity, target }, how);
    }

    fn fail(&mut self, goal: Entity, kind: FailureKind, message: String) {
        self.scheduler.fail(goal, Failure::new(kind, message));
    }
}
