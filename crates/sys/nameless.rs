//! Files without a name: what is in them is gone when nobody has them open any more, however the
//! program ends. One may be given a name once it is complete.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

/// Makes one on the file system of `dir`, to be read and written, with the mode that new files
/// have.
///
/// # Errors
/// When there is no such directory, or nothing can be written there.
pub fn create(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(dir);
    match opened {
        Err(error) if lacks_support(&error) => create_and_unlink(dir),
        opened => opened,
    }
}

/// Whether it is the file system or the kernel that has no such files.
fn lacks_support(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOSYS)
    )
}

fn create_and_unlink(dir: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // In a directory of its own, so that nobody else can have made the file.
        let own = dir.join(format!(".windrow-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&own) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        let path = own.join("file");
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).open(&path);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&own);
        return opened;
    }
}

/// A path by which this process can open the file anew, as long as it has it open.
pub fn path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives the file a name on its file system.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`]; others where files without a name can't be given one, or not
/// there.
pub fn give_name(file: &File, name: &Path) -> io::Result<()> {
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    linkat(AT_FDCWD.as_fd(), &path(file), AT_FDCWD.as_fd(), name, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_has_a_name_when_it_is_given_one() {
        let dir = tempfile::tempdir().unwrap();
        let entries = || std::fs::read_dir(dir.path()).unwrap().count();
        let mut file = create(dir.path()).unwrap();
        file.write_all(b"hello").unwrap();
        assert_eq!(entries(), 0);
        assert_eq!(std::fs::read(path(&file)).unwrap(), b"hello");
        let name = dir.path().join("name");
        if let Err(error) = give_name(&file, &name) {
            // The file system has no such files.
            assert_ne!(error.kind(), io::ErrorKind::AlreadyExists);
            return;
        }
        assert_eq!(std::fs::read(&name).unwrap(), b"hello");
        let again = give_name(&file, &name).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn where_there_are_none_a_file_loses_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = create_and_unlink(dir.path()).unwrap();
        file.write_all(b"hello").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(std::fs::read(path(&file)).unwrap(), b"hello");
        assert!(give_name(&file, &dir.path().join("name")).is_err());
        assert!(create(&dir.path().join("none")).is_err());
    }
}
