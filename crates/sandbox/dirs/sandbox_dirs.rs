//! The directories of one sandboxed build, and their use again: its part of the store, its build
//! directory, its /tmp.
//!
//! They lie in two directories of the run that only the engine may enter and nobody else gives
//! names in, so that nobody meets what the builder makes of them. Those to which a builder provably
//! did nothing serve the next: file systems such as ext4 look for a new inode past every one that
//! was freed in the last seconds. The places where inputs are shown stay, too; what differs from
//! the next build's is renamed.

use std::ffi::{CString, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::unistd::{Gid, Uid, chown, geteuid};
use windrow_sys::mutex;
use windrow_sys::told::told;

use crate::dirs::chroot::{BASE, Chroot, Proofs, STORE, make_dir};
use crate::dirs::in_store::HostStore;
use crate::dirs::in_store::InStore;
use crate::dirs::run_dir::{RunDir, Stamp, tells_changes_apart};
use crate::dirs::view::{InputKind, Place, View};
use crate::ids::Owner;

/// How many directories of either kind are kept for later builds.
const SPARE_MAX: usize = 64;

/// The directories of a build that runs, by their names in those of the run.
#[derive(Debug)]
pub struct SandboxDirs {
    ground: Arc<RunDirs>,
    drv_name: String,
    /// Whether nobody but the builder could have got hold of them.
    confined: bool,
    top: Top,
    chroot: Chroot,
}

#[derive(Debug)]
struct Top {
    name: OsString,
    owner: Owner,
    /// What the builder can change, as it was when the build began.
    stamps: Vec<(PathBuf, Stamp)>,
}

/// Directories for builds to come.
#[derive(Debug, Default)]
struct Spare {
    tops: Vec<Top>,
    chroots: Vec<Chroot>,
}

/// The two directories of a run. The one in the store goes first, for the other tells of it.
#[derive(Debug)]
pub struct RunDirs {
    /// Where they are on the machine.
    pub view: View,
    /// What can be told of what was done to directories in the one in the store, and in the other.
    proofs: Proofs,
    tells_changes_apart: bool,
    _in_store: InStore,
    run: RunDir,
}

/// Makes the directories of builds, and takes them back. One for a run; clones are the same.
#[derive(Debug, Clone)]
pub struct DirsPool {
    store: HostStore,
    builds_dir: PathBuf,
    /// Made for the first build.
    ground: Arc<Mutex<Option<Arc<RunDirs>>>>,
    spare: Arc<Mutex<Spare>>,
    /// Directories that /tmp must have, for something to be shown there.
    tmp_dirs: Arc<[PathBuf]>,
}

/// What is left of directories that were given back, for somebody to delete.
pub type Garbage = Vec<PathBuf>;

const BUILD: &str = "build";
const TMP: &str = "tmp";

const BUILD_MODE: u32 = 0o700;
const TMP_MODE: u32 = 0o1777;

impl RunDirs {
    fn create(store: &HostStore, builds_dir: &Path) -> io::Result<Self> {
        let about = |what: &str, path: &Path, error: io::Error| {
            let text = format!(
                "cannot make a directory in the {what} '{}': {error}",
                path.display()
            );
            told(error, text)
        };
        let run = RunDir::create(builds_dir)
            .map_err(|error| about("directory of build directories", builds_dir, error))?;
        let in_store = InStore::create(store, &run)
            .map_err(|error| about("store", &store.real_store_dir, error))?;
        let view = View {
            store: in_store.path().to_owned(),
            builds: run.path().to_owned(),
        };
        let dir = File::open(&view.store)?;
        let kind = nix::sys::statfs::fstatfs(&dir)?.filesystem_type();
        let proofs = Proofs {
            tells_changes_apart: tells_changes_apart(&dir)?,
            is_ext4: kind == nix::sys::statfs::EXT4_SUPER_MAGIC,
        };
        Ok(Self {
            view,
            proofs,
            tells_changes_apart: run.tells_changes_apart(),
            _in_store: in_store,
            run,
        })
    }
}

impl DirsPool {
    /// Without any directory yet. Those of builds will be in the store and in `builds_dir`.
    pub fn new(store: HostStore, builds_dir: PathBuf, tmp_dirs: Vec<PathBuf>) -> Self {
        Self {
            store,
            builds_dir,
            ground: Arc::default(),
            spare: Arc::default(),
            tmp_dirs: tmp_dirs.into(),
        }
    }

    /// The directories of the run. The thread that asks first must see the machine.
    ///
    /// # Errors
    /// When they can't be made.
    pub fn ground(&self) -> io::Result<Arc<RunDirs>> {
        let mut ground = mutex::lock(&self.ground);
        if let Some(ground) = &*ground {
            return Ok(Arc::clone(ground));
        }
        let made = Arc::new(RunDirs::create(&self.store, &self.builds_dir)?);
        *ground = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Directories for the derivation with that name, for a builder that is `owner`, with places
    /// for all inputs. `confined` says that nobody else can get hold of them, not even by a file
    /// that the builder opens and hands out.
    ///
    /// # Errors
    /// When a directory can't be made.
    pub fn create(
        &self,
        view: &View,
        drv_name: &str,
        owner: Owner,
        inputs: &[(CString, InputKind)],
        confined: bool,
    ) -> io::Result<SandboxDirs> {
        let ground = self.ground()?;
        let (top, chroot) = {
            let mut spare = mutex::lock(&self.spare);
            (spare.tops.pop(), spare.chroots.pop())
        };
        let discard = |path: PathBuf| {
            let _ = windrow_sys::tree::delete_path(&path);
        };
        let mut top = match top {
            Some(top) => top,
            None => self.new_top(view, ground.run.unused_name(), owner)?,
        };
        let arranged = top.arrange(view, owner);
        let made = arranged.and_then(|()| {
            let mut chroot = match chroot {
                Some(chroot) => chroot,
                None => Chroot::create(&view.store, ground.run.unused_name(), owner)?,
            };
            let path = view.store.join(&chroot.name);
            match chroot.arrange(&view.store, owner, inputs) {
                Ok(()) => Ok(chroot),
                Err(error) => {
                    discard(path);
                    Err(error)
                }
            }
        });
        match made {
            Ok(chroot) => Ok(SandboxDirs {
                ground,
                drv_name: drv_name.to_owned(),
                confined,
                top,
                chroot,
            }),
            Err(error) => {
                discard(view.builds.join(&top.name));
                Err(error)
            }
        }
    }

    fn new_top(&self, view: &View, name: OsString, owner: Owner) -> io::Result<Top> {
        let path = view.builds.join(&name);
        DirBuilder::new().mode(0o700).create(&path)?;
        // A umask must not decide what builders find.
        make_dir(&path.join(BUILD), BUILD_MODE)?;
        make_dir(&path.join(TMP), TMP_MODE)?;
        give(&path.join(BUILD), owner)?;
        let mut stamps = vec![PathBuf::from(BUILD), TMP.into()];
        for dir in &*self.tmp_dirs {
            let mut at = PathBuf::from(TMP);
            for part in dir {
                at.push(part);
                if !stamps.contains(&at) {
                    fs::create_dir(path.join(&at))?;
                    stamps.push(at.clone());
                }
            }
        }
        let stamps = stamps
            .into_iter()
            .map(|dir| Stamp::of(&path.join(&dir)).map(|stamp| (dir, stamp)));
        Ok(Top {
            name,
            owner,
            stamps: stamps.collect::<io::Result<_>>()?,
        })
    }

    /// Ends a build's directories: those to which provably nothing was done are kept for later
    /// builds, and the rest is returned, as `view` sees it. With `keep` the build directory gets a
    /// name beside those of builds without a sandbox, for somebody to look at, which is returned.
    ///
    /// Nix 1.8: `DerivationGoal::deleteTmpDir`.
    pub fn give_back(
        &self,
        view: &View,
        dirs: SandboxDirs,
        keep: bool,
    ) -> (Garbage, Option<PathBuf>) {
        let SandboxDirs {
            ground,
            drv_name,
            confined,
            top,
            chroot,
        } = dirs;
        let mut garbage = Garbage::new();
        let top_path = view.builds.join(&top.name);
        // Where it is it would go with the run.
        let kept = keep.then(|| ground.run.publish(&top_path, &drv_name));
        let kept = kept.and_then(Result::ok);
        let provable = !keep && confined && ground.tells_changes_apart;
        let top = Some(top).filter(|top| provable && top.is_untouched(&top_path));
        let chroot_path = view.store.join(&chroot.name);
        let chroot = Some(chroot).filter(|_| confined);
        let chroot = chroot.and_then(|chroot| chroot.tidied(&chroot_path, ground.proofs));
        let mut spare = mutex::lock(&self.spare);
        match top {
            Some(top) if spare.tops.len() < SPARE_MAX => spare.tops.push(top),
            _ if kept.is_some() => {}
            _ => garbage.push(top_path),
        }
        match chroot {
            Some(chroot) if spare.chroots.len() < SPARE_MAX => spare.chroots.push(chroot),
            _ => garbage.push(chroot_path),
        }
        (garbage, kept.map(|top| top.join(BUILD)))
    }

    /// Deletes the directories of the run, with all that is in them.
    pub fn close(&self) {
        let mut spare = mutex::lock(&self.spare);
        *spare = Spare::default();
        let mut ground = mutex::lock(&self.ground);
        *ground = None;
    }
}

impl SandboxDirs {
    /// Where the machine has the directories of the run.
    pub fn host_view(&self) -> &View {
        &self.ground.view
    }

    /// The directories as `view` sees them.
    pub fn place(&self, view: &View) -> Place {
        let top = self.top(view);
        Place {
            store: self.private(view).join(STORE),
            build: top.join(BUILD),
            tmp: top.join(TMP),
        }
    }

    /// The directory that holds the build's part of the store, and that nobody but the engine may
    /// enter.
    pub fn private(&self, view: &View) -> PathBuf {
        view.store.join(&self.chroot.name)
    }

    /// An empty directory for a template.
    pub fn base(&self, view: &View) -> PathBuf {
        self.private(view).join(BASE)
    }

    /// Moves what the builder left at the places of its outputs out of the build's part of the
    /// store, so that this can serve the next; returns where it is now, to be deleted.
    pub fn put_outputs_aside(&self, view: &View, names: &[OsString]) -> Garbage {
        let store = self.place(view).store;
        let moved = names.iter().filter_map(|name| {
            let aside = view.store.join(self.ground.run.unused_name());
            fs::rename(store.join(name), &aside).ok().map(|()| aside)
        });
        moved.collect()
    }

    /// The directory that holds the build directory.
    pub fn top(&self, view: &View) -> PathBuf {
        view.builds.join(&self.top.name)
    }
}

impl Top {
    /// Makes it that of a builder who is `owner`.
    fn arrange(&mut self, view: &View, owner: Owner) -> io::Result<()> {
        if self.owner == owner {
            return Ok(());
        }
        let path = view.builds.join(&self.name);
        give(&path.join(BUILD), owner)?;
        self.owner = owner;
        for (dir, stamp) in &mut self.stamps {
            *stamp = Stamp::of(&path.join(dir))?;
        }
        Ok(())
    }

    fn is_untouched(&self, path: &Path) -> bool {
        let mut stamps = self.stamps.iter();
        stamps.all(|(dir, before)| Stamp::of(&path.join(dir)).is_ok_and(|now| now == *before))
    }
}

fn give(path: &Path, owner: Owner) -> io::Result<()> {
    if owner.uid == geteuid().as_raw() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(chown(path, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests;
