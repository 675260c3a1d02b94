//! A file that is being downloaded: what there is of it is kept over failures and over runs. What
//! is small and comes at once never gets as far as a file.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use windrow_components::hash::{Hash, HashAlgo};
use windrow_sys::interrupt::Stop;
use windrow_sys::xattr;

use super::file::copy;
use crate::error::Fault;

/// The attribute that says what a server called the version that the bytes are of, and where.
const VERSION: &std::ffi::CStr = c"user.windrow.version";

/// A file that is being downloaded. While it lives, nobody else has it: neither in this process nor
/// in another one.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    held: Held,
    length: u64,
    place: FilePath,
}

/// The path of a file that may be made later.
pub(crate) type FilePath = Arc<OnceLock<PathBuf>>;

/// Memory for a small download, in bytes as permits, until it is dropped.
pub(crate) type Room = OwnedSemaphorePermit;

/// Where the bytes are.
#[derive(Debug)]
enum Held {
    File(File),
    /// There is no file yet.
    Memory {
        bytes: Vec<u8>,
        /// What the attribute of the file is to be.
        version: String,
        room: Room,
    },
}

impl Partial {
    /// Opens what there is at `path`, or makes an empty file. `None` if somebody else downloads it
    /// at present.
    ///
    /// # Errors
    /// When it can't be opened, or is no regular file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not a regular file",
                ));
            }
            // Whoever had it may have removed it before this lock was taken.
            let is_there = std::fs::symlink_metadata(path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()));
            if is_there {
                return Ok(Some(Self {
                    path: path.to_owned(),
                    held: Held::File(file),
                    length: metadata.len(),
                    place: Arc::new(path.to_owned().into()),
                }));
            }
        }
    }

    /// As [`Partial::open`], in a directory that need not be there. If somebody else downloads it
    /// at present, an empty file with a name of its own.
    ///
    /// # Errors
    /// When none can be opened.
    pub(crate) fn open_any(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.is_dir()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if let Some(partial) = Self::open(path)? {
            return Ok(partial);
        }
        let mut number = 0;
        loop {
            let mut own = path.as_os_str().to_owned();
            own.push(format!("-{}-{number}", std::process::id()));
            if let Some(mut partial) = Self::open(Path::new(&own))? {
                partial.clear()?;
                return Ok(partial);
            }
            number += 1;
        }
    }

    /// An empty one that is kept in memory as long as there is room, and is then opened as
    /// [`Partial::open_any`] does.
    pub(crate) fn in_memory(path: &Path, room: Room) -> Self {
        Self {
            path: path.to_owned(),
            held: Held::Memory {
                bytes: Vec::new(),
                version: String::new(),
                room,
            },
            length: 0,
            place: FilePath::default(),
        }
    }

    /// Whether `more` additional bytes need no file.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        match &self.held {
            Held::File(_) => false,
            Held::Memory { bytes, room, .. } => bytes.len() + more <= room.num_permits(),
        }
    }

    /// Puts it into a file if it is in memory; what lies there is forgotten.
    ///
    /// # Errors
    /// When there is no space, for example.
    pub(crate) fn put_on_disk(&mut self) -> io::Result<()> {
        if matches!(self.held, Held::File(_)) {
            return Ok(());
        }
        let mut opened = Self::open_any(&self.path)?;
        opened.clear()?;
        // Whoever waits to remove it is told where it is.
        let _ = self.place.set(opened.path.clone());
        opened.place = Arc::clone(&self.place);
        if let Held::Memory { bytes, version, .. } = std::mem::replace(self, opened).held {
            self.set_attribute(version);
            self.append(&bytes)?;
        }
        Ok(())
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it lies, or would.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its file lies, once it has one.
    pub(crate) fn place(&self) -> &FilePath {
        &self.place
    }

    /// The bytes and their room, if they are in memory.
    ///
    /// # Errors
    /// Itself, if it is a file.
    pub(crate) fn into_bytes(self) -> Result<(Bytes, Room), Self> {
        match self.held {
            Held::Memory { bytes, room, .. } => Ok((bytes.into(), room)),
            Held::File(_) => Err(self),
        }
    }

    /// Forgets all bytes, as when they have turned out to be wrong.
    ///
    /// # Errors
    /// When the file can't be cut.
    pub fn clear(&mut self) -> io::Result<()> {
        let is_empty = std::mem::take(&mut self.length) == 0;
        match &mut self.held {
            Held::File(file) if is_empty => file.rewind(),
            Held::File(file) => file.set_len(0).and_then(|()| file.rewind()),
            Held::Memory { bytes, .. } => {
                bytes.clear();
                Ok(())
            }
        }
    }

    /// The file, to be read from its beginning. Others may take what lies at the path as soon as
    /// it is closed.
    ///
    /// # Errors
    /// When it can't be rewound.
    pub fn into_file(mut self) -> io::Result<File> {
        self.put_on_disk()?;
        self.reader()
    }

    /// What reads its file from its beginning, one at a time.
    ///
    /// # Errors
    /// When there are no descriptors left, or there is no file yet.
    pub fn reader(&self) -> io::Result<File> {
        let Held::File(file) = &self.held else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// The hash of all bytes.
    ///
    /// # Errors
    /// When they can't be read, or nobody wants it any more.
    pub(super) fn hash(&self, algo: HashAlgo, stop: &Stop) -> Result<Hash, Fault> {
        let mut hasher = algo.hasher();
        if let Held::Memory { bytes, .. } = &self.held {
            hasher.update(bytes);
        } else {
            let file = self.reader();
            let mut file = file.map_err(|error| Fault::io("cannot open its file", &error))?;
            copy(&mut file, &mut hasher, stop, &mut drop)?;
        }
        Ok(hasher.finish())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When there is no space, for example.
    pub(crate) fn append(&mut self, more: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        if !self.has_room(more.len()) {
            self.put_on_disk()?;
        }
        match &mut self.held {
            Held::File(file) => file.write_all_at(more, self.length)?,
            Held::Memory { bytes, .. } => bytes.extend_from_slice(more),
        }
        self.length += more.len() as u64;
        Ok(())
    }

    /// What the server at `url` calls the version that the bytes are of, if they are from there.
    pub(crate) fn version(&self, url: &str) -> Option<String> {
        let read;
        let text = match &self.held {
            Held::Memory { version, .. } => version,
            Held::File(file) => {
                read = String::from_utf8(xattr::get(file.as_fd(), VERSION)?).ok()?;
                &read
            }
        };
        let (of, version) = text.split_once('\n')?;
        (of == url).then(|| version.to_owned())
    }

    /// Notes it. Where files have no attributes it is not known in the next run.
    pub(crate) fn set_version(&mut self, url: &str, version: Option<&str>) {
        let text = version.map(|version| format!("{url}\n{version}"));
        self.set_attribute(text.unwrap_or_default());
    }

    fn set_attribute(&mut self, text: String) {
        match &mut self.held {
            Held::File(file) => drop(xattr::set(file.as_fd(), VERSION, text.as_bytes())),
            Held::Memory { version, .. } => *version = text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time_and_bytes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut partial = Partial::open(&path).unwrap().unwrap();
        partial.append(b"hel").unwrap();
        partial.append(b"lo").unwrap();
        assert!(Partial::open(&path).unwrap().is_none());
        drop(partial);
        let mut partial = Partial::open(&path).unwrap().unwrap();
        assert_eq!(partial.length(), 5);
        assert_eq!(
            io::read_to_string(partial.reader().unwrap()).unwrap(),
            "hello"
        );
        partial.clear().unwrap();
        partial.append(b"x").unwrap();
        assert_eq!(
            io::read_to_string(partial.into_file().unwrap()).unwrap(),
            "x"
        );
        assert!(Partial::open(dir.path()).is_err());
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(Partial::open(&dir.path().join("link")).is_err());
    }

    #[test]
    fn versions_are_of_one_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = Partial::open(&dir.path().join("x")).unwrap().unwrap();
        partial.set_version("http://h/x", Some("\"1\""));
        if partial.version("http://h/x").is_none() {
            println!("skipped: the directory for temporary files has no attributes");
            return;
        }
        assert_eq!(partial.version("http://h/x").as_deref(), Some("\"1\""));
        assert_eq!(partial.version("http://other/x"), None);
        partial.set_version("http://h/x", None);
        assert_eq!(partial.version("http://h/x"), None);
    }

    fn room(bytes: u32) -> Room {
        let all = Arc::new(tokio::sync::Semaphore::new(1 << 20));
        all.try_acquire_many_owned(bytes).unwrap()
    }

    #[test]
    fn what_has_room_gets_a_file_when_it_needs_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/x");
        let mut partial = Partial::in_memory(&path, room(5));
        partial.set_version("http://h/x", Some("\"1\""));
        partial.append(b"hello").unwrap();
        assert!(partial.has_room(0) && !partial.has_room(1) && !path.exists());
        assert_eq!(partial.version("http://h/x").as_deref(), Some("\"1\""));
        let stop = Stop::default();
        let before = partial.hash(HashAlgo::Sha256, &stop).unwrap();
        let place = Arc::clone(partial.place());
        assert_eq!(place.get(), None);
        partial.put_on_disk().unwrap();
        assert_eq!(partial.hash(HashAlgo::Sha256, &stop).unwrap(), before);
        assert_eq!(place.get(), Some(&path));
        partial.append(b"!").unwrap();
        assert_eq!((partial.length(), partial.has_room(0)), (6, false));
        // Somebody else may have it, or have left something.
        let mut other = Partial::in_memory(&path, room(1));
        other.append(b"other").unwrap();
        assert_ne!(other.path(), path);
        assert_eq!(other.place().get().unwrap(), other.path());
        drop(partial);
        let mut last = Partial::in_memory(&path, room(9));
        last.append(b"last").unwrap();
        let file = last.into_file().unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "last");
        assert_eq!(std::fs::read(&path).unwrap(), b"last");
    }

    #[test]
    fn what_is_in_memory_gives_its_room_back() {
        let all = Arc::new(tokio::sync::Semaphore::new(10));
        let room = Arc::clone(&all).try_acquire_many_owned(8).unwrap();
        let mut partial = Partial::in_memory(Path::new("/no/such"), room);
        partial.append(b"wrong").unwrap();
        partial.clear().unwrap();
        partial.append(b"right").unwrap();
        let (bytes, room) = partial.into_bytes().unwrap();
        assert_eq!((&bytes[..], all.available_permits()), (&b"right"[..], 2));
        drop(room);
        assert_eq!(all.available_permits(), 10);
    }
}
