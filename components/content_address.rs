//! Content addresses, the field `ca` of a store path: what its contents must hash to, from which
//! its path can be computed again.

use std::fmt;

use crate::hash::{Hash, HashAlgo, sha256};
use crate::store_path::{HashMode, StoreDir, StorePath};
use crate::{Error, Result};

/// What of a path is hashed for its content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The bytes of one file, which may have references.
    Text,
    /// The bytes of one file.
    Flat,
    /// The NAR of the tree; where the tree refers to itself, with zeros for its own hash part.
    Recursive,
    /// The tree as git hashes it.
    Git,
}

/// A content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentAddress {
    /// What is hashed.
    pub method: Method,
    /// What it must hash to.
    pub hash: Hash,
}

impl ContentAddress {
    /// Reads `text:HASH`, `fixed:HASH`, `fixed:r:HASH` or `fixed:git:HASH`, with the hash in any
    /// spelling that names its algorithm (Nix's `ContentAddress::parse`).
    ///
    /// # Errors
    /// [`Error::BadContentAddress`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::BadContentAddress {
            text: text.to_owned(),
            reason,
        };
        let (method, hash) = if let Some(hash) = text.strip_prefix("text:") {
            (Method::Text, hash)
        } else if let Some(rest) = text.strip_prefix("fixed:") {
            if let Some(hash) = rest.strip_prefix("r:") {
                (Method::Recursive, hash)
            } else if let Some(hash) = rest.strip_prefix("git:") {
                (Method::Git, hash)
            } else {
                (Method::Flat, rest)
            }
        } else {
            return Err(bad("it should begin with 'text:' or 'fixed:'".to_owned()));
        };
        let hash = Hash::parse(hash, None).map_err(|error| bad(error.to_string()))?;
        if method == Method::Text && hash.algo() != HashAlgo::Sha256 {
            return Err(bad("a text is addressed by its sha256 alone".to_owned()));
        }
        Ok(Self { method, hash })
    }

    /// The path of a tree with this address and these references, of which those to itself are said
    /// by `refers_to_itself` alone (Nix's `makeFixedOutputPathFromCA`).
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::BadContentAddress`] if there can be no such path, since only
    /// some methods allow references.
    pub fn path<'a>(
        &self,
        store_dir: &StoreDir,
        name: &str,
        references: impl IntoIterator<Item = &'a StorePath>,
        refers_to_itself: bool,
    ) -> Result<StorePath> {
        let references: Vec<String> = references
            .into_iter()
            .map(|path| store_dir.display(path))
            .collect();
        let all = references.iter().map(String::as_str);
        let by_sha256: Option<&[u8; 32]> = match self.hash.algo() {
            HashAlgo::Sha256 => self.hash.as_bytes().try_into().ok(),
            _ => None,
        };
        match (self.method, by_sha256) {
            (Method::Text, Some(hash)) if !refers_to_itself => {
                return store_dir.text_path(name, hash, all);
            }
            (Method::Recursive, Some(hash)) => {
                return store_dir.source_path(name, hash, all, refers_to_itself);
            }
            _ => {}
        }
        if refers_to_itself || !references.is_empty() {
            return Err(Error::BadContentAddress {
                text: self.to_string(),
                reason: "a path with such an address can't have these references".to_owned(),
            });
        }
        match self.method {
            Method::Recursive => store_dir.fixed_path(name, HashMode::Recursive, &self.hash),
            Method::Flat | Method::Text => store_dir.fixed_path(name, HashMode::Flat, &self.hash),
            Method::Git => {
                let inner = format!("fixed:out:git:{}:", self.hash.prefixed_base16());
                store_dir.make_path("output:out", &sha256(inner.as_bytes()), name)
            }
        }
    }
}

impl fmt::Display for ContentAddress {
    /// As databases and narinfo files have it, with the hash in base 32.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.method {
            Method::Text => "text:",
            Method::Flat => "fixed:",
            Method::Recursive => "fixed:r:",
            Method::Git => "fixed:git:",
        };
        write!(f, "{kind}{}", self.hash.prefixed_base32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store() -> StoreDir {
        StoreDir::new("/nix/store")
    }

    #[test]
    fn every_form_is_read_and_others_are_refused() {
        let hash = HashAlgo::Sha256.hash(b"x");
        let long = HashAlgo::Sha512.hash(b"x");
        for (text, method, hash) in [
            (
                format!("text:{}", hash.prefixed_base32()),
                Method::Text,
                hash,
            ),
            (
                format!("fixed:{}", hash.prefixed_base16()),
                Method::Flat,
                hash,
            ),
            (format!("fixed:r:{}", hash.sri()), Method::Recursive, hash),
            (format!("fixed:r:{}", long.sri()), Method::Recursive, long),
            (
                format!("fixed:git:{}", hash.prefixed_base32()),
                Method::Git,
                hash,
            ),
        ] {
            let address = ContentAddress::parse(&text).unwrap();
            assert_eq!(address, ContentAddress { method, hash });
            assert_eq!(
                ContentAddress::parse(&address.to_string()).unwrap(),
                address
            );
        }
        for bad in [
            "",
            "fixed:",
            "fixed:r:",
            "recursive:x",
            &format!("fixed:{}", hash.base32()),
            &format!("text:{}", long.sri()),
            &format!("fixed:x:{}", hash.sri()),
        ] {
            let error = ContentAddress::parse(bad).unwrap_err().to_string();
            assert!(error.contains("content address"), "{bad}: {error}");
        }
    }

    #[test]
    fn paths_are_computed_by_the_same_rules_as_outputs() {
        let hash = HashAlgo::Sha256.hash(b"x");
        let sha1 = HashAlgo::Sha1.hash(b"x");
        let sha256 = crate::hash::sha256(b"x");
        let other = store().fixed_path("o", HashMode::Flat, &sha1).unwrap();
        let full = store().display(&other);
        let of = |method, hash| ContentAddress { method, hash };
        let flat = of(Method::Flat, sha1);
        assert_eq!(flat.path(&store(), "o", [], false).unwrap(), other);
        let text = of(Method::Text, hash).path(&store(), "n", [&other], false);
        assert_eq!(
            text.unwrap(),
            store().text_path("n", &sha256, [&*full]).unwrap()
        );
        let tree = of(Method::Recursive, hash).path(&store(), "n", [&other], true);
        let expected = store().source_path("n", &sha256, [&*full], true);
        assert_eq!(tree.unwrap(), expected.unwrap());
        for (address, references, itself) in [
            (flat, vec![&other], false),
            (flat, vec![], true),
            (of(Method::Recursive, sha1), vec![&other], false),
            (of(Method::Text, hash), vec![], true),
        ] {
            assert!(address.path(&store(), "n", references, itself).is_err());
        }
        let git = of(Method::Git, sha1)
            .path(&store(), "o", [], false)
            .unwrap();
        assert_ne!(git, other);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = ContentAddress::parse(&text);
            let _ = ContentAddress::parse(&format!("fixed:r:{text}"));
        }
    }
}
