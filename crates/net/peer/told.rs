//! What a store says of one of its paths, made what caches say of theirs.

use windrow_components::content_address::ContentAddress;
use windrow_components::hash::Hash;
use windrow_components::store_path::StorePath;

use crate::compression::Compression;
use crate::error::{Fault, Kind};
use crate::narinfo::NarInfo;

/// What was read of a path.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) deriver: Option<StorePath>,
    pub(super) references: Vec<StorePath>,
    /// The SHA-256 of the archive, if it is known.
    pub(super) nar_hash: Option<Hash>,
    pub(super) nar_size: u64,
    /// Empty for none.
    pub(super) ca: String,
    pub(super) sigs: Vec<String>,
}

/// The same of the path. The archive comes as it is.
///
/// # Errors
/// When something is missing or can't be.
pub(super) fn info_of(path: &StorePath, told: Told) -> Result<NarInfo, Fault> {
    let bad = |reason: String| {
        let text = format!("what it says of '{}' can't be: {reason}", path.base_name());
        Fault::new(Kind::Refused, text)
    };
    let nar_hash = told.nar_hash.filter(|hash| hash.as_bytes() != [0; 32]);
    let nar_hash = nar_hash.ok_or_else(|| bad("it has no SHA-256 hash".to_owned()))?;
    if told.nar_size == 0 {
        return Err(bad("no NAR has 0 bytes".to_owned()));
    }
    let ca = match told.ca.as_str() {
        "" => None,
        ca => Some(ContentAddress::parse(ca).map_err(|error| bad(error.to_string()))?),
    };
    Ok(NarInfo {
        store_path: path.clone(),
        url: path.base_name().to_owned(),
        compression: Compression::None,
        file_hash: None,
        file_size: Some(told.nar_size),
        nar_hash,
        nar_size: told.nar_size,
        references: told.references,
        deriver: told.deriver,
        sigs: told.sigs,
        ca: ca.map(|ca| ca.to_string()),
    })
}
