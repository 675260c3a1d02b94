//! Unpacks a path from a binary cache into the store: checks that it is what the cache announced,
//! makes it canonical. Runs in the pool, on plain values.

use std::path::PathBuf;
use std::sync::Arc;

use windrow_components::ids::PathId;
use windrow_components::store_path::StoreDir;
use windrow_components::substitution::SubstituteInfo;
use windrow_net::asker::Archive;
use windrow_net::narinfo::NarInfo;
use windrow_net::unpack::UnpackError;
use windrow_store::files::canonical::{InodesSeen, canonicalise};
use windrow_store::files::durable::Durability;
use windrow_sys::interrupt::{Grace, Stop};
use windrow_sys::tree::delete_path;

use super::receive::check_derivation;
use crate::world::BuiltOutput;

/// A path whose archive is here.
#[derive(Debug)]
pub struct UnpackJob {
    /// The path.
    pub path: PathId,
    /// The path in full.
    pub store_path: String,
    /// Where it is to lie.
    pub real_path: PathBuf,
    /// Whether something lies there that is to be deleted.
    pub is_in_the_way: bool,
    /// What it is to take the place of, if that is not where it lies.
    pub replaces: Option<PathBuf>,
    /// What is written to disk when all is well.
    pub durability: Durability,
    /// The store it belongs to.
    pub store_dir: StoreDir,
    /// What the cache says of it, with ids.
    pub info: SubstituteInfo,
    /// What the cache says of it.
    pub nar: Arc<NarInfo>,
    /// The references in full, for a derivation's own check.
    pub references: Vec<String>,
    /// Ends it early.
    pub stop: Stop,
}

/// Unpacks and checks it; what is no good is deleted. The archive is thrown away unless it is good
/// and could not be put into the store.
///
/// # Errors
/// One message that says what is wrong.
pub fn unpack(job: &UnpackJob, archive: Archive) -> Result<BuiltOutput, String> {
    let path = &job.store_path;
    if job.is_in_the_way
        && let Err(error) = delete_path(&job.real_path)
    {
        return Err(format!("cannot fetch path '{path}': {error}"));
    }
    let unpacked = archive.reader(job.nar.compression);
    let unpacked = unpacked.map_err(|error| (error.to_string(), true));
    let unpacked = unpacked.and_then(|reader| {
        windrow_net::unpack::unpack(reader, &job.nar, &job.real_path, &job.stop)
            .map_err(|error: UnpackError| (error.to_string(), error.is_the_caches()))
    });
    match unpacked {
        Ok(()) => archive.discard(),
        Err((reason, is_damaged)) => {
            let place = archive.place();
            let from = place.map(|place| format!(" from '{}'", place.display()));
            let from = from.unwrap_or_default();
            if is_damaged && !job.stop.is_set() {
                archive.discard();
            }
            return Err(format!("fetching path '{path}'{from} failed: {reason}"));
        }
    }
    let received = take(job);
    if received.is_err() {
        let _grace = Grace::new();
        // Should it stay, the next who wants to put something there moves it away.
        let _ = delete_path(&job.real_path);
    }
    received
}

/// Makes what was unpacked part of the store, up to its registration.
fn take(job: &UnpackJob) -> Result<BuiltOutput, String> {
    let path = &job.store_path;
    let about =
        |error: windrow_store::Error| format!("cannot take in the fetched path '{path}': {error}");
    let (content_address, drv_outputs) = if path.ends_with(".drv") {
        check_derivation(path, &job.real_path, &job.store_dir, &job.references)?
    } else {
        (job.nar.ca.clone(), Vec::new())
    };
    canonicalise(&job.real_path, None, &mut InodesSeen::default())
        .map_err(|error| about(error.into()))?;
    if let Some(place) = &job.replaces {
        let replaced = job.durability.replace(place, &job.real_path);
        replaced.map_err(about)?;
    }
    let place = job.replaces.as_ref().unwrap_or(&job.real_path);
    let written = job.durability.write_out(&[place]);
    written.map_err(|error| about(error.into()))?;
    Ok(BuiltOutput {
        path: job.path,
        deriver: job.info.deriver,
        nar_hash: job.nar.nar_sha256(),
        nar_size: job.nar.nar_size,
        references: job.info.references.to_vec(),
        ultimate: false,
        content_address,
        sigs: job.nar.sigs.clone(),
        drv_outputs,
    })
}
