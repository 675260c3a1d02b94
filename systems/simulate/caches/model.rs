//! What a simulation is told of caches, and what it tells of them, as plain data.

use std::time::Duration;

/// All of a share.
pub const ALL: u32 = 1_000_000;

/// A binary cache. Shares are in millionths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// What reports call it.
    pub name: String,
    /// How long it takes to begin to answer.
    pub latency: Duration,
    /// What it sends, in bytes a second.
    pub bandwidth: u64,
    /// How many of the paths it has, each by chance.
    pub hit: u32,
    /// How many of the requests fail for good, each by chance.
    pub errors: u32,
    /// The smallest comes first.
    pub priority: i64,
    /// How many requests are under way at a time.
    pub connections: u32,
    /// Whether it never says anything.
    pub is_dead: bool,
}

/// The caches of a simulation, and what is to be had from them.
#[derive(Debug, Clone, Default)]
pub struct CacheSet {
    /// All of them, in the order in which they are named.
    pub all: Vec<Cache>,
    /// How large the archive of each task's output is, in bytes.
    pub sizes: Vec<u64>,
    /// How many of a task's inputs its output refers to, in millionths, each by chance.
    pub references: u32,
    /// Whether builds that are much quicker than downloads are preferred to these.
    pub prefer_builds: bool,
}

/// A download from a cache, complete or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// Whose output, by the task's place in the graph.
    pub task: u32,
    /// From which cache, by its place in the list.
    pub cache: u32,
    /// Over which of the cache's connections, from 0.
    pub connection: u32,
    /// When it had a connection.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// How many bytes came.
    pub bytes: u64,
    /// Whether they were not all.
    pub failed: bool,
}

/// What came from binary caches.
#[derive(Debug, Default)]
pub struct Fetched {
    /// How many outputs.
    pub paths: u64,
    /// How many bytes, also of downloads that failed.
    pub bytes: u64,
    /// How many downloads failed.
    pub failures: u64,
    /// All downloads, if that was asked for.
    pub downloads: Vec<Fetch>,
}
