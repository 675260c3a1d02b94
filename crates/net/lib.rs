//! Binary caches: what they hold, and the client that reads and writes them.
//!
//! - [`compression`]: how NARs and other files of a cache are packed.

pub mod compression;
