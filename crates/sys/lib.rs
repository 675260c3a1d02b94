//! What the store and the sandbox ask of the kernel, in one place: trees of files through directory
//! handles, locks on files, extended attributes, signals that ask for an end, and system calls.
//! Knows neither store paths nor builds.
//!
//! System calls are made through the nix crate where it offers a safe function; through rustix
//! where nix has none, or where the C library must be left alone ([`raw`] says when); and by
//! number, in [`raw`] only, where no crate has them.

pub mod bounded;
pub mod clone;
mod error;
pub mod flock;
pub mod harmless;
pub mod interrupt;
pub mod limits;
pub mod mutex;
pub mod nameless;
pub mod names;
pub mod program;
pub mod raw;
pub mod resumed;
pub mod space;
pub mod stream;
pub mod terminal;
pub mod threads;
pub mod told;
pub mod tree;
pub mod waiting;
pub mod xattr;

pub use error::{Error, Result};
