//! Locks on store paths: the file `P.lock` beside a path P, by the protocol of Nix's `PathLocks`.
//! Never waits; whoever wants a lock that is taken asks again later.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use windrow_sys::waiting::{holder, lock_on};
use windrow_sys::{flock, xattr};

/// A lock held on one store path. Dropped, it is given back and its file stays.
#[derive(Debug)]
pub struct PathLock {
    file: File,
    path: PathBuf,
}

/// Locks a store path, given where it really lies; none if another process, or this one, holds
/// the lock.
///
/// # Errors
/// [`Error::File`] if the lock file can't be opened or locked, or isn't a regular file.
pub fn try_lock(real_path: &Path) -> Result<Option<PathLock>> {
    try_lock_opened(real_path, None)
}

/// Opens the lock file of a store path, given where it really lies, for [`try_lock_opened`] later.
/// It makes the file, which is the dearest part of a lock.
///
/// # Errors
/// [`Error::File`] if it can't be opened.
pub fn open_ahead(real_path: &Path) -> Result<File> {
    open(&lock_path(real_path))
}

/// The same as [`try_lock`], with the lock file of that path if it was opened ahead.
///
/// # Errors
/// As [`try_lock`].
pub fn try_lock_opened(real_path: &Path, mut opened: Option<File>) -> Result<Option<PathLock>> {
    let path = lock_path(real_path);
    loop {
        let file = opened.take().map_or_else(|| open(&path), Ok)?;
        if !flock::try_lock_exclusive(&file).map_err(Error::io("lock", &path))? {
            return Ok(None);
        }
        // Held from here on, and given back on every way out but the one that returns it.
        let lock = PathLock {
            file,
            path: path.clone(),
        };
        if lock.is_current()? {
            return Ok(Some(lock));
        }
    }
}

/// Locks all the paths, in sorted order, or none of them.
///
/// # Errors
/// As [`try_lock`]; no lock is kept then.
pub fn try_lock_all<P: AsRef<Path>>(real_paths: &[P]) -> Result<Option<Vec<PathLock>>> {
    try_lock_all_opened(real_paths.iter().map(|path| (path, None)).collect())
}

/// The same, with the lock files that were opened ahead.
///
/// # Errors
/// As [`try_lock`]; no lock is kept then.
pub fn try_lock_all_opened<P: AsRef<Path>>(
    mut paths: Vec<(P, Option<File>)>,
) -> Result<Option<Vec<PathLock>>> {
    paths.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
    // Asked for twice, a path would find itself locked.
    paths.dedup_by(|(a, _), (b, _)| a.as_ref() == b.as_ref());
    let each = paths.into_iter();
    each.map(|(path, opened)| try_lock_opened(path.as_ref(), opened))
        .collect()
}

/// Which of the paths, given where they really lie, others hold the lock of, and who: for people
/// who wait for it.
pub fn held_by_others<P: AsRef<Path>>(real_paths: &[P]) -> String {
    let locks = real_paths.iter().map(|path| lock_path(path.as_ref()));
    let mut locks = locks.collect::<Vec<_>>();
    let held = locks.iter().position(|lock| holder(lock).is_some());
    match locks.is_empty() {
        true => "a lock".to_owned(),
        false => lock_on(&locks.swap_remove(held.unwrap_or(0))),
    }
}

/// Deletes the lock file of a path, given where it really lies, unless somebody holds it: they see
/// to it themselves. The path must be kept from collection until then, for a collector deletes such
/// files without a lock.
///
/// # Errors
/// [`Error::File`] if the file can't be locked or deleted.
pub fn delete_retired(real_path: &Path) -> Result<()> {
    let lock_path = &lock_path(real_path);
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(lock_path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("open", lock_path))?,
    };
    if !flock::try_lock_exclusive(&file).map_err(Error::io("lock", lock_path))? {
        return Ok(());
    }
    let lock = PathLock {
        file,
        path: lock_path.to_owned(),
    };
    if lock.is_current()? {
        lock.delete()
    } else {
        Ok(())
    }
}

impl PathLock {
    /// Gives the lock back and leaves its file: for a path that did not become valid, or to
    /// [`delete_retired`], to be deleted at a better time.
    pub fn unlock(self) {}

    /// Gives the lock back and deletes its file, for a path that is valid and so needs no lock
    /// any more. Whoever has the file open sees by the `d` in it that it is gone.
    ///
    /// # Errors
    /// [`Error::File`] if the file can't be deleted; the lock is given back all the same.
    pub fn delete(mut self) -> Result<()> {
        // A mark in a file that is still there would keep everybody from locking it again.
        fs::remove_file(&self.path).map_err(Error::io("delete", &self.path))?;
        // Growing the file is as good a mark and needs no room on a full disk.
        self.file
            .write_all(b"d")
            .or_else(|_| self.file.set_len(1))
            .map_err(Error::io("mark as deleted", &self.path))
    }

    /// Whether the locked file is the one that others find under its name.
    fn is_current(&self) -> Result<bool> {
        let metadata = self
            .file
            .metadata()
            .map_err(Error::io("look at", &self.path))?;
        if !metadata.is_file() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io("lock", &self.path)(error));
        }
        // Deleted by the holder, which marks it, or by a collector, which doesn't.
        if metadata.nlink() == 0 {
            return Ok(false);
        }
        // A mark without a deletion is left by no protocol; Nix would try such a file for ever.
        if metadata.size() != 0 {
            self.file
                .set_len(0)
                .map_err(Error::io("empty", &self.path))?;
        }
        Ok(true)
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Closing is not enough while a child that was just started shares the descriptor.
        let _ = self.file.unlock();
    }
}

fn lock_path(real_path: &Path) -> PathBuf {
    let mut path = real_path.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn open(path: &Path) -> Result<File> {
    let file = flock::open_or_create(path, 0).map_err(Error::io("open", path))?;
    // Whoever could open it could keep its lock. Where that can't be seen to it is closed all the
    // same, by its mode.
    let _ = xattr::drop_inherited(file.as_fd());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn open_descriptors_below(directory: &Path) -> usize {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.starts_with(directory))
            .count()
    }

    #[test]
    fn a_lock_excludes_until_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        let lock = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        lock.unlock();
        let file = directory.path().join("p.lock").metadata().unwrap();
        assert_eq!((file.size(), file.mode() & 0o7777), (0, 0o600));
        try_lock(&path).unwrap().unwrap().delete().unwrap();
        assert!(!directory.path().join("p.lock").exists());
        assert_eq!(open_descriptors_below(directory.path()), 0);
    }

    #[test]
    fn a_deleted_lock_is_marked_and_taken_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        let first = try_lock(&path).unwrap().unwrap();
        // What a waiting Nix holds: the same file, opened before the deletion.
        let waiting = File::open(&first.path).unwrap();
        first.delete().unwrap();
        assert_eq!(waiting.metadata().unwrap().size(), 1);
        assert_eq!(io::read_to_string(&waiting).unwrap(), "d");
        assert!(flock::try_lock_exclusive(&waiting).unwrap());
        let second = try_lock(&path).unwrap().unwrap();
        assert_ne!(
            second.file.metadata().unwrap().ino(),
            waiting.metadata().unwrap().ino()
        );
    }

    #[test]
    fn a_lock_file_opened_ahead_serves_unless_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        let opened = open_ahead(&path).unwrap();
        let inode = opened.metadata().unwrap().ino();
        let lock = try_lock_opened(&path, Some(opened)).unwrap().unwrap();
        assert_eq!(lock.file.metadata().unwrap().ino(), inode);
        let opened = open_ahead(&path).unwrap();
        assert!(try_lock_opened(&path, Some(opened)).unwrap().is_none());

        let opened = open_ahead(&path).unwrap();
        lock.delete().unwrap();
        let lock = try_lock_opened(&path, Some(opened)).unwrap().unwrap();
        let found = lock.path.metadata().unwrap().ino();
        assert_eq!(lock.file.metadata().unwrap().ino(), found);
    }

    #[test]
    fn a_stale_lock_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let lock = try_lock(&directory.path().join("p")).unwrap().unwrap();
        assert!(lock.is_current().unwrap());
        fs::remove_file(&lock.path).unwrap();
        assert!(!lock.is_current().unwrap());
    }

    #[test]
    fn a_mark_without_a_deletion_is_wiped() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("p.lock"), "d").unwrap();
        let lock = try_lock(&directory.path().join("p")).unwrap().unwrap();
        assert_eq!(lock.path.metadata().unwrap().size(), 0);
    }

    #[test]
    fn all_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["c", "a", "b", "a"].map(|name| directory.path().join(name));
        let other = try_lock(&directory.path().join("b")).unwrap().unwrap();
        assert!(try_lock_all(&paths).unwrap().is_none());
        assert_eq!(open_descriptors_below(directory.path()), 1);
        other.unlock();
        let locks = try_lock_all(&paths).unwrap().unwrap();
        let names: Vec<_> = locks
            .iter()
            .map(|lock| lock.path.file_name().unwrap())
            .collect();
        assert_eq!(names, ["a.lock", "b.lock", "c.lock"]);
        drop(locks);

        fs::create_dir(directory.path().join("c.lock.dir")).unwrap();
        fs::remove_file(directory.path().join("c.lock")).unwrap();
        fs::rename(
            directory.path().join("c.lock.dir"),
            directory.path().join("c.lock"),
        )
        .unwrap();
        let error = try_lock_all(&paths).unwrap_err().to_string();
        assert!(error.contains("c.lock"), "{error}");
        assert_eq!(open_descriptors_below(directory.path()), 0);
    }

    #[test]
    fn links_and_pipes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join("p.lock")).unwrap();
        assert!(try_lock(&directory.path().join("p")).is_err());
        nix::unistd::mkfifo(
            &directory.path().join("q.lock"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        let error = try_lock(&directory.path().join("q"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn one_holder_at_a_time_whatever_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 2000 {
                        let Some(lock) = try_lock(&path).unwrap() else {
                            continue;
                        };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        let count = taken.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        if count % 3 == 0 {
                            lock.unlock()
                        } else {
                            lock.delete().unwrap()
                        }
                    }
                });
            }
        });
    }
}
