//! A graph of derivations in JSON as a task graph: a task for each derivation, an edge for each
//! input in the graph. Nothing is written, and sources are looked at only where files are chosen.

use windrow_components::task_graph::{Builder, Limits, TaskId, TimeUnit};
use windrow_formats::json_graph::{GraphFile, Piece};

use super::{Loaded, NamedDerivation};
use crate::error::Result;

/// The text of what seems to be a graph of derivations: each that has something to build has this
/// key, and hardly any other file.
pub(super) fn suspected(text: &[u8]) -> Option<&str> {
    memchr::memmem::find(text, b"\"derivations\"")?;
    std::str::from_utf8(text).ok()
}

/// The graph as tasks, in the order in which the engine meets them.
///
/// # Errors
/// When it would not fit into memory.
pub(super) fn as_tasks(origin: &str, graph: &GraphFile, limits: Limits) -> Result<Loaded> {
    let mut tasks = Builder::new(origin, TimeUnit::Microseconds, limits);
    let mut derivations = Vec::with_capacity(graph.derivations.len());
    for node in &graph.derivations {
        let task = tasks.add_task(Some(&node.key), None)?;
        let mut inputs: Vec<u32> = node
            .pieces()
            .filter_map(|piece| match piece {
                Piece::Output { node, .. } => Some(*node),
                _ => None,
            })
            .collect();
        inputs.sort_unstable();
        inputs.dedup();
        for input in inputs {
            // Each derivation stands after those it needs.
            tasks.add_edge(TaskId::from_index(input as usize), task)?;
        }
        derivations.push(NamedDerivation {
            name: node.name.clone(),
            system: node.system.clone(),
        });
    }
    Ok(Loaded {
        graph: tasks.finish()?,
        derivations,
    })
}
