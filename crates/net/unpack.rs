//! A path out of a cache, put on disk: its NAR restored while it is hashed, and thrown away again
//! if it is not the one that was announced.

mod aside;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use windrow_components::content_address::{ContentAddress, Method};
use windrow_components::hash::{Hash, HashAlgo, Hasher};
use windrow_components::store_path::HASH_LEN;
use windrow_store::nar;
use windrow_store::nar::digest::feed_flat;
use windrow_store::nar::modulo::ModuloHasher;
use windrow_store::nar::{Contents, Handler};
use windrow_sys::interrupt::{Grace, Stop};
use windrow_sys::tree::delete_path;

use crate::narinfo::NarInfo;
use aside::AnyHasher;

/// How much of a NAR is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Why a path could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive can't be read, is none, or can't be put on disk.
    #[error(transparent)]
    Store(#[from] windrow_store::Error),
    /// The NAR is longer than announced; it was not read to its end.
    #[error("the NAR has more than the {0} bytes that its narinfo announces")]
    TooLong(u64),
    /// The NAR is shorter than announced.
    #[error("the NAR has {found} bytes, and its narinfo announces {expected}")]
    TooShort {
        /// What the narinfo says.
        expected: u64,
        /// How many there were.
        found: u64,
    },
    /// It is another NAR than announced.
    #[error("the NAR has the hash '{found}', and its narinfo announces '{expected}'")]
    WrongHash {
        /// What the narinfo says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The contents are not those that the content address says.
    #[error(
        "the contents are not those of the content address '{expected}', but hash to '{found}'"
    )]
    WrongAddress {
        /// What the narinfo says.
        expected: String,
        /// What they hash to.
        found: String,
    },
    /// It is a directory or a symbolic link, and should be a file.
    #[error("it is no regular file")]
    OtherType,
    /// The contents are no file, which the content address says.
    #[error("the contents are no regular file, as those of the content address '{0}' must be")]
    NoFile(String),
}

impl UnpackError {
    /// Whether what the cache sent is at fault, so that another cache may do better.
    pub fn is_the_caches(&self) -> bool {
        !matches!(self, Self::Store(windrow_store::Error::File(_)))
    }
}

/// Puts the path that `info` announces at `target`, where nothing must be yet, from its NAR, which
/// `source` gives unpacked and to its end. Ends early when `stop` is set.
///
/// The content address, if it has one, is checked too: it may be the only reason to trust the path.
/// Metadata is left as it comes, and references are not looked for.
///
/// # Errors
/// When it can't be done or is not what was announced; nothing is left at `target` then, unless
/// something was there before.
pub fn unpack(
    source: impl Read,
    info: &NarInfo,
    target: &Path,
    stop: &Stop,
) -> Result<(), UnpackError> {
    let _entered = stop.enter();
    let was_there = target.symlink_metadata().is_ok();
    let result = unpack_checked(source, info, target);
    if result.is_err() && !was_there {
        // The first error is the one to tell.
        let _grace = Grace::new();
        let _ = delete_path(target);
    }
    result
}

fn unpack_checked(source: impl Read, info: &NarInfo, target: &Path) -> Result<(), UnpackError> {
    let mut reader = BufReader::with_capacity(CHUNK, Hashing::new(source, info));
    let restored = nar::restore(&mut reader, target);
    checked(reader, restored, info)?;
    match info.content_address() {
        Some(address) if matches!(address.method, Method::Flat | Method::Text) => {
            check_file(&address, target)
        }
        _ => Ok(()),
    }
}

/// Whether an archive that was read so far, with what came of that, was what `info` announces.
fn checked<R: Read>(
    mut reader: BufReader<Hashing<R>>,
    result: windrow_store::Result<()>,
    info: &NarInfo,
) -> Result<(), UnpackError> {
    if reader.get_ref().size > info.nar_size {
        return Err(UnpackError::TooLong(info.nar_size));
    }
    result?;
    // What is behind the archive counts as much, and decoders check their ends only when they are
    // read to it.
    let read = io::copy(&mut reader, &mut io::sink());
    let hashing = reader.into_inner();
    if hashing.size > info.nar_size {
        return Err(UnpackError::TooLong(info.nar_size));
    }
    read.map_err(|source| windrow_store::Error::NarUnreadable {
        offset: hashing.size,
        source,
    })?;
    hashing.check(info)
}

/// The contents of the regular file that `info` announces, from its NAR, which `source` gives
/// unpacked and to its end. They are held in memory: the announced size must be fit for that.
///
/// # Errors
/// When it is not what was announced, or no regular file.
pub fn read_file(source: impl Read, info: &NarInfo) -> Result<Vec<u8>, UnpackError> {
    let mut reader = BufReader::with_capacity(CHUNK, Hashing::new(source, info));
    let mut file = OneFile::default();
    let parsed = nar::parse(&mut reader, &mut file);
    checked(reader, parsed, info)?;
    match file.contents {
        Some(contents) => Ok(contents),
        None => Err(UnpackError::OtherType),
    }
}

/// Keeps the contents of an archive that is one file.
#[derive(Default)]
struct OneFile {
    contents: Option<Vec<u8>>,
}

impl Handler for OneFile {
    fn enter(&mut self, _name: Option<&CStr>) -> windrow_store::Result<()> {
        Ok(())
    }

    fn leave(&mut self) -> windrow_store::Result<()> {
        Ok(())
    }

    fn file(
        &mut self,
        name: Option<&CStr>,
        _executable: bool,
        contents: &mut Contents<'_>,
    ) -> windrow_store::Result<()> {
        if name.is_none() {
            let file = self.contents.insert(Vec::new());
            while let Some(chunk) = contents.next_chunk()? {
                file.extend_from_slice(chunk);
            }
        }
        Ok(())
    }

    fn symlink(&mut self, _name: Option<&CStr>, _target: &CStr) -> windrow_store::Result<()> {
        Ok(())
    }
}

/// Whether the file at `target` is that of a content address.
fn check_file(address: &ContentAddress, target: &Path) -> Result<(), UnpackError> {
    let is_file = target.symlink_metadata().is_ok_and(|it| it.is_file());
    if !is_file {
        return Err(UnpackError::NoFile(address.to_string()));
    }
    let mut hasher = address.hash.algo().hasher();
    feed_flat(target, |chunk| hasher.update(chunk))?;
    agrees(address, hasher.finish())
}

fn agrees(address: &ContentAddress, found: Hash) -> Result<(), UnpackError> {
    match found == address.hash {
        true => Ok(()),
        false => Err(UnpackError::WrongAddress {
            expected: address.to_string(),
            found: found.prefixed_base32(),
        }),
    }
}

/// Reads no more than was announced, and one byte, and hashes it.
struct Hashing<R> {
    source: R,
    size: u64,
    most: u64,
    hasher: AnyHasher,
    /// For content addresses that another hash of the archive tells of.
    other: Option<Other>,
}

enum Other {
    Plain(Hasher),
    Modulo(ModuloHasher),
}

impl<R: Read> Hashing<R> {
    fn new(source: R, info: &NarInfo) -> Self {
        Self {
            source,
            size: 0,
            most: info.nar_size,
            hasher: AnyHasher::new(HashAlgo::Sha256, info.nar_size),
            other: Other::of(info),
        }
    }

    /// Whether all was as announced, after all has been read.
    fn check(self, info: &NarInfo) -> Result<(), UnpackError> {
        if self.size < info.nar_size {
            return Err(UnpackError::TooShort {
                expected: info.nar_size,
                found: self.size,
            });
        }
        let found = self.hasher.finish();
        if found != info.nar_hash {
            return Err(UnpackError::WrongHash {
                expected: info.nar_hash.prefixed_base32(),
                found: found.prefixed_base32(),
            });
        }
        match (info.content_address(), self.other) {
            (Some(address), Some(other)) => agrees(&address, other.finish()),
            _ => Ok(()),
        }
    }
}

impl Other {
    fn of(info: &NarInfo) -> Option<Self> {
        let address = info.content_address()?;
        let algo = address.hash.algo();
        if address.method != Method::Recursive {
            return None;
        }
        if !info.other_references().1 {
            return Some(Self::Plain(algo.hasher()));
        }
        let mut part = [0; HASH_LEN];
        part.copy_from_slice(info.store_path.hash_part().as_bytes());
        Some(Self::Modulo(ModuloHasher::new(algo, part)))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(hasher) => hasher.update(bytes),
            Self::Modulo(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Hash {
        match self {
            Self::Plain(hasher) => hasher.finish(),
            Self::Modulo(hasher) => hasher.finish(),
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.size > self.most {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let left = (self.most - self.size).saturating_add(1);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let count = self.source.read(&mut into[..room])?;
        let bytes = &into[..count];
        self.size += count as u64;
        self.hasher.update(bytes);
        if let Some(other) = &mut self.other {
            other.update(bytes);
        }
        Ok(count)
    }
}
