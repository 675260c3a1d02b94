//! A path's archive, compressed as the cache has it: in the cache itself if that is a directory, or
//! downloaded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, Bytes};
use tokio::sync::Semaphore;
use windrow_components::hash::Hash;
use windrow_store::nar;
use windrow_sys::interrupt;
use windrow_sys::threads::spawn;

use crate::compression::{Compression, decoder_ahead};
use crate::narinfo::NarInfo;
use crate::remote::{Partial, Room};

/// How long what was not finished is kept, after the last byte.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// What has no more bytes needs no file: there is no going on with it that would save anything.
const SMALL: u32 = 64 << 10;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// An archive that can be unpacked. It has no descriptor open, for many may wait for what they
/// refer to.
#[derive(Debug)]
pub enum Archive {
    /// A file of the cache.
    InPlace(PathBuf),
    /// A path of another store, of which there is no archive yet.
    Tree(PathBuf),
    /// A download, and how many bytes it has.
    Downloaded(PathBuf, u64),
    /// A small download.
    InMemory(InMemory),
}

/// An archive in memory.
#[derive(Debug)]
pub struct InMemory {
    bytes: Bytes,
    _room: Room,
}

impl Archive {
    /// What was downloaded, which is closed.
    pub(super) fn of_download(partial: Partial) -> Self {
        match partial.into_bytes() {
            Ok((bytes, room)) => Self::InMemory(InMemory { bytes, _room: room }),
            Err(partial) => Self::Downloaded(partial.path().to_owned(), partial.length()),
        }
    }

    /// Opens it to be unpacked. `None` if somebody else has taken what was downloaded, or goes on
    /// with it.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(self) -> io::Result<Option<OpenArchive>> {
        let (path, length) = match self {
            Self::InPlace(path) => return Ok(Some(OpenArchive::InPlace(path))),
            Self::Tree(path) => return Ok(Some(OpenArchive::Tree(path))),
            Self::InMemory(archive) => return Ok(Some(OpenArchive::InMemory(archive))),
            Self::Downloaded(path, length) => (path, length),
        };
        let Some(partial) = Partial::open(&path)? else {
            return Ok(None);
        };
        if partial.length() == length {
            return Ok(Some(OpenArchive::Downloaded(partial)));
        }
        if partial.length() == 0 {
            remove(&path);
        }
        Ok(None)
    }

    /// It is not needed any more.
    pub fn discard(self) {
        if let Self::Downloaded(path, _) = self
            // Who has it open may need it.
            && let Ok(Some(partial)) = Partial::open(&path)
        {
            remove(partial.path());
        }
    }
}

/// An archive that is about to be unpacked.
#[derive(Debug)]
pub enum OpenArchive {
    /// A file of the cache.
    InPlace(PathBuf),
    /// A path of another store.
    Tree(PathBuf),
    /// A download. Nobody else touches it as long as this lives.
    Downloaded(Partial),
    /// A small download.
    InMemory(InMemory),
}

impl OpenArchive {
    /// What is in it.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn reader(&self, compression: Compression) -> io::Result<Box<dyn Read + Send>> {
        let path = match self {
            Self::Tree(path) => return archived(path),
            Self::InPlace(path) => path,
            Self::Downloaded(partial) => {
                let file = partial.reader()?;
                return decoder_ahead(compression, BufReader::with_capacity(CHUNK, file));
            }
            Self::InMemory(archive) => {
                return decoder_ahead(compression, archive.bytes.clone().reader());
            }
        };
        // What is no file could wait for somebody to write.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file: File = opened?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        decoder_ahead(compression, BufReader::with_capacity(CHUNK, file))
    }

    /// Where it lies, if that is for people to know.
    pub fn place(&self) -> Option<&Path> {
        match self {
            Self::InPlace(path) | Self::Tree(path) => Some(path),
            Self::Downloaded(_) | Self::InMemory(_) => None,
        }
    }

    /// It is not needed any more: it is unpacked, or it is not what it should be.
    pub fn discard(self) {
        if let Self::Downloaded(partial) = self {
            // What stays is thrown away when it is old.
            remove(partial.path());
        }
    }
}

/// The archive of a tree, made by a thread as it is read.
fn archived(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let (reader, mut writer) = io::pipe()?;
    let path = path.to_owned();
    let stop = interrupt::current();
    spawn("archive", move || {
        let _entered = stop.map(|stop| stop.enter());
        // What can't be read ends the archive too early, which whoever reads it finds out.
        let _ = nar::dump(&path, &mut writer);
    })?;
    Ok(Box::new(reader))
}

/// The directory in which downloads are put.
#[derive(Debug, Clone)]
pub struct PartialDir(pub PathBuf);

impl PartialDir {
    /// The file for what `info` announces, with what an earlier run has of it. If somebody else
    /// downloads it at present, an empty one of its own.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(&self, info: &NarInfo) -> io::Result<Partial> {
        Partial::open_any(&self.place(info))
    }

    /// As [`PartialDir::open`], without a file if there is none, it is small, and `memory` has
    /// room.
    ///
    /// # Errors
    /// When it can't be made.
    pub(super) fn begin(&self, info: &NarInfo, memory: &Arc<Semaphore>) -> io::Result<Partial> {
        let place = self.place(info);
        let room = u32::try_from(size_bound(info)).ok();
        let room = room.filter(|size| *size <= SMALL && !place.exists());
        let room = room.and_then(|size| Arc::clone(memory).try_acquire_many_owned(size).ok());
        match room {
            Some(room) => Ok(Partial::in_memory(&place, room)),
            None => Partial::open_any(&place),
        }
    }

    fn place(&self, info: &NarInfo) -> PathBuf {
        self.0.join(file_name(info))
    }

    /// Deletes a file of which nothing has come.
    pub(super) fn remove_empty(path: &Path) {
        if let Ok(Some(partial)) = Partial::open(path)
            && partial.length() == 0
        {
            remove(path);
        }
    }

    /// Deletes what nobody has gone on with for days.
    pub fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|known| known.modified());
            let is_old = modified.is_ok_and(|at| {
                let age = SystemTime::now().duration_since(at);
                age.is_ok_and(|age| age > KEPT_FOR)
            });
            if is_old && let Ok(Some(partial)) = Partial::open(&entry.path()) {
                remove(partial.path());
            }
        }
    }
}

/// How long the file of what `info` announces is, or is likely to be at most: there is little that
/// packing makes longer by more than that.
fn size_bound(info: &NarInfo) -> u64 {
    let packed = || info.nar_size.saturating_add(info.nar_size / 16 + 512);
    info.file_size.unwrap_or_else(packed)
}

fn remove(path: &Path) {
    // It is tried again in the next run.
    let _ = fs::remove_file(path);
}

/// What a download is called: two caches that announce the same file share what there is of it.
fn file_name(info: &NarInfo) -> String {
    let plain = |hash: &Hash| hash.prefixed_base32().replace(':', "-");
    match &info.file_hash {
        Some(hash) => plain(hash),
        None => {
            let size = info.file_size.unwrap_or_default();
            format!("{}.{}.{size}", plain(&info.nar_hash), info.compression)
        }
    }
}
