//! Critical path first: an idle slot takes the goal with the longest path to the end of the graph.
//!
//! Paths are worked out in one pass over the graph as far as it is loaded, and again only when it has grown enough
//! since; goals that are ready already are ranked again then.

use bevy_ecs::prelude::{Res, ResMut, Resource};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use super::rank::rank_all;
use super::{Estimates, Extent, ReadyQueue};
use crate::world::{Awake, NewlyReady};

/// For each derivation the longest path from its start to the end of the graph.
#[derive(Debug, Default, Resource)]
pub struct RemainingPaths {
    extent: Extent,
    remaining: Vec<u64>,
}

impl RemainingPaths {
    /// The longest path from the start of `drv` to the end of the graph, its own time included, in microseconds.
    pub fn of(&self, drv: DrvId) -> u64 {
        self.remaining.get(drv.index()).copied().unwrap_or(0)
    }

    /// Works all out again if the graph has grown enough; tells whether it did. `settled` says that no goal is about
    /// to load more of it.
    pub fn update(&mut self, graph: &BuildGraph, estimates: &Estimates, settled: bool) -> bool {
        let outgrown = self.extent.outgrown(graph, settled);
        if outgrown {
            self.compute(graph, estimates);
        }
        outgrown
    }

    fn compute(&mut self, graph: &BuildGraph, estimates: &Estimates) {
        let count = graph.drv_count();
        let drvs = || (0..count).map(DrvId::from_index);
        // Memory that is new is zero, and need not be written twice.
        self.remaining = vec![0; count];
        if graph.is_in_order() {
            for drv in drvs().rev() {
                let paths = graph.dependents(drv);
                let longest = paths.fold(0, |longest, after| {
                    let path = self.remaining[after.index()];
                    path.max(longest)
                });
                self.remaining[drv.index()] = longest.saturating_add(estimates.of(drv));
            }
            return;
        }
        let mut left = graph.count_dependents();
        let mut done: Vec<DrvId> = drvs().filter(|drv| left[drv.index()] == 0).collect();
        while let Some(drv) = done.pop() {
            let path = self.remaining[drv.index()].saturating_add(estimates.of(drv));
            self.remaining[drv.index()] = path;
            for input in graph.inputs(drv) {
                let input = input.drv;
                let longest = &mut self.remaining[input.index()];
                *longest = (*longest).max(path);
                left[input.index()] -= 1;
                if left[input.index()] == 0 {
                    done.push(input);
                }
            }
        }
    }
}

/// Ranks goals by their longest path to the end.
pub fn critical_path(
    mut newly: ResMut<NewlyReady>,
    mut queue: ResMut<ReadyQueue>,
    graph: Res<BuildGraph>,
    estimates: Res<Estimates>,
    awake: Res<Awake>,
    mut paths: ResMut<RemainingPaths>,
) {
    if newly.0.is_empty() {
        return;
    }
    if paths.update(&graph, &estimates, awake.is_empty()) {
        queue.rank_again(|drv| u64::MAX - paths.of(drv));
    }
    rank_all(&mut newly, &mut queue, |drv| u64::MAX - paths.of(drv));
}
