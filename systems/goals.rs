//! Makes goals and ties them to each other (the seed's `makeDerivationGoal`, `addWaitee`, `amDone`).

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Bundle, Entity, Query, Res, ResMut, World};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::{
    DerivationGoal, Outcome, Stage, SubstitutionGoal, Target, Waitees, Waiter, WaiterLists, Waiters,
};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::substitution::Substitution;

use crate::columns::{Cells, Column, place};
use crate::world::{Awake, Ended, GoalIndex, Options, RunState, Tally};

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

/// What a goal of either kind begins with, beside what it is for.
#[derive(Bundle)]
struct Beginning {
    stage: Stage,
    outcome: Outcome,
    waitees: Waitees,
    waiters: Waiters,
}

fn beginning() -> Beginning {
    Beginning {
        stage: Stage::New,
        outcome: Outcome::Busy,
        waitees: Waitees::default(),
        waiters: Waiters::default(),
    }
}

/// Goals that are asked for and not there yet, to be made in one go.
#[derive(Debug, Default)]
pub struct Unmade {
    derivations: Vec<(DrvId, OutputSet)>,
    /// Paths, and whether they are to be repaired.
    paths: Vec<(PathId, bool)>,
}

impl Unmade {
    /// Notes those targets of `requests` for which there is no goal. Until [`Unmade::make`] their places in `index`
    /// are taken by none.
    pub fn note(&mut self, index: &mut GoalIndex, requests: &[Request]) {
        for request in requests {
            if index.get(request.target).is_some() {
                continue;
            }
            index.insert(request.target, Entity::PLACEHOLDER);
            match request.target {
                Target::Derivation(drv) => self.derivations.push((drv, request.wanted)),
                Target::Path(path) => self.paths.push((path, false)),
                Target::Repair(path) => self.paths.push((path, true)),
            }
        }
    }

    /// Makes them, awake.
    pub fn make(&mut self, world: &mut World) {
        if !self.derivations.is_empty() {
            let bundles = self.derivations.iter().map(|&(drv, wanted)| {
                let goal = DerivationGoal { drv, wanted };
                (goal, beginning())
            });
            let goals: Vec<Entity> = world.spawn_batch(bundles).collect();
            let mut index = world.resource_mut::<GoalIndex>();
            for (&(drv, _), &goal) in self.derivations.iter().zip(&goals) {
                index.insert(Target::Derivation(drv), goal);
            }
            world.resource_mut::<Awake>().0.extend(goals);
            self.derivations.clear();
        }
        for (path, repair) in self.paths.drain(..) {
            let goal = world.spawn((SubstitutionGoal { path, repair }, beginning()));
            let goal = goal.id();
            let target = if repair {
                Target::Repair(path)
            } else {
                Target::Path(path)
            };
            world.resource_mut::<GoalIndex>().insert(target, goal);
            world.resource_mut::<Awake>().0.push(goal);
        }
    }
}

/// What tying goals to each other touches, as a system's parameter.
#[derive(SystemParam)]
pub struct Tying<'w, 's> {
    entities: &'w Entities,
    derivations: Column<'w, 's, DerivationGoal>,
    stages: Column<'w, 's, Stage>,
    outcomes: Column<'w, 's, Outcome>,
    waitees: Column<'w, 's, Waitees>,
    waiters: Column<'w, 's, Waiters>,
    graph: ResMut<'w, BuildGraph>,
    index: Res<'w, GoalIndex>,
    lists: ResMut<'w, WaiterLists>,
    awake: ResMut<'w, Awake>,
    options: Res<'w, Options>,
    substitutions: Query<'w, 's, &'static Substitution>,
    tally: Res<'w, Tally>,
}

impl<'s> Tying<'_, 's> {
    /// Looks up where all components lie.
    pub fn open(&mut self) -> Ties<'_, 's> {
        Ties {
            entities: self.entities,
            derivations: self.derivations.open(self.entities),
            stages: self.stages.open(self.entities),
            outcomes: self.outcomes.open(self.entities),
            waitees: self.waitees.open(self.entities),
            waiters: self.waiters.open(self.entities),
            graph: &mut self.graph,
            index: &self.index,
            lists: &mut self.lists,
            awake: &mut self.awake,
            keep_going: self.options.keep_going,
            substitutions: self.substitutions.as_readonly(),
            made: self.tally.counts.made(),
        }
    }
}

/// What tying goals to each other touches.
pub struct Ties<'a, 's> {
    entities: &'a Entities,
    derivations: Cells<'a, DerivationGoal>,
    stages: Cells<'a, Stage>,
    outcomes: Cells<'a, Outcome>,
    waitees: Cells<'a, Waitees>,
    waiters: Cells<'a, Waiters>,
    graph: &'a mut BuildGraph,
    index: &'a GoalIndex,
    lists: &'a mut WaiterLists,
    awake: &'a mut Awake,
    keep_going: bool,
    substitutions: Query<'a, 's, &'static Substitution>,
    /// How many goals have made something valid.
    made: u32,
}

impl Ties<'_, '_> {
    /// Lets the waiters of `requests` wait for what they ask for, all of which has been made. All requests of one
    /// waiter stand together, each for another target. A waiter whose requests have all been met already is
    /// woken at once.
    ///
    /// # Panics
    /// Never: a goal that asks exists.
    pub fn fulfil(&mut self, requests: &[Request]) {
        for group in requests.chunk_by(|a, b| a.waiter == b.waiter) {
            let waiter = group[0].waiter;
            let at = place(self.entities, waiter).expect("who asks exists");
            let mut waitees = *self.waitees.at(at).expect("a goal has waitees");
            waitees.wait_for(u32::try_from(group.len()).expect("fewer than 2^32 waitees"));
            let mut woken = false;
            for request in group {
                match self.ask(request, waitees.round) {
                    Outcome::Busy => {}
                    _ if woken => {}
                    outcome => woken = waitees.waitee_done(outcome, self.keep_going),
                }
            }
            if let Some(cell) = self.waitees.at(at) {
                *cell = waitees;
            }
            if woken {
                self.awake.0.push(waiter);
            }
        }
    }

    /// Widens what is wanted of the target, and waits for it unless it has ended; tells how it stands.
    fn ask(&mut self, request: &Request, round: u32) -> Outcome {
        let goal = self.index.get(request.target);
        let goal = goal.expect("what is asked for was made");
        let at = place(self.entities, goal).expect("what was made exists");
        let outcome = self.outcomes.at(at).expect("a goal has an outcome");
        if let Some(known) = self.derivations.at(at)
            && widen(known, request.wanted, self.graph)
            && *outcome == Outcome::Success
        {
            // A goal that ended well for less is taken up again; the seed would make a new one.
            *outcome = Outcome::Busy;
            if let Some(stage) = self.stages.at(at) {
                *stage = Stage::New;
            }
            self.awake.0.push(goal);
        }
        // What lacked references may have them now; the seed would make a new goal.
        if *outcome == Outcome::IncompleteClosure
            && let Ok(substitution) = self.substitutions.get(goal)
            && substitution.ended_at != self.made
        {
            *outcome = Outcome::Busy;
            if let Some(stage) = self.stages.at(at) {
                *stage = Stage::New;
            }
            self.awake.0.push(goal);
        }
        if *outcome == Outcome::Busy {
            let waiter = Waiter {
                goal: request.waiter,
                round,
            };
            let waiters = self.waiters.at(at).expect("a goal has waiters");
            self.lists.add(waiters, waiter);
        }
        *outcome
    }
}

/// Asks a derivation's goal for more outputs (the seed's `addWantedOutputs`); tells whether that is news.
fn widen(known: &mut DerivationGoal, wanted: OutputSet, graph: &mut BuildGraph) -> bool {
    if known.wanted == wanted || known.wanted == OutputSet::ALL {
        return false;
    }
    let union = graph.output_sets.union(known.wanted, wanted);
    let grown = union != known.wanted;
    known.wanted = union;
    grown
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
    let known = world.resource::<GoalIndex>().get(target);
    let goal = match (known, target) {
        (Some(goal), _) => goal,
        (None, Target::Derivation(drv)) => {
            let goal = DerivationGoal { drv, wanted };
            world.spawn((goal, beginning())).id()
        }
        (None, Target::Path(path) | Target::Repair(path)) => {
            let repair = matches!(target, Target::Repair(_));
            let goal = SubstitutionGoal { path, repair };
            world.spawn((goal, beginning())).id()
        }
    };
    if known.is_none() {
        world.resource_mut::<GoalIndex>().insert(target, goal);
        world.resource_mut::<Awake>().0.push(goal);
    } else {
        world.resource_scope::<BuildGraph, _>(|world, mut graph| {
            let mut entity = world.entity_mut(goal);
            if let Some(mut known) = entity.get_mut::<DerivationGoal>()
                && widen(&mut known, wanted, &mut graph)
                && entity.get::<Outcome>() == Some(&Outcome::Success)
            {
                entity.insert((Stage::New, Outcome::Busy));
                world.resource_mut::<Awake>().0.push(goal);
            }
        });
    }
    world.resource_mut::<RunState>().top.insert(goal);
    goal
}
