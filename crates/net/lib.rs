//! Binary caches: what they hold, and the client that reads and writes them.
