//! windrow, a build engine that turns Nix derivations into valid store paths.
//!
//! This crate is how people use it: the command line, its settings and its reports. Programs that
//! want the engine itself find it re-exported as [`systems`] and [`components`].
//!
//! The feature `huge-pages`, on by default, is for the program alone, which allocates large arrays
//! on huge pages. The library installs no allocator with or without it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod auto_gc;
mod build_log;
pub mod cli;
pub mod conf;
pub mod error;
pub mod helpers;
#[cfg(feature = "huge-pages")]
pub mod huge_pages;
pub mod installable;
pub mod isolation;
pub mod memory;
pub mod nix_store;
pub mod outcome;
pub mod progress;
pub mod realise;
pub mod session;
pub mod task_graph;
pub mod terminal;
pub mod trace;

pub use windrow_components as components;
pub use windrow_formats as formats;
pub use windrow_systems as systems;
