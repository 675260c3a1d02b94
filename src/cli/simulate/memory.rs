//! How much memory this process has, had, and may have: what the kernel says in /proc.

use windrow_components::task_graph::{Stats, TaskGraphError};
use windrow_systems::simulate::memory_needed;

use crate::error::Result;
use crate::task_graph::available_memory;

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// What is resident now, in bytes; 0 if the kernel does not tell.
pub(super) fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that was resident since the last [`forget_peak`], in bytes.
pub(super) fn peak() -> u64 {
    status("VmHWM:")
}

/// Begins to measure the peak anew. Where the kernel does not allow that, it stays that of the whole process.
pub(super) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Refuses a graph whose simulation would not fit into the memory that is left.
///
/// # Errors
/// If it would not.
pub(super) fn refuse_to_simulate(stats: &Stats) -> Result<()> {
    let (tasks, edges) = (stats.tasks as u64, stats.edges as u64);
    let (needed, limit) = (memory_needed(tasks, edges), available_memory());
    if needed > limit {
        return Err(TaskGraphError::OverMemory {
            tasks,
            edges,
            needed,
            limit,
        }
        .into());
    }
    Ok(())
}
