//! The folders of one sandboxed build, and their use again: its part of the store, its build directory, its /tmp.
//!
//! Both lie in folders that only the engine may enter, so that nobody outside meets what the builder makes of them. What a
//! builder left as it was serves the next: file systems such as ext4 look for a new inode past every one that was freed
//! in the last seconds. The places where inputs are shown stay, too; what differs from the next build's is renamed.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{Gid, Uid, chown, geteuid};

use super::root::Place;
use crate::store::beside::{beside, trash};

/// How many folders of either kind are kept for later builds.
const SPARE_MAX: usize = 64;
/// How many numbers are tried before a name is given up.
const ATTEMPTS: u32 = 100_000;

/// Where the store and the build directories lie for whoever makes the folders.
#[derive(Debug, Clone)]
pub struct View {
    /// The store.
    pub store: PathBuf,
    /// The folder of build directories.
    pub builds: PathBuf,
}

/// Whom the builder's folders belong to; root's engine only can give them to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
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

/// The folders of a build that runs, by their names in the folders that hold them.
#[derive(Debug)]
pub struct Cell {
    top: Top,
    chroot: Chroot,
}

#[derive(Debug)]
struct Top {
    name: OsString,
    owner: Owner,
}

#[derive(Debug)]
struct Chroot {
    name: OsString,
    owner: Owner,
    /// Where inputs are shown: true for directories.
    mountpoints: BTreeMap<CString, bool>,
    /// Inputs that are links.
    links: Vec<CString>,
}

/// Folders for builds to come.
#[derive(Debug, Default)]
struct Spare {
    tops: Vec<Top>,
    chroots: Vec<Chroot>,
}

/// Makes the folders of builds, and takes them back. One for a run; clones are the same.
#[derive(Debug, Clone)]
pub struct Cells {
    spare: Arc<Mutex<Spare>>,
    /// Folders that /tmp must have, for something to be shown there.
    tmp_dirs: Arc<[PathBuf]>,
}

/// What is left of a cell that was given back, for somebody to delete: paths as the machine sees them.
pub type Rubbish = Vec<PathBuf>;

const BUILD: &str = "build";
const TMP: &str = "tmp";
const STORE: &str = "store";
const PLACEHOLDER: &str = "file";
/// An empty directory, for a workshop to be mounted on.
const BASE: &str = "root";

const BUILD_MODE: u32 = 0o700;
const TMP_MODE: u32 = 0o1777;

impl Cells {
    /// Without any folder yet.
    pub fn new(tmp_dirs: Vec<PathBuf>) -> Self {
        Self {
            spare: Arc::default(),
            tmp_dirs: tmp_dirs.into(),
        }
    }

    /// Folders for the derivation with that base name, for a builder that is `owner`, with places for all inputs.
    /// Rubbish is what an engine that was killed left in their place.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn create(
        &self,
        view: &View,
        drv_base_name: &str,
        owner: Owner,
        inputs: &[(CString, InputKind)],
    ) -> io::Result<(Cell, Rubbish)> {
        let (top, chroot) = {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            (spare.tops.pop(), spare.chroots.pop())
        };
        let mut rubbish = Rubbish::new();
        let top = self.top(view, drv_base_name, owner, top)?;
        let made =
            chroot_for(view, drv_base_name, owner, chroot, &mut rubbish).and_then(|mut chroot| {
                match chroot.arrange(view, inputs) {
                    Ok(()) => Ok(chroot),
                    Err(error) => {
                        rubbish.push(view.store.join(&chroot.name));
                        Err(error)
                    }
                }
            });
        match made {
            Ok(chroot) => Ok((Cell { top, chroot }, rubbish)),
            Err(error) => {
                for path in rubbish.into_iter().chain([view.builds.join(&top.name)]) {
                    let _ = crate::store::tree::delete_path(&path);
                }
                Err(error)
            }
        }
    }

    /// Makes `nix-build-NAME-N` with the first free N (the seed's `createTempDir`).
    fn top(
        &self,
        view: &View,
        drv_base_name: &str,
        owner: Owner,
        mut spare: Option<Top>,
    ) -> io::Result<Top> {
        // 32 characters of hash and a dash come before the name.
        let drv_name = drv_base_name.get(33..).unwrap_or(drv_base_name);
        for number in 0..ATTEMPTS {
            let name = OsString::from(format!("nix-build-{drv_name}-{number}"));
            let path = view.builds.join(&name);
            let made = match &spare {
                Some(top) => rename_new(&view.builds.join(&top.name), &path),
                None => DirBuilder::new().mode(0o700).create(&path),
            };
            match made {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                // Somebody deleted it.
                Err(_) if spare.take().is_some() => continue,
                Err(error) => return Err(error),
            }
            let fresh = spare.is_none();
            if fresh {
                // A umask must not decide what builders find.
                make_dir(&path.join(BUILD), BUILD_MODE)?;
                make_dir(&path.join(TMP), TMP_MODE)?;
                for dir in &*self.tmp_dirs {
                    fs::create_dir_all(path.join(TMP).join(dir))?;
                }
            }
            if spare.is_none_or(|top| top.owner != owner) {
                give(&path.join(BUILD), owner)?;
            }
            return Ok(Top { name, owner });
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Ends a build's folders: whatever is as it was made is kept for later builds, and the rest is returned. With `keep`
    /// the build directory stays where it is, for somebody to look at.
    pub fn give_back(&self, view: &View, cell: Cell, keep: bool) -> Rubbish {
        let mut rubbish = Rubbish::new();
        let Cell { top, chroot } = cell;
        let top_path = view.builds.join(&top.name);
        let keep_top = !keep && self.is_pristine(&top_path, &top);
        let chroot_path = view.store.join(&chroot.name);
        let chroot = chroot.tidied(&chroot_path);
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if keep_top && spare.tops.len() < SPARE_MAX {
            spare.tops.push(top);
        } else if !keep {
            rubbish.push(top_path);
        }
        match chroot {
            Some(chroot) if spare.chroots.len() < SPARE_MAX => spare.chroots.push(chroot),
            _ => rubbish.push(chroot_path),
        }
        rubbish
    }

    /// All folders kept for later.
    pub fn drain(&self, view: &View) -> Rubbish {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let tops: Vec<_> = spare.tops.drain(..).collect();
        let chroots: Vec<_> = spare.chroots.drain(..).collect();
        let tops = tops.into_iter().map(|top| view.builds.join(top.name));
        let chroots = chroots
            .into_iter()
            .map(|chroot| view.store.join(chroot.name));
        tops.chain(chroots).collect()
    }

    fn is_pristine(&self, path: &Path, top: &Top) -> bool {
        let (build, tmp) = (path.join(BUILD), path.join(TMP));
        if !looks(&build, BUILD_MODE, Some(top.owner.uid)) || !looks(&tmp, TMP_MODE, None) {
            return false;
        }
        let mut expected: BTreeMap<PathBuf, Vec<OsString>> = BTreeMap::new();
        expected.insert(build, Vec::new());
        expected.insert(tmp.clone(), Vec::new());
        for dir in &*self.tmp_dirs {
            let mut at = tmp.clone();
            for part in dir {
                let entries = expected.entry(at.clone()).or_default();
                if !entries.iter().any(|known| known == part) {
                    entries.push(part.to_owned());
                }
                at.push(part);
            }
            expected.entry(at).or_default();
        }
        expected.iter().all(|(dir, entries)| {
            let Ok(found) = fs::read_dir(dir) else {
                return false;
            };
            let found: Vec<OsString> = found.flatten().map(|entry| entry.file_name()).collect();
            found.len() == entries.len() && found.iter().all(|name| entries.contains(name))
        })
    }
}

impl Cell {
    /// The folders as `view` sees them.
    pub fn place(&self, view: &View) -> Place {
        let top = view.builds.join(&self.top.name);
        Place {
            store: view.store.join(&self.chroot.name).join(STORE),
            build: top.join(BUILD),
            tmp: top.join(TMP),
        }
    }

    /// The folder that holds the build's part of the store, and that nobody but the engine may enter.
    pub fn private(&self, view: &View) -> PathBuf {
        view.store.join(&self.chroot.name)
    }

    /// An empty directory for a workshop.
    pub fn base(&self, view: &View) -> PathBuf {
        self.private(view).join(BASE)
    }

    /// The folder that holds the build directory.
    pub fn top(&self, view: &View) -> PathBuf {
        view.builds.join(&self.top.name)
    }
}

fn chroot_for(
    view: &View,
    drv_base_name: &str,
    owner: Owner,
    spare: Option<Chroot>,
    rubbish: &mut Rubbish,
) -> io::Result<Chroot> {
    // The derivation is a temporary root, which keeps this from being collected.
    let path = beside(&view.store.join(drv_base_name), ".chroot");
    let name = path.file_name().unwrap_or_default().to_owned();
    if path.symlink_metadata().is_ok() {
        let trash = trash(&path);
        fs::rename(&path, &trash)?;
        rubbish.push(trash);
    }
    if let Some(mut chroot) = spare
        && rename_new(&view.store.join(&chroot.name), &path).is_ok()
    {
        if chroot.owner != owner {
            give_store(&path.join(STORE), owner)?;
        }
        (chroot.name, chroot.owner) = (name, owner);
        return Ok(chroot);
    }
    DirBuilder::new().mode(0o700).create(&path)?;
    make_dir(&path.join(STORE), 0o755)?;
    make_dir(&path.join(BASE), 0o555)?;
    fs::write(path.join(PLACEHOLDER), "")?;
    give_store(&path.join(STORE), owner)?;
    Ok(Chroot {
        name,
        owner,
        mountpoints: BTreeMap::new(),
        links: Vec::new(),
    })
}

impl Chroot {
    /// Makes places for exactly these inputs, out of those there are.
    fn arrange(&mut self, view: &View, inputs: &[(CString, InputKind)]) -> io::Result<()> {
        let folder = view.store.join(&self.name);
        let store = folder.join(STORE);
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
            } else if fs::hard_link(folder.join(PLACEHOLDER), at(name)).is_err() {
                // So many inputs that one file can't stand for them all.
                fs::File::create_new(at(name))?;
            }
        }
        Ok(())
    }

    /// Itself, if nothing but the places of inputs is left in it.
    fn tidied(mut self, path: &Path) -> Option<Self> {
        let store = path.join(STORE);
        for link in self.links.drain(..) {
            let link = store.join(OsStr::from_bytes(link.as_bytes()));
            fs::remove_file(link).ok()?;
        }
        let (mode, uid) = store_look(self.owner);
        if !looks(&store, mode, Some(uid)) {
            return None;
        }
        let mut left = self.mountpoints.len();
        for entry in fs::read_dir(&store).ok()? {
            let name = CString::new(entry.ok()?.file_name().as_bytes()).ok()?;
            if !self.mountpoints.contains_key(&name) {
                return None;
            }
            left -= 1;
        }
        (left == 0).then_some(self)
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Renames onto a name that must be free.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat2(
        AT_FDCWD,
        from,
        AT_FDCWD,
        to,
        RenameFlags::RENAME_NOREPLACE,
    )?)
}

fn give(path: &Path, owner: Owner) -> io::Result<()> {
    if owner.uid == geteuid().as_raw() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(chown(path, Some(uid), Some(gid))?)
}

/// A build user may add to its part of the store, but not remove the places of inputs.
fn give_store(path: &Path, owner: Owner) -> io::Result<()> {
    let (mode, uid) = store_look(owner);
    if owner.uid != geteuid().as_raw() {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(owner.gid));
        chown(path, Some(uid), Some(gid))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Mode and owner of a build's part of the store.
fn store_look(owner: Owner) -> (u32, u32) {
    let ours = geteuid().as_raw();
    if owner.uid == ours {
        (0o755, ours)
    } else {
        (0o1775, ours)
    }
}

/// Whether a folder is a folder, has a mode and owner, and nothing attached.
fn looks(path: &Path, mode: u32, uid: Option<u32>) -> bool {
    let uid = uid.unwrap_or_else(|| geteuid().as_raw());
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.mode() & 0o7777 == mode && metadata.uid() == uid
    }) && crate::store::has_no_attributes(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "00000000000000000000000000000000-a.drv";
    const OTHER: &str = "11111111111111111111111111111111-b.drv";

    fn input(name: &str, kind: InputKind) -> (CString, InputKind) {
        (CString::new(name).unwrap(), kind)
    }

    fn view(folder: &Path) -> View {
        let view = View {
            store: folder.join("s"),
            builds: folder.join("b"),
        };
        fs::create_dir(&view.store).unwrap();
        fs::create_dir(&view.builds).unwrap();
        view
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
    fn untouched_folders_serve_again_with_exactly_the_new_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let view = view(folder.path());
        let cells = Cells::new(vec!["x/y".into()]);
        let inputs = [
            input("d1", InputKind::Directory),
            input("d2", InputKind::Directory),
            input("f1", InputKind::File),
            input("l", InputKind::Link("target".into())),
        ];
        let (cell, rubbish) = cells.create(&view, DRV, us(), &inputs).unwrap();
        assert!(rubbish.is_empty());
        let place = cell.place(&view);
        assert_eq!(names(&place.store), ["d1", "d2", "f1", "l"]);
        assert!(place.tmp.join("x/y").is_dir());
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        assert_eq!(
            (mode(&place.build), mode(&place.tmp)),
            (BUILD_MODE, TMP_MODE)
        );
        assert_eq!(mode(&cell.private(&view)), 0o700);
        assert!(cells.give_back(&view, cell, false).is_empty());

        let inputs = [
            input("d2", InputKind::Directory),
            input("d3", InputKind::Directory),
            input("d1", InputKind::File),
        ];
        let (cell, _) = cells.create(&view, OTHER, us(), &inputs).unwrap();
        let place = cell.place(&view);
        assert_eq!(names(&place.store), ["d1", "d2", "d3"]);
        assert!(place.store.join("d1").is_file() && place.store.join("d3").is_dir());
        assert_eq!(names(&view.builds), ["nix-build-b.drv-0"]);
        assert_eq!(names(&view.store), [format!("{OTHER}.chroot")]);

        fs::write(place.build.join("litter"), "").unwrap();
        fs::write(place.store.join("out"), "").unwrap();
        let rubbish = cells.give_back(&view, cell, false);
        assert_eq!(rubbish.len(), 2);
        assert!(cells.drain(&view).is_empty());
    }

    #[test]
    fn what_a_killed_engine_left_is_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let view = view(folder.path());
        let cells = Cells::new(Vec::new());
        fs::create_dir(view.store.join(format!("{DRV}.chroot"))).unwrap();
        fs::create_dir(view.builds.join("nix-build-a.drv-0")).unwrap();
        let (cell, rubbish) = cells.create(&view, DRV, us(), &[]).unwrap();
        assert_eq!(rubbish.len(), 1);
        assert!(rubbish[0].is_dir());
        assert!(cell.top(&view).ends_with("nix-build-a.drv-1"));
        // Kept for somebody to look at, it is neither rubbish nor used again.
        assert!(cells.give_back(&view, cell, true).is_empty());
        assert_eq!(cells.drain(&view).len(), 1);
    }
}
