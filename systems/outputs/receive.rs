//! Looks at what a substituter has put into the store: checks its hash, makes it canonical (the
//! second half of `SubstitutionGoal::finished` in Nix 1.8). Runs in the pool, on plain values.

use windrow_components::hash::{Hash, HashAlgo};
use windrow_store::nar::digest::{feed_nar, hash_nar};

use super::fetched::{Contents, FetchedPath, NotTaken};
use crate::failure::describe_status;
use crate::world::BuiltOutput;

/// A path that a substituter has fetched, or should have.
#[derive(Debug)]
pub struct ReceiveJob {
    /// The path.
    pub fetched: FetchedPath,
    /// The substituter's raw wait status.
    pub status: i32,
    /// What it wrote to its standard output.
    pub said: Vec<u8>,
}

/// Checks what was fetched; what is no good is deleted.
///
/// # Errors
/// What is wrong.
///
/// Nix 1.8: `SubstitutionGoal::finished`.
pub fn receive(job: &ReceiveJob) -> Result<BuiltOutput, NotTaken> {
    job.fetched.delete_if_bad(check(job))
}

fn check(job: &ReceiveJob) -> Result<BuiltOutput, NotTaken> {
    let fetched = &job.fetched;
    let path = &fetched.store_path;
    if job.status != 0 {
        let how = describe_status(job.status);
        return Err(format!("fetching path '{path}' {how}").into());
    }
    let expected =
        expected_hash(&job.said).map_err(|reason| format!("fetching path '{path}': {reason}"))?;
    if std::fs::symlink_metadata(&fetched.real_path).is_err() {
        return Err(format!("substituter did not produce path '{path}'").into());
    }
    let about = |error: windrow_store::Error| {
        NotTaken::local(format!("cannot look at fetched path '{path}': {error}"))
    };
    let (nar_hash, nar_size) = hash_nar(&fetched.real_path).map_err(about)?;
    if let Some(expected) = expected {
        let got = if expected.algo() == HashAlgo::Sha256 {
            Hash::sha256(&nar_hash)
        } else {
            let mut hasher = expected.algo().hasher();
            feed_nar(&fetched.real_path, |bytes| hasher.update(bytes)).map_err(about)?;
            hasher.finish()
        };
        if got != expected {
            return Err(format!(
                "hash mismatch in downloaded path '{path}': expected {}, got {}",
                expected.prefixed_base32(),
                got.prefixed_base32()
            )
            .into());
        }
    }
    let contents = Contents {
        nar_hash,
        nar_size,
        content_address: None,
        sigs: Vec::new(),
    };
    fetched.take_in(contents, "cannot look at fetched path")
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
