//! Paths of a store copied into caches: what is sent in which order, and what happens when that
//! fails.

mod common;
mod order;
mod trouble;
mod what;
