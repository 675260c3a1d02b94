//! Equal files become one (`auto-optimise-store`): in the way Nix does it, so that each goes on
//! where the other stopped. What single files and directories look like afterwards is tested beside
//! the code.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::harness::{World, graph_of, need, sh};

fn inode(path: impl AsRef<Path>) -> u64 {
    let path = path.as_ref();
    match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.ino(),
        Err(error) => panic!("cannot look at {}: {error}", path.display()),
    }
}

/// Two derivations with equal files, and the outputs of both.
fn two(world: &World) -> (String, String) {
    let script =
        "mkdir -p $out/sub; echo same > $out/file; echo same > $out/sub/again; : > $out/empty
        ln -s target $out/link; echo same > $out/sub/run; chmod +x $out/sub/run";
    let graph = graph_of([
        ("one", sh(script)),
        ("two", sh(&format!("{script}; echo different > $out/own"))),
    ]);
    let outputs = world
        .windrow("build")
        .arg(world.graph("g.json", &graph))
        .ok()
        .lines();
    let find = |name: &str| {
        outputs
            .iter()
            .find(|path| path.ends_with(name))
            .unwrap()
            .clone()
    };
    (find("-one"), find("-two"))
}

#[track_caller]
fn are_linked(one: &str, two: &str) {
    for name in ["file", "sub/again", "empty", "link", "sub/run"] {
        assert_eq!(
            inode(format!("{one}/{name}")),
            inode(format!("{two}/{name}")),
            "{name}"
        );
    }
    assert_eq!(
        inode(format!("{one}/file")),
        inode(format!("{one}/sub/again"))
    );
    assert_ne!(
        inode(format!("{one}/file")),
        inode(format!("{one}/sub/run"))
    );
    for directory in [one, two, &format!("{two}/sub")] {
        let metadata = fs::metadata(directory).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime()),
            (0o555, 1),
            "{directory}"
        );
    }
}

#[test]
fn new_outputs_share_what_is_equal() {
    let world = World::new();
    let (one, two_alone) = two(&world);
    assert_ne!(
        inode(format!("{one}/file")),
        inode(format!("{two_alone}/file")),
        "only on request"
    );
    let world = World::new();
    world.conf("auto-optimise-store = true\n");
    let (one, two) = two(&world);
    are_linked(&one, &two);
    assert_eq!(
        fs::read_dir(world.store().join(".links")).unwrap().count(),
        5
    );
    let left = world.store_entries();
    assert!(
        !left
            .iter()
            .any(|path| path.to_string_lossy().contains(".link-")),
        "{left:?}"
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn nix_finds_nothing_left_to_do() {
    need!(nix);
    let world = World::new();
    world.conf("auto-optimise-store = true\n");
    let (one, two) = two(&world);
    let links = || {
        let entries = fs::read_dir(world.store().join(".links")).unwrap();
        let mut links: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| {
                use std::os::unix::fs::DirEntryExt as _;
                (entry.file_name(), entry.ino())
            })
            .collect();
        links.sort();
        links
    };
    let ours = links();
    world.program("nix-store").arg("--optimise").ok();
    are_linked(&one, &two);
    // Nix links the derivations as well, which are files of the store like any other.
    assert!(ours.iter().all(|link| links().contains(link)));
    assert_eq!(links().len(), ours.len() + 2);
    world.verifies();
}

#[test]
fn what_nix_has_linked_is_linked_to() {
    need!(nix);
    let world = World::new();
    let graph = graph_of([("first", sh("echo same > $out"))]);
    let first = world
        .windrow("build")
        .arg(world.graph("f.json", &graph))
        .ok()
        .line();
    world.program("nix-store").arg("--optimise").ok();
    world.conf("auto-optimise-store = true\n");
    let (one, two) = two(&world);
    are_linked(&one, &two);
    assert_eq!(inode(&first), inode(format!("{one}/file")));
    // An output that is a file itself lies in the store's own directory.
    let graph = graph_of([("second", sh("echo same > $out"))]);
    let second = world
        .windrow("build")
        .arg(world.graph("s.json", &graph))
        .ok()
        .line();
    assert_eq!(inode(&second), inode(&first));
    world.verifies();
}

#[test]
fn a_store_without_a_directory_for_links_says_so_before_anything_is_built() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    fs::remove_dir(world.store().join(".links")).unwrap();
    fs::write(world.store().join(".links"), "").unwrap();
    world.conf("auto-optimise-store = true\n");
    let ran = world.windrow("build").arg(&drv).run().exits(1).one_error();
    ran.says(".links'");
}
