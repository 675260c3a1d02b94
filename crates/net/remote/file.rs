//! A cache in a directory of this machine. All of it works on threads that may wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use windrow_sys::bounded;
use windrow_sys::interrupt::Stop;

use super::Found;
use super::body::Source;
use super::partial::Partial;
use crate::error::{Fault, Kind};

/// How much is copied between looks at whether to go on.
const CHUNK: usize = 256 << 10;

/// How many small files are read at once. With more, threads spend their time waking each other.
const READERS: usize = 2;

/// The directory.
#[derive(Debug)]
pub(crate) struct Directory {
    place: PathBuf,
    readers: Semaphore,
}

impl Directory {
    pub(crate) fn new(place: &Path) -> Self {
        Self {
            place: place.to_owned(),
            readers: Semaphore::new(READERS),
        }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Waits until it is a reader's turn, which it is until what comes back is dropped.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        let turn = self.readers.acquire().await;
        turn.map_err(|_| Fault::cancelled())
    }

    /// The file of a name: below the directory, whatever the name is.
    ///
    /// # Errors
    /// When the name leads out of it.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, Fault> {
        let bad = || {
            let text = "it is no name of a file below the cache's directory";
            Fault::new(Kind::BadAddress, text)
        };
        let path = Path::new(name);
        let is_plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || name.contains("\0") || name.contains("://") || !is_plain {
            return Err(bad());
        }
        Ok(self.place.join(path))
    }

    /// Opens the file of a name, if it is there.
    ///
    /// # Errors
    /// When it is no regular file or can't be read.
    pub(crate) fn open(&self, name: &str) -> Result<Option<File>, Fault> {
        let path = self.path(name)?;
        // What is no file could wait for somebody to write.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Fault::io("cannot open it", &error)),
        };
        let metadata = file.metadata();
        let metadata = metadata.map_err(|error| Fault::io("cannot look at it", &error))?;
        if !metadata.is_file() {
            return Err(Fault::new(Kind::Io, "it is no regular file"));
        }
        Ok(Some(file))
    }

    /// How large the file of a name is, if it is there.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub(crate) fn find(&self, name: &str) -> Result<Option<Found>, Fault> {
        let Some(file) = self.open(name)? else {
            return Ok(None);
        };
        let size = Some(length(&file)?);
        Ok(Some(Found { size }))
    }

    /// What a file holds, if it is there.
    ///
    /// # Errors
    /// When it can't be read, or has more bytes than that.
    pub(crate) fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
        let Some(file) = self.open(name)? else {
            return Ok(None);
        };
        match bounded::read_to_end(file, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                Err(Fault::new(Kind::TooLarge, error))
            }
            Err(error) => Err(Fault::io("cannot read it", &error)),
        }
    }

    /// Writes a file, and directories for it, so that it is there as a whole or not at all.
    ///
    /// # Errors
    /// When it can't be written, the source can't be read, or nobody wants it any more.
    pub(crate) fn put(&self, name: &str, source: &Source, stop: &Stop) -> Result<(), Fault> {
        let path = self.path(name)?;
        let failed = |what: &'static str| move |error: io::Error| Fault::io(what, &error);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed("cannot make its directory"))?;
        }
        let made = Temporary::beside(&path, &NUMBER);
        let (mut temporary, mut file) = made.map_err(failed("cannot make a file beside it"))?;
        copy(&mut source.reader(), &mut file, stop, &mut |_| {})?;
        // After a power cut it would be there with nothing in it, and believed.
        file.sync_data()
            .map_err(failed("cannot write it to the disk"))?;
        fs::rename(&temporary.0, &path).map_err(failed("cannot rename it"))?;
        temporary.0 = PathBuf::new();
        Ok(())
    }
}

impl Directory {
    /// Copies a file.
    ///
    /// # Errors
    /// When it is not there, has another size than that, or nobody wants it any more.
    pub(crate) fn download(
        &self,
        name: &str,
        mut partial: Partial,
        (expected, mut progress): (Option<u64>, impl FnMut(u64)),
        stop: &Stop,
    ) -> Result<Partial, Fault> {
        let absent = || Fault::new(Kind::Status(404), "there is no such file");
        let mut file = self.open(name)?.ok_or_else(absent)?;
        let length = length(&file)?;
        if let Some(expected) = expected.filter(|expected| *expected != length) {
            let kind = if length < expected {
                Kind::Short
            } else {
                Kind::TooLarge
            };
            let text = format!("it has {length} bytes instead of {expected}");
            return Err(Fault::new(kind, text));
        }
        let failed = |error| Fault::io("cannot empty the file for it", &error);
        partial.clear().map_err(failed)?;
        let mut so_far = 0;
        let mut told = |count| {
            so_far += count;
            progress(so_far);
        };
        copy(&mut file, &mut Appended(&mut partial), stop, &mut told)?;
        Ok(partial)
    }
}

fn length(file: &File) -> Result<u64, Fault> {
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| Fault::io("cannot look at it", &error))?;
    Ok(metadata.len())
}

/// Writes to the end of a file.
struct Appended<'p>(&'p mut Partial);

impl Write for Appended<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The numbers that files are made under which have no name yet.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file that is removed unless it gets its name.
struct Temporary(PathBuf);

impl Temporary {
    /// Makes one with the next number that is free: processes of other namespaces, or of other
    /// machines, may have this one's.
    fn beside(path: &Path, numbers: &AtomicU64) -> io::Result<(Self, File)> {
        loop {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".tmp.{}.{number}", std::process::id()));
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).open(&name) {
                Ok(file) => return Ok((Self(name.into()), file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Copies all that comes, until nobody wants it any more.
///
/// # Errors
/// When it is not wanted, or can't be read or written.
pub(crate) fn copy(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Fault> {
    let mut buffer = vec![0; CHUNK];
    loop {
        if stop.is_set() {
            return Err(Fault::cancelled());
        }
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let written = writer.write_all(&buffer[..count]);
                written.map_err(|error| Fault::io("cannot write it", &error))?;
                progress(count as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::io("cannot read it", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_have_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let made = |from| Temporary::beside(&path, &AtomicU64::new(from)).unwrap().0;
        let (first, second, third) = (made(0), made(0), made(1));
        let number = |it: &Temporary| it.0.extension().unwrap().to_str().unwrap().to_owned();
        assert_eq!([&first, &second, &third].map(number), ["0", "1", "2"]);
        drop((first, second, third));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = Temporary::beside(&path.join("x"), &AtomicU64::new(0));
        assert_eq!(nowhere.err().unwrap().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn names_stay_below_the_directory() {
        let dir = Directory::new(Path::new("/cache"));
        for name in [
            "x.narinfo",
            "nar/a.nar.xz",
            "log/a-b.drv",
            "realisations/sha256:0!out.doi",
        ] {
            assert_eq!(dir.path(name).unwrap(), Path::new("/cache").join(name));
        }
        for bad in [
            "",
            "..",
            "../x",
            "nar/../../x",
            "/etc/passwd",
            "./x",
            "a\0",
            "http://h/x",
        ] {
            assert_eq!(dir.path(bad).unwrap_err().kind, Kind::BadAddress, "{bad:?}");
        }
    }
}
