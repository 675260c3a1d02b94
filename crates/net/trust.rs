//! Whether what a cache says of a path is to be believed: by a signature, by the path's own content
//! address, or because nobody asks. To be decided before anything is downloaded.

use windrow_components::content_address::Method;
use windrow_components::signing_key::{PublicKey, PublicKeyError};
use windrow_components::store_path::StoreDir;

use crate::narinfo::NarInfo;

#[cfg(test)]
mod tests;

/// Why a path is not to be taken from a cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nobody has signed it.
    #[error("it is not signed")]
    Unsigned,
    /// Only keys that are not trusted have.
    #[error("none of the keys that signed it is trusted: {}", .0.join(", "))]
    OtherKeys(Vec<String>),
    /// A signature by a trusted key is wrong: the cache's answer is damaged or forged.
    #[error("its signature by the trusted key '{0}' is wrong")]
    WrongSignature(String),
}

/// An entry of `trusted-public-keys` that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{key}' in the setting 'trusted-public-keys' is no public key: {reason}")]
pub struct BadKey {
    /// The entry.
    pub key: String,
    /// What is wrong with it.
    pub reason: PublicKeyError,
}

/// Whom a store trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The store directory, which is part of all that is signed.
    pub store_dir: StoreDir,
    /// Keys whose signatures are enough: those of `trusted-public-keys`, and the public halves of
    /// `secret-key-files`.
    pub keys: Vec<PublicKey>,
    /// `require-sigs`: without it everything is believed.
    pub require_sigs: bool,
}

impl Trust {
    /// Reads the entries of `trusted-public-keys`.
    ///
    /// # Errors
    /// The first one that is no key.
    pub fn parse_keys(entries: &[impl AsRef<str>]) -> Result<Vec<PublicKey>, BadKey> {
        let parse = |entry: &str| {
            PublicKey::parse(entry).map_err(|reason| BadKey {
                key: entry.to_owned(),
                reason,
            })
        };
        entries.iter().map(|it| parse(it.as_ref())).collect()
    }

    /// Whether a path may be taken as `info` says; `url_trusted` is the cache's parameter
    /// `trusted`.
    ///
    /// A path that is believed for its content address still has to be compared with that when it
    /// is there, as [`crate::unpack::unpack`] does.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, info: &NarInfo, url_trusted: bool) -> Result<(), Distrust> {
        if url_trusted || !self.require_sigs || self.is_content_addressed(info) {
            return Ok(());
        }
        let text = info.fingerprint(&self.store_dir);
        let is_good = |sig: &String| self.keys.iter().any(|key| key.verifies(&text, sig));
        if info.sigs.iter().any(is_good) {
            return Ok(());
        }
        let signers = || info.sigs.iter().filter_map(|sig| sig.split(':').next());
        let is_trusted = |name: &str| self.keys.iter().any(|key| key.name() == name);
        Err(match signers().find(|name| is_trusted(name)) {
            Some(name) => Distrust::WrongSignature(name.to_owned()),
            None if info.sigs.is_empty() => Distrust::Unsigned,
            None => Distrust::OtherKeys(signers().map(str::to_owned).collect()),
        })
    }

    /// Whether the path follows from its content address, so that its contents can be checked
    /// without knowing who made them.
    pub fn is_content_addressed(&self, info: &NarInfo) -> bool {
        let Some(address) = info.content_address() else {
            return false;
        };
        let (others, itself) = info.other_references();
        let name = info.store_path.name();
        let path = address.path(&self.store_dir, name, others, itself);
        // How git hashes a tree is not known here, so its contents could not be checked.
        let checkable = match address.method {
            Method::Recursive if !itself && address.hash.algo() == info.nar_hash.algo() => {
                address.hash == info.nar_hash
            }
            Method::Text | Method::Flat | Method::Recursive => true,
            Method::Git => false,
        };
        checkable && path.is_ok_and(|path| path == info.store_path)
    }
}
