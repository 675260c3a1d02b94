//! The directory of one run beside its build directories: private, and locked as long as the run
//! lives. What a run that was killed left in it, and what its record names, the next run deletes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::time::ClockId;
use nix::unistd::geteuid;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use windrow_sys::flock::try_lock_exclusive;
use windrow_sys::names::with_suffix;
use windrow_sys::tree::delete_path;

/// How the directories of runs begin; six characters follow.
const PREFIX: &str = ".windrow-run-";
/// The file that is locked. It says which build directories outside belong to the run, by inode
/// number.
const RECORD: &str = "record";
/// A link to the directory of the run in the store.
const IN_STORE: &str = "store";
/// How the directory of a run in the store is called, after 32 characters of its own.
pub const IN_STORE_SUFFIX: &str = "-windrow.chroot";
/// How build directories outside of it begin, as in Nix.
pub const BUILD_PREFIX: &str = "nix-build-";
/// How many names are tried before they are given up.
const ATTEMPTS: u32 = 100_000;

/// A directory as it was at some moment. Two that are equal are of the same directory, to which
/// nothing was done between, if the file system tells changes apart ([`tells_changes_apart`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    /// Everything but reading changes it, and nobody can set it: entries, owner, mode, times,
    /// attributes, flags, generation.
    changed: (i64, i64),
    /// When it was last read, which the next user could see.
    accessed: (i64, i64),
}

impl Stamp {
    /// That of the directory at `path`.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(Self::from_metadata(&metadata))
    }

    /// The same, of what the system told of it.
    pub fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            accessed: (metadata.atime(), metadata.atime_nsec()),
        }
    }

    /// Whether both are of one directory, whatever happened to it.
    pub fn is_same_directory(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// The directory of this run. Closed, or dropped, it goes with all that is in it.
#[derive(Debug)]
pub struct RunDir {
    parent: PathBuf,
    path: PathBuf,
    record: File,
    next: AtomicU64,
    tells_changes_apart: bool,
}

impl RunDir {
    /// Makes one below the directory of build directories.
    ///
    /// # Errors
    /// When it can't be made or locked.
    pub fn create(parent: &Path) -> io::Result<Self> {
        let template = parent.join(format!("{PREFIX}XXXXXX"));
        for _ in 0..ATTEMPTS {
            // Exclusively and with mode 0700, under a name that nobody can foresee.
            let path = nix::unistd::mkdtemp(&template)?;
            if let Some(record) = create_record(&path)? {
                let tells_changes_apart = tells_changes_apart(&File::open(&path)?)?;
                return Ok(Self {
                    parent: parent.to_owned(),
                    path,
                    record,
                    next: AtomicU64::new(0),
                    tells_changes_apart,
                });
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name that nothing in it has had.
    pub fn unused_name(&self) -> OsString {
        self.next.fetch_add(1, Ordering::Relaxed).to_string().into()
    }

    /// Whether equal [`Stamp`]s prove that nothing was done to a directory here.
    pub fn tells_changes_apart(&self) -> bool {
        self.tells_changes_apart
    }

    /// Makes an empty build directory for nobody but us, still in here, which will be deleted even
    /// if it lies elsewhere when this run is killed.
    ///
    /// # Errors
    /// When it can't be made or recorded.
    pub fn make_build_dir(&self) -> io::Result<(PathBuf, Stamp)> {
        let path = self.path.join(self.unused_name());
        DirBuilder::new().mode(0o700).create(&path)?;
        let stamp = Stamp::of(&path)?;
        self.note('+', &stamp)?;
        Ok((path, stamp))
    }

    /// Forgets a build directory: it is to stay, or was deleted.
    ///
    /// # Errors
    /// When that can't be recorded.
    pub fn forget(&self, stamp: &Stamp) -> io::Result<()> {
        self.note('-', stamp)
    }

    /// Deletes a build directory, unless somebody put something else in its place.
    pub fn delete_build_dir(&self, path: &Path, stamp: &Stamp) {
        if !Stamp::of(path).is_ok_and(|now| now.is_same_directory(stamp)) {
            let _ = self.forget(stamp);
            return;
        }
        let inside = self.path.join(self.unused_name());
        // An ordinary user can't move a directory that its builder made read-only.
        let place = match rename_new(path, &inside) {
            Ok(()) => &inside,
            Err(_) => path,
        };
        // Before it goes: its inode number may be that of somebody else's directory soon.
        let forgotten = self.forget(stamp);
        // What can't be deleted stays until the run ends, or in the temporary directory, which is
        // no harm to the store.
        let _ = delete_path(place);
        if forgotten.is_err() {
            // Perhaps the disk was full.
            let _ = self.forget(stamp);
        }
    }

    /// Gives a directory that is in here the first free name of Nix's kind beside this one (Nix
    /// 1.8: `createTempDir`).
    ///
    /// # Errors
    /// When all names are taken, or it can't be renamed.
    pub fn publish(&self, path: &Path, drv_file_name: &str) -> io::Result<PathBuf> {
        self.first_free(drv_file_name, |public| rename_new(path, public))
    }

    /// Makes a build directory with such a name at once: for where nothing may be renamed to
    /// another directory (Landlock). If the run is killed between the two steps it stays, empty.
    ///
    /// # Errors
    /// When all names are taken, or it can't be made or recorded.
    pub fn make_public(&self, drv_file_name: &str) -> io::Result<(PathBuf, Stamp)> {
        let make = |public: &Path| DirBuilder::new().mode(0o700).create(public);
        let path = self.first_free(drv_file_name, make)?;
        let stamp = Stamp::of(&path)?;
        self.note('+', &stamp)?;
        Ok((path, stamp))
    }

    fn first_free(
        &self,
        drv_file_name: &str,
        take: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        for number in 0..ATTEMPTS {
            let name = format!("{BUILD_PREFIX}{drv_file_name}");
            let name = with_suffix(name.as_ref(), &format!("-{number}"));
            let public = self.parent.join(name);
            match take(&public) {
                Ok(()) => return Ok(public),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Notes where the directory of this run in the store is to be.
    ///
    /// # Errors
    /// When the link can't be made.
    pub fn note_in_store(&self, path: &Path) -> io::Result<()> {
        symlink(path, self.path.join(IN_STORE))
    }

    fn note(&self, sign: char, stamp: &Stamp) -> io::Result<()> {
        let line = format!("{sign}{}\n", stamp.inode);
        (&self.record).write_all(line.as_bytes())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // What can't be deleted the next run will try to delete.
        let _ = delete_path(&self.path);
    }
}

fn record_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options
}

/// Makes and locks the record of a new directory. `None` if somebody took the directory for that of
/// a dead run before it was locked.
fn create_record(path: &Path) -> io::Result<Option<File>> {
    let mut options = record_options();
    let record = match options.create_new(true).open(path.join(RECORD)) {
        Ok(record) => record,
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let ours = try_lock_exclusive(&record)? && record.metadata()?.nlink() > 0;
    Ok(ours.then_some(record))
}

/// Renames a directory to a name that must be free.
///
/// # Errors
/// `AlreadyExists` if it is not; what else the system says.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not on this file system. An empty directory, which we just made, is replaced.
        Err(Errno::INVAL | Errno::NOSYS) => {
            DirBuilder::new().mode(0o700).create(to)?;
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

/// Whether any two changes to a directory of this file system give it different change times, if it
/// was looked at between (Linux 6.13 and later on most file systems). Elsewhere two within some
/// milliseconds look alike. The directory must be ours.
///
/// # Errors
/// When it can't be looked at.
pub fn tells_changes_apart(dir: &File) -> io::Result<bool> {
    let mode = dir.metadata()?.permissions();
    let mut proofs = 0;
    // Somebody else's work may carry some of them past the next tick of the clock, which proves
    // nothing.
    for _ in 0..64 {
        let tick = coarse_now()?;
        let before = dir.metadata()?;
        dir.set_permissions(mode.clone())?;
        let after = dir.metadata()?;
        if (before.ctime(), before.ctime_nsec()) >= (after.ctime(), after.ctime_nsec()) {
            return Ok(false);
        }
        if coarse_now()? == tick {
            proofs += 1;
        }
        if proofs == 3 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The clock by which file systems without finer times go.
fn coarse_now() -> io::Result<(i64, i64)> {
    let now = ClockId::CLOCK_REALTIME_COARSE.now()?;
    Ok((now.tv_sec(), now.tv_nsec()))
}

/// Deletes what runs that were killed left below a directory of build directories, and in this
/// store. What belongs to runs that live, to others and to other programs stays, and so do build
/// directories that were kept on purpose.
pub fn delete_dead(parent: &Path, real_store_dir: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let suffix = name.as_bytes().strip_prefix(PREFIX.as_bytes());
        if suffix.is_some_and(|suffix| suffix.len() == 6)
            && let Ok(Some(dead)) = DeadRun::take(&parent.join(&name))
        {
            // What can't be deleted stays for the next attempt.
            let _ = dead.delete(parent, real_store_dir);
        }
    }
}

/// The directory of a run that was killed, locked by us.
struct DeadRun {
    path: PathBuf,
    device: u64,
    record: File,
}

impl DeadRun {
    /// `None` if that run lives, or it is not one of ours.
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = File::from(nix::fcntl::open(path, flags, Mode::empty())?);
        let metadata = dir.metadata()?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o7777 != 0o700 {
            return Ok(None);
        }
        // Made, if it is not there yet: whoever is about to make it will then see that it was too
        // slow.
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let record = File::from(openat(
            dir.as_fd(),
            RECORD,
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?);
        let ours = record.metadata()?.is_file()
            && try_lock_exclusive(&record)?
            && record.metadata()?.nlink() > 0;
        Ok(ours.then(|| Self {
            path: path.to_owned(),
            device: metadata.dev(),
            record,
        }))
    }

    /// The build directories that were not forgotten, by inode number.
    fn build_dirs(&self) -> io::Result<HashSet<u64>> {
        let mut text = String::new();
        (&self.record).read_to_string(&mut text)?;
        let mut inodes = HashSet::new();
        for line in text.lines() {
            let Some((sign, Ok(inode))) = line.split_at_checked(1).map(|(s, n)| (s, n.parse()))
            else {
                continue;
            };
            match sign {
                "+" => inodes.insert(inode),
                _ => inodes.remove(&inode),
            };
        }
        Ok(inodes)
    }

    fn delete(&self, parent: &Path, real_store_dir: &Path) -> io::Result<()> {
        let inodes = self.build_dirs()?;
        if !inodes.is_empty() {
            for entry in fs::read_dir(parent)?.flatten() {
                self.withdraw(&parent.join(entry.file_name()), &inodes);
            }
        }
        if let Ok(in_store) = fs::read_link(self.path.join(IN_STORE))
            && in_store.parent() == Some(real_store_dir)
            && in_store.file_name().is_some_and(is_in_store_name)
        {
            delete_path(&in_store).map_err(io::Error::other)?;
        }
        delete_path(&self.path).map_err(io::Error::other)?;
        Ok(())
    }

    /// Takes a build directory of that run from its place, or deletes it there.
    fn withdraw(&self, path: &Path, inodes: &HashSet<u64>) {
        let is_named_so = path
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(BUILD_PREFIX.as_bytes()));
        if is_named_so
            && let Ok(stamp) = Stamp::of(path)
            && stamp.device == self.device
            && inodes.contains(&stamp.inode)
        {
            let inside = self.path.join(format!("dead-{}", stamp.inode));
            if rename_new(path, &inside).is_err() {
                let _ = delete_path(path);
            }
        }
    }
}

fn is_in_store_name(name: &OsStr) -> bool {
    let hash = name.as_bytes().strip_suffix(IN_STORE_SUFFIX.as_bytes());
    hash.is_some_and(|hash| {
        hash.len() == 32 && hash.iter().all(|&c| windrow_components::nix32::is_digit(c))
    })
}

#[cfg(test)]
mod tests;
