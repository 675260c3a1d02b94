//! The crate of sandboxes, under the names that its modules had here.

pub use windrow_sandbox::dirs::{admit, sandbox_dirs as cell};
pub use windrow_sandbox::ids::{user_ns, users};
pub use windrow_sandbox::isolation::*;
pub use windrow_sandbox::process::kill_user as kill;
pub use windrow_sandbox::process::launch::action;
pub use windrow_sandbox::{Support, filter, network, paths, process, refusal, root};
