//! Whole-file locks as Nix takes them: flock(2), which fcntl locks do not exclude.
//! Knows files only; what a lock protects is its caller's business.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;

use crate::error::{Error, Result as StoreResult};
use crate::interrupt;
use crate::waiting::{Wait, lock_on};

/// Opens a lock file, and makes it, closed to others, if there is none; with `flags` beside those
/// that it takes. Others may create files where it lies, so that no link of theirs is followed.
///
/// # Errors
/// When it can't be opened.
pub fn open_or_create(path: &Path, flags: i32) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | flags)
        .open(path)
}

/// Opens a lock file, and makes it if there is none. Nobody else may open it, for whoever can read
/// it can hold its lock; one that was made too open is closed to others.
///
/// # Errors
/// When it can't be opened or is no regular file.
pub fn open_private(path: &Path) -> StoreResult<File> {
    let file = open_or_create(path, libc::O_NONBLOCK).map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("look at", path))?;
    if !metadata.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(Error::io("lock", path)(error));
    }
    if metadata.mode() & 0o077 != 0 && metadata.uid() == geteuid().as_raw() {
        let private = Permissions::from_mode(0o600);
        file.set_permissions(private)
            .map_err(Error::io("set the mode of", path))?;
    }
    Ok(file)
}

/// Waits for a shared lock on an open file, which is told by its `path` to who waits long.
///
/// # Errors
/// When it can't be locked, or the wait is to end.
pub fn lock_shared(file: &File, path: &Path) -> io::Result<()> {
    wait_for(path, || try_lock_shared(file))
}

/// As [`lock_shared`], for the exclusive lock.
///
/// # Errors
/// When it can't be locked, or the wait is to end.
pub fn lock_exclusive(file: &File, path: &Path) -> io::Result<()> {
    wait_for(path, || try_lock_exclusive(file))
}

fn wait_for(path: &Path, lock: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let mut wait = Wait::new();
    while !lock()? {
        wait.sleep(interrupt::SLICE, || lock_on(path))?;
    }
    Ok(())
}

/// Takes the exclusive lock if nobody holds a lock; says whether it did.
pub fn try_lock_exclusive(file: &File) -> io::Result<bool> {
    taken(file.try_lock())
}

/// Takes a shared lock if nobody holds the exclusive one; says whether it did.
pub fn try_lock_shared(file: &File) -> io::Result<bool> {
    taken(file.try_lock_shared())
}

fn taken(answer: Result<(), TryLockError>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn lock_files_are_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mode = || path.metadata().unwrap().mode() & 0o777;
        open_private(&path).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        open_private(&path).unwrap();
        assert_eq!(mode(), 0o600);
        let (link, fifo) = (directory.path().join("link"), directory.path().join("fifo"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open_private(&link).is_err() && open_private(&fifo).is_err());
    }

    #[test]
    fn locks_are_flock_and_exclude_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (one, two) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        assert!(try_lock_shared(&one).unwrap());
        assert!(try_lock_shared(&two).unwrap());
        one.unlock().unwrap();
        assert!(!try_lock_exclusive(&one).unwrap());
        two.unlock().unwrap();
        assert!(try_lock_exclusive(&one).unwrap());
        assert!(!try_lock_shared(&two).unwrap());

        // The standard library may choose another call one day; Nix would not notice such locks.
        let inode = format!(":{} ", one.metadata().unwrap().ino());
        let table = std::fs::read_to_string("/proc/locks").unwrap();
        let row = table.lines().find(|row| row.contains(&inode)).unwrap();
        assert!(row.contains("FLOCK") && row.contains("WRITE"), "{row}");
    }
}
