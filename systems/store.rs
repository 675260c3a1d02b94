//! The crate of the store, under the names that its modules had here.

pub use windrow_store::db::{path_graph, reader};
pub use windrow_store::files::{beside, canonical, copy, optimise, replace};
pub use windrow_store::locks::dead_runs;
pub use windrow_store::nar::{digest, rewrite, scan};
pub use windrow_store::ops::{add, contents, register_paths, verify};
pub use windrow_store::own as own_db;
pub use windrow_store::own::{failed_paths, history};
pub use windrow_store::roots::{links as gc_roots, temporary as temp_roots};
pub use windrow_store::text::{graph_print, registrations as registration_text, transfer};
pub use windrow_store::{
    Database, DatabaseOptions, Edges, Layout, PathInfo, Registration, WalkRoot, gc, layout, local,
    nar,
};
pub use windrow_sys::flock::try_lock_exclusive;
pub use windrow_sys::{harmless, tree};

/// Locks on store paths.
pub mod path_lock {
    pub use crate::world::OutputLocks;
    pub use windrow_store::locks::path_lock::*;
}

/// Outputs of builds.
pub mod collect {
    pub use crate::outputs::{MismatchedOutput, ScanJob, scan_outputs};
}

/// Second builds.
pub mod check {
    pub use crate::outputs::compare::Check;
}

/// Fetched paths.
pub mod receive {
    pub use crate::outputs::receive::{ReceiveJob, receive};
}
