//! Estimates in a real build: what the history says of each derivation as it comes into the graph.
//! Other worlds know durations beforehand and do not plug this in.

use std::time::Duration;

use bevy_ecs::prelude::{Res, ResMut, Resource, World};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_store::own::history::History;

use crate::policy::critical_path::remaining_paths;
use crate::policy::{Estimates, Extent};
use crate::world::{Parts, Scheduler};

/// The history, and the platform of derivations that are not loaded yet.
#[derive(Debug, Resource)]
pub(crate) struct Forecast {
    history: History,
    system: String,
    /// By derivation the longest path from its start to the end of the graph, in microseconds, if
    /// somebody wants to know.
    chains: Vec<u64>,
    extent: Extent,
}

/// What stands for a derivation of which nothing is known, in microseconds.
const UNKNOWN: u64 = 1;

/// Lets estimates come from `history`. `system` is this machine's platform. Where the history knows
/// nothing of a platform, its derivations count one microsecond each.
pub fn plug_in(world: &mut World, history: History, system: &str) {
    if history.is_empty() {
        return;
    }
    world.insert_resource(Forecast {
        history,
        system: system.to_owned(),
        chains: Vec::new(),
        extent: Extent::default(),
    });
    world.resource_mut::<Parts>().forecast = true;
}

/// From now on it is also worked out how long what must be built takes together, and what needs a
/// derivation one after the other.
pub fn tell_outlook(world: &mut World) {
    world.resource_mut::<Scheduler>().keep_work();
}

impl Forecast {
    /// How long what needs a derivation takes with it, one after the other, if that is worked out.
    pub(crate) fn chain(&self, drv: DrvId) -> Option<Duration> {
        let chain = self.chains.get(drv.index())?;
        Some(Duration::from_micros(*chain))
    }
}

impl Estimates {
    /// How long a derivation is thought to take, if anything is known.
    pub(crate) fn known(&self, drv: DrvId) -> Option<u64> {
        let estimate = self.0.get(drv.index());
        estimate.copied().filter(|&estimate| estimate > UNKNOWN)
    }
}

/// Estimates what has newly come into the graph.
pub(crate) fn estimate(
    mut estimates: ResMut<Estimates>,
    graph: Res<BuildGraph>,
    mut forecast: ResMut<Forecast>,
    mut scheduler: ResMut<Scheduler>,
) {
    for index in estimates.0.len()..graph.drv_count() {
        let drv = DrvId::from_index(index);
        let system = graph.system(drv).unwrap_or(&forecast.system);
        let known = forecast.history.estimate(graph.drv_name(drv), system);
        estimates.0.push(known.unwrap_or(UNKNOWN));
    }
    if !scheduler.keeps_work() {
        return;
    }
    let settled = !scheduler.is_awake();
    if forecast.extent.outgrown(&graph, settled) {
        forecast.chains = remaining_paths(&graph, &estimates);
    }
    scheduler.count_work(|drv| estimates.known(drv));
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
        world.insert_resource(Scheduler::new(crate::engine::default_options()));
        tell_outlook(&mut world);
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
        let chain = world.resource::<Forecast>().chain(a);
        assert_eq!(chain, Some(Duration::from_micros(500)));
    }
}
