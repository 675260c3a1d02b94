//! Critical path first: an idle slot takes the goal with the longest path to the end of the graph.
//!
//! Paths are worked out in one pass over the graph as far as it is loaded, and again only when it
//! has grown enough since; goals that are ready already are ranked again then.

use bevy_ecs::prelude::{Local, Res, ResMut};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use crate::policy::{Estimates, Extent, order};
use crate::world::Scheduler;

/// How far the graph was loaded when the longest paths to its end were last worked out.
#[derive(Debug, Default)]
pub struct RemainingPaths {
    extent: Extent,
}

/// For each derivation the longest path from its start to the end of the graph, in microseconds.
pub(super) fn remaining_paths(graph: &BuildGraph, estimates: &Estimates) -> Vec<u64> {
    let count = graph.drv_count();
    let drvs = || (0..count).map(DrvId::from_index);
    // Memory that is new is zero, and need not be written twice.
    let mut remaining = vec![0_u64; count];
    if graph.is_in_order() {
        for drv in drvs().rev() {
            let paths = graph.dependents(drv);
            let longest = paths.fold(0, |longest, after| longest.max(remaining[after.index()]));
            remaining[drv.index()] = longest.saturating_add(estimates.of(drv));
        }
        return remaining;
    }
    let mut left = graph.count_dependents();
    let mut done: Vec<DrvId> = drvs().filter(|drv| left[drv.index()] == 0).collect();
    while let Some(drv) = done.pop() {
        let path = remaining[drv.index()].saturating_add(estimates.of(drv));
        remaining[drv.index()] = path;
        for input in graph.inputs(drv) {
            let input = input.drv;
            let longest = &mut remaining[input.index()];
            *longest = path.max(*longest);
            left[input.index()] -= 1;
            if left[input.index()] == 0 {
                done.push(input);
            }
        }
    }
    remaining
}

/// All derivations, those with the longest path to the end of the graph first.
fn by_remaining_path(graph: &BuildGraph, estimates: &Estimates) -> Vec<DrvId> {
    let mut paths = remaining_paths(graph, estimates);
    let longest = paths.iter().max().copied().unwrap_or(0);
    for path in &mut paths {
        *path = longest - *path;
    }
    order::by_rank(&paths)
}

/// Ranks goals by their longest path to the end.
pub fn critical_path(
    mut scheduler: ResMut<Scheduler>,
    graph: Res<BuildGraph>,
    estimates: Res<Estimates>,
    mut paths: Local<RemainingPaths>,
) {
    if paths.extent.outgrown(&graph, !scheduler.is_awake()) {
        scheduler
            .queue()
            .follow(by_remaining_path(&graph, &estimates));
    }
    // Of what has come into the graph since, nothing is known.
    scheduler.rank(|_| u64::MAX);
}
