//! Unpacks a path from a binary cache into the store: checks that it is what the cache announced,
//! makes it canonical. Runs in the pool, on plain values.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use windrow_net::asker::OpenArchive;
use windrow_net::narinfo::NarInfo;
use windrow_net::unpack::UnpackError;
use windrow_sys::interrupt::Stop;
use windrow_sys::tree::delete_path;

use super::fetched::{Contents, FetchedPath, NotTaken};
use crate::world::BuiltOutput;

/// A path whose archive is here.
#[derive(Debug)]
pub struct UnpackJob {
    /// The path.
    pub fetched: FetchedPath,
    /// Whether something lies at its place that is to be deleted.
    pub is_in_the_way: bool,
    /// What the cache says of it.
    pub nar: Arc<NarInfo>,
    /// Ends it early.
    pub stop: Stop,
}

/// Unpacks and checks it; what is no good is deleted. The archive is thrown away unless it is good
/// and could not be put into the store.
///
/// # Errors
/// What is wrong.
pub fn unpack(job: &UnpackJob, archive: OpenArchive) -> Result<BuiltOutput, NotTaken> {
    let fetched = &job.fetched;
    let path = &fetched.store_path;
    if job.is_in_the_way
        && let Err(error) = delete_path(&fetched.real_path)
    {
        let text = format!("cannot fetch path '{path}': {error}");
        return Err(NotTaken::local(text));
    }
    let unpacked = archive.reader(job.nar.compression);
    let unpacked = unpacked.map_err(|error| {
        // What was downloaded is a file of this machine, whatever is in it.
        let is_the_caches = archive.place().is_some() || is_damage(&error);
        (error.to_string(), is_the_caches)
    });
    let unpacked = unpacked.and_then(|reader| {
        windrow_net::unpack::unpack(reader, &job.nar, &fetched.real_path, &job.stop)
            .map_err(|error: UnpackError| (error.to_string(), error.is_the_caches()))
    });
    match unpacked {
        Ok(()) => archive.discard(),
        Err((reason, is_the_caches)) => {
            let place = archive.place();
            let from = place.map(|place| format!(" from '{}'", place.display()));
            let from = from.unwrap_or_default();
            if is_the_caches && !job.stop.is_set() {
                archive.discard();
            }
            return Err(NotTaken {
                message: format!("fetching path '{path}'{from} failed: {reason}"),
                is_local: !is_the_caches,
            });
        }
    }
    let contents = Contents {
        nar_hash: job.nar.nar_sha256(),
        nar_size: job.nar.nar_size,
        content_address: job.nar.ca.clone(),
        sigs: job.nar.sigs.clone(),
    };
    fetched.delete_if_bad(fetched.take_in(contents, "cannot take in the fetched path"))
}

/// Whether an archive can't be read for what it is.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::Unsupported
    )
}
