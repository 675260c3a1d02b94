//! What the store and the sandbox ask of the kernel, in one place: trees of files through directory handles, locks on
//! files, extended attributes, signals that ask for an end. Knows neither store paths nor builds.

mod call;
mod error;
pub mod flock;
pub mod harmless;
pub mod interrupt;
pub mod tree;
pub mod xattr;

pub use error::{Error, Result};
#[doc(hidden)]
pub use syscalls;
