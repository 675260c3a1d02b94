//! Makes goals and ties them to each other (the seed's `makeDerivationGoal`, `addWaitee`, `amDone`).

use bevy_ecs::prelude::{Entity, World};
use windrow_components::goal::{
    DerivationGoal, Outcome, Stage, SubstitutionGoal, Target, Waitees, Waiter, WaiterLists, Waiters,
};
use windrow_components::graph::BuildGraph;
use windrow_components::outputs::OutputSet;

use crate::world::{Awake, Ended, GoalIndex, RunState};

/// A goal asked for by another.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Who asks.
    pub waiter: Entity,
    /// For what.
    pub target: Target,
    /// For a derivation, which of its outputs.
    pub wanted: OutputSet,
}

/// The goal for `target`, made if there is none yet; what is wanted of one that exists is widened.
pub fn make_goal(world: &mut World, target: Target, wanted: OutputSet) -> Entity {
    if let Some(goal) = world.resource::<GoalIndex>().get(target) {
        if let Target::Derivation(_) = target {
            widen(world, goal, wanted);
        }
        return goal;
    }
    let common = (
        Stage::New,
        Outcome::Busy,
        Waitees::default(),
        Waiters::default(),
    );
    let goal = match target {
        Target::Derivation(drv) => world.spawn((DerivationGoal { drv, wanted }, common)).id(),
        Target::Path(path) => world.spawn((SubstitutionGoal { path }, common)).id(),
    };
    world.resource_mut::<GoalIndex>().insert(target, goal);
    world.resource_mut::<Awake>().0.push(goal);
    goal
}

/// Asks a derivation's goal for more outputs (the seed's `addWantedOutputs`).
fn widen(world: &mut World, goal: Entity, wanted: OutputSet) {
    let Some(&known) = world.get::<DerivationGoal>(goal) else {
        return;
    };
    if known.wanted == wanted || known.wanted == OutputSet::ALL {
        return;
    }
    let union = world
        .resource_mut::<BuildGraph>()
        .output_sets
        .union(known.wanted, wanted);
    if union == known.wanted {
        return;
    }
    // A goal that ended well for less is taken up again; the seed would make a new one.
    let reopen = world.get::<Outcome>(goal) == Some(&Outcome::Success);
    let mut entity = world.entity_mut(goal);
    if let Some(mut known) = entity.get_mut::<DerivationGoal>() {
        known.wanted = union;
    }
    if reopen {
        entity.insert((Stage::New, Outcome::Busy));
        world.resource_mut::<Awake>().0.push(goal);
    }
}

/// Lets the waiters of `requests` wait for what they ask for. All requests of one waiter stand together.
/// A waiter whose requests have all been met already is woken at once.
pub fn fulfil(world: &mut World, requests: &[Request]) {
    let mut of_one = Vec::new();
    for group in requests.chunk_by(|a, b| a.waiter == b.waiter) {
        of_one.clear();
        for request in group {
            of_one.push(make_goal(world, request.target, request.wanted));
        }
        of_one.sort_unstable();
        of_one.dedup();
        wait_for(world, group[0].waiter, &of_one);
    }
}

fn wait_for(world: &mut World, waiter: Entity, goals: &[Entity]) {
    let Some(mut waitees) = world.get::<Waitees>(waiter).copied() else {
        return;
    };
    waitees.wait_for(u32::try_from(goals.len()).expect("fewer than 2^32 waitees"));
    let keep_going = world.resource::<crate::world::Options>().keep_going;
    let mut woken = waitees.left == 0;
    for &goal in goals {
        match world.get::<Outcome>(goal).copied() {
            Some(Outcome::Busy) | None => {
                let waiter = Waiter {
                    goal: waiter,
                    round: waitees.round,
                };
                world.resource_scope::<WaiterLists, _>(|world, mut lists| {
                    if let Some(mut waiters) = world.get_mut::<Waiters>(goal) {
                        lists.add(&mut waiters, waiter);
                    }
                });
            }
            Some(_) if woken => {}
            Some(outcome) => woken = waitees.waitee_done(outcome, keep_going),
        }
    }
    if let Some(mut known) = world.get_mut::<Waitees>(waiter) {
        *known = waitees;
    }
    if woken {
        world.resource_mut::<Awake>().0.push(waiter);
    }
}

/// Takes note that a goal's outcome is known; its waiters are told when the tick ends.
pub fn end(stage: &mut Stage, known: &mut Outcome, ended: &mut Ended, goal: Entity, how: Outcome) {
    debug_assert!(*known == Outcome::Busy && how != Outcome::Busy);
    *stage = Stage::Done;
    *known = how;
    ended.0.push((goal, how));
}

/// Asks for `target` on behalf of the user.
pub fn add_top_goal(world: &mut World, target: Target, wanted: OutputSet) -> Entity {
    let goal = make_goal(world, target, wanted);
    world.resource_mut::<RunState>().top.insert(goal);
    goal
}
