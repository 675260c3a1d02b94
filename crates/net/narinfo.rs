//! What a cache says of a path, its `.narinfo` file: read to the letter of Nix's parser, written in
//! its order. Trust is another matter ([`crate::trust`]).

mod parse;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;

use windrow_components::content_address::ContentAddress;
use windrow_components::hash::Hash;
use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::{StoreDir, StorePath};
use windrow_store::PathInfo;
use windrow_store::signer::{add_signatures, fingerprint};

use crate::compression::Compression;

pub use parse::NarInfoError;
pub use resolve::{ResolveError, resolve};

/// What a cache has of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The path.
    pub store_path: StorePath,
    /// Where its NAR is, seen from the cache ([`resolve`]).
    pub url: String,
    /// How the NAR is compressed.
    pub compression: Compression,
    /// The hash of the compressed file, of any algorithm.
    pub file_hash: Option<Hash>,
    /// The size of the compressed file, in bytes.
    pub file_size: Option<u64>,
    /// The SHA-256 of the NAR.
    pub nar_hash: Hash,
    /// The size of the NAR in bytes, not 0.
    pub nar_size: u64,
    /// What it refers to, perhaps itself too; sorted and each once.
    pub references: Vec<StorePath>,
    /// The derivation that built it.
    pub deriver: Option<StorePath>,
    /// Signatures, each `NAME:BASE64`; sorted and each once.
    pub sigs: Vec<String>,
    /// The content address, as [`ContentAddress`] prints it.
    pub ca: Option<String>,
}

impl NarInfo {
    /// Reads a narinfo file of a cache of the store at `store_dir`, which was asked for the hash
    /// part `asked`.
    ///
    /// # Errors
    /// When it is none, or one of another path.
    pub fn parse(bytes: &[u8], store_dir: &StoreDir, asked: &str) -> Result<Self, NarInfoError> {
        parse::parse(bytes, store_dir, asked)
    }

    /// The file, as Nix writes it.
    pub fn to_text(&self, store_dir: &StoreDir) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push('\n');
        };
        line("StorePath", &store_dir.display(&self.store_path));
        line("URL", &self.url);
        line("Compression", self.compression.name());
        if let Some(hash) = &self.file_hash {
            line("FileHash", &hash.prefixed_base32());
        }
        if let Some(size) = self.file_size {
            line("FileSize", &size.to_string());
        }
        line("NarHash", &self.nar_hash.prefixed_base32());
        line("NarSize", &self.nar_size.to_string());
        let references: Vec<&str> = self.references.iter().map(StorePath::base_name).collect();
        line("References", &references.join(" "));
        if let Some(deriver) = &self.deriver {
            line("Deriver", deriver.base_name());
        }
        for sig in &self.sigs {
            line("Sig", sig);
        }
        if let Some(ca) = &self.ca {
            line("CA", ca);
        }
        text
    }

    /// What a signature of it signs.
    pub fn fingerprint(&self, store_dir: &StoreDir) -> String {
        let full = |path| store_dir.display(path);
        let references: Vec<String> = self.references.iter().map(full).collect();
        fingerprint(
            &full(&self.store_path),
            &self.nar_sha256(),
            self.nar_size,
            &references,
        )
    }

    /// Adds a signature of each key.
    pub fn sign(&mut self, keys: &[SecretKey], store_dir: &StoreDir) {
        let text = self.fingerprint(store_dir);
        add_signatures(&mut self.sigs, keys, &text);
    }

    /// The content address.
    pub fn content_address(&self) -> Option<ContentAddress> {
        let ca = self.ca.as_deref()?;
        ContentAddress::parse(ca).ok()
    }

    /// What it refers to but itself, and whether it refers to itself.
    pub fn other_references(&self) -> (Vec<&StorePath>, bool) {
        let others = self.references.iter().filter(|it| **it != self.store_path);
        (others.collect(), self.references.contains(&self.store_path))
    }

    /// What a store registers of the path once it has it.
    pub fn to_path_info(&self, store_dir: &StoreDir) -> PathInfo {
        let full = |path| store_dir.display(path);
        PathInfo {
            path: full(&self.store_path),
            nar_hash: self.nar_sha256(),
            nar_size: self.nar_size,
            registration_time: 0,
            deriver: self.deriver.as_ref().map(full),
            references: self.references.iter().map(full).collect(),
            ultimate: false,
            sigs: self.sigs.clone(),
            ca: self.ca.clone(),
        }
    }

    /// What a cache that holds `info` at `url` says of it; hash and size of the file are still to
    /// be filled in.
    ///
    /// # Errors
    /// When a path in it does not lie in the store at `store_dir`.
    pub fn of_path_info(
        info: &PathInfo,
        store_dir: &StoreDir,
        url: String,
        compression: Compression,
    ) -> Result<Self, windrow_components::Error> {
        let parsed = |path: &String| store_dir.parse(path);
        let references: Result<Vec<_>, _> = info.references.iter().map(parsed).collect();
        let mut references = references?;
        references.sort_unstable();
        references.dedup();
        Ok(Self {
            store_path: parsed(&info.path)?,
            url,
            compression,
            file_hash: None,
            file_size: None,
            nar_hash: Hash::sha256(&info.nar_hash),
            nar_size: info.nar_size,
            references,
            deriver: info.deriver.as_ref().map(parsed).transpose()?,
            sigs: info.sigs.clone(),
            ca: info.ca.clone(),
        })
    }

    /// The bytes of [`NarInfo::nar_hash`].
    pub fn nar_sha256(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // The parser takes no other hash, so there are exactly as many.
        for (to, from) in bytes.iter_mut().zip(self.nar_hash.as_bytes()) {
            *to = *from;
        }
        bytes
    }
}
