//! Which entity is the goal for what, and in which row of its table it lies: an array by
//! derivation, for there are millions of those, and maps for the few goals of paths.

use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::Entity;
use bevy_ecs::storage::TableId;
use hashbrown::HashMap;
use smallvec::SmallVec;
use windrow_components::goal::{Moment, Target};
use windrow_components::ids::{DrvId, PathId};

use crate::world::{Row, place};

/// Whether a derivation has a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoalSlot {
    /// It has none.
    Empty,
    /// One has been asked for, as that one of those to be made.
    Asked(u32),
    /// It has this one, which lies there.
    Taken(Entity, Row),
}

/// One more than the number of a goal's entity, and its row; where there is none yet, zero, and one
/// more than its place among those to be made, or zero.
type SeatCell = [u32; 2];

const EMPTY: SeatCell = [0, 0];

/// The entity of a number that is one more than its own.
#[inline]
fn entity(number: u32) -> Entity {
    Entity::from_raw_u32(number - 1).expect("the number of an entity")
}

/// Which entity is the goal for what.
#[derive(Debug, Default)]
pub struct GoalIndex {
    /// By derivation id; of entities only their index, for goals are never despawned.
    derivations: Vec<SeatCell>,
    /// The table that the goals of derivations lie in, all of them.
    table: Option<TableId>,
    /// How many derivations have a goal.
    taken: usize,
    /// All moments at which goals were taken up again that had ended.
    reopened: HashMap<DrvId, SmallVec<[Moment; 2]>>,
    paths: HashMap<PathId, Entity>,
    repairs: HashMap<PathId, Entity>,
}

impl GoalIndex {
    /// Whether there is no goal.
    pub fn is_empty(&self) -> bool {
        self.taken == 0 && self.paths.is_empty() && self.repairs.is_empty()
    }

    /// The goal for `target`, if there is one.
    pub fn get(&self, target: Target) -> Option<Entity> {
        match target {
            Target::Derivation(drv) => self.goal(drv),
            Target::Path(path) => self.paths.get(&path).copied(),
            Target::Repair(path) => self.repairs.get(&path).copied(),
        }
    }

    /// The goal for a derivation, if there is one.
    #[inline]
    pub fn goal(&self, drv: DrvId) -> Option<Entity> {
        let [goal, _] = self.derivations.get(drv.index())?;
        Entity::from_raw_u32(goal.wrapping_sub(1))
    }

    /// Every goal and what it is for.
    pub(in crate::world) fn all(&self) -> impl Iterator<Item = (Target, Entity)> {
        let derivations = (0..self.derivations.len()).map(DrvId::from_index);
        let derivations = derivations.map(Target::Derivation);
        let paths = self.paths.keys().map(|&path| Target::Path(path));
        let repairs = self.repairs.keys().map(|&path| Target::Repair(path));
        let targets = derivations.chain(paths).chain(repairs);
        targets.filter_map(|target| Some((target, self.get(target)?)))
    }

    /// Whether a derivation has a goal.
    #[inline]
    pub fn goal_slot(&self, drv: DrvId) -> GoalSlot {
        match self.derivations.get(drv.index()) {
            None | Some(&EMPTY) => GoalSlot::Empty,
            Some(&[0, nth]) => GoalSlot::Asked(nth - 1),
            Some(&[goal, row]) => GoalSlot::Taken(entity(goal), Row(row)),
        }
    }

    /// The goal for a derivation and where it lies, if there is one.
    #[inline]
    pub fn goal_and_row(&self, drv: DrvId) -> Option<(Entity, Row)> {
        let &[goal, row] = self.derivations.get(drv.index())?;
        Some((Entity::from_raw_u32(goal.wrapping_sub(1))?, Row(row)))
    }

    /// Where a derivation's goal lies, if it has one.
    #[inline]
    pub fn row(&self, drv: DrvId) -> Option<Row> {
        match self.derivations.get(drv.index()) {
            None | Some(&[0, _]) => None,
            Some(&[_, row]) => Some(Row(row)),
        }
    }

    /// The table of all goals of derivations, once there is one, and how many there are.
    pub fn derivations(&self) -> (Option<TableId>, usize) {
        (self.table, self.taken)
    }

    /// Notes that a derivation's goal is to be made, as that one of many.
    #[inline]
    pub fn ask(&mut self, drv: DrvId, nth: usize) {
        let nth = u32::try_from(nth + 1).expect("fewer than 2^32 goals");
        *self.cell(drv) = [0, nth];
    }

    /// Remembers the goals of derivations that have been made in one go.
    ///
    /// # Panics
    /// As [`GoalIndex::insert`].
    pub fn insert_made(
        &mut self,
        entities: &Entities,
        goals: impl IntoIterator<Item = (DrvId, Entity)>,
    ) {
        let mut goals = goals.into_iter();
        let Some((drv, first)) = goals.next() else {
            return;
        };
        self.insert(entities, Target::Derivation(drv), first);
        let GoalSlot::Taken(_, Row(first)) = self.goal_slot(drv) else {
            return;
        };
        // They lie in their table one after the other.
        for (row, (drv, goal)) in (first + 1..).zip(goals) {
            debug_assert!(place(entities, goal).is_some_and(|at| at.row.index_u32() == row));
            self.taken += 1;
            *self.cell(drv) = [goal.index_u32() + 1, row];
        }
    }

    #[inline]
    fn cell(&mut self, drv: DrvId) -> &mut SeatCell {
        if self.derivations.len() <= drv.index() {
            self.grow(drv.index() + 1);
        }
        &mut self.derivations[drv.index()]
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        if self.derivations.is_empty() {
            // Memory that is new is zero, and need not be written twice.
            self.derivations = vec![EMPTY; count];
        } else {
            self.derivations.resize(count, EMPTY);
        }
    }

    /// Remembers the goal for `target`.
    ///
    /// # Panics
    /// If it does not exist, or a derivation's goal does not lie in the table of all the others.
    pub fn insert(&mut self, entities: &Entities, target: Target, goal: Entity) {
        match target {
            Target::Derivation(drv) => {
                let place = place(entities, goal).expect("a goal that has been made");
                let table = *self.table.get_or_insert(place.table);
                assert!(table == place.table, "goals of derivations share a table");
                self.taken += 1;
                *self.cell(drv) = [goal.index_u32() + 1, place.row.index_u32()];
            }
            Target::Path(path) => {
                self.paths.insert(path, goal);
            }
            Target::Repair(path) => {
                self.repairs.insert(path, goal);
            }
        }
    }

    /// Reserves `path`; [`GoalIndex::get`] returns a placeholder until the goal is spawned.
    pub fn ask_for_path(&mut self, path: PathId, repair: bool) {
        let goals = if repair {
            &mut self.repairs
        } else {
            &mut self.paths
        };
        goals.insert(path, Entity::PLACEHOLDER);
    }

    /// Notes that a derivation's goal, which had ended, is taken up again.
    pub fn reopen(&mut self, drv: DrvId, at: Moment) {
        self.reopened.entry(drv).or_default().push(at);
    }

    /// Since when a derivation's goal that ended `at` that moment had been busy.
    #[inline]
    pub fn begun_before(&self, drv: DrvId, at: Moment) -> Moment {
        if self.reopened.is_empty() {
            return Moment::default();
        }
        let mut moments = self.reopened.get(&drv).into_iter().flatten();
        let last = moments.rfind(|&&moment| moment < at);
        last.map_or_else(Moment::default, |moment| moment.next())
    }
}
