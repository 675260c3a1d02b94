//! Makes the archive of a path, compressed, in a file, and what a cache says of it. Knows no cache
//! but a directory, in which the file gets its name at once.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windrow_components::hash::Hash;
use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::StoreDir;
use windrow_store::PathInfo;
use windrow_store::nar::{self, Tee};
use windrow_store::text::transfer::modified;
use windrow_sys::{interrupt, limits, nameless};

use super::CopyError;
use super::budget::Budget;
use crate::compression::{Compression, encoder, encoder_memory};
use crate::listing::Listing;
use crate::narinfo::NarInfo;
use crate::remote::{Found, Source};

/// How much is written at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Smaller archives are compressed by one thread: starting others takes longer.
const WORTH_THREADS: u64 = 4 << 20;

/// How much memory compressing takes, all archives together, in bytes, unless one needs more.
pub(super) const MEMORY: u64 = 112 << 20;
/// Where somebody has said that it may take much: a part of the machine's, and at most this.
const MEMORY_PART: u64 = 16;
const MEMORY_MOST: u64 = 1 << 30;

/// How paths are packed.
pub(super) struct Packing {
    pub(super) store_dir: StoreDir,
    pub(super) compression: Compression,
    pub(super) level: Option<i32>,
    /// Whether several threads compress an archive, if they do not need more memory than that
    /// together, in bytes.
    pub(super) parallel: Option<u64>,
    /// What compressing takes.
    pub(super) memory: Budget,
    /// Where files lie that have no name.
    pub(super) scratch_dir: PathBuf,
    /// The directory that names of archives are below, if the cache is a directory.
    pub(super) cache_dir: Option<PathBuf>,
    /// Who signs.
    pub(super) keys: Vec<SecretKey>,
    /// Whether a listing is made.
    pub(super) lists: bool,
}

/// A path that is packed.
pub(super) struct Packed {
    /// What the cache is to say of it.
    pub(super) info: NarInfo,
    /// Its archive; none if that is where it belongs.
    pub(super) archive: Option<Arc<File>>,
    pub(super) listing: Option<Listing>,
    /// How many bytes of archive have been put where they belong.
    pub(super) placed: u64,
}

impl Packing {
    /// Packs the path that lies at `real`.
    ///
    /// # Errors
    /// When it can't be read, is not what was registered, or there is no room.
    pub(super) fn pack(
        &self,
        info: &PathInfo,
        real: &Path,
        threads: usize,
    ) -> Result<Packed, CopyError> {
        let failed = |source| self.failed(source);
        let (threads, memory) = self.needs(info.nar_size, threads);
        let _part = self.memory.take(memory).map_err(CopyError::Interrupted)?;
        let file = nameless::create(&self.scratch_dir).map_err(failed)?;
        let sink = UntilEnd(Tee::new(BufWriter::with_capacity(CHUNK, file)));
        let encoder = encoder(self.compression, self.level, threads, sink).map_err(failed)?;
        let mut archive = Tee::new(encoder);
        let listing = match self.lists {
            true => Listing::dump(real, &mut archive).map(Some),
            false => nar::dump(real, &mut archive)
                .map(|()| None)
                .map_err(Into::into),
        };
        let listing = listing.map_err(|error| self.dump_failed(error))?;
        let (encoder, nar_hash, nar_size) = archive.finish();
        let sink = encoder.finish().map_err(failed)?.0;
        let (writer, file_hash, file_size) = sink.finish();
        let file = writer
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        if nar_hash != info.nar_hash && info.nar_hash != [0; 32] {
            return Err(modified(&info.path, &info.nar_hash, &nar_hash).into());
        }
        let info = PathInfo {
            nar_hash,
            nar_size,
            ..info.clone()
        };
        let info = self.describe(&info, Hash::sha256(&file_hash), file_size)?;
        self.place(Packed {
            info,
            archive: Some(Arc::new(file)),
            listing,
            placed: 0,
        })
    }

    /// How many threads compress an archive of `size` bytes, of those that there are, and how
    /// much memory that takes.
    fn needs(&self, size: u64, threads: usize) -> (usize, u64) {
        let needs = |threads| encoder_memory(self.compression, self.level, threads);
        let threads = match self.parallel.filter(|_| size > WORTH_THREADS) {
            Some(most) => (2..=threads).rev().find(|&it| needs(it) <= most),
            None => None,
        };
        let threads = threads.unwrap_or(1);
        // Of its tables what is small touches a page for each byte, and then some for each.
        let touched = size.saturating_mul(4096).min(24 << 20) + size.saturating_mul(12);
        (threads, needs(threads).min(touched))
    }

    /// What the cache is to say of a path whose file has that hash and size.
    fn describe(
        &self,
        info: &PathInfo,
        file_hash: Hash,
        file_size: u64,
    ) -> Result<NarInfo, CopyError> {
        let extension = self.compression.extension();
        let url = format!("nar/{}.nar{extension}", file_hash.base32());
        let mut info = NarInfo::of_path_info(info, &self.store_dir, url, self.compression)?;
        info.file_hash = Some(file_hash);
        info.file_size = Some(file_size);
        info.sign(&self.keys, &self.store_dir);
        Ok(info)
    }

    /// Gives the file its name in a cache that is a directory on the same file system.
    fn place(&self, mut packed: Packed) -> Result<Packed, CopyError> {
        if let (Some(dir), Some(file)) = (&self.cache_dir, &packed.archive) {
            // After a power cut it would be there with nothing in it, and believed.
            file.sync_data().map_err(|source| self.failed(source))?;
            // Where it gets none it is copied, unless what has that name will do.
            if nameless::give_name(file, &dir.join(&packed.info.url)).is_ok() {
                packed.archive = None;
                packed.placed = packed.info.file_size.unwrap_or_default();
            }
        }
        Ok(packed)
    }

    fn failed(&self, source: io::Error) -> CopyError {
        CopyError::Scratch {
            dir: self.scratch_dir.clone(),
            source,
        }
    }

    /// The error of an archive that could not be written to its end: it is the path's, unless
    /// there was no room for it.
    fn dump_failed(&self, error: windrow_store::Error) -> CopyError {
        match error {
            windrow_store::Error::File(windrow_sys::Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                ) =>
            {
                self.failed(source)
            }
            other => other.into(),
        }
    }
}

/// How much memory compressing may take on this machine where it may take much, in bytes.
pub(super) fn much_memory() -> u64 {
    (limits::memory() / MEMORY_PART).clamp(MEMORY, MEMORY_MOST)
}

/// A sink that takes nothing any more once the work at hand is to end: some encoders, when they are
/// dropped, compress what they still have.
struct UntilEnd<W>(W);

impl<W: Write> Write for UntilEnd<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        interrupt::check()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Packed {
    /// What is to be uploaded, if anything is.
    pub(super) fn source(&self) -> Option<Source> {
        self.archive.clone().map(Source::File)
    }

    /// Whether what has the name of the archive may be it: the name says which hash it has, and
    /// not whether all of it is there.
    pub(super) fn may_be(&self, found: Found) -> bool {
        found.size.is_none() || found.size == self.info.file_size
    }
}
