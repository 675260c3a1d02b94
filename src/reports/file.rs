//! A file that is written at the end of a command, whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Where it will be.
#[derive(Debug)]
pub(crate) struct WholeFile {
    /// As given, for messages.
    named: PathBuf,
    /// What a link leads to.
    path: PathBuf,
    /// What is no file of its own, such as a terminal or a pipe, can't be replaced by one.
    is_special: bool,
    action: &'static str,
}

impl WholeFile {
    /// Looks whether a file can be written there, so that one hears of it before the work and not
    /// after. Nothing is there by then that was not there before. `action` says what for, as in
    /// "write the report".
    ///
    /// # Errors
    /// When it can't.
    pub(crate) fn expect(path: &Path, action: &'static str) -> Result<Self> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = Self {
            named: path.to_owned(),
            is_special: real.exists() && !real.is_file(),
            path: real,
            action,
        };
        match file.is_special {
            true => drop(file.open()?),
            false => drop(file.beside()?),
        }
        Ok(file)
    }

    fn failed(&self) -> impl FnOnce(std::io::Error) -> Error {
        Error::io(self.action, &self.named)
    }

    fn open(&self) -> Result<File> {
        let opened = OpenOptions::new().write(true).open(&self.path);
        opened.map_err(self.failed())
    }

    /// A file in the same directory, which is gone again if it is not put in place.
    fn beside(&self) -> Result<NamedTempFile> {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        let made = tempfile::Builder::new()
            .prefix(".windrow-")
            // As of any new file: the umask takes from it.
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(parent.unwrap_or(Path::new(".")));
        // The error of that crate names a file that nobody knows of.
        let plain = |error: std::io::Error| match error.raw_os_error() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::from(error.kind()),
        };
        made.map_err(|error| self.failed()(plain(error)))
    }

    /// Writes the file, in place of one that is there.
    ///
    /// # Errors
    /// When it can't be written; one that was there is then as it was.
    pub(crate) fn write(&self, contents: &str) -> Result<()> {
        if self.is_special {
            return self
                .open()?
                .write_all(contents.as_bytes())
                .map_err(self.failed());
        }
        let mut file = self.beside()?;
        file.write_all(contents.as_bytes()).map_err(self.failed())?;
        let put = file.persist(&self.path);
        put.map_err(|error| self.failed()(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_when_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.html"), dir.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        symlink(&path, &link).unwrap();
        let file = WholeFile::expect(&link, "write the report").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        file.write("new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(link.is_symlink());
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn where_none_can_be_it_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/a.html");
        let error = WholeFile::expect(&path, "write the report").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot write the report '"), "{text}");
        assert!(
            text.contains("none/a.html") && !text.contains(".windrow-"),
            "{text}"
        );
        let error = WholeFile::expect(dir.path(), "write the report").unwrap_err();
        assert!(error.to_string().contains("directory"), "{error}");
        WholeFile::expect(Path::new("/dev/null"), "write the report")
            .unwrap()
            .write("x")
            .unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
