//! One pass over a batch of awake goals: `init` to `inputsRealised` of Nix 1.8, each step for all
//! at once.
//!
//! Most goals go straight through its steps, each of which is a loop over a whole batch. Were they
//! inlined into one function, what is rare in them would leave the loops no registers.

mod choice;
mod derivations;
mod inputs;
mod outputs;
mod paths;
mod repair;
mod sorting;

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut, World};
use bevy_ecs::system::SystemState;
use paths::PathItem;
use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::goal::{
    BuildMode, DerivationGoal, Outcome, SubstitutionGoal, Target, Waitees,
};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::{OutputSubstitution, Substitution};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::helpers::choice::BuildTimes;
use crate::helpers::{Speeds, Substituters};
use crate::world::children::Condemned;
use crate::world::{
    AddWaitees, Awake, Cells, Column, Goal, NewWaitee, Reporters, Row, Scheduler, Services, Store,
    Unmade,
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
    // Not afterwards, when they may carry what this pass has given them.
    strip_reopened(world);
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
            times,
            speeds,
        ) = params.expect("everything of a run is there");
        let (mut graph, mut services) = (graph, services);
        let (mut scheduler, mut substituters) = (scheduler, known);
        let Services { store, reporter } = &mut *services;
        let mut pass = Pass {
            entities,
            derivations: derivations.open(entities, &scheduler.index),
            waitees: waitees.open(entities, &scheduler.index),
            substituting,
            graph: &mut graph,
            store: &mut **store,
            reporter,
            scheduler: &mut scheduler,
            substituters: &mut substituters,
            times: times.as_deref(),
            speeds: &speeds,
        };
        pass.work(awake, batch)?;
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
    Option<Res<'w, BuildTimes>>,
    Res<'w, Speeds>,
);

/// What a pass touches.
struct Pass<'a, 's> {
    entities: &'a Entities,
    derivations: Cells<'a, DerivationGoal>,
    waitees: Cells<'a, Waitees>,
    substituting: Query<'a, 's, Substituting>,
    graph: &'a mut BuildGraph,
    store: &'a mut dyn Store,
    reporter: &'a mut Reporters,
    scheduler: &'a mut Scheduler,
    substituters: &'a mut Substituters,
    /// How long builds take, if these are to be preferred to slow downloads.
    times: Option<&'a BuildTimes>,
    speeds: &'a Speeds,
}

impl Pass<'_, '_> {
    /// All steps of a pass.
    #[inline]
    fn work(&mut self, awake: &Awake, batch: &mut Batch) -> Result<()> {
        self.sort_out(awake, batch);
        self.keep_what_is_repaired(batch)?;
        self.look_for_derivations(batch)?;
        self.load_derivations(batch);
        self.outputs_substituted(batch);
        self.look_for_outputs(batch)?;
        self.judge(batch);
        self.fail_what_failed_before(batch)?;
        self.prefer_substitutes(batch)?;
        self.refuse_checks(batch)?;
        self.ask_for_inputs(batch)?;
        self.check_inputs(batch);
        self.look_for_paths(batch)?;
        self.try_next(batch)
    }
}

/// What its steps do alike.
impl Pass<'_, '_> {
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
