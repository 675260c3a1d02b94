//! Signs what was built here, with the keys of the setting `secret-key-files` (Nix's
//! `LocalStore::signPathInfo`), so that other stores that trust the keys accept it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use windrow_components::hash::Hash;
use windrow_components::signing_key::SecretKey;

use crate::db::PathInfo;
use crate::error::{Error, Result};

/// How long a file with a key may be, in bytes; keys have about a hundred.
const KEY_FILE_MAX: u64 = 64 * 1024;

/// The keys that this store signs with; read when they are first needed.
#[derive(Default)]
pub struct Signer {
    files: Vec<PathBuf>,
    keys: Option<Vec<SecretKey>>,
}

impl Signer {
    /// A signer with the keys in `files`.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            files: files.into_iter().map(Into::into).collect(),
            keys: None,
        }
    }

    /// Reads the keys, unless they have been read.
    ///
    /// # Errors
    /// [`Error::SecretKey`] and those of reading a file.
    pub fn load(&mut self) -> Result<&[SecretKey]> {
        if self.keys.is_none() {
            let keys = self.files.iter().map(|file| read_key(file));
            self.keys = Some(keys.collect::<Result<_>>()?);
        }
        Ok(self.keys.as_deref().unwrap_or_default())
    }

    /// Adds a signature of each key to a path that was built here.
    ///
    /// # Errors
    /// As [`Signer::load`].
    pub fn sign(&mut self, info: &mut PathInfo) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let text = fingerprint(&info.path, &info.nar_hash, info.nar_size, &info.references);
        add_signatures(&mut info.sigs, self.load()?, &text);
        Ok(())
    }
}

fn read_key(path: &Path) -> Result<SecretKey> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(KEY_FILE_MAX).read_to_end(&mut text));
    read.map_err(Error::io("read the secret key in", path))?;
    let text = String::from_utf8(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
        .map_err(Error::io("read the secret key in", path))?;
    SecretKey::parse(&text).map_err(|reason| Error::SecretKey {
        path: path.to_owned(),
        reason,
    })
}

/// What a signature of a path signs (Nix's `ValidPathInfo::fingerprint`): all that makes up its
/// meaning, and nothing that may differ between stores. `path` and `references` are full paths.
pub fn fingerprint(
    path: &str,
    nar_hash: &[u8; 32],
    nar_size: u64,
    references: &[impl AsRef<str>],
) -> String {
    let mut references: Vec<&str> = references.iter().map(AsRef::as_ref).collect();
    references.sort_unstable();
    references.dedup();
    format!(
        "1;{path};{};{nar_size};{}",
        Hash::sha256(nar_hash).prefixed_base32(),
        references.join(",")
    )
}

/// Adds a signature of each key for `text` to those that there are.
pub fn add_signatures(sigs: &mut Vec<String>, keys: &[SecretKey], text: &str) {
    sigs.extend(keys.iter().map(|key| key.sign(text)));
    // The order of Nix, which keeps them in a set.
    sigs.sort_unstable();
    sigs.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> PathInfo {
        PathInfo {
            references: vec!["/s/b".to_owned(), "/s/a".to_owned(), "/s/b".to_owned()],
            ..PathInfo::of("/s/x".to_owned(), [0; 32], 120)
        }
    }

    #[test]
    fn references_are_signed_in_order_and_once() {
        let zeros = "0".repeat(52);
        for (references, expected) in [
            (
                info().references,
                format!("1;/s/x;sha256:{zeros};120;/s/a,/s/b"),
            ),
            (Vec::new(), format!("1;/s/x;sha256:{zeros};120;")),
        ] {
            assert_eq!(fingerprint("/s/x", &[0; 32], 120, &references), expected);
        }
    }

    #[test]
    fn each_key_signs_once_beside_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, seed: u8| {
            let path = directory.path().join(name);
            let key = SecretKey::from_seed(name, &[seed; 32]);
            std::fs::write(&path, key.secret_text() + "\n").unwrap();
            path
        };
        let mut signer = Signer::new([file("z", 1), file("a", 2)]);
        let mut info = info();
        info.sigs = vec!["k:old".to_owned()];
        signer.sign(&mut info).unwrap();
        signer.sign(&mut info).unwrap();
        let names = info.sigs.iter().map(|sig| sig.split(':').next().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["a", "k", "z"]);
    }

    #[test]
    fn a_key_that_is_none_is_named_when_something_is_signed() {
        let directory = tempfile::tempdir().unwrap();
        let bad = directory.path().join("bad");
        std::fs::write(&bad, "no key").unwrap();
        for (path, reason) in [(bad, "NAME:BASE64"), (directory.path().into(), "directory")] {
            let error = Signer::new([&path]).sign(&mut info()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(text.contains(reason), "{text}");
        }
        let mut none = Signer::default();
        none.sign(&mut info()).unwrap();
    }
}
