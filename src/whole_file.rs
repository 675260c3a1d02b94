//! Files that are there whole or not at all: written beside their place, and then put there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use windrow_sys::interrupt::{self, Owing};

use crate::error::{Error, Result};

/// How much is written between two looks for signals, in bytes.
const CHUNK: usize = 64 << 10;

/// A file that is written, or a device.
#[derive(Debug)]
pub(crate) struct Sink(File);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        interrupt::check()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Has `write` write a file, which takes the place of what is there once it is complete. What is no
/// regular file is written to as it is.
///
/// # Errors
/// When it can't be made or written, or `write` fails; nothing has changed then.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<Sink>) -> Result<()>,
) -> Result<()> {
    let found = fs::metadata(path);
    if found.as_ref().is_ok_and(|it| !it.is_file()) {
        let opened = OpenOptions::new().write(true).open(path);
        return fill(opened.map_err(Error::io("open", path))?, path, write).map(drop);
    }
    // Who waits for the end of this process gets it once the file beside is gone.
    let _owing = Owing::new();
    // A link goes on to lead there.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (file, beside) = Beside::create(&place).map_err(Error::io("create", path))?;
    let file = fill(file, path, write)?;
    if let Ok(found) = found {
        let kept = file.set_permissions(found.permissions());
        kept.map_err(Error::io("set the mode of", path))?;
    }
    drop(file);
    beside.put_to(&place).map_err(Error::io("create", path))
}

fn fill(
    file: File,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<Sink>) -> Result<()>,
) -> Result<File> {
    let mut sink = BufWriter::with_capacity(CHUNK, Sink(file));
    write(&mut sink)?;
    let sink = sink.into_inner().map_err(io::IntoInnerError::into_error);
    Ok(sink.map_err(Error::io("write to", path))?.0)
}

/// The name of a file that is deleted unless it is put to its place.
struct Beside(PathBuf);

impl Beside {
    fn create(place: &Path) -> io::Result<(File, Self)> {
        let name = place.file_name().ok_or(ErrorKind::IsADirectory)?;
        for number in 0_u32.. {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".windrow-{}-{number}", std::process::id()));
            let beside = place.with_file_name(hidden);
            match File::create_new(&beside) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return Ok((made?, Self(beside))),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    fn put_to(mut self, place: &Path) -> io::Result<()> {
        fs::rename(&self.0, place)?;
        self.0 = PathBuf::new();
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use windrow_sys::interrupt::Stop;

    use super::*;

    fn put(path: &Path, text: &str) -> Result<()> {
        write_whole(path, |sink| {
            sink.write_all(text.as_bytes())
                .map_err(Error::io("write to", path))
        })
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        put(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        put(&link, "new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        put(Path::new("/dev/null"), "nothing").unwrap();
        let error = put(&dir.path().join("none/file"), "x")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot create '") && error.contains("none/file"),
            "{error}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_ends_early_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        put(&file, "old").unwrap();
        let stop = Stop::default();
        let _entered = stop.enter();
        let written = write_whole(&file, |sink| {
            stop.set();
            let text = vec![b'x'; 2 * CHUNK];
            sink.write_all(&text).map_err(Error::io("write to", &file))
        });
        assert!(interrupt::is_cause_of(&written.unwrap_err()));
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
