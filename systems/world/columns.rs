//! Components of many goals as slices: a place is looked up once for all of a goal's components,
//! and then each is an index. For systems that touch several goals a tick; for one or two a query
//! is as good.

use bevy_ecs::change_detection::ContiguousMut;
use bevy_ecs::component::Mutable;
use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Component, Entity, Query};
use bevy_ecs::storage::{TableId, TableRow};
use bevy_ecs::system::SystemParam;
use smallvec::SmallVec;

use crate::world::GoalIndex;

/// Where the components of a goal lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub(crate) table: TableId,
    pub(crate) row: TableRow,
}

/// Where the components of a derivation's goal lie. That holds for ever: goals of derivations share
/// a table, none is despawned, and what comes and goes is kept in sparse sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row(pub(crate) u32);

/// The place of a goal, which holds until something is spawned or a component of a table comes or
/// goes.
#[inline]
pub fn place(entities: &Entities, goal: Entity) -> Option<Place> {
    let location = entities.get_spawned(goal).ok()?;
    Some(Place {
        table: location.table_id,
        row: location.table_row,
    })
}

/// A component that goals carry in their table, as a system's parameter.
#[derive(SystemParam)]
pub struct Column<'w, 's, T: Component<Mutability = Mutable>> {
    query: Query<'w, 's, (Entity, &'static mut T)>,
}

impl<T: Component<Mutability = Mutable>> Column<'_, '_, T> {
    /// The component of all goals.
    ///
    /// # Panics
    /// If the component is not kept in tables, or goals of derivations have left theirs.
    pub fn open(&mut self, entities: &Entities, index: &GoalIndex) -> Cells<'_, T> {
        let (derivations, count) = index.derivations();
        let mut cells = Cells {
            table: derivations,
            derivations: &mut [],
            others: SmallVec::new(),
        };
        let tables = self.query.contiguous_iter_mut();
        for (goals, column) in tables.expect("a component that lies in tables") {
            let Some(first) = goals.first().and_then(|goal| place(entities, *goal)) else {
                continue;
            };
            // Marking all cells as changed, as the other ways do, would cost as much as there are
            // goals.
            let (column, _) = ContiguousMut::bypass_change_detection_split(column);
            if Some(first.table) == derivations {
                assert_eq!(
                    column.len(),
                    count,
                    "goals of derivations stay in their table"
                );
                cells.derivations = column;
            } else {
                cells.others.push((first.table, column));
            }
        }
        cells
    }
}

/// One component of all goals: a slice for every kind of goal. Writing to it is no change that a
/// query's filter sees.
pub struct Cells<'a, T> {
    table: Option<TableId>,
    derivations: &'a mut [T],
    others: SmallVec<[(TableId, &'a mut [T]); 2]>,
}

impl<T> Cells<'_, T> {
    /// The component of a derivation's goal.
    ///
    /// # Panics
    /// If such goals have no such component.
    #[inline]
    pub fn row(&mut self, row: Row) -> &mut T {
        &mut self.derivations[row.0 as usize]
    }

    /// The component at `place`, if a goal there has one.
    #[inline]
    pub fn at(&mut self, place: Place) -> Option<&mut T> {
        if Some(place.table) == self.table {
            return self.derivations.get_mut(place.row.index());
        }
        let mut tables = self.others.iter_mut();
        let (_, cells) = tables.find(|(id, _)| *id == place.table)?;
        cells.get_mut(place.row.index())
    }

    /// The row of a goal there, if it is a derivation's.
    #[inline]
    pub fn row_of(&self, place: Place) -> Option<Row> {
        (Some(place.table) == self.table).then(|| Row(place.row.index_u32()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::prelude::World;
    use bevy_ecs::system::SystemState;
    use windrow_components::goal::{DerivationGoal, Target, Waitees};
    use windrow_components::ids::DrvId;
    use windrow_components::outputs::OutputSet;

    #[derive(Component)]
    #[component(storage = "SparseSet")]
    struct Mark;

    #[derive(Component)]
    struct Other;

    #[test]
    fn cells_are_those_of_the_entity() {
        let mut world = World::new();
        let mut index = GoalIndex::default();
        let mut goals = Vec::new();
        for n in 0..12 {
            let drv = DrvId::from_index(n);
            let wanted = OutputSet::ALL;
            let known = DerivationGoal { drv, wanted };
            let goal = match n % 3 {
                0 => world.spawn(Waitees::default()).id(),
                1 => world.spawn((Waitees::default(), Other)).id(),
                _ => {
                    let goal = world.spawn((known, Waitees::default())).id();
                    index.insert(world.entities(), Target::Derivation(drv), goal);
                    goal
                }
            };
            if n == 8 {
                world.entity_mut(goal).insert(Mark);
            }
            goals.push(goal);
        }
        let alien = world.spawn_empty().id();
        let mut state = SystemState::<(Column<Waitees>, &Entities)>::new(&mut world);
        let waiting = |left: usize| Waitees {
            left: left as u32,
            ..Waitees::default()
        };
        {
            let (mut column, entities) = state.get_mut(&mut world).unwrap();
            let mut cells = column.open(entities, &index);
            for (n, &goal) in goals.iter().enumerate() {
                let at = place(entities, goal).unwrap();
                *cells.at(at).unwrap() = waiting(n);
                let row = index.row(DrvId::from_index(n));
                assert_eq!(row, cells.row_of(at));
                assert_eq!(row.is_some(), n % 3 == 2);
                assert!(row.is_none_or(|row| *cells.row(row) == waiting(n)));
            }
            assert!(cells.at(place(entities, alien).unwrap()).is_none());
        }
        for (n, &goal) in goals.iter().enumerate() {
            assert_eq!(world.get::<Waitees>(goal), Some(&waiting(n)));
        }
    }

    #[test]
    #[should_panic(expected = "stay in their table")]
    fn a_goal_that_left_its_table_is_noticed() {
        let mut world = World::new();
        let mut index = GoalIndex::default();
        for drv in (0..2).map(DrvId::from_index) {
            let goal = world.spawn(Waitees::default()).id();
            index.insert(world.entities(), Target::Derivation(drv), goal);
            if drv.index() == 1 {
                world.entity_mut(goal).insert(Other);
            }
        }
        let mut state = SystemState::<(Column<Waitees>, &Entities)>::new(&mut world);
        let (mut column, entities) = state.get_mut(&mut world).unwrap();
        column.open(entities, &index);
    }
}
