//! Real children as the engine sees them: their environment, what they say, their logs, and what
//! waits for all that.

pub mod environment;
pub mod helper;
pub mod lines;
pub mod log_writer;
pub mod pool;
pub mod reactor;

pub use windrow_sandbox::dirs::{build_dir, run_dir};
pub use windrow_sandbox::process::{guard, launch};
pub use windrow_sys::interrupt;
