//! Trees in which a directory and a file are exchanged for links to things outside, over and over,
//! while they are read, made canonical, copied and deleted. Here nobody kills the one who does it:
//! the checks of links alone must hold.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::files::canonical::{InodesSeen, canonicalise};
use crate::files::copy::copy_tree;
use crate::nar;
use rustix::thread::CapabilitySet;
use windrow_sys::mutex;
use windrow_sys::tree::delete_path;
use windrow_sys::{Error, Result};

/// How many walks must be caught by an exchange between a look and the opening of what was looked
/// at. Where things are opened by force, there is another gap after that one.
const fn wanted(closed: bool) -> u32 {
    if closed { 30 } else { 3 }
}

/// How many walks there may be until then.
const ROUNDS: usize = 300_000;

const SECRET: &[u8] = b"what nobody inside may learn";

/// A directory with things outside, and with a tree and the links for each round.
struct Place {
    directory: tempfile::TempDir,
    /// Whether directory and file have no permissions, so that they must be opened by force.
    closed: bool,
    round: AtomicUsize,
    /// The round in which things are exchanged.
    at: AtomicUsize,
    swaps: AtomicUsize,
    over: AtomicBool,
}

/// Ends the exchanging, also when a test fails.
struct End<'a>(&'a Place);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// What lies outside, by path: everything that a change would change.
type Outside = BTreeMap<PathBuf, String>;

impl Place {
    fn new(closed: bool) -> Self {
        // Where things are exchanged fastest, if that is there.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir_all(outside.join("sub")).unwrap();
        for name in ["secret", "sub/secret"] {
            fs::write(outside.join(name), SECRET).unwrap();
            fs::set_permissions(outside.join(name), Permissions::from_mode(0o640)).unwrap();
        }
        Self {
            directory,
            closed,
            round: AtomicUsize::new(0),
            at: AtomicUsize::new(0),
            swaps: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    fn tree(&self, round: usize) -> PathBuf {
        self.directory.path().join(format!("{round}/tree"))
    }

    /// Makes the tree and the links of the next round, and lets the exchanging begin there.
    fn plant(&self, round: usize) -> PathBuf {
        let (tree, outside) = (self.tree(round), self.directory.path().join("outside"));
        let links = tree.with_file_name("links");
        fs::create_dir_all(tree.join("dir")).unwrap();
        fs::create_dir(&links).unwrap();
        for name in ["dir/secret", "file"] {
            fs::write(tree.join(name), "harmless").unwrap();
        }
        symlink(&outside, links.join("dir")).unwrap();
        symlink(outside.join("secret"), links.join("file")).unwrap();
        if self.closed {
            for name in ["dir", "file"] {
                fs::set_permissions(tree.join(name), Permissions::from_mode(0o000)).unwrap();
            }
        }
        self.round.store(round, Ordering::Release);
        tree
    }

    /// Exchanges until it is over. What is not there any more is left alone.
    fn exchange(&self) {
        let (mut paths, mut round) = (Vec::new(), usize::MAX);
        while !self.over.load(Ordering::Acquire) {
            let now = self.round.load(Ordering::Acquire);
            self.at.store(now, Ordering::Release);
            if now != round {
                round = now;
                let tree = self.tree(round);
                let links = tree.with_file_name("links");
                paths = ["dir", "file"]
                    .map(|name| (tree.join(name), links.join(name)))
                    .into();
            }
            for (one, other) in &paths {
                let flags = RenameFlags::RENAME_EXCHANGE;
                if renameat2(AT_FDCWD, one, AT_FDCWD, other, flags).is_ok() {
                    self.swaps.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }

    /// Takes away what a round left. Nothing is exchanged there any more.
    fn sweep(&self, round: usize) {
        let tree = self.tree(round);
        let links = tree.with_file_name("links");
        for directory in [&tree, &tree.join("dir"), &links.join("dir")] {
            if fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir()) {
                fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
            }
        }
        fs::remove_dir_all(tree.parent().unwrap()).unwrap();
    }

    /// Waits until things are being exchanged in a round, longer in some than in others, so that
    /// the walks do not always begin at the same moment. Gives the number of exchanges.
    fn meet(&self, round: usize) -> usize {
        while self.at.load(Ordering::Acquire) != round {
            std::thread::yield_now();
        }
        let swaps = || self.swaps.load(Ordering::Acquire);
        let start = swaps();
        while swaps() < start + 1 + round % 5 {
            std::thread::yield_now();
        }
        swaps()
    }

    fn outside(&self) -> Outside {
        let outside = self.directory.path().join("outside");
        let mut seen = Outside::new();
        for name in ["", "secret", "sub", "sub/secret"] {
            let path = outside.join(name);
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let mut contents = Vec::new();
            if metadata.is_file() {
                let mut file = File::open(&path).unwrap();
                file.read_to_end(&mut contents).unwrap();
            }
            // The time of the last change tells of all others.
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            let look = (
                metadata.mode(),
                metadata.uid(),
                metadata.ino(),
                metadata.nlink(),
            );
            seen.insert(path, format!("{look:?} {changed:?} {contents:?}"));
        }
        seen
    }
}

/// Whether a walk ended because something was no longer what it had been when it was to be opened.
fn is_caught(error: &Error) -> bool {
    match error {
        Error::TreeChanged { .. } => true,
        Error::Io { action, source, .. } => {
            action.starts_with("open")
                && matches!(source.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR))
        }
        _ => false,
    }
}

/// Does `work` to one tree after the other while things in it are exchanged, until that has
/// interfered often enough. What it returns is what it has read.
fn in_spite_of_exchanges(closed: bool, work: fn(&Path) -> Result<Vec<u8>>) {
    // Each needs two processors; together they would only wait for each other.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = mutex::lock(&TURN);
    let (place, wanted) = (Place::new(closed), wanted(closed));
    let before = place.outside();
    assert_eq!(before.len(), 4);
    std::thread::scope(|scope| {
        let _end = End(&place);
        place.plant(0);
        scope.spawn(|| place.exchange());
        let walks = scope.spawn(|| {
            // Its own end, for that of the scope's comes after all threads.
            let _end = End(&place);
            if closed {
                obey_modes();
            }
            let (mut caught, mut disturbed) = (0, 0);
            for round in 1..ROUNDS {
                let tree = place.plant(round);
                let start = place.meet(round);
                match work(&tree) {
                    Ok(read) => {
                        let leak = read.windows(SECRET.len()).any(|window| window == SECRET);
                        assert!(!leak, "something outside was read");
                    }
                    Err(error) => caught += u32::from(is_caught(&error)),
                }
                disturbed += u32::from(place.swaps.load(Ordering::Acquire) > start + 1);
                assert_eq!(place.outside(), before, "something outside was changed");
                if caught >= wanted && disturbed >= wanted {
                    break;
                }
                place.sweep(round - 1);
            }
            (caught, disturbed)
        });
        let (caught, disturbed) = walks.join().unwrap();
        assert!(
            caught >= wanted && disturbed >= wanted,
            "the attack never came in time: {caught} walks caught, {disturbed} disturbed"
        );
    });
    // What is left has no permissions, and could not be deleted by everybody.
    let last = place.round.load(Ordering::Acquire);
    place.sweep(last);
    place.sweep(last - 1);
}

/// Makes the calling thread, which may be root's, obey the modes of files as others do.
fn obey_modes() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    rustix::thread::set_capabilities(None, sets).unwrap();
}

#[test]
fn reading_stays_inside() {
    in_spite_of_exchanges(false, |tree| {
        let mut archive = Vec::new();
        nar::dump(tree, &mut archive).map(|()| archive)
    });
}

#[test]
fn reading_a_flat_file_stays_inside() {
    in_spite_of_exchanges(false, |tree| {
        let mut contents = Vec::new();
        nar::feed_file(&tree.join("file"), &mut contents).map(|()| contents)
    });
}

#[test]
fn making_canonical_stays_inside() {
    in_spite_of_exchanges(false, |tree| {
        canonicalise(tree, None, &mut InodesSeen::new()).map(|()| Vec::new())
    });
}

#[test]
fn making_canonical_by_force_stays_inside() {
    in_spite_of_exchanges(true, |tree| {
        canonicalise(tree, None, &mut InodesSeen::new()).map(|()| Vec::new())
    });
}

#[test]
fn copying_stays_inside() {
    in_spite_of_exchanges(false, |tree| {
        let copy = tree.with_file_name("copy");
        copy_tree(tree, &copy)?;
        let mut archive = Vec::new();
        nar::dump(&copy, &mut archive).map(|()| archive)
    });
}

#[test]
fn deleting_stays_inside() {
    for closed in [false, true] {
        in_spite_of_exchanges(closed, |tree| delete_path(tree).map(|_| Vec::new()));
    }
}
