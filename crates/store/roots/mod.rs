//! What keeps paths from being collected: links that last, and temporary roots of processes.

pub mod links;
pub(crate) mod local_socket;
pub mod temporary;
