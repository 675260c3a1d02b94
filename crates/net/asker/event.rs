//! What the thread that asks takes in: questions, and the answers of caches one by one.

use windrow_components::store_path::StorePath;

use super::{Left, Question, Wish};
use crate::error::NetError;
use crate::narinfo::NarInfo;
use crate::remote::Partial;

/// What the thread takes in. Caches go by their places in the list.
pub(super) enum Event {
    /// Questions for a cache.
    Ask {
        cache: usize,
        questions: Vec<Question>,
    },
    /// What a cache said of a path is wrong.
    Forget { cache: usize, path: StorePath },
    /// Something to download.
    Download(Wish),
    /// Nobody wants that download any more.
    Cancel(u32, Left),
    /// What a cache says of itself has come.
    Opened {
        cache: usize,
        file: Result<Option<Vec<u8>>, NetError>,
    },
    /// What a cache says of a path has come.
    Heard {
        cache: usize,
        token: u32,
        file: Result<Option<Vec<u8>>, NetError>,
    },
    /// There is a connection to a store that a Nix serves, or can't be one.
    Reached {
        cache: usize,
        result: Result<(), NetError>,
    },
    /// What such a store says of a path has come.
    Told {
        cache: usize,
        token: u32,
        info: Result<Option<NarInfo>, NetError>,
    },
    /// A connection to such a store has failed on which this had been asked.
    Lost {
        cache: usize,
        tokens: Vec<u32>,
        error: NetError,
    },
    /// A download has ended.
    Downloaded {
        /// Which of all that were begun.
        number: u64,
        result: Result<Partial, NetError>,
    },
    /// The end.
    Stop,
}
