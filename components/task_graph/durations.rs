//! What counts as a duration, and what durations add up to.

use super::TaskGraphError;

/// The longest duration of a task: 10^9 seconds in microseconds (some 31 years), or as many
/// abstract units.
pub const MAX_DURATION: u64 = 1_000_000_000_000_000;

/// The sum of durations.
///
/// # Errors
/// If it does not fit into 64 bits.
pub(super) fn total(durations: &[u64]) -> Result<u64, TaskGraphError> {
    durations
        .iter()
        .try_fold(0u64, |sum, &duration| sum.checked_add(duration))
        .ok_or(TaskGraphError::WorkOverflow {
            tasks: durations.len(),
        })
}
