//! Policies that need no more than the goal itself: each ranks what has newly come to be ready.

use bevy_ecs::prelude::{Res, ResMut, Resource};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use crate::policy::{Estimates, Extent, Seed};
use crate::world::Scheduler;

/// First come, first served; what comes at one instant, in the order in which it was met.
pub fn fifo(mut scheduler: ResMut<Scheduler>) {
    let instant = u64::try_from(scheduler.now.as_micros()).unwrap_or(u64::MAX);
    scheduler.rank(|_| instant);
}

/// What takes the least time first.
pub fn shortest_first(mut scheduler: ResMut<Scheduler>, estimates: Res<Estimates>) {
    scheduler.rank(|drv| estimates.of(drv));
}

/// What takes the most time first.
pub fn longest_first(mut scheduler: ResMut<Scheduler>, estimates: Res<Estimates>) {
    scheduler.rank(|drv| u64::MAX - estimates.of(drv));
}

/// An order drawn by chance, the same for the same seed.
pub fn random(mut scheduler: ResMut<Scheduler>, seed: Res<Seed>) {
    scheduler.rank(|drv| draw(seed.0, drv));
}

/// How many derivations of the graph have each as an input.
#[derive(Debug, Default, Resource)]
pub struct Dependents {
    extent: Extent,
    counts: Vec<u32>,
}

/// What the most derivations of the graph have as an input first.
pub fn most_dependents(
    mut scheduler: ResMut<Scheduler>,
    graph: Res<BuildGraph>,
    mut dependents: ResMut<Dependents>,
) {
    let dependents = &mut *dependents;
    let outgrown = dependents.extent.outgrown(&graph, !scheduler.is_awake());
    if outgrown {
        dependents.counts = graph.count_dependents();
    }
    let counts = &dependents.counts;
    let rank = |drv: DrvId| u64::MAX - u64::from(counts.get(drv.index()).copied().unwrap_or(0));
    if outgrown {
        scheduler.queue().rank_again(rank);
    }
    scheduler.rank(rank);
}

/// A number that depends on nothing but the seed and the derivation's place (splitmix64's mixing).
pub(crate) fn draw(seed: u64, drv: DrvId) -> u64 {
    let step = (drv.index() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut mixed = seed.wrapping_add(step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
