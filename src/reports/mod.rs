//! Reports of what the command line did, from what it knows to what a report shows; and their
//! files.

mod build;
mod file;
mod simulation;

pub(crate) use build::{About, of_build};
pub(crate) use file::WholeFile;
pub(crate) use simulation::Simulations;

/// The program and its version, for a report's second line.
const PROGRAM: &str = concat!("windrow ", env!("CARGO_PKG_VERSION"));
