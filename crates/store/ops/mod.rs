//! What is done to a whole store, or to paths of it, outside of builds.

pub mod add;
pub mod add_derivations;
pub mod contents;
pub mod register_paths;
pub mod verify;
