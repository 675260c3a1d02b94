//! Looks at what a substituter has put into the store: checks its hash, makes it canonical (the
//! second half of `SubstitutionGoal::finished` in Nix 1.8). Runs in the pool, on plain values.

use std::path::{Path, PathBuf};

use windrow_components::derivation::Derivation;
use windrow_components::hash::{Hash, HashAlgo, sha256};
use windrow_components::ids::PathId;
use windrow_components::store_path::StoreDir;
use windrow_components::substitution::SubstituteInfo;
use windrow_store::files::canonical::{InodesSeen, canonicalise};
use windrow_store::files::durable::Durability;
use windrow_store::nar::digest::{feed_nar, hash_nar};
use windrow_sys::bounded;
use windrow_sys::interrupt::Grace;
use windrow_sys::tree::delete_path;

use crate::failure::describe_status;
use crate::world::BuiltOutput;

/// A path that a substituter has fetched, or should have.
#[derive(Debug)]
pub struct ReceiveJob {
    /// The path.
    pub path: PathId,
    /// The path in full.
    pub store_path: String,
    /// Where it lies now.
    pub real_path: PathBuf,
    /// What it is to take the place of, if that is not where it lies.
    pub replaces: Option<PathBuf>,
    /// What is written to disk when all is well.
    pub durability: Durability,
    /// The store it belongs to.
    pub store_dir: StoreDir,
    /// The substituter's raw wait status.
    pub status: i32,
    /// What it wrote to its standard output.
    pub said: Vec<u8>,
    /// What it had said of the path when it was asked.
    pub info: SubstituteInfo,
    /// The references in full, for a derivation's own check.
    pub references: Vec<String>,
}

/// Checks what was fetched; what is no good is deleted.
///
/// # Errors
/// One message that says what is wrong.
///
/// Nix 1.8: `SubstitutionGoal::finished`.
pub fn receive(job: &ReceiveJob) -> Result<BuiltOutput, String> {
    let received = check(job);
    if received.is_err() {
        let _grace = Grace::new();
        // Should it stay, the next who wants to put something there moves it away.
        let _ = delete_path(&job.real_path);
    }
    received
}

fn check(job: &ReceiveJob) -> Result<BuiltOutput, String> {
    let path = &job.store_path;
    if job.status != 0 {
        let how = describe_status(job.status);
        return Err(format!("fetching path '{path}' {how}"));
    }
    let expected =
        expected_hash(&job.said).map_err(|reason| format!("fetching path '{path}': {reason}"))?;
    if std::fs::symlink_metadata(&job.real_path).is_err() {
        return Err(format!("substituter did not produce path '{path}'"));
    }
    let about =
        |error: windrow_store::Error| format!("cannot look at fetched path '{path}': {error}");
    let (nar_hash, nar_size) = hash_nar(&job.real_path).map_err(about)?;
    if let Some(expected) = expected {
        let got = if expected.algo() == HashAlgo::Sha256 {
            Hash::sha256(&nar_hash)
        } else {
            let mut hasher = expected.algo().hasher();
            feed_nar(&job.real_path, |bytes| hasher.update(bytes)).map_err(about)?;
            hasher.finish()
        };
        if got != expected {
            return Err(format!(
                "hash mismatch in downloaded path '{path}': expected {}, got {}",
                expected.prefixed_base32(),
                got.prefixed_base32()
            ));
        }
    }
    let (content_address, drv_outputs) = if path.ends_with(".drv") {
        check_derivation(path, &job.real_path, &job.store_dir, &job.references)?
    } else {
        (None, Vec::new())
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
        nar_hash,
        nar_size,
        references: job.info.references.to_vec(),
        ultimate: false,
        content_address,
        sigs: Vec::new(),
        drv_outputs,
    })
}

/// What the program says the hash of the path's NAR should be; `None` if it leaves that unchecked.
fn expected_hash(said: &[u8]) -> Result<Option<Hash>, String> {
    let said = String::from_utf8_lossy(said);
    let mut lines = said.lines();
    let (Some(_), Some(hash)) = (lines.next(), lines.next()) else {
        return Err("its substituter ended without a line that says the hash".to_owned());
    };
    if hash.is_empty() {
        return Ok(None);
    }
    let known = hash
        .split_once(':')
        .is_some_and(|(algo, _)| HashAlgo::from_name(algo).is_some());
    if !known {
        return Err(format!(
            "bad hash '{hash}' from its substituter; it should be ALGO:HASH"
        ));
    }
    match Hash::parse(hash, None) {
        Ok(hash) => Ok(Some(hash)),
        Err(error) => Err(format!("bad hash '{hash}' from its substituter: {error}")),
    }
}

/// Outputs by name and full path.
type Outputs = Vec<(String, String)>;

/// A derivation's path says what its contents and references are, whatever the substituter says.
///
/// # Errors
/// One message that says what is wrong.
pub(super) fn check_derivation(
    path: &str,
    real_path: &Path,
    store_dir: &StoreDir,
    references: &[String],
) -> Result<(Option<String>, Outputs), String> {
    let wrong = |reason: String| format!("the derivation fetched as '{path}' can't be: {reason}");
    let text = bounded::read_derivation(real_path);
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let drv = Derivation::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let own = store_dir
        .parse(path)
        .map_err(|error| wrong(error.to_string()))?;
    let references = references.iter().map(String::as_str);
    let expected = store_dir
        .text_path(own.name(), &sha256(&text), references)
        .map_err(|error| wrong(error.to_string()))?;
    if expected != own {
        let expected = store_dir.display(&expected);
        return Err(wrong(format!(
            "contents and references of it have the path '{expected}'"
        )));
    }
    let outputs = drv
        .outputs
        .iter()
        .map(|output| (output.name.to_string(), output.path.to_string()))
        .collect();
    let content = HashAlgo::Sha256.hash(&text).prefixed_base32();
    Ok((Some(format!("text:{content}")), outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_every_form_the_protocol_has() {
        let hash = HashAlgo::Sha256.hash(b"x");
        for text in [hash.prefixed_base16(), hash.prefixed_base32()] {
            let said = format!("anything\n{text}\n");
            assert_eq!(expected_hash(said.as_bytes()), Ok(Some(hash)));
        }
        assert_eq!(expected_hash(b"\n\n"), Ok(None));
        for bad in [
            "",
            "one line\n",
            "\nnonsense\n",
            "\nsha256:xyz\n",
            "\nblake9:00\n",
        ] {
            assert!(expected_hash(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
