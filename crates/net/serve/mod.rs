//! A store on this machine as a binary cache over HTTP/1.1. Reads the store only, and knows no way
//! to anything else on the machine.
//!
//! What a request is answered is a function of its head and the store: `route` says what it is
//! for, `answer` what there is of it, `store` asks the database. The other modules bring answers to
//! clients, in their `turns`: a thread for each archive makes its `stream` in pieces, of which few
//! are kept in memory, and the last one of a whole archive goes out only after its hash was right.

mod answer;
mod body;
mod connection;
mod error;
mod notice;
mod range;
mod route;
mod server;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod turns;
mod usage;

use std::time::Duration;

use windrow_components::signing_key::SecretKey;
use windrow_store::Layout;

use crate::compression::Compression;

pub use error::ServeError;
pub use notice::{Answered, Event, Notice};
pub use range::Part;
pub use route::{ArchiveName, Route};
pub use server::{Server, Stopper};

/// What is served, and as what.
#[derive(Clone)]
pub struct Offer {
    /// Where the store lies.
    pub layout: Layout,
    /// Whether nobody writes the store while it is served.
    pub read_only: bool,
    /// What signs all that is served, beside the signatures that it has.
    pub keys: Vec<SecretKey>,
    /// The priority that the cache says it has; lower is asked first.
    pub priority: i64,
    /// How archives are compressed, where narinfo files name them.
    pub packing: Packing,
}

/// How an archive is served. Each may be asked for at any time, whatever narinfo files say: clients
/// remember those for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is: its size is known, and parts of it can be asked for.
    None,
    /// Compressed as it is sent, so that its size is not known before.
    Zstd,
}

impl Packing {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::None, Self::Zstd];

    /// As narinfo files and names of archives have it.
    pub const fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Zstd => Compression::Zstd,
        }
    }
}

/// How much a server does at a time, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are open; one client has seven eighths of them at most.
    pub connections: usize,
    /// How many archives and logs are being sent, each by a thread; to one client seven eighths at
    /// most.
    pub streams: usize,
    /// How many questions are put to the database at once.
    pub lookups: usize,
    /// How many listings are being made.
    pub listings: usize,
    /// How much memory those have that are being sent, in bytes. One that is larger is sent alone.
    pub listing_memory: usize,
    /// How long the head of a request may take, and how long a connection may be idle.
    pub idle: Duration,
    /// How long a client may take for as much as is written to its connection at once, some 64 KiB.
    pub stalled: Duration,
    /// How long a request waits for its turn before it is told to come again later.
    pub turn: Duration,
    /// How long what is under way may go on once the server is to end.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 256,
            lookups: 16,
            listings: 4,
            listing_memory: 64 << 20,
            idle: Duration::from_secs(30),
            stalled: Duration::from_secs(60),
            turn: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}
