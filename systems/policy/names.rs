//! What goals are called, for policies that come from files and programs.

use std::sync::Arc;

use bevy_ecs::prelude::Resource;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::task_graph::{TaskGraph, TimeUnit};

/// What tasks of a simulation are called, and how many units of the engine's time make a second, or
/// a unit of the graph's. Real builds have derivations, whose names the graph knows.
#[derive(Debug, Clone, Resource)]
pub struct TaskNames {
    names: Arc<[String]>,
    pub(crate) units: f64,
}

impl TaskNames {
    /// Those of a graph.
    pub fn of(tasks: &TaskGraph) -> Self {
        let names = tasks.tasks().map(|task| tasks.name(task).into_owned());
        Self {
            names: names.collect(),
            units: match tasks.unit() {
                TimeUnit::Microseconds => 1e6,
                TimeUnit::Units => 1.0,
            },
        }
    }

    /// All names, in the order of the tasks.
    pub(crate) fn all(&self) -> &[String] {
        &self.names
    }
}

/// What a goal is called: its task's name, or its derivation's.
pub(crate) fn name_of<'a>(
    tasks: Option<&'a TaskNames>,
    graph: &'a BuildGraph,
    drv: DrvId,
) -> &'a str {
    match tasks {
        Some(tasks) => tasks.names.get(drv.index()).map_or("", String::as_str),
        None if graph.is_of_tasks() => "",
        None => graph.drv_name(drv),
    }
}

/// A number as a rank, the smaller number first.
pub(crate) fn rank_of(number: f64) -> u64 {
    // Bits of numbers that are not negative have the order of the numbers, those of others the
    // opposite one.
    let bits = number.to_bits();
    match bits >> 63 {
        0 => bits | 1 << 63,
        _ => !bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_the_order_of_numbers() {
        let numbers = [-1e300, -2.5, -1.0, -1e-300, 0.0, 1e-300, 1.0, 2.5, 1e300];
        let ranks = numbers.map(rank_of);
        assert!(ranks.is_sorted() && ranks.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
