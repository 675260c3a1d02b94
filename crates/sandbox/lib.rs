//! Processes of builders, and what isolates them from the machine and from each other. Knows
//! derivations by name only, and nothing of goals.
//!
//! - [`process`]: how a process is launched, watched over and killed.
//! - [`Isolation`], one for a run, and [`BuildEnv`], one for a build: where and as whom a builder
//!   runs.
//! - [`root`]: what a builder sees; [`paths`] of the machine among it; [`network`]: what it
//!   reaches.
//! - [`ids`]: who a builder is, outside and inside; [`dirs`]: the directories that it has.
//! - [`cgroups`]: what ends and measures all of a build's processes together, and limits them.
//! - [`filter`]: which system calls it may make.
//! - [`support`]: what of all that this machine can do; [`refusal`]: how to say that it can't.

pub mod cgroups;
pub mod dirs;
pub mod filter;
pub mod ids;
pub mod isolation;
pub mod network;
pub mod paths;
pub mod process;
pub mod refusal;
pub mod root;
pub mod support;

pub use isolation::{BuildEnv, Isolation, Limits, MountTemplate, SandboxRequest, become_user};
pub use support::Support;
