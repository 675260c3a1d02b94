use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::dirs::in_store::{KeepPath, Kept};
use crate::dirs::names;

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
fn a_part_of_the_store_serves_again_once_its_outputs_were_put_aside() {
    let here = Place::new(&[]);
    let (dirs, view, place) = here.create(&[]);
    let before = place.store.metadata().unwrap().ino();
    fs::create_dir(place.store.join("out")).unwrap();
    fs::write(place.store.join("out/file"), "").unwrap();
    let outputs = ["out", "never-made"].map(OsString::from);
    let aside = dirs.put_outputs_aside(&view, &outputs);
    assert!(aside.len() == 1 && aside[0].join("file").exists());
    let (garbage, _) = here.dirs_pool.give_back(&view, dirs, false);
    let kept = !garbage.iter().any(|path| path.starts_with(&view.store));
    assert_eq!(kept, here.can_restore());
    let (dirs, _, place) = here.create(&[]);
    assert_eq!(place.store.metadata().unwrap().ino() == before, kept);
    drop(dirs);
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
