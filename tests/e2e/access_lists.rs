//! A store directory with a default access list, which all that is made in it inherits: nothing in
//! the store keeps it, for whoever it names could read or write what others can't.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, setxattr};
use serde_json::json;
use windrow_sys::xattr::{Subject, list_privileges};

use crate::harness::{SEALED, World, busybox, graph_of, have, need, sh, skip};

/// Whom the list names.
const SOMEBODY: u32 = 12_345;

/// A default access list by which somebody may do everything: `struct posix_acl_xattr_header` and
/// its entries.
fn list() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 7, NOBODY),
        (0x02, 7, SOMEBODY),
        (0x04, 5, NOBODY),
        (0x10, 7, NOBODY),
        (0x20, 5, NOBODY),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

/// A world whose store directory has such a list, if its file system has lists.
fn world() -> Option<World> {
    let world = World::new();
    fs::create_dir(world.store()).expect("a new directory");
    let name = "system.posix_acl_default";
    match setxattr(world.store(), name, &list(), XattrFlags::empty()) {
        Ok(()) => Some(world),
        Err(_) => {
            skip("needs a file system with access lists");
            None
        }
    }
}

fn has_list(path: &Path) -> bool {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    !list_privileges(Subject::Path(&path))
        .expect("attributes")
        .is_empty()
}

/// Everything below a directory, except what links lead to.
fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("metadata");
        if metadata.is_dir() {
            below(&path, found);
        }
        if !metadata.is_symlink() {
            found.push(path);
        }
    }
}

/// Expects nothing in the store to have a list.
#[track_caller]
fn is_clean(world: &World, after: &str) {
    let mut all = Vec::new();
    below(&world.store(), &mut all);
    assert!(!all.is_empty());
    all.retain(|path| has_list(path));
    assert!(all.is_empty(), "after {after}: {all:?}");
}

#[test]
fn what_is_added_and_registered_has_none() {
    let Some(world) = world() else { return };
    let source = world.write("source", "a source");
    let mut graph = graph_of([("x", sh("cat @{source} > $out"))]);
    graph["sources"] = json!({ "source": "source" });
    let drv = world.add(&graph);
    assert!(drv.ends_with(".drv"));
    let metadata = fs::metadata(&drv).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o444, 1));
    is_clean(&world, "windrow add");
    let added = world.ours(["--add", source.to_str().unwrap()]).ok().line();
    is_clean(&world, "--add");
    let exported = world.ours(["--export", &added, &drv]).ok().stdout;
    world.ours(["--delete", &drv]).ok();
    world.ours(["--import"]).stdin(exported).ok();
    is_clean(&world, "--import");
    world.ours(["--optimise"]).ok();
    is_clean(&world, "--optimise");
    world.stays_valid();
}

#[test]
fn the_group_of_the_directory_is_not_handed_down_either() {
    need!(root);
    let world = World::new();
    fs::create_dir(world.store()).unwrap();
    std::os::unix::fs::chown(world.store(), None, Some(SOMEBODY)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o2755);
    fs::set_permissions(world.store(), mode).unwrap();
    let drv = world.add_one("x", sh("echo x > $out"));
    let out = world.windrow("build").arg(&drv).ok().line();
    for path in [drv, out] {
        assert_ne!(fs::metadata(&path).unwrap().gid(), SOMEBODY, "{path}");
    }
}

#[test]
fn what_is_built_in_a_sandbox_knows_nothing_of_it() {
    if !have(&["busybox"]) {
        return skip("needs busybox");
    }
    let Some(world) = world() else { return };
    world.conf(SEALED);
    let script = "mkdir -p $out/dir; echo x > $out/dir/file; umask > $out/umask";
    let graph = graph_of([("x", busybox(script)), ("fails", busybox("exit 3"))]);
    let file = world.graph("g.json", &graph);
    let ran = world.windrow("build").arg(&file).arg("-k").run().exits(100);
    ran.never_says("suspicious");
    is_clean(&world, "builds, of which one failed");
    for args in [["--check", "-k"], ["--repair", "-k"]] {
        world
            .windrow("build")
            .arg(&file)
            .args(args)
            .run()
            .no_panic();
        is_clean(&world, args[0]);
    }
}

#[test]
fn an_output_that_a_list_opens_to_others_is_refused_with_the_reason() {
    let Some(world) = world() else { return };
    let drv = world.add_one("x", sh("mkdir $out"));
    let ran = world.windrow("build").arg(&drv).run().exits(1);
    let says = ran
        .says("suspicious ownership or permission")
        .says("has mode 0775");
    says.says(format!("'{}' has a default ACL", world.store().display()));
}
