//! One pass over a batch of awake goals: the seed's `init` to `inputsRealised`, each step for all at once.

use bevy_ecs::prelude::{Entity, World};
use windrow_components::goal::{DerivationGoal, Outcome, Stage, SubstitutionGoal, Target, Waitees};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_components::outputs::OutputSet;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::failure_cache;
use crate::goals::{self, Request};
use crate::world::{Ended, Failures, NewlyReady, StoreHandle, Tally};

/// What the goals of a batch are found to be at.
#[derive(Default)]
struct Batch {
    /// Derivation goals whose `.drv` has yet to be found valid.
    new: Vec<Entity>,
    /// Derivation goals whose `.drv` is valid.
    present: Vec<Entity>,
    /// Derivation goals whose outputs no substitute brought.
    to_build: Vec<Entity>,
    /// Derivation goals all of whose inputs have ended.
    inputs_done: Vec<Entity>,
    /// Path goals.
    paths: Vec<Entity>,
    /// What goals ask for, those of one goal together.
    requests: Vec<Request>,
}

/// Takes each goal of `awake` as far as it goes without waiting.
///
/// # Errors
/// When the store as a whole can't be used. What concerns one goal only makes that goal fail.
pub(super) fn run(world: &mut World, awake: &[Entity]) -> Result<()> {
    let mut batch = Batch::default();
    sort_out(world, awake, &mut batch);
    look_for_derivations(world, &mut batch)?;
    load_derivations(world, &mut batch)?;
    fail_what_failed_before(world, &mut batch)?;
    ask_for_inputs(world, &mut batch)?;
    check_inputs(world, &batch);
    look_for_paths(world, &batch)?;
    goals::fulfil(world, &batch.requests);
    Ok(())
}

fn sort_out(world: &mut World, awake: &[Entity], batch: &mut Batch) {
    for &goal in awake {
        let Some(&stage) = world.get::<Stage>(goal) else {
            continue;
        };
        if world.get::<SubstitutionGoal>(goal).is_some() {
            batch.paths.push(goal);
            continue;
        }
        match stage {
            Stage::New => batch.new.push(goal),
            Stage::Derivation => derivation_waited_for(world, goal, batch),
            Stage::Inputs => batch.inputs_done.push(goal),
            Stage::Ready
            | Stage::Locked
            | Stage::Starting
            | Stage::Running
            | Stage::Collecting
            | Stage::Done => {}
        }
    }
}

fn derivation_waited_for(world: &mut World, goal: Entity, batch: &mut Batch) {
    if world
        .get::<Waitees>(goal)
        .is_some_and(|waitees| waitees.failed > 0)
    {
        let path = drv_path(world, goal);
        let message = format!(
            "cannot build missing derivation '{path}': it is not in the store and no substituter has it"
        );
        fail(world, goal, FailureKind::Other, message);
    } else {
        batch.present.push(goal);
    }
}

/// Finds which of the new goals' derivations are valid; asks for substitutes of the others.
fn look_for_derivations(world: &mut World, batch: &mut Batch) -> Result<()> {
    let paths: Vec<PathId> = {
        let graph = world.resource::<BuildGraph>();
        batch
            .new
            .iter()
            .map(|&goal| graph.drv_path(drv_goal(world, goal).drv))
            .collect()
    };
    let valid = rooted_validity(world, &paths)?;
    for ((&goal, &path), valid) in batch.new.iter().zip(&paths).zip(valid) {
        if valid {
            batch.present.push(goal);
            continue;
        }
        set_stage(world, goal, Stage::Derivation);
        let target = Target::Path(path);
        batch.requests.push(Request {
            waiter: goal,
            target,
            wanted: OutputSet::ALL,
        });
    }
    Ok(())
}

/// The seed's `haveDerivation`: loads what is not loaded and looks which wanted outputs are missing.
fn load_derivations(world: &mut World, batch: &mut Batch) -> Result<()> {
    let mut loaded = Vec::with_capacity(batch.present.len());
    for &goal in &batch.present {
        let drv = drv_goal(world, goal).drv;
        let result = with_store(world, |store, graph| {
            if graph.is_loaded(drv) {
                Ok(())
            } else {
                store.load(graph, drv)
            }
        });
        match result {
            Ok(()) => loaded.push(goal),
            Err(error) => fail(world, goal, FailureKind::Other, error.to_string()),
        }
    }

    let mut outputs = Vec::new();
    let mut counts = Vec::with_capacity(loaded.len());
    for &goal in &loaded {
        let known = drv_goal(world, goal);
        let graph = world.resource::<BuildGraph>();
        let before = outputs.len();
        let rows = graph.outputs(known.drv).iter();
        let wanted = rows.filter(|row| graph.output_sets.wants(known.wanted, row.name));
        outputs.extend(wanted.map(|row| row.path));
        counts.push(outputs.len() - before);
    }
    let valid = rooted_validity(world, &outputs)?;
    let mut at = 0;
    for (&goal, count) in loaded.iter().zip(counts) {
        let all_valid = valid[at..at + count].iter().all(|&valid| valid);
        at += count;
        if let Some(unknown) = unknown_output(world, goal) {
            let path = drv_path(world, goal);
            let message = format!("derivation '{path}' has no output {unknown}");
            fail(world, goal, FailureKind::Other, message);
        } else if all_valid {
            end(world, goal, Outcome::Success);
        } else {
            batch.to_build.push(goal);
        }
    }
    Ok(())
}

/// The seed's `pathFailed`, before anything is done for a goal.
fn fail_what_failed_before(world: &mut World, batch: &mut Batch) -> Result<()> {
    if world
        .non_send_mut::<StoreHandle>()
        .0
        .failed_paths()
        .is_none()
    {
        return Ok(());
    }
    let mut to_build = std::mem::take(&mut batch.to_build);
    for goal in to_build.drain(..) {
        let drv = drv_goal(world, goal).drv;
        let known = with_store(world, |store, graph| {
            let outputs: Vec<PathId> = graph.outputs(drv).iter().map(|row| row.path).collect();
            let valid = store.valid(graph, &outputs)?;
            let missing = outputs.into_iter().zip(valid).filter(|(_, valid)| !valid);
            failure_cache::known_failure(store, graph, missing.map(|(path, _)| path))
        });
        match known? {
            Some(failure) => world.resource_mut::<Failures>().0.push((goal, failure)),
            None => batch.to_build.push(goal),
        }
    }
    Ok(())
}

/// A wanted output that the derivation does not have.
fn unknown_output(world: &World, goal: Entity) -> Option<String> {
    let graph = world.resource::<BuildGraph>();
    let known = drv_goal(world, goal);
    let has = |name| graph.outputs(known.drv).iter().any(|row| row.name == name);
    let names = graph.output_sets.names(known.wanted);
    let unknown = names.iter().find(|&&name| !has(name))?;
    let outputs: Vec<&str> = graph
        .outputs(known.drv)
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
fn ask_for_inputs(world: &mut World, batch: &mut Batch) -> Result<()> {
    let mut sources: Vec<PathId> = Vec::new();
    for &goal in &batch.to_build {
        let graph = world.resource::<BuildGraph>();
        sources.extend(graph.sources(drv_goal(world, goal).drv));
    }
    let valid = rooted_validity(world, &sources)?;

    let mut at = 0;
    for &goal in &batch.to_build {
        set_stage(world, goal, Stage::Inputs);
        world.resource_mut::<Tally>().counts.expected += 1;
        let before = batch.requests.len();
        // From here on all outputs count, for all will be built.
        if let Some(mut known) = world.get_mut::<DerivationGoal>(goal) {
            known.wanted = OutputSet::ALL;
        }
        let graph = world.resource::<BuildGraph>();
        let drv = drv_goal(world, goal).drv;
        for input in graph.inputs(drv) {
            let target = Target::Derivation(input.drv);
            batch.requests.push(Request {
                waiter: goal,
                target,
                wanted: input.wanted,
            });
        }
        for &source in graph.sources(drv) {
            if !valid[at] {
                let target = Target::Path(source);
                batch.requests.push(Request {
                    waiter: goal,
                    target,
                    wanted: OutputSet::ALL,
                });
            }
            at += 1;
        }
        if batch.requests.len() == before {
            if let Some(mut waitees) = world.get_mut::<Waitees>(goal) {
                waitees.wait_for(0);
            }
            batch.inputs_done.push(goal);
        }
    }
    Ok(())
}

/// The seed's `inputsRealised`: a goal with all its inputs is ready to be built.
fn check_inputs(world: &mut World, batch: &Batch) {
    for &goal in &batch.inputs_done {
        let failed = world
            .get::<Waitees>(goal)
            .map_or(0, |waitees| waitees.failed);
        if failed > 0 {
            let path = drv_path(world, goal);
            let message = format!(
                "cannot build derivation '{path}': {failed} dependencies couldn't be built"
            );
            fail(world, goal, FailureKind::Dependency, message);
            continue;
        }
        if let Some(message) = unknown_input_output(world, goal) {
            fail(world, goal, FailureKind::Other, message);
            continue;
        }
        set_stage(world, goal, Stage::Ready);
        world.resource_mut::<NewlyReady>().0.push(goal);
    }
}

/// A complaint about an output that the derivation needs of an input which has no such output.
fn unknown_input_output(world: &World, goal: Entity) -> Option<String> {
    let graph = world.resource::<BuildGraph>();
    let drv = drv_goal(world, goal).drv;
    for input in graph.inputs(drv) {
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

/// The seed's `SubstitutionGoal::init` and `tryNext`: valid already, or no substituter has it.
fn look_for_paths(world: &mut World, batch: &Batch) -> Result<()> {
    let paths: Vec<PathId> = batch
        .paths
        .iter()
        .filter_map(|&goal| world.get::<SubstitutionGoal>(goal).map(|known| known.path))
        .collect();
    for (&goal, valid) in batch.paths.iter().zip(rooted_validity(world, &paths)?) {
        end(
            world,
            goal,
            if valid {
                Outcome::Success
            } else {
                Outcome::NoSubstituters
            },
        );
    }
    Ok(())
}

/// Makes the paths temporary roots, then looks which are valid: in this order no collection can come between.
fn rooted_validity(world: &mut World, paths: &[PathId]) -> Result<Vec<bool>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    with_store(world, |store, graph| {
        store.add_temp_roots(graph, paths)?;
        store.valid(graph, paths)
    })
}

fn with_store<T>(
    world: &mut World,
    work: impl FnOnce(&mut dyn crate::world::Store, &mut BuildGraph) -> T,
) -> T {
    world.resource_scope::<BuildGraph, _>(|world, mut graph| {
        let mut store = world.non_send_mut::<StoreHandle>();
        work(&mut *store.0, &mut graph)
    })
}

fn drv_goal(world: &World, goal: Entity) -> DerivationGoal {
    *world
        .get::<DerivationGoal>(goal)
        .expect("derivation goals keep their component")
}

fn drv_path(world: &World, goal: Entity) -> String {
    let graph = world.resource::<BuildGraph>();
    graph.full_path(graph.drv_path(drv_goal(world, goal).drv))
}

fn set_stage(world: &mut World, goal: Entity, to: Stage) {
    if let Some(mut stage) = world.get_mut::<Stage>(goal) {
        *stage = to;
    }
}

fn end(world: &mut World, goal: Entity, how: Outcome) {
    let mut ended = std::mem::take(&mut *world.resource_mut::<Ended>());
    let mut entity = world.entity_mut(goal);
    if let Ok((mut stage, mut known)) = entity.get_components_mut::<(&mut Stage, &mut Outcome)>() {
        goals::end(&mut stage, &mut known, &mut ended, goal, how);
    }
    *world.resource_mut::<Ended>() = ended;
}

fn fail(world: &mut World, goal: Entity, kind: FailureKind, message: String) {
    world
        .resource_mut::<Failures>()
        .0
        .push((goal, Failure::new(kind, message)));
}
