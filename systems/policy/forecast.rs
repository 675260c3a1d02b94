//! Estimates in a real build: what the history says of each derivation as it comes into the graph.
//! Other worlds know durations beforehand and do not plug this in.

use bevy_ecs::prelude::{Res, ResMut, Resource, World};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_store::own::history::History;

use crate::policy::Estimates;
use crate::world::Parts;

/// The history, and the platform of derivations that are not loaded yet.
#[derive(Debug, Resource)]
pub(crate) struct Forecast {
    history: History,
    system: String,
}

/// Lets estimates come from `history`. `system` is this machine's platform. Where the history knows
/// nothing of a platform, its derivations count one microsecond each.
pub fn plug_in(world: &mut World, history: History, system: &str) {
    if history.is_empty() {
        return;
    }
    world.insert_resource(Forecast {
        history,
        system: system.to_owned(),
    });
    world.resource_mut::<Parts>().forecast = true;
}

/// Estimates what has newly come into the graph.
pub(crate) fn estimate(
    mut estimates: ResMut<Estimates>,
    graph: Res<BuildGraph>,
    forecast: Res<Forecast>,
) {
    for index in estimates.0.len()..graph.drv_count() {
        let drv = DrvId::from_index(index);
        let system = graph.system(drv).unwrap_or(&forecast.system);
        let known = forecast.history.estimate(graph.drv_name(drv), system);
        estimates.0.push(known.unwrap_or(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::store_path::StoreDir;

    #[test]
    fn estimates_grow_with_the_graph() {
        let mut world = World::new();
        world.init_resource::<Parts>();
        world.init_resource::<Estimates>();
        let mut graph = BuildGraph::new(StoreDir::new("/nix/store"));
        let add = |graph: &mut BuildGraph, name: &str| {
            let path = format!("/nix/store/{}-{name}.drv", "1".repeat(32));
            let path = graph.path(&path).unwrap();
            graph.drv(path)
        };
        let system = "x86_64-linux";
        let rows = [("a-1", 500), ("b-1", 90), ("b-2", 70)];
        let rows = rows.map(|(name, time)| (name.to_owned(), system.to_owned(), time));
        let a = add(&mut graph, "a-1");
        world.insert_resource(graph);
        plug_in(&mut world, rows.into_iter().collect(), system);
        world.run_system_cached(estimate).unwrap();
        let b = add(&mut world.resource_mut::<BuildGraph>(), "b-3");
        world.run_system_cached(estimate).unwrap();
        let estimates = world.resource::<Estimates>();
        assert_eq!((estimates.of(a), estimates.of(b)), (500, 80));
    }
}
