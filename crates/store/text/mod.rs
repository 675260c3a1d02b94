//! Store paths written down for people and other programs, and read back.

pub mod graph_print;
pub mod registrations;
pub mod transfer;
