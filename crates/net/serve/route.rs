//! What a request is for, by its path alone. Only names that a cache can have lead anywhere, and
//! none of them is ever used as the name of a file.

use percent_encoding::percent_decode_str;
use windrow_components::hash::Hash;
use windrow_components::nix32;
use windrow_components::store_path::{HASH_LEN, StorePath};

use super::Packing;
use crate::cache_info::CacheInfo;
use crate::listing::Listing;

const NARINFO: &str = ".narinfo";
const NAR: &str = ".nar";

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A few words on how the cache is used.
    Usage,
    /// What the cache says of itself.
    CacheInfo,
    /// What the cache has under that hash part.
    NarInfo(String),
    /// What the files in a path are, by its hash part.
    Listing(String),
    /// An archive.
    Archive(ArchiveName),
    /// The log of the build of a derivation.
    Log(StorePath),
}

impl Route {
    /// Where a path leads, which begins with a slash and may have percent signs in it.
    pub fn parse(path: &str) -> Option<Self> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let path = path.strip_prefix('/')?;
        match path.split_once('/') {
            None => Self::of_file(path),
            Some(("nar", name)) => ArchiveName::parse(name).map(Self::Archive),
            Some(("log", name)) => {
                let drv = StorePath::from_base_name(name).ok()?;
                drv.is_derivation().then_some(Self::Log(drv))
            }
            Some(_) => None,
        }
    }

    fn of_file(name: &str) -> Option<Self> {
        if name.is_empty() {
            Some(Self::Usage)
        } else if name == CacheInfo::NAME {
            Some(Self::CacheInfo)
        } else if let Some(part) = name.strip_suffix(NARINFO) {
            hash_part(part).map(Self::NarInfo)
        } else if let Some(part) = name.strip_suffix(Listing::EXTENSION) {
            hash_part(part).map(Self::Listing)
        } else {
            None
        }
    }
}

fn hash_part(text: &str) -> Option<String> {
    let is_one = text.len() == HASH_LEN && text.bytes().all(nix32::is_digit);
    is_one.then(|| text.to_owned())
}

/// The name of an archive. The hash in it keeps what replaced a path from being taken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveName {
    /// The hash part of the path.
    pub hash_part: String,
    /// The SHA-256 of the NAR.
    pub nar_hash: [u8; 32],
    /// How it is packed.
    pub packing: Packing,
}

impl ArchiveName {
    fn parse(name: &str) -> Option<Self> {
        let packed = |packing: Packing| {
            let stem = name.strip_suffix(packing.compression().extension())?;
            Some((stem.strip_suffix(NAR)?, packing))
        };
        let (stem, packing) = Packing::ALL.into_iter().find_map(packed)?;
        let (part, hash) = stem.split_once('-')?;
        let mut nar_hash = [0; 32];
        nix32::decode_into(hash.as_bytes(), &mut nar_hash)?;
        Some(Self {
            hash_part: hash_part(part)?,
            nar_hash,
            packing,
        })
    }

    /// Where it is, seen from the cache.
    pub fn url(&self) -> String {
        format!(
            "nar/{}-{}{NAR}{}",
            self.hash_part,
            Hash::sha256(&self.nar_hash).base32(),
            self.packing.compression().extension()
        )
    }
}
