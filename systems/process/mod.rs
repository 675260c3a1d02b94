//! Real children: how they are started, watched, given an environment and a folder, and how their logs are kept.

pub mod build_dir;
pub mod environment;
pub mod guard;
pub mod helper;
pub mod launch;
pub mod lines;
pub mod log_writer;
pub mod pool;
pub(crate) mod raw;
pub mod reactor;
pub mod run_dir;
