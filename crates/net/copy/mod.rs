//! Copies valid paths of a store of this machine into another store. What is there is not sent
//! again, and no path is ever there before all that it refers to.
//!
//! What kind of store takes them in is the [`Destination`]'s business: a [`BinaryCache`], or a
//! [`ServedStore`].

mod archive;
mod budget;
mod cache;
mod debug_info;
mod pack;
mod served;
mod state;
mod uploads;

use std::collections::HashSet;
use std::path::PathBuf;

use windrow_store::{Layout, PathInfo};
use windrow_sys::interrupt;

use crate::error::{Kind, NetError};
use state::lacking;

pub use cache::{BinaryCache, Config};
pub use served::ServedStore;

/// Why something was not copied. Printed, it says what failed, and what to do where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The other store does not answer as it should.
    #[error("{0}{advice}", advice = advice(.0))]
    Net(#[from] NetError),
    /// This store can't be read, is not what it was, or a key can't be used.
    #[error(transparent)]
    Store(#[from] windrow_store::Error),
    /// A path is not one of that store.
    #[error(transparent)]
    Path(#[from] windrow_components::Error),
    /// The other store has paths of another store directory.
    #[error("'{url}' has paths of the store '{theirs}', and this one is '{ours}'")]
    OtherStore {
        /// The other store.
        url: String,
        /// What it says of itself.
        theirs: String,
        /// The store directory of this one.
        ours: String,
    },
    /// What lies there is something else.
    #[error("'{url}' is no binary cache: {reason}")]
    NoCache {
        /// The other store.
        url: String,
        /// Why not.
        reason: String,
    },
    /// It can't be written as its URL says.
    #[error("'{url}' can't be written: {reason}")]
    BadParameter {
        /// The other store.
        url: String,
        /// What is wrong, and what may stand there.
        reason: String,
    },
    /// Something that a path refers to is not there and is not copied either.
    #[error("it refers to '{0}', which is not there; copy that first, or leave out --no-recursive")]
    Reference(String),
    /// The listing that was asked for can't be written.
    #[error(
        "{0}; leave out the parameters write-nar-listing and index-debug-info to copy it without"
    )]
    Listing(#[from] crate::listing::ListingError),
    /// A file for what is packed can't be made or written.
    #[error("cannot write to a temporary file in '{}': {source}", dir.display())]
    Scratch {
        /// Where it is to lie.
        dir: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The thread that packs a path has failed in a way that none should.
    #[error("packing it ended with '{0}', which is a mistake in this program: please report it")]
    Panicked(String),
    /// It was asked to end.
    #[error("{0}")]
    Interrupted(#[source] std::io::Error),
}

/// What to do about a failure, if anybody can do something; to be put behind its message.
fn advice(error: &NetError) -> &'static str {
    match error.kind() {
        Kind::Denied if !error.reason().contains("netrc") => {
            "; it may not be written with this login: name another one in the netrc file, or for a \
             bucket in the environment or its profile"
        }
        Kind::Status(405 | 501) => {
            "; a server that only hands out files takes none: copy into its directory, as file:///DIR"
        }
        Kind::Refused if error.reason().contains("signature") => {
            "; sign it with a key that is trusted there (the parameter secret-key), or have a store that \
             trusts you take it with --no-check-sigs"
        }
        Kind::Status(413) => "; have the server take larger files, or use another compression",
        _ => "",
    }
}

impl CopyError {
    /// Whether all else that is to be copied will fail for the same reason.
    fn concerns_all(&self) -> bool {
        match self {
            Self::Net(error) => matches!(
                error.kind(),
                Kind::Connect
                    | Kind::NoSuchHost
                    | Kind::Proxy
                    | Kind::Tls
                    | Kind::Denied
                    | Kind::TooManyRedirects
                    | Kind::BadRedirect
                    | Kind::BadAddress
                    | Kind::Credentials
                    | Kind::Cancelled
                    | Kind::Status(405 | 501)
            ),
            Self::Scratch { .. } | Self::Interrupted(_) => true,
            _ => false,
        }
    }

    /// Whether it may say something of the cache, rather than of what was sent.
    fn is_of_the_cache(&self) -> bool {
        match self {
            Self::Net(error) => !matches!(
                error.kind(),
                // It is malformed, another one is there, too large, not of a kind, or locked.
                Kind::Status(400 | 409 | 411..=415 | 422 | 423 | 431)
            ),
            _ => false,
        }
    }

    /// What it is if it comes of that all is to end.
    fn or_interrupted(self) -> Self {
        match interrupt::check() {
            Err(ended) => Self::Interrupted(ended),
            Ok(()) => self,
        }
    }
}

/// Something that people may want to know while paths are copied.
#[derive(Debug)]
pub enum Event<'e> {
    /// It is known what is there.
    Compared {
        /// How many paths are to be copied.
        missing: usize,
        /// How large they are together, as archives, in bytes.
        nar_size: u64,
        /// How many need not be copied.
        there: usize,
    },
    /// A path is being packed or sent.
    Begun(&'e PathInfo),
    /// A path is there.
    Copied {
        /// The path.
        path: &'e PathInfo,
        /// How many bytes were sent for its archive: none if that was there.
        sent: u64,
    },
    /// A path could not be copied.
    Failed {
        /// The path.
        path: &'e PathInfo,
        /// Why not.
        error: &'e CopyError,
    },
    /// Something looks wrong, and does not matter.
    Warning(&'e str),
}

/// What became of all paths.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many were there.
    pub there: usize,
    /// How many were copied.
    pub copied: usize,
    /// How many bytes were sent for their archives.
    pub sent: u64,
    /// Those that could not be copied, which has been told of each, and those that were not because
    /// of that; sorted.
    pub left: Vec<String>,
    /// Why it ended before its time, if it did.
    pub ended_by: Option<CopyError>,
}

/// A store that takes in paths.
pub trait Destination {
    /// Which of these paths, given in full, it has, in their order.
    ///
    /// # Errors
    /// When it can't be asked.
    fn has(&mut self, paths: &[&str]) -> Result<Vec<bool>, CopyError>;

    /// Takes in paths that it has not, from the store that lies there. `tell` hears of each that
    /// is begun, copied or has failed. Those in `lacking`, by their places, can't be taken: each
    /// refers to the path that stands with it, which it has not and is not among these.
    ///
    /// How it went goes into `outcome`, in which nothing is counted yet but what was there.
    fn take(
        &mut self,
        paths: &[PathInfo],
        lacking: Vec<(usize, String)>,
        from: &Layout,
        outcome: &mut Outcome,
        tell: &mut dyn FnMut(Event<'_>),
    );
}

/// Copies paths of the store that lies at `from`. All that a path refers to should be copied with
/// it or be there; a path of which that is not so fails, and what refers to it.
///
/// # Errors
/// When the destination can't be asked what it has. What fails later is in the outcome.
pub fn copy(
    to: &mut dyn Destination,
    mut paths: Vec<PathInfo>,
    from: &Layout,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, CopyError> {
    let names: Vec<&str> = paths.iter().map(|info| &*info.path).collect();
    let has = to.has(&names)?;
    let there = names.iter().zip(has).filter(|(_, has)| *has);
    let there: HashSet<String> = there.map(|(path, _)| (*path).to_owned()).collect();
    let all = paths.len();
    paths.retain(|info| !there.contains(&info.path));
    let mut outcome = Outcome {
        there: all - paths.len(),
        ..Outcome::default()
    };
    tell(Event::Compared {
        missing: paths.len(),
        nar_size: paths.iter().map(|info| info.nar_size).sum(),
        there: outcome.there,
    });
    if paths.is_empty() {
        return Ok(outcome);
    }
    match lacking(&paths, &there, |unknown| to.has(unknown)) {
        Ok(lacking) => to.take(&paths, lacking, from, &mut outcome, tell),
        Err(error) => {
            outcome.ended_by = Some(error);
            outcome.left = paths.into_iter().map(|info| info.path).collect();
        }
    }
    outcome.left.sort_unstable();
    Ok(outcome)
}
