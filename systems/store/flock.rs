//! Whole-file locks as Nix takes them: flock(2), which fcntl locks do not exclude.
//! Knows files only; what a lock protects is its caller's business.

use std::fs::{File, TryLockError};
use std::io;

/// Waits for a shared lock, however often a signal interrupts the wait.
pub(super) fn lock_shared(file: &File) -> io::Result<()> {
    loop {
        match file.lock_shared() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Waits for the exclusive lock, however often a signal interrupts the wait.
pub(super) fn lock_exclusive(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Takes the exclusive lock if nobody holds a lock; says whether it did.
pub(crate) fn try_lock_exclusive(file: &File) -> io::Result<bool> {
    taken(file.try_lock())
}

/// Takes a shared lock if nobody holds the exclusive one; says whether it did.
pub(super) fn try_lock_shared(file: &File) -> io::Result<bool> {
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
    fn locks_are_flock_and_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
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
