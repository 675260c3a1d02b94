//! Components of many goals as slices: a place is looked up once for all of a goal's components, and then each is an index.
//! For systems that touch several goals a tick; for one or two a query is as good.

use bevy_ecs::change_detection::ContiguousMut;
use bevy_ecs::component::Mutable;
use bevy_ecs::entity::Entities;
use bevy_ecs::prelude::{Component, Entity, Query};
use bevy_ecs::storage::{TableId, TableRow};
use bevy_ecs::system::SystemParam;
use smallvec::SmallVec;

/// Where the components of a goal lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    table: TableId,
    row: TableRow,
}

/// The place of a goal, which holds until something is spawned or a component of a table comes or goes.
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
    /// If the component is not kept in tables.
    pub fn open(&mut self, entities: &Entities) -> Cells<'_, T> {
        let tables = self
            .query
            .contiguous_iter_mut()
            .expect("a component that lies in tables");
        let tables = tables.filter_map(|(goals, cells)| {
            let first = place(entities, *goals.first()?)?;
            // Marking all cells as changed, as the other ways do, would cost as much as there are goals.
            let (cells, _) = ContiguousMut::bypass_change_detection_split(cells);
            Some((first.table, cells))
        });
        Cells {
            tables: tables.collect(),
        }
    }
}

/// One component of all goals: a slice for every kind of goal. Writing to it is no change that a query's filter sees.
pub struct Cells<'a, T> {
    tables: SmallVec<[(TableId, &'a mut [T]); 2]>,
}

impl<T> Cells<'_, T> {
    /// The component at `place`, if a goal there has one.
    #[inline]
    pub fn at(&mut self, place: Place) -> Option<&mut T> {
        let mut tables = self.tables.iter_mut();
        let (_, cells) = tables.find(|(id, _)| *id == place.table)?;
        cells.get_mut(place.row.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::prelude::World;
    use bevy_ecs::system::SystemState;
    use windrow_components::goal::{Stage, Waiters};

    #[derive(Component)]
    #[component(storage = "SparseSet")]
    struct Mark;

    #[test]
    fn cells_are_those_of_the_entity() {
        let mut world = World::new();
        let mut goals = Vec::new();
        for n in 0..10 {
            let goal = match n % 3 {
                0 => world.spawn(Stage::New).id(),
                1 => world.spawn((Stage::New, Waiters::default())).id(),
                _ => world.spawn((Stage::New, Mark)).id(),
            };
            goals.push(goal);
        }
        let alien = world.spawn_empty().id();
        let mut state = SystemState::<(Column<Stage>, &Entities)>::new(&mut world);
        let stages = [Stage::Inputs, Stage::Ready, Stage::Running, Stage::Done];
        {
            let (mut column, entities) = state.get_mut(&mut world).unwrap();
            let mut cells = column.open(entities);
            for (n, &goal) in goals.iter().enumerate() {
                *cells.at(place(entities, goal).unwrap()).unwrap() = stages[n % 4];
            }
            assert!(cells.at(place(entities, alien).unwrap()).is_none());
        }
        for (n, &goal) in goals.iter().enumerate() {
            assert_eq!(world.get::<Stage>(goal), Some(&stages[n % 4]));
        }
    }
}
