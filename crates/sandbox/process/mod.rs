//! Processes: how they are launched, watched over and killed.

pub mod attend;
pub mod guard;
pub mod kill;
pub mod kill_user;
pub mod launch;
