//! What a build is, as plain data: store paths, hashes, derivations, graphs, goals. No I/O, no clock, no threads, no globals.

pub mod derivation;
mod error;
pub mod hash;
pub mod nix32;
pub mod store_path;

pub use error::{Error, Result};
