//! Makes goals and ties them to each other (the seed's `makeDerivationGoal`, `addWaitee`, `amDone`).

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Bundle, Entity, Query, Res, ResMut, World};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::{
    DerivationGoal, Moment, Outcome, Stage, SubstitutionGoal, Target, Waitees, Waiter, WaiterLists,
};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::{OutputSet, OutputSets};
use windrow_components::substitution::Substitution;

use crate::world::{Awake, Cells, Column, Ended, GoalIndex, Options, RunState, Seat, Tally, place};

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
    waitees: Waitees,
}

fn beginning() -> Beginning {
    Beginning {
        stage: Stage::New,
        waitees: Waitees::default(),
    }
}

/// Goals that are asked for and not there yet, to be made in one go.
#[derive(Debug, Default)]
pub struct Unmade {
    derivations: Vec<(DrvId, OutputSet)>,
    /// Paths, and whether they are to be repaired.
    paths: Vec<(PathId, bool)>,
    /// Room for sorting.
    bits: Vec<u64>,
}

impl Unmade {
    /// Notes those targets of `requests` for which there is no goal.
    pub fn note(&mut self, index: &mut GoalIndex, requests: &[Request]) {
        for request in requests {
            match request.target {
                Target::Derivation(drv) => {
                    if index.seat(drv) == Seat::Empty {
                        self.ask(index, drv, request.wanted);
                    }
                }
                _ if index.get(request.target).is_some() => {}
                Target::Path(path) => {
                    index.ask_for_path(path, false);
                    self.paths.push((path, false));
                }
                Target::Repair(path) => {
                    index.ask_for_path(path, true);
                    self.paths.push((path, true));
                }
            }
        }
    }

    /// Notes a derivation that has no goal.
    #[inline]
    pub fn ask(&mut self, index: &mut GoalIndex, drv: DrvId, wanted: OutputSet) {
        index.ask(drv, self.derivations.len());
        self.derivations.push((drv, wanted));
    }

    /// Widens what is wanted of a derivation noted before.
    #[inline]
    pub fn widen(&mut self, nth: u32, wanted: OutputSet, sets: &mut OutputSets) {
        let (_, known) = &mut self.derivations[nth as usize];
        if *known != wanted {
            *known = sets.union(*known, wanted);
        }
    }

    /// Sorts the derivations by their ids, so that memory is walked through afterwards and not jumped about in. Where they
    /// lie close together this is one bit for each.
    fn sort(&mut self) {
        let ids = || self.derivations.iter().map(|(drv, _)| drv.index());
        let (Some(least), Some(greatest)) = (ids().min(), ids().max()) else {
            return;
        };
        if self
            .derivations
            .iter()
            .any(|&(_, wanted)| wanted != OutputSet::ALL)
            || (greatest - least) / 64 > self.derivations.len()
        {
            self.derivations.sort_unstable_by_key(|&(drv, _)| drv);
            return;
        }
        self.bits.clear();
        self.bits.resize((greatest - least) / 64 + 1, 0_u64);
        for id in ids() {
            self.bits[(id - least) / 64] |= 1 << ((id - least) % 64);
        }
        self.derivations.clear();
        for (start, &bits) in (least..).step_by(64).zip(&self.bits) {
            let mut bits = bits;
            while bits != 0 {
                let id = start + bits.trailing_zeros() as usize;
                self.derivations
                    .push((DrvId::from_index(id), OutputSet::ALL));
                bits &= bits - 1;
            }
        }
    }

    /// Makes them, awake.
    pub fn make(&mut self, world: &mut World) {
        if !self.derivations.is_empty() {
            self.sort();
            let bundles = self.derivations.iter().map(|&(drv, wanted)| {
                let goal = DerivationGoal { drv, wanted };
                (goal, beginning())
            });
            let goals: Vec<Entity> = world.spawn_batch(bundles).collect();
            world.resource_scope::<GoalIndex, _>(|world, mut index| {
                let drvs = self.derivations.iter().map(|&(drv, _)| drv);
                index.insert_made(world.entities(), drvs.zip(goals));
            });
            let drvs = self.derivations.drain(..).map(|(drv, _)| drv);
            world.resource_mut::<Awake>().derivations.extend(drvs);
        }
        for (path, repair) in self.paths.drain(..) {
            let goal = world.spawn((SubstitutionGoal { path, repair }, beginning()));
            let goal = goal.id();
            let target = if repair {
                Target::Repair(path)
            } else {
                Target::Path(path)
            };
            remember(world, target, goal);
            world.resource_mut::<Awake>().goals.push(goal);
        }
    }
}

fn remember(world: &mut World, target: Target, goal: Entity) {
    world.resource_scope::<GoalIndex, _>(|world, mut index| {
        index.insert(world.entities(), target, goal);
    });
}

/// What tying goals to each other touches, as a system's parameter.
#[derive(SystemParam)]
pub struct Tying<'w, 's> {
    entities: &'w Entities,
    derivations: Column<'w, 's, DerivationGoal>,
    stages: Column<'w, 's, Stage>,
    waitees: Column<'w, 's, Waitees>,
    graph: ResMut<'w, BuildGraph>,
    index: ResMut<'w, GoalIndex>,
    lists: ResMut<'w, WaiterLists>,
    awake: ResMut<'w, Awake>,
    ended: ResMut<'w, Ended>,
    options: Res<'w, Options>,
    substitutions: Query<'w, 's, &'static Substitution>,
    tally: Res<'w, Tally>,
}

impl<'s> Tying<'_, 's> {
    /// Looks up where all components lie.
    pub fn open(&mut self) -> Ties<'_, 's> {
        let (entities, index) = (self.entities, &mut *self.index);
        Ties {
            entities,
            derivations: self.derivations.open(entities, index),
            stages: self.stages.open(entities, index),
            waitees: self.waitees.open(entities, index),
            graph: &mut self.graph,
            index,
            lists: &mut self.lists,
            awake: &mut self.awake,
            ended: &mut self.ended,
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
    waitees: Cells<'a, Waitees>,
    graph: &'a mut BuildGraph,
    index: &'a mut GoalIndex,
    lists: &'a mut WaiterLists,
    awake: &'a mut Awake,
    ended: &'a mut Ended,
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
            // A derivation's goal waits for its inputs already, and was told then how many it asks for here.
            let waits_for_inputs = self.stages.at(at) == Some(&mut Stage::Inputs)
                && self.derivations.row_of(at).is_some();
            if !waits_for_inputs {
                let count = u32::try_from(group.len()).expect("fewer than 2^32 waitees");
                waitees.wait_for(count, Moment::NEVER);
            }
            let mut woken = waitees.left == 0;
            for request in group {
                match self.ask(request, waitees.round) {
                    None => {}
                    Some(_) if woken => {}
                    Some(outcome) => woken = waitees.waitee_done(outcome, self.keep_going),
                }
            }
            if let Some(cell) = self.waitees.at(at) {
                *cell = waitees;
            }
            if woken {
                self.awake.goals.push(waiter);
            }
        }
    }

    /// Widens what is wanted of the target, and waits for it unless it has ended; tells how it stands.
    fn ask(&mut self, request: &Request, round: u16) -> Option<Outcome> {
        let goal = self.index.get(request.target);
        let goal = goal.expect("what is asked for was made");
        let at = place(self.entities, goal).expect("what was made exists");
        let stage = self.stages.at(at).expect("a goal has a stage");
        if let Some(known) = self.derivations.at(at) {
            if widen(known, request.wanted, &mut self.graph.output_sets)
                && *stage == Stage::Done(Outcome::Success)
            {
                reopen(known.drv, stage, self.index, self.ended, self.awake);
            }
        } else if *stage == Stage::Done(Outcome::IncompleteClosure)
            && let Ok(substitution) = self.substitutions.get(goal)
            && substitution.ended_at != self.made
        {
            // What lacked references may have them now; the seed would make a new goal.
            *stage = Stage::New;
            self.awake.goals.push(goal);
        }
        let outcome = stage.outcome();
        if outcome.is_none() {
            let waiter = Waiter {
                goal: request.waiter,
                round,
            };
            self.lists.add(goal, waiter);
        }
        outcome
    }
}

/// Asks a derivation's goal for more outputs (the seed's `addWantedOutputs`); tells whether that is news.
#[inline]
pub fn widen(known: &mut DerivationGoal, wanted: OutputSet, sets: &mut OutputSets) -> bool {
    if known.wanted == wanted || known.wanted == OutputSet::ALL {
        return false;
    }
    let union = sets.union(known.wanted, wanted);
    let grown = union != known.wanted;
    known.wanted = union;
    grown
}

/// Takes up a goal again that ended well for fewer outputs; the seed would make a new one.
pub fn reopen(
    drv: DrvId,
    stage: &mut Stage,
    index: &mut GoalIndex,
    ended: &mut Ended,
    awake: &mut Awake,
) {
    *stage = Stage::New;
    index.reopen(drv, ended.tick());
    awake.derivations.push(drv);
}

/// Takes note that a goal's outcome is known, and what derivation it is for, unless it is a path's. Its waiters are told
/// when the tick ends.
#[inline]
pub fn end(
    stage: &mut Stage,
    ended: &mut Ended,
    (goal, drv): (Entity, Option<DrvId>),
    how: Outcome,
) {
    debug_assert!(stage.outcome().is_none());
    *stage = Stage::Done(how);
    ended.push(goal, drv, how);
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
        remember(world, target, goal);
        world.resource_mut::<Awake>().goals.push(goal);
    } else {
        world.resource_scope::<BuildGraph, _>(|world, mut graph| {
            let mut entity = world.entity_mut(goal);
            let Some(mut known) = entity.get_mut::<DerivationGoal>() else {
                return;
            };
            let (grown, drv) = (widen(&mut known, wanted, &mut graph.output_sets), known.drv);
            if grown && entity.get::<Stage>() == Some(&Stage::Done(Outcome::Success)) {
                entity.insert(Stage::New);
                let now = world.resource_mut::<Ended>().tick();
                world.resource_mut::<GoalIndex>().reopen(drv, now);
                world.resource_mut::<Awake>().derivations.push(drv);
            }
        });
    }
    world.resource_mut::<RunState>().top.insert(goal);
    goal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use windrow_components::ids::NameId;

    proptest! {
        #[test]
        fn what_is_unmade_is_sorted_and_keeps_what_is_wanted(
            ids in proptest::collection::btree_set(
                prop_oneof![0..200_usize, 0..100_000_usize], 0..60),
            parts in proptest::option::of(0..3_usize),
            start in 0..60_usize,
        ) {
            let mut sets = OutputSets::default();
            let some = sets.intern(&mut vec![NameId::from_index(0)]);
            let mut derivations: Vec<_> = ids.into_iter().map(|id| {
                let in_part = parts.is_some_and(|part| id % 3 == part);
                (DrvId::from_index(id), if in_part { some } else { OutputSet::ALL })
            }).collect();
            let sorted = derivations.clone();
            if !derivations.is_empty() {
                let middle = start % derivations.len();
                derivations.rotate_left(middle);
            }
            let mut unmade = Unmade { derivations, ..Unmade::default() };
            unmade.sort();
            prop_assert_eq!(unmade.derivations, sorted);
        }
    }
}
