//! A build's part of the store: a directory in which its builder makes outputs, beside the places
//! where inputs are shown.
//!
//! Making outputs changes it, so its times prove nothing. It serves again where its builder can't
//! change anything but its entries: where that is neither its owner nor privileged, on ext4, whose
//! directories remember no entries that are gone unless they have grown. There making and removing
//! directories is costly; elsewhere it is not, and each build has a new one.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::geteuid;

use crate::dirs::run_dir::Stamp;
use crate::dirs::view::InputKind;
use crate::ids::Owner;

/// In the directory of the chroot, what the builder sees as the store.
pub(crate) const STORE: &str = "store";
/// An empty directory, for a template to be mounted on.
pub(crate) const BASE: &str = "root";
/// What stands for inputs that are files.
const PLACEHOLDER: &str = "file";
/// Whom it belongs to where that must be neither the builder nor root, whose builders without build
/// users are root's, too: user and group nobody, who can't get there.
const NOBODY: u32 = 65_534;

/// The directory and what is known of it.
#[derive(Debug)]
pub(crate) struct Chroot {
    /// Its name in the run's directory in the store.
    pub(crate) name: OsString,
    owner: Owner,
    /// Whether the builder can change no more than its entries.
    is_foreign: bool,
    /// As it was when the build began.
    before: Option<(Stamp, Shape)>,
    /// Where inputs are shown: true for directories.
    mountpoints: BTreeMap<CString, bool>,
    /// Inputs that are links.
    links: Vec<CString>,
}

/// What of a directory whoever may only add to it can't change back.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    inode: (u64, u64),
    access: (u32, u32, u32),
    /// In bytes and blocks. One that has grown stays so, and has another order.
    size: (u64, u64),
}

impl Shape {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            access: (metadata.mode(), metadata.uid(), metadata.gid()),
            size: (metadata.size(), metadata.blocks()),
        }
    }
}

/// What can be told of the file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proofs {
    /// Whether it [tells changes apart](crate::dirs::run_dir::tells_changes_apart).
    pub(crate) tells_changes_apart: bool,
    /// Whether it is an ext4.
    pub(crate) is_ext4: bool,
}

impl Chroot {
    /// Makes one in `run`, the run's directory in the store.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn create(run: &Path, name: OsString, owner: Owner) -> io::Result<Self> {
        let path = run.join(&name);
        DirBuilder::new().mode(0o700).create(&path)?;
        make_dir(&path.join(STORE), 0o755)?;
        make_dir(&path.join(BASE), 0o555)?;
        fs::write(path.join(PLACEHOLDER), "")?;
        let is_foreign = give_store(&path.join(STORE), owner)?;
        Ok(Self {
            name,
            owner,
            is_foreign,
            before: None,
            mountpoints: BTreeMap::new(),
            links: Vec::new(),
        })
    }

    /// Makes it that of a builder who is `owner`, with places for exactly these inputs, out of
    /// those there are.
    ///
    /// # Errors
    /// When it can't be done.
    pub(crate) fn arrange(
        &mut self,
        run: &Path,
        owner: Owner,
        inputs: &[(CString, InputKind)],
    ) -> io::Result<()> {
        let path = run.join(&self.name);
        let store = path.join(STORE);
        if self.owner != owner {
            self.is_foreign = give_store(&store, owner)?;
            self.owner = owner;
        }
        self.place_inputs(&path, inputs)?;
        // The times that the last build left would tell of it.
        let (now, no_follow) = (TimeSpec::UTIME_NOW, UtimensatFlags::NoFollowSymlink);
        utimensat(AT_FDCWD, &store, &now, &now, no_follow)?;
        let metadata = store.symlink_metadata()?;
        self.before = Some((Stamp::from_metadata(&metadata), Shape::of(&metadata)));
        Ok(())
    }

    fn place_inputs(&mut self, path: &Path, inputs: &[(CString, InputKind)]) -> io::Result<()> {
        let store = path.join(STORE);
        let at = |name: &CString| store.join(OsStr::from_bytes(name.as_bytes()));
        let mut surplus = std::mem::take(&mut self.mountpoints);
        let mut lacking = Vec::new();
        for (name, kind) in inputs {
            let directory = match kind {
                InputKind::Directory => true,
                InputKind::File => false,
                InputKind::Link(target) => {
                    std::os::unix::fs::symlink(target, at(name))?;
                    self.links.push(name.clone());
                    continue;
                }
            };
            if surplus.get(name) == Some(&directory) {
                surplus.remove(name);
                self.mountpoints.insert(name.clone(), directory);
            } else {
                lacking.push((name, directory));
            }
        }
        let (mut dirs, mut files): (Vec<_>, Vec<_>) =
            surplus.into_iter().partition(|(_, directory)| *directory);
        // All renames come first: what is to be made may have the name of what is to go.
        let mut still = Vec::new();
        for (name, directory) in lacking {
            let stock = if directory { &mut dirs } else { &mut files };
            match stock.pop() {
                Some((old, _)) => fs::rename(at(&old), at(name))?,
                None => still.push((name, directory)),
            }
            self.mountpoints.insert(name.clone(), directory);
        }
        for (name, _) in dirs {
            fs::remove_dir(at(&name))?;
        }
        for (name, _) in files {
            fs::remove_file(at(&name))?;
        }
        for (name, directory) in still {
            if directory {
                make_dir(&at(name), 0o555)?;
            } else if fs::hard_link(path.join(PLACEHOLDER), at(name)).is_err() {
                // Too many inputs: one file can't stand for them all.
                fs::File::create_new(at(name))?;
            }
        }
        Ok(())
    }

    /// Itself without its links, if it is provably as good as new. The places of inputs are below
    /// these, where no builder gets.
    pub(crate) fn tidied(mut self, path: &Path, proofs: Proofs) -> Option<Self> {
        let store = path.join(STORE);
        let metadata = store.symlink_metadata().ok()?;
        let (stamp, shape) = self.before.take()?;
        let is_untouched = proofs.tells_changes_apart && Stamp::from_metadata(&metadata) == stamp;
        let may_be_restored = proofs.is_ext4 && self.is_foreign && Shape::of(&metadata) == shape;
        if !is_untouched && !may_be_restored {
            return None;
        }
        for link in self.links.drain(..) {
            let link = store.join(OsStr::from_bytes(link.as_bytes()));
            fs::remove_file(link).ok()?;
        }
        (is_untouched || self.holds_nothing_else(&store)).then_some(self)
    }

    fn holds_nothing_else(&self, store: &Path) -> bool {
        let Ok(entries) = fs::read_dir(store) else {
            return false;
        };
        let mut left = self.mountpoints.len();
        for entry in entries {
            let name = entry.map(|entry| CString::new(entry.file_name().as_bytes()));
            let Ok(Ok(name)) = name else { return false };
            if !self.mountpoints.contains_key(&name) || left == 0 {
                return false;
            }
            left -= 1;
        }
        left == 0
    }
}

/// Makes a directory with this mode, whatever the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// A builder may add to its part of the store, but if possible not own it, nor remove the places of
/// inputs. Tells whether that was possible. The sticky bit also keeps those who don't own a
/// directory from giving it attributes.
fn give_store(path: &Path, owner: Owner) -> io::Result<bool> {
    let ours = geteuid();
    let (mode, is_foreign) = if owner.uid != ours.as_raw() {
        chown(path, Some(ours.as_raw()), Some(owner.gid))?;
        (0o1775, true)
    } else if ours.is_root() && chown(path, Some(NOBODY), Some(NOBODY)).is_ok() {
        (0o1777, true)
    } else {
        (0o755, false)
    };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(is_foreign)
}
