//! Hard-links equal files of the store to each other through `.links`, as Nix does
//! (`optimisePath`), so that either goes on where the other stopped. Works on one path at a time;
//! which paths is up to the caller.

mod whole;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use hashbrown::HashSet;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};
use sha2::{Digest as _, Sha256};
use windrow_components::nix32;

use crate::Layout;
use crate::files::beside::unique_beside;
use crate::nar;
use windrow_sys::tree::{Kind, Node, Order, Visitor, unsupported, walk};
use windrow_sys::{Error, Result};

pub use whole::optimise_store;

/// How often a link that others take away at the same time is tried again.
const ATTEMPTS: u32 = 4;

/// What linking files has saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Files that are links to an equal one now and were not before.
    pub files: u64,
    /// Their sizes, in bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Saved {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// What came of optimising a path.
#[derive(Debug, Default)]
pub struct Optimised {
    /// What was saved.
    pub saved: Saved,
    /// What was strange about some of its files, which were left alone.
    pub warnings: Vec<String>,
}

/// The store, open for linking. Any number of threads may use one at the same time.
#[derive(Debug)]
pub struct Optimiser {
    store: OwnedFd,
    links: OwnedFd,
    /// Inodes that were in `.links` when it was read, if it was.
    known: HashSet<libc::ino_t>,
    /// Whether entries of `.links` are hashed before they are used, not only measured.
    verify: bool,
}

impl Optimiser {
    /// For paths that are new, so that none of their files is linked yet.
    ///
    /// # Errors
    /// When the store can't be opened, or there can be no links in it.
    pub fn open(layout: &Layout) -> Result<Self> {
        let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let path = &layout.real_store_dir;
        let store = open(path, directory, Mode::empty())
            .map_err(|errno| Error::io("open the store", path)(errno.into()))?;
        let links = openat(
            &store,
            ".links",
            directory | OFlag::O_NOFOLLOW,
            Mode::empty(),
        );
        let links = links
            .map_err(|errno| Error::io("open the directory", path.join(".links"))(errno.into()))?;
        Ok(Self {
            store,
            links,
            known: HashSet::new(),
            verify: false,
        })
    }

    /// For all that there is: files that are linked already, by whomever, are not looked at again.
    ///
    /// # Errors
    /// As [`Optimiser::open`].
    pub fn open_for_all(layout: &Layout, verify: bool) -> Result<Self> {
        use std::os::unix::fs::DirEntryExt as _;
        let mut optimiser = Self::open(layout)?;
        optimiser.verify = verify;
        if !verify {
            let path = layout.real_store_dir.join(".links");
            let entries = std::fs::read_dir(&path).map_err(Error::io("list", &path))?;
            // An entry that can't be read any more was just deleted.
            optimiser.known = entries.flatten().map(|entry| entry.ino()).collect();
        }
        Ok(optimiser)
    }

    /// The same for paths that are about to be registered: whatever goes wrong, they are good
    /// without. Returns what to warn of.
    pub fn optimise_new(&self, paths: &[std::path::PathBuf]) -> Vec<String> {
        let mut warnings = Vec::new();
        for path in paths {
            match self.optimise(path) {
                Ok(optimised) => warnings.extend(optimised.warnings),
                Err(error) => {
                    let path = path.display();
                    warnings.push(format!("cannot link equal files in '{path}': {error}"));
                }
            }
        }
        warnings
    }

    /// Links the files of one canonical path to equal ones. At any moment the path has all of its
    /// files.
    ///
    /// # Errors
    /// When a file can't be read or linked, except for the many links and the want of space that a
    /// file system may answer with: such files stay as they are.
    ///
    /// Nix 1.8: `DerivationGoal::registerOutputs`.
    pub fn optimise(&self, path: &std::path::Path) -> Result<Optimised> {
        // Named after the path, which is a temporary root, so that no collector takes it away.
        let temporary = unique_beside(path, "link");
        let temporary = temporary.file_name().unwrap_or_default();
        let mut linker = Linker {
            optimiser: self,
            temporary,
            optimised: Optimised::default(),
            touched: Vec::new(),
        };
        walk(path, Order::Any, &mut linker)?;
        Ok(linker.optimised)
    }
}

/// What has been done to a directory to change entries of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    No,
    /// An entry was exchanged, so its time is no longer the store's.
    Changed,
    /// It was made writable as well.
    Widened,
}

struct Linker<'a> {
    optimiser: &'a Optimiser,
    /// What a link is called, in the store directory, before it is put in a file's place.
    temporary: &'a OsStr,
    optimised: Optimised,
    /// The directories the walk is in, except the store itself.
    touched: Vec<Touched>,
}

impl Visitor for Linker<'_> {
    type Dir = ();

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
        match node.kind()? {
            Kind::Directory => {
                let handle = node.open_directory()?;
                self.touched.push(Touched::No);
                return Ok(Some((handle, ())));
            }
            Kind::Regular | Kind::Symlink => self.link(node)?,
            Kind::Other => return Err(unsupported(node)),
        }
        Ok(None)
    }

    fn leave(&mut self, node: &Node<'_>, handle: OwnedFd, (): ()) -> Result<()> {
        let touched = self.touched.pop().unwrap_or(Touched::No);
        if touched == Touched::Widened {
            fchmod(&handle, Mode::from_bits_truncate(0o555))
                .map_err(node.failed("set the mode of"))?;
        }
        if touched != Touched::No {
            futimens(&handle, &TimeSpec::UTIME_OMIT, &TimeSpec::new(1, 0))
                .map_err(node.failed("set the modification time of"))?;
        }
        Ok(())
    }
}

impl Linker<'_> {
    fn link(&mut self, node: &Node<'_>) -> Result<()> {
        let stat = node.stat()?;
        let is_link = Kind::from_mode(stat.st_mode) == Kind::Symlink;
        if !is_link && stat.st_mode & 0o200 != 0 {
            let path = node.path();
            let text = format!("skipping suspicious writable file '{}'", path.display());
            self.optimised.warnings.push(text);
            return Ok(());
        }
        if stat.st_nlink > 1 && self.optimiser.known.contains(&stat.st_ino) {
            return Ok(());
        }
        let name = CString::new(nix32::encode(&hash(node)?)).unwrap_or_default();
        let links = self.optimiser.links.as_fd();
        for _ in 0..ATTEMPTS {
            match fstatat(links, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(link) if link.st_ino == stat.st_ino => return Ok(()),
                Ok(link) if self.is_corrupt(&name, &link, &stat) => {
                    let text = format!(
                        "removing corrupted link '.links/{}'",
                        name.to_string_lossy()
                    );
                    self.optimised.warnings.push(text);
                    match unlinkat(links, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(errno) => return Err(node.failed("remove the bad link of")(errno)),
                    }
                }
                Ok(_) => {
                    if self.exchange(node, &name, &stat)? {
                        return Ok(());
                    }
                }
                Err(Errno::ENOENT) => {
                    let flags = LinkatFlags::empty();
                    match linkat(node.parent(), node.name(), links, name.as_c_str(), flags) {
                        Ok(()) => return Ok(()),
                        Err(Errno::EEXIST) => {}
                        // A full disk or directory, or one that can't link this: the file stays as
                        // it is.
                        Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EMLINK) => return Ok(()),
                        Err(Errno::EPERM | Errno::EOPNOTSUPP) if is_link => return Ok(()),
                        Err(errno) => return Err(node.failed("link")(errno)),
                    }
                }
                Err(errno) => return Err(node.failed("look for the link of")(errno)),
            }
        }
        // Somebody takes links away as fast as they are made; there will be another time.
        Ok(())
    }

    fn is_corrupt(&self, name: &CStr, link: &FileStat, stat: &FileStat) -> bool {
        if link.st_size != stat.st_size {
            return true;
        }
        self.optimiser.verify && {
            let mut hasher = Sha256::new();
            let links = self.optimiser.links.as_fd();
            let hashed = nar::dump_entry(links, name, &mut Hashing(&mut hasher));
            hashed.is_err() || nix32::encode(&hasher.finalize()).as_bytes() != name.to_bytes()
        }
    }

    /// Puts a link to the known file in the place of this one, in one step. False if the known one
    /// is gone.
    fn exchange(&mut self, node: &Node<'_>, name: &CStr, stat: &FileStat) -> Result<bool> {
        let store = self.optimiser.store.as_fd();
        let temporary = self.temporary;
        let flags = LinkatFlags::empty();
        match linkat(self.optimiser.links.as_fd(), name, store, temporary, flags) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(false),
            Err(Errno::EMLINK | Errno::ENOSPC | Errno::EDQUOT) => return Ok(true),
            Err(errno) => return Err(node.failed("link to what equals")(errno)),
        }
        let renamed = self
            .make_changeable(node)
            .and_then(|()| rename_over(store, temporary, node));
        // Where both names are one file by now, renaming does nothing and leaves it.
        let _ = unlinkat(store, temporary, UnlinkatFlags::NoRemoveDir);
        if renamed? {
            self.optimised.saved += Saved {
                files: 1,
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
            };
        }
        Ok(true)
    }

    /// Makes sure that an entry of the directory that the walk is in can be exchanged.
    fn make_changeable(&mut self, node: &Node<'_>) -> Result<()> {
        // The store's own directory is not ours to change, and need not be.
        let Some(touched) = self.touched.last_mut() else {
            return Ok(());
        };
        if *touched == Touched::No {
            *touched = Touched::Changed;
            let stat = fstat(node.parent()).map_err(node.failed("look at the directory of"))?;
            if stat.st_mode & 0o200 == 0 && !nix::unistd::geteuid().is_root() {
                let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777 | 0o200);
                fchmod(node.parent(), mode)
                    .map_err(node.failed("make writable the directory of"))?;
                *touched = Touched::Widened;
            }
        }
        Ok(())
    }
}

/// False if the file system can't make that many links, which some notice only here.
fn rename_over(store: BorrowedFd<'_>, temporary: &OsStr, node: &Node<'_>) -> Result<bool> {
    match renameat(store, temporary, node.parent(), node.name()) {
        Ok(()) => Ok(true),
        Err(Errno::EMLINK) => Ok(false),
        Err(errno) => Err(node.failed("replace by a link")(errno)),
    }
}

/// The SHA-256 of the archive of one file or link.
fn hash(node: &Node<'_>) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    nar::dump_entry(node.parent(), node.name(), &mut Hashing(&mut hasher)).map_err(|error| {
        match error {
            // Its own message knows the last name only.
            Error::Io { action, source, .. } => Error::io(action, node.path())(source),
            other => other,
        }
    })?;
    Ok(hasher.finalize().into())
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
