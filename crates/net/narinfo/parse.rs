//! Reading a narinfo file line by line, as Nix's `NarInfo` does: unknown names are passed over, and
//! of several lines with one name the last counts, except for `References` and `CA`.

use windrow_components::content_address::ContentAddress;
use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::store_path::{StoreDir, StorePath};

use super::NarInfo;
use crate::compression::Compression;

/// What may be in the field of a path's deriver and means none.
const NO_DERIVER: &str = "unknown-deriver";

/// How many signatures are read: each costs whoever checks it some time, and nobody signs that
/// often.
const SIGS_MAX: usize = 128;

/// Why a file is not the narinfo that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// A line is no field.
    #[error("its line {number} is not 'NAME: VALUE': {reason}")]
    Line {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A field has a value that it can't have.
    #[error("its field {field} is bad: {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A field must be there and isn't.
    #[error("it has no field {0}")]
    Missing(&'static str),
    /// A field may stand there once.
    #[error("it has the field {0} twice")]
    Twice(&'static str),
    /// It is about another path.
    #[error("it was asked for {asked} and is about '{found}'")]
    OtherPath {
        /// The hash part that was asked for.
        asked: String,
        /// The path.
        found: String,
    },
}

/// What has been read so far.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: String,
    compression: String,
    file_hash: Option<Hash>,
    file_size: u64,
    nar_hash: Option<Hash>,
    nar_size: Option<u64>,
    references: Vec<StorePath>,
    deriver: Option<StorePath>,
    sigs: Vec<String>,
    ca: Option<ContentAddress>,
}

pub(super) fn parse(
    bytes: &[u8],
    store_dir: &StoreDir,
    asked: &str,
) -> Result<NarInfo, NarInfoError> {
    let mut fields = Fields::default();
    let mut rest = bytes;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let bad = |reason| NarInfoError::Line { number, reason };
        let end = memchr::memchr(b'\n', rest).ok_or_else(|| bad("it has no end"))?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let colon = memchr::memchr(b':', line).ok_or_else(|| bad("it has no colon"))?;
        // Whatever stands there, Nix passes over one character.
        let value = line
            .get(colon + 2..)
            .ok_or_else(|| bad("it ends with its colon"))?;
        fields.take(&line[..colon], value, store_dir)?;
        rest = after;
    }
    fields.finish(store_dir, asked)
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8], dir: &StoreDir) -> Result<(), NarInfoError> {
        match name {
            b"StorePath" => {
                self.store_path = Some(good("StorePath", dir.parse(text("StorePath", value)?))?);
            }
            b"URL" => self.url = text("URL", value)?.to_owned(),
            b"Compression" => self.compression = text("Compression", value)?.to_owned(),
            b"FileHash" => self.file_hash = Some(hash("FileHash", value)?),
            b"FileSize" => self.file_size = size("FileSize", value)?,
            b"NarHash" => {
                let found = hash("NarHash", value)?;
                if found.algo() != HashAlgo::Sha256 {
                    return Err(bad("NarHash", "stores know paths by their sha256 alone"));
                }
                self.nar_hash = Some(found);
            }
            b"NarSize" => self.nar_size = Some(size("NarSize", value)?),
            b"References" => self.take_references(text("References", value)?)?,
            b"Deriver" => {
                let deriver = text("Deriver", value)?;
                if deriver != NO_DERIVER {
                    self.deriver = Some(good("Deriver", StorePath::from_base_name(deriver))?);
                }
            }
            b"Sig" => {
                let sig = text("Sig", value)?;
                // Lists of signatures have blanks between them, so this can be none.
                if !sig.is_empty() && !sig.contains(char::is_whitespace) {
                    if self.sigs.len() == SIGS_MAX {
                        return Err(bad("Sig", "there are too many of them"));
                    }
                    self.sigs.push(sig.to_owned());
                }
            }
            b"CA" => {
                if self.ca.is_some() {
                    return Err(NarInfoError::Twice("CA"));
                }
                // Nix takes an empty one as none.
                let ca = text("CA", value)?;
                if !ca.is_empty() {
                    self.ca = Some(good("CA", ContentAddress::parse(ca))?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_references(&mut self, value: &str) -> Result<(), NarInfoError> {
        if !self.references.is_empty() {
            return Err(NarInfoError::Twice("References"));
        }
        let names = value.split(' ').filter(|name| !name.is_empty());
        let paths = names.map(|name| good("References", StorePath::from_base_name(name)));
        self.references = paths.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn finish(mut self, dir: &StoreDir, asked: &str) -> Result<NarInfo, NarInfoError> {
        let store_path = self.store_path.ok_or(NarInfoError::Missing("StorePath"))?;
        if self.url.is_empty() {
            return Err(NarInfoError::Missing("URL"));
        }
        let nar_hash = self.nar_hash.ok_or(NarInfoError::Missing("NarHash"))?;
        let nar_size = self.nar_size.ok_or(NarInfoError::Missing("NarSize"))?;
        if nar_size == 0 {
            return Err(bad("NarSize", "no NAR has 0 bytes"));
        }
        if store_path.hash_part() != asked {
            return Err(NarInfoError::OtherPath {
                asked: asked.to_owned(),
                found: dir.display(&store_path),
            });
        }
        let compression = match self.compression.as_str() {
            "" => Compression::Bzip2,
            name => good("Compression", Compression::from_name(name))?,
        };
        self.references.sort_unstable();
        self.references.dedup();
        self.sigs.sort_unstable();
        self.sigs.dedup();
        Ok(NarInfo {
            store_path,
            url: self.url,
            compression,
            file_hash: self.file_hash,
            file_size: (self.file_size != 0).then_some(self.file_size),
            nar_hash,
            nar_size,
            references: self.references,
            deriver: self.deriver,
            sigs: self.sigs,
            ca: self.ca.map(|ca| ca.to_string()),
        })
    }
}

fn bad(field: &'static str, reason: &str) -> NarInfoError {
    NarInfoError::Field {
        field,
        reason: reason.to_owned(),
    }
}

fn good<T, E: std::fmt::Display>(
    field: &'static str,
    value: Result<T, E>,
) -> Result<T, NarInfoError> {
    value.map_err(|error| bad(field, &error.to_string()))
}

fn text<'a>(field: &'static str, value: &'a [u8]) -> Result<&'a str, NarInfoError> {
    good(field, str::from_utf8(value))
}

fn hash(field: &'static str, value: &[u8]) -> Result<Hash, NarInfoError> {
    good(field, Hash::parse(text(field, value)?, None))
}

/// A size in bytes, which databases must have room for.
fn size(field: &'static str, value: &[u8]) -> Result<u64, NarInfoError> {
    let text = text(field, value)?;
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(());
    let size = number.and_then(|()| text.parse().ok());
    let size = size.filter(|&size| i64::try_from(size).is_ok());
    size.ok_or_else(|| bad(field, &format!("'{text}' is no size in bytes")))
}
