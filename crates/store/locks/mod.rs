//! Locks on store paths, and what those leave behind that were killed while they held some.

pub mod dead_runs;
pub mod path_lock;
