//! Makes goals and ties them to each other (Nix 1.8: `makeDerivationGoal`, `addWaitee`, `amDone`).

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Entity, Query, ResMut, World};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::{
    DerivationGoal, Moment, Outcome, Stage, SubstitutionGoal, Target, Waitees, Waiter,
};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::{OutputSet, OutputSets};
use windrow_components::substitution::Substitution;

use crate::world::{Asked, Column, GoalIndex, GoalSlot, Scheduler, place};

/// A goal asked for by another.
#[derive(Debug, Clone, Copy)]
pub struct NewWaitee {
    /// Who asks.
    pub waiter: Entity,
    /// For what.
    pub target: Target,
    /// For a derivation, which of its outputs.
    pub wanted: OutputSet,
}

/// Goals that are asked for and not there yet, to be made in one go.
#[derive(Debug, Default)]
pub struct Unmade {
    derivations: Vec<(DrvId, OutputSet)>,
    /// Paths, and whether they are to be repaired.
    paths: Vec<(PathId, bool)>,
    /// BuildEnv for sorting.
    bits: Vec<u64>,
}

impl Unmade {
    /// Notes those targets of `requests` for which there is no goal.
    pub fn note(&mut self, index: &mut GoalIndex, requests: &[NewWaitee]) {
        for request in requests {
            match request.target {
                Target::Derivation(drv) => {
                    if index.goal_slot(drv) == GoalSlot::Empty {
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

    /// Sorts the derivations by their ids, so that memory is walked through afterwards and not
    /// jumped about in. Where they lie close together this is one bit for each.
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
    ///
    /// Nix 1.8: `Goal::Goal`, `Goal::~Goal`, `Worker::makeDerivationGoal`.
    /// Nix 1.8: `Worker::makeSubstitutionGoal`.
    pub fn make(&mut self, world: &mut World) {
        if !self.derivations.is_empty() {
            self.sort();
            let bundles = self.derivations.iter().map(|&(drv, wanted)| {
                let goal = DerivationGoal { drv, wanted };
                (goal, Waitees::default())
            });
            let goals: Vec<Entity> = world.spawn_batch(bundles).collect();
            let drvs = self.derivations.iter().map(|&(drv, _)| drv);
            world.resource_scope::<Scheduler, _>(|world, mut scheduler| {
                scheduler.add_all(world.entities(), drvs.zip(goals.iter().copied()));
            });
            self.derivations.clear();
        }
        for (path, repair) in self.paths.drain(..) {
            let goal = world.spawn((SubstitutionGoal { path, repair }, Waitees::default()));
            let goal = goal.id();
            let target = if repair {
                Target::Repair(path)
            } else {
                Target::Path(path)
            };
            add(world, target, goal);
        }
    }
}

fn add(world: &mut World, target: Target, goal: Entity) {
    world.resource_scope::<Scheduler, _>(|world, mut scheduler| {
        scheduler.add(world.entities(), target, goal);
    });
}

/// What tying goals to each other touches.
#[derive(SystemParam)]
pub struct AddWaitees<'w, 's> {
    entities: &'w Entities,
    derivations: Column<'w, 's, DerivationGoal>,
    waitees: Column<'w, 's, Waitees>,
    graph: ResMut<'w, BuildGraph>,
    scheduler: ResMut<'w, Scheduler>,
    substitutions: Query<'w, 's, &'static Substitution>,
}

impl AddWaitees<'_, '_> {
    /// Lets the waiters of `requests` wait for what they ask for, all of which has been made. All
    /// requests of one waiter stand together, each for another target. A waiter whose requests have
    /// all been met already is woken at once.
    ///
    /// Nix 1.8: `Goal::addWaitee`.
    ///
    /// # Panics
    /// Never: a goal that asks exists.
    pub fn fulfil(&mut self, requests: &[NewWaitee]) {
        let (entities, scheduler) = (self.entities, &mut *self.scheduler);
        let mut derivations = self.derivations.open(entities, &scheduler.index);
        let mut all_waitees = self.waitees.open(entities, &scheduler.index);
        for group in requests.chunk_by(|a, b| a.waiter == b.waiter) {
            let waiter = group[0].waiter;
            let at = place(entities, waiter).expect("who asks exists");
            let mut waitees = *all_waitees.at(at).expect("a goal has waitees");
            // A derivation's goal waits for its inputs already, and was told then how many it asks
            // for here.
            let waits_for_inputs =
                scheduler.stage(waiter) == Stage::Inputs && derivations.row_of(at).is_some();
            if !waits_for_inputs {
                let count = u32::try_from(group.len()).expect("fewer than 2^32 waitees");
                waitees.wait_for(count, Moment::NEVER);
            }
            let keep_going = scheduler.run.keep_going();
            let mut woken = waitees.left == 0;
            for request in group {
                let goal = scheduler.index.get(request.target);
                let goal = goal.expect("what is asked for was made");
                let at = place(entities, goal).expect("what was made exists");
                scheduler.note_asked(waiter, Asked::Goal(goal));
                match derivations.at(at) {
                    Some(known) if scheduler.is_stale(goal) => {
                        known.wanted = self.graph.output_sets.union(known.wanted, request.wanted);
                        scheduler.reopen_stale(goal, Some(known.drv));
                    }
                    None if scheduler.is_stale(goal) => scheduler.reopen_stale(goal, None),
                    Some(known) => {
                        widen(
                            scheduler,
                            &mut self.graph.output_sets,
                            known,
                            goal,
                            request.wanted,
                        );
                    }
                    None => reopen_incomplete(scheduler, &self.substitutions, goal),
                }
                match scheduler.stage(goal).outcome() {
                    None => {
                        let round = waitees.round;
                        let waiter = Waiter {
                            goal: waiter,
                            round,
                        };
                        scheduler.waiters.add(goal, waiter);
                    }
                    Some(_) if woken => {}
                    Some(outcome) => woken = waitees.waitee_done(outcome, keep_going),
                }
            }
            if let Some(cell) = all_waitees.at(at) {
                *cell = waitees;
            }
            if woken {
                scheduler.awaken(waiter);
            }
        }
    }
}

/// Takes a path's goal up again if it lacked references that may be there now.
fn reopen_incomplete(
    scheduler: &mut Scheduler,
    substitutions: &Query<&Substitution>,
    goal: Entity,
) {
    if scheduler.stage(goal) == Stage::Done(Outcome::IncompleteClosure)
        && let Ok(substitution) = substitutions.get(goal)
        && substitution.ended_at != scheduler.moment()
    {
        scheduler.reopen_path(goal);
    }
}

/// Asks a derivation's goal for more outputs (Nix 1.8: `DerivationGoal::addWantedOutputs`); one
/// that had ended well for fewer is taken up again.
#[inline]
pub fn widen(
    scheduler: &mut Scheduler,
    sets: &mut OutputSets,
    known: &mut DerivationGoal,
    goal: Entity,
    wanted: OutputSet,
) {
    if known.wanted == wanted || known.wanted == OutputSet::ALL {
        return;
    }
    let union = sets.union(known.wanted, wanted);
    if union != known.wanted {
        known.wanted = union;
        if scheduler.stage(goal) == Stage::Done(Outcome::Success) {
            scheduler.reopen(goal, known.drv);
        }
    }
}

/// Makes the goal for a target of the request that has begun last, or takes it up again if its end
/// does not count for it.
pub(super) fn add_top_goal(world: &mut World, target: Target, wanted: OutputSet) -> Entity {
    let known = world.resource::<Scheduler>().index.get(target);
    let goal = match (known, target) {
        (Some(goal), _) => {
            ask_top_goal(world, goal, wanted);
            goal
        }
        (None, Target::Derivation(drv)) => {
            let goal = DerivationGoal { drv, wanted };
            let goal = world.spawn((goal, Waitees::default())).id();
            add(world, target, goal);
            goal
        }
        (None, Target::Path(path) | Target::Repair(path)) => {
            let repair = matches!(target, Target::Repair(_));
            let goal = SubstitutionGoal { path, repair };
            let goal = world.spawn((goal, Waitees::default())).id();
            add(world, target, goal);
            goal
        }
    };
    let mut scheduler = world.resource_mut::<Scheduler>();
    if scheduler.stage(goal).outcome().is_none() {
        scheduler.run.add_top(goal);
    }
    goal
}

fn ask_top_goal(world: &mut World, goal: Entity, wanted: OutputSet) {
    world.resource_scope::<BuildGraph, _>(|world, mut graph| {
        world.resource_scope::<Scheduler, _>(|world, mut scheduler| {
            let is_stale = scheduler.is_stale(goal);
            let sets = &mut graph.output_sets;
            match world.get_mut::<DerivationGoal>(goal) {
                Some(mut known) if is_stale => {
                    known.wanted = sets.union(known.wanted, wanted);
                    scheduler.reopen_stale(goal, Some(known.drv));
                }
                Some(mut known) => widen(&mut scheduler, sets, &mut known, goal, wanted),
                None if is_stale => scheduler.reopen_stale(goal, None),
                None => {}
            }
        });
    });
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
