//! The directories of builds: made, given to builders, taken back, used again or deleted.

pub mod admit;
pub mod build_dir;
mod chroot;
pub mod in_store;
pub mod run_dir;
pub mod sandbox_dirs;
pub mod view;
