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
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{Gid, Uid, chown, geteuid};

use crate::dirs::chroot::{BASE, Chroot, Proofs, STORE, make_dir};
use crate::dirs::in_store::HostStore;
use crate::dirs::in_store::InStore;
use crate::dirs::run_dir::{RunDir, Stamp, tells_changes_apart};
pub use crate::ids::Owner;
use crate::root::Place;

/// How many directories of either kind are kept for later builds.
const SPARE_MAX: usize = 64;

/// Where the two directories of the run lie for whoever makes what is in them.
#[derive(Debug, Clone)]
pub struct View {
    /// The one in the store.
    pub store: PathBuf,
    /// The one beside the build directories.
    pub builds: PathBuf,
}

/// What an input of a build is, which decides how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// A directory, shown by a mount on another.
    Directory,
    /// A file, shown by a mount on another.
    File,
    /// A symbolic link, which can only be made anew.
    Link(OsString),
}

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
            io::Error::new(error.kind(), text)
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
        let mut ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner);
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
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        *spare = Spare::default();
        let mut ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner);
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
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::dirs::in_store::{KeepPath, Kept};

    const DRV: &str = "a.drv";

    #[derive(Debug)]
    struct NoCollector;

    impl Kept for NoCollector {}

    impl KeepPath for NoCollector {
        fn keep(&self, _: &str) -> io::Result<Box<dyn Kept>> {
            Ok(Box::new(Self))
        }
    }

    struct Place {
        directory: tempfile::TempDir,
        dirs_pool: DirsPool,
    }

    impl Place {
        fn new(tmp_dirs: &[&str]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().canonicalize().unwrap();
            let store = HostStore {
                store_dir: "/nix/store".to_owned(),
                real_store_dir: path.join("store"),
                keeper: Arc::new(NoCollector),
            };
            fs::create_dir(&store.real_store_dir).unwrap();
            let builds = directory.path().join("builds");
            fs::create_dir(&builds).unwrap();
            let tmp_dirs = tmp_dirs.iter().map(PathBuf::from).collect();
            let dirs_pool = DirsPool::new(store, builds, tmp_dirs);
            Self {
                directory,
                dirs_pool,
            }
        }

        fn create(&self, inputs: &[(CString, InputKind)]) -> (SandboxDirs, View, super::Place) {
            let view = self.dirs_pool.ground().unwrap().view.clone();
            let dirs = self
                .dirs_pool
                .create(&view, DRV, us(), inputs, true)
                .unwrap();
            let place = dirs.place(&view);
            (dirs, view, place)
        }

        /// Whether file systems here prove anything.
        fn is_fine(&self) -> bool {
            self.dirs_pool.ground().unwrap().tells_changes_apart
        }

        /// Whether a builder of ours can change nothing but the entries of its part of the store,
        /// and those can be looked at.
        fn can_restore(&self) -> bool {
            geteuid().is_root() && self.dirs_pool.ground().unwrap().proofs.is_ext4
        }

        fn builds(&self) -> Vec<String> {
            names(&self.directory.path().join("builds"))
        }
    }

    fn input(name: &str, kind: InputKind) -> (CString, InputKind) {
        (CString::new(name).unwrap(), kind)
    }

    fn us() -> Owner {
        Owner {
            uid: geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn untouched_directories_serve_again_with_exactly_the_new_inputs() {
        let here = Place::new(&["x/y"]);
        let inputs = [
            input("d1", InputKind::Directory),
            input("d2", InputKind::Directory),
            input("f1", InputKind::File),
            input("l", InputKind::Link("target".into())),
        ];
        let (dirs, view, place) = here.create(&inputs);
        let inode = |path: &Path| path.metadata().unwrap().ino();
        let before = (inode(&place.build), inode(&place.store));
        assert!(place.tmp.join("x/y").is_dir());
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        assert_eq!(
            (mode(&place.build), mode(&place.tmp)),
            (BUILD_MODE, TMP_MODE)
        );
        assert_eq!((mode(&view.store), mode(&view.builds)), (0o700, 0o700));
        let (garbage, kept) = here.dirs_pool.give_back(&view, dirs, false);
        assert_eq!(garbage.is_empty(), here.is_fine());
        assert!(kept.is_none());

        let inputs = [
            input("d2", InputKind::Directory),
            input("d3", InputKind::Directory),
            input("d1", InputKind::File),
        ];
        let (dirs, _, place) = here.create(&inputs);
        let now = (inode(&place.build), inode(&place.store));
        assert_eq!(now == before, here.is_fine());
        assert_eq!(names(&place.store), ["d1", "d2", "d3"]);
        assert!(place.store.join("d1").is_file() && place.store.join("d3").is_dir());
        drop(dirs);
        here.dirs_pool.close();
        assert!(here.builds().is_empty());
        assert!(!view.store.exists());
    }

    #[test]
    fn nothing_serves_again_to_which_anything_was_done() {
        let here = Place::new(&["x"]);
        let touch = |path: &Path| {
            let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
            fs::File::open(path).unwrap().set_times(times).unwrap();
        };
        let again = |path: &Path| {
            fs::set_permissions(path, path.metadata().unwrap().permissions()).unwrap();
        };
        let file = |path: &Path| {
            fs::write(path.join("file"), "").unwrap();
            fs::remove_file(path.join("file")).unwrap();
        };
        let read = |path: &Path| drop(names(path));
        let deeds: [&dyn Fn(&Path); 4] = [&touch, &again, &file, &read];
        for deed in deeds {
            for dir in ["build", "tmp", "tmp/x", "store"] {
                let (dirs, view, place) = here.create(&[]);
                let path = match dir {
                    "store" => place.store,
                    dir => dirs.top(&view).join(dir),
                };
                deed(&path);
                let changed = usize::from(dir != "store" || !here.can_restore());
                let expected = if here.is_fine() { changed } else { 2 };
                let garbage = here.dirs_pool.give_back(&view, dirs, false).0;
                if here.is_fine() || !here.can_restore() {
                    assert_eq!(garbage.len(), expected, "{dir}");
                }
                let (dirs, view, place) = here.create(&[]);
                assert_ne!(place.store.metadata().unwrap().mtime(), 0);
                here.dirs_pool.give_back(&view, dirs, false);
            }
        }
    }

    #[test]
    fn a_part_of_the_store_serves_again_only_if_nothing_but_entries_came_and_went() {
        use std::os::unix::fs::PermissionsExt as _;
        let here = Place::new(&[]);
        let inputs = [
            input("d", InputKind::Directory),
            input("l", InputKind::Link("target".into())),
        ];
        let serves_again = |deed: &dyn Fn(&Path)| {
            let (dirs, view, place) = here.create(&inputs);
            let before = place.store.metadata().unwrap().ino();
            deed(&place.store);
            let (garbage, _) = here.dirs_pool.give_back(&view, dirs, false);
            let gone = garbage.iter().any(|path| path.starts_with(&view.store));
            let (dirs, view, place) = here.create(&inputs);
            let same = place.store.metadata().unwrap().ino() == before;
            assert!(!gone || !same, "what is to be deleted was used again");
            here.dirs_pool.give_back(&view, dirs, false);
            !gone
        };
        let come_and_go = |store: &Path| {
            fs::write(store.join("out"), "").unwrap();
            fs::remove_file(store.join("out")).unwrap();
        };
        assert_eq!(serves_again(&come_and_go), here.can_restore());
        assert!(!serves_again(
            &|store| fs::write(store.join("out"), "").unwrap()
        ));
        assert!(!serves_again(
            &|store| fs::remove_dir(store.join("d")).unwrap()
        ));
        assert!(!serves_again(&|store| {
            fs::remove_file(store.join("l")).unwrap();
            fs::create_dir(store.join("l")).unwrap();
        }));
        assert!(!serves_again(&|store| {
            fs::set_permissions(store, fs::Permissions::from_mode(0o700)).unwrap();
        }));
        assert!(!serves_again(&|store| {
            let name = |n: u32| store.join(format!("{n:0200}"));
            (0..100).for_each(|n| fs::write(name(n), "").unwrap());
            (0..100).for_each(|n| fs::remove_file(name(n)).unwrap());
        }));
    }

    #[test]
    fn directories_that_could_have_been_handed_out_do_not_serve_again() {
        let here = Place::new(&[]);
        let view = here.dirs_pool.ground().unwrap().view.clone();
        let dirs = here.dirs_pool.create(&view, DRV, us(), &[], false).unwrap();
        assert_eq!(here.dirs_pool.give_back(&view, dirs, false).0.len(), 2);
    }

    #[test]
    fn what_is_kept_gets_the_first_free_name_and_outlives_the_run() {
        let here = Place::new(&[]);
        let other = here.directory.path().join("builds/nix-build-a.drv-0");
        fs::create_dir(&other).unwrap();
        let (dirs, view, place) = here.create(&[]);
        fs::write(place.build.join("file"), "").unwrap();
        let (_, kept) = here.dirs_pool.give_back(&view, dirs, true);
        let kept = kept.unwrap();
        assert!(kept.ends_with("nix-build-a.drv-1/build"));
        here.dirs_pool.close();
        assert!(kept.join("file").exists() && names(&other).is_empty());
        assert_eq!(here.builds(), ["nix-build-a.drv-0", "nix-build-a.drv-1"]);
    }

    #[test]
    fn two_engines_have_nothing_in_common() {
        let here = Place::new(&[]);
        let other = DirsPool::new(
            here.dirs_pool.store.clone(),
            here.dirs_pool.builds_dir.clone(),
            Vec::new(),
        );
        let (dirs, view, place) = here.create(&[]);
        let others = other.ground().unwrap().view.clone();
        let theirs = other.create(&others, DRV, us(), &[], true).unwrap();
        fs::write(place.store.join("out"), "").unwrap();
        assert!(names(&theirs.place(&others).store).is_empty());
        drop(theirs);
        other.close();
        assert!(place.store.join("out").exists());
        here.dirs_pool.give_back(&view, dirs, false);
    }
}
