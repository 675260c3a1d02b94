//! Canonical metadata, seen through `stat`: as root, as an ordinary owner, and on hostile trees.
//! What only root can set up is skipped with a note for others.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::*;
use crate::files::sample::{Tree, known, plant_chain};
use windrow_sys::tree::delete_path;

const BUILD_UID: u32 = 30_001;

fn look(path: &Path) -> Metadata {
    fs::symlink_metadata(path).unwrap()
}

fn canonicalise_alone(path: &Path) -> Result<()> {
    canonicalise(path, None, &mut InodesSeen::new())
}

/// Only root may give files away; the note shows in the output of a failing or verbose run.
fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

fn give_to_builder(path: &Path) {
    lchown(path, Some(BUILD_UID), Some(BUILD_UID)).unwrap();
}

#[test]
fn modes_and_times_become_the_stores() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for (before, after) in [
        (0o000, 0o444),
        (0o200, 0o444),
        (0o644, 0o444),
        (0o666, 0o444),
        (0o611, 0o444),
        (0o700, 0o555),
        (0o100, 0o555),
        (0o4755, 0o555),
        (0o2644, 0o444),
        (0o444, 0o444),
        (0o555, 0o555),
    ] {
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
        let atime = (look(&path).atime(), look(&path).atime_nsec());
        canonicalise_alone(&path).unwrap();
        let found = look(&path);
        assert_eq!(found.mode() & 0o7777, after, "from {before:o}");
        assert_eq!((found.mtime(), found.mtime_nsec()), (1, 0));
        assert_eq!((found.atime(), found.atime_nsec()), atime);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn all_of_a_tree_is_done_and_a_second_run_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tree");
    known().plant(&path);
    canonicalise_alone(&path).unwrap();
    let names = ["", "a", "sub", "sub/link", "sub/run", "empty-dir"];
    let found = names.map(|name| look(&path.join(name)));
    assert!(found.iter().all(|metadata| metadata.mtime() == 1));
    let modes = found.each_ref().map(|metadata| metadata.mode() & 0o7777);
    assert_eq!(modes, [0o555, 0o444, 0o555, 0o777, 0o555, 0o555]);
    canonicalise_alone(&path).unwrap();
    for (name, before) in names.iter().zip(found) {
        let after = look(&path.join(name));
        let changed = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec());
        assert_eq!(changed(&after), changed(&before), "{name}");
    }
    assert!(Tree::read(&path) == known());
}

#[test]
fn closed_directories_are_entered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tree");
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("a/b/file"), "x").unwrap();
    for (name, mode) in [("a/b", 0o000), ("a", 0o444), ("", 0o200)] {
        fs::set_permissions(path.join(name), Permissions::from_mode(mode)).unwrap();
    }
    canonicalise_alone(&path).unwrap();
    for (name, mode) in [
        ("", 0o555),
        ("a", 0o555),
        ("a/b", 0o555),
        ("a/b/file", 0o444),
    ] {
        let found = look(&path.join(name));
        assert_eq!((found.mode() & 0o7777, found.mtime()), (mode, 1), "{name}");
    }
}

#[test]
fn links_are_never_followed() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    fs::write(&outside, "x").unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
    let link = directory.path().join("link");
    symlink(&outside, &link).unwrap();
    canonicalise_alone(Path::new(&format!("{}/", link.display()))).unwrap();
    assert_eq!(look(&link).mtime(), 1);
    assert_eq!(look(&outside).mode() & 0o7777, 0o600);
    assert_ne!(look(&outside).mtime(), 1);
}

#[test]
fn special_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _socket = UnixListener::bind(&path).unwrap();
    for root in [directory.path(), &path] {
        let error = canonicalise_alone(root).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFileType { path: found } if found == path));
    }
}

#[test]
fn attributes_of_the_user_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "x").unwrap();
    if set_xattr(&path, c"user.windrow").is_err() {
        println!("skipped: no extended attributes on this file system");
        return;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
    canonicalise_alone(&path).unwrap();
    let handle = fs::File::open(&path).unwrap();
    assert_eq!(
        xattr::list_removable(Subject::Handle(handle.as_fd())).unwrap(),
        b""
    );
    assert_eq!(look(&path).mode() & 0o7777, 0o555);
}

#[test]
fn attributes_of_links_are_removed_from_the_link_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "x").unwrap();
    symlink(&file, &link).unwrap();
    if set_xattr(&file, c"trusted.windrow")
        .and(set_xattr(&link, c"trusted.windrow"))
        .is_err()
    {
        println!("skipped: needs root and a file system with trusted attributes");
        return;
    }
    canonicalise_alone(&link).unwrap();
    assert!(
        set_xattr(&file, c"trusted.windrow").is_err(),
        "the target kept its attribute"
    );
    assert!(
        set_xattr(&link, c"trusted.windrow").is_ok(),
        "the link lost its attribute"
    );
}

/// Sets an attribute that must not exist, on a link itself.
fn set_xattr(path: &Path, name: &std::ffi::CStr) -> Result<(), rustix::io::Errno> {
    rustix::fs::lsetxattr(path, name, b"v", rustix::fs::XattrFlags::CREATE)
}

#[test]
fn everything_is_handed_over_and_hard_links_pass_once_seen() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (out, dev) = (directory.path().join("out"), directory.path().join("dev"));
    for path in [&out, &dev] {
        fs::create_dir(path).unwrap();
        give_to_builder(path);
    }
    fs::write(out.join("file"), "x").unwrap();
    symlink("file", out.join("link")).unwrap();
    give_to_builder(&out.join("file"));
    give_to_builder(&out.join("link"));
    fs::hard_link(out.join("file"), out.join("again")).unwrap();
    fs::hard_link(out.join("file"), dev.join("file")).unwrap();

    let mut seen = InodesSeen::new();
    canonicalise(&out, Some(BUILD_UID), &mut seen).unwrap();
    for name in ["", "file", "link", "again"] {
        let found = look(&out.join(name));
        let owner = (geteuid().as_raw(), getegid().as_raw());
        assert_eq!((found.uid(), found.gid()), owner, "{name}");
    }
    let error = canonicalise(&dev, Some(BUILD_UID), &mut InodesSeen::new()).unwrap_err();
    assert!(matches!(error, Error::ForeignOwner { path, .. } if path == dev.join("file")));
    canonicalise(&dev, Some(BUILD_UID), &mut seen).unwrap();
}

#[test]
fn files_of_others_are_refused_untouched() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    fs::create_dir_all(out.join("sub")).unwrap();
    give_to_builder(&out);
    fs::set_permissions(out.join("sub"), Permissions::from_mode(0o700)).unwrap();
    let error = canonicalise(&out, Some(BUILD_UID), &mut InodesSeen::new()).unwrap_err();
    let Error::ForeignOwner {
        path,
        owner: 0,
        build_uid: BUILD_UID,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(path, out.join("sub"));
    assert_eq!(look(&path).mode() & 0o7777, 0o700);
    assert_ne!(look(&out).mtime(), 1);

    fs::remove_dir(out.join("sub")).unwrap();
    symlink("/", out.join("link")).unwrap();
    let error = canonicalise(&out, Some(BUILD_UID), &mut InodesSeen::new()).unwrap_err();
    assert!(matches!(error, Error::ForeignOwner { .. }), "{error}");
}

/// Root passes where modes forbid, so the owner's way in is tested by running this very test
/// again as somebody else.
#[test]
fn an_ordinary_owner_gets_in_as_well() {
    const PLACE: &str = "WINDROW_TEST_CLOSED_TREE";
    if let Some(path) = std::env::var_os(PLACE) {
        let path = Path::new(&path);
        canonicalise_alone(&path.join("tree")).unwrap();
        assert_eq!(look(&path.join("tree/closed/file")).mode() & 0o7777, 0o444);
        delete_path(&path.join("tree")).unwrap();
        fs::set_permissions(path.join("other"), Permissions::from_mode(0o000)).unwrap();
        delete_path(&path.join("other")).unwrap();
        return;
    }
    if !is_root() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let place = directory.path().join("place");
    fs::create_dir_all(place.join("tree/closed")).unwrap();
    fs::create_dir_all(place.join("other/sub")).unwrap();
    fs::write(place.join("tree/closed/file"), "x").unwrap();
    for (name, mode) in [
        ("tree/closed/file", 0o000),
        ("tree/closed", 0o000),
        ("tree", 0o400),
        ("other/sub", 0o555),
        ("other", 0o755),
        ("", 0o755),
    ] {
        let path = place.join(name);
        chown(&path, Some(BUILD_UID), Some(BUILD_UID)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    // A copy, because the directory of the test program may be closed to others.
    let program = directory.path().join("test-program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program)
        .args(["an_ordinary_owner_gets_in_as_well", "--nocapture"])
        .env(PLACE, &place)
        .current_dir("/")
        .uid(BUILD_UID)
        .gid(BUILD_UID)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn depth_is_no_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep");
    plant_chain(&path, 5000);
    canonicalise_alone(&path).unwrap();
    assert_eq!(look(&path).mode() & 0o7777, 0o555);
    let deepest = (0..100).fold(path.clone(), |path, _| path.join("d"));
    assert_eq!(look(&deepest).mtime(), 1);
    delete_path(&path).unwrap();
    assert!(!path.exists());
}
