//! The store: its files (walked, archived, scanned, made canonical), its database, locks and roots. Knows no goals,
//! but for `local`, `collect` and `check`, through which the systems use it.

pub mod add;
pub mod canonical;
pub mod check;
pub mod collect;
pub mod contents;
pub mod copy;
pub mod database;
pub mod dead_runs;
pub mod digest;
pub mod failed_paths;
pub mod gc;
pub mod gc_roots;
pub mod graph_print;
pub mod harmless;
pub mod history;
pub mod layout;
pub mod local;
pub mod nar;
pub mod optimise;
pub mod output_checks;
pub mod own_db;
pub mod path_graph;
pub mod path_lock;
pub mod reader;
pub mod receive;
pub mod register_paths;
pub mod registration_text;
pub mod replace;
pub mod rewrite;
pub mod scan;
pub mod temp_roots;
pub mod transfer;
pub mod tree;
pub mod verify;

pub(crate) mod beside;
mod buffer;
mod flock;
mod local_socket;
mod xattr;

pub use database::{Database, DatabaseOptions, Edges, PathInfo, Registration, Seed};
pub(crate) use flock::try_lock_exclusive;
pub use layout::Layout;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod swapped;
