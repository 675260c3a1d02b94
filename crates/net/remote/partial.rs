//! A file that is being downloaded: what there is of it is kept over failures and over runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

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
    file: File,
    length: u64,
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
                    file,
                    length: metadata.len(),
                }));
            }
        }
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets all bytes, as when they have turned out to be wrong.
    ///
    /// # Errors
    /// When the file can't be cut.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.length > 0 {
            self.file.set_len(0)?;
            self.length = 0;
        }
        self.file.rewind()
    }

    /// The file, to be read from its beginning. Others may take what lies at the path as soon as
    /// it is closed.
    ///
    /// # Errors
    /// When it can't be rewound.
    pub fn into_file(mut self) -> io::Result<File> {
        self.file.rewind()?;
        Ok(self.file)
    }

    /// What reads it from its beginning, one at a time.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// The hash of all bytes.
    ///
    /// # Errors
    /// When they can't be read, or nobody wants it any more.
    pub(super) fn hash(&self, algo: HashAlgo, stop: &Stop) -> Result<Hash, Fault> {
        let file = self.reader();
        let mut file = file.map_err(|error| Fault::io("cannot open its file", &error))?;
        let mut hasher = algo.hasher();
        copy(&mut file, &mut hasher, stop, &mut drop)?;
        Ok(hasher.finish())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When there is no space, for example.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What the server at `url` calls the version that the bytes are of, if they are from there.
    pub(crate) fn version(&self, url: &str) -> Option<String> {
        let text = String::from_utf8(xattr::get(self.file.as_fd(), VERSION)?).ok()?;
        let (of, version) = text.split_once('\n')?;
        (of == url).then(|| version.to_owned())
    }

    /// Notes it. Where files have no attributes it is not known in the next run.
    pub(crate) fn set_version(&mut self, url: &str, version: Option<&str>) {
        match version {
            Some(version) => {
                let text = format!("{url}\n{version}");
                let _ = xattr::set(self.file.as_fd(), VERSION, text.as_bytes());
            }
            None => {
                let _ = xattr::set(self.file.as_fd(), VERSION, b"");
            }
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
        assert_eq!(io::read_to_string(&partial.file).unwrap(), "hello");
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
}
