use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::DatabaseOptions;
use crate::PathInfo;
use crate::Registration;
use crate::files::canonical::{InodesSeen, canonicalise};
use crate::layout::tests::{scratch, store_path};
use crate::local::LocalStore;
use crate::nar::digest::hash_nar;

/// A store and paths in it: each a directory of files with these names and contents; a name that
/// ends in `+` is executable.
fn store(directory: &Path, paths: &[&[(&str, &str)]]) -> (Layout, Vec<PathBuf>) {
    let layout = scratch(directory);
    layout.create_directories(None, false).unwrap();
    let made = paths.iter().enumerate().map(|(number, files)| {
        let path = layout.real_path(&store_path(number));
        for (name, contents) in *files {
            let file = path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, contents).unwrap();
            let mode = if name.ends_with('+') { 0o755 } else { 0o644 };
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        symlink("target", path.join("link")).unwrap();
        canonicalise(&path, None, &mut InodesSeen::new()).unwrap();
        path
    });
    let made = made.collect();
    (layout, made)
}

fn inode(path: impl AsRef<Path>) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn equal_files_become_one_and_nothing_else_changes() {
    let directory = tempfile::tempdir().unwrap();
    let one: &[(&str, &str)] = &[
        ("a", "same"),
        ("sub/b", "same"),
        ("c", "other"),
        ("empty", ""),
    ];
    let two: &[(&str, &str)] = &[("x", "same"), ("y+", "same"), ("sub/empty", "")];
    let (layout, paths) = store(directory.path(), &[one, two]);
    let hashes: Vec<_> = paths.iter().map(|path| hash_nar(path).unwrap()).collect();
    let optimiser = Optimiser::open(&layout).unwrap();
    let first = optimiser.optimise(&paths[0]).unwrap();
    assert_eq!(first.saved, Saved { files: 1, bytes: 4 });
    let second = optimiser.optimise(&paths[1]).unwrap();
    assert_eq!(
        (second.saved.files, second.warnings.len()),
        (3, 0),
        "x, empty and the link"
    );
    let a = inode(paths[0].join("a"));
    assert_eq!(inode(paths[0].join("sub/b")), a);
    assert_eq!(inode(paths[1].join("x")), a);
    assert_ne!(
        inode(paths[1].join("y+")),
        a,
        "an executable is another file"
    );
    assert_eq!(
        inode(paths[0].join("empty")),
        inode(paths[1].join("sub/empty"))
    );
    assert_eq!(inode(paths[0].join("link")), inode(paths[1].join("link")));
    for (path, hash) in paths.iter().zip(hashes) {
        assert_eq!(hash_nar(path).unwrap(), hash);
        for directory in [path.clone(), path.join("sub")] {
            let metadata = fs::metadata(directory).unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o555, 1));
        }
    }
    let again = optimiser.optimise(&paths[1]).unwrap();
    assert_eq!(again.saved, Saved::default());
    let left = fs::read_dir(&layout.real_store_dir).unwrap().count();
    assert_eq!(left, 3, "two paths and .links");
}

#[test]
fn names_in_links_are_those_of_nix() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, paths) = store(directory.path(), &[&[("hello", "hello\n")]]);
    Optimiser::open(&layout)
        .unwrap()
        .optimise(&paths[0])
        .unwrap();
    // What `nix-hash --base32 --type sha256` says of such a file.
    let name = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";
    let link = layout.real_store_dir.join(".links").join(name);
    assert_eq!(inode(link), inode(paths[0].join("hello")));
}

#[test]
fn bad_links_are_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, paths) = store(directory.path(), &[&[("a", "same")], &[("b", "same")]]);
    let optimiser = Optimiser::open(&layout).unwrap();
    optimiser.optimise(&paths[0]).unwrap();
    let name = nix32::encode(&hash_nar(&paths[0].join("a")).unwrap().0);
    let link = layout.real_store_dir.join(".links").join(name);
    let spoil = |contents: &str| {
        fs::remove_file(&link).unwrap();
        fs::write(&link, contents).unwrap();
    };
    spoil("longer than it should be");
    let done = optimiser.optimise(&paths[1]).unwrap();
    // The file was not saved, the symbolic link was.
    assert_eq!(done.saved, Saved { files: 1, bytes: 6 });
    assert!(
        done.warnings[0].contains("corrupted link"),
        "{:?}",
        done.warnings
    );
    assert_eq!(inode(&link), inode(paths[1].join("b")));

    // Only who looks at contents notices that they are others of the same length.
    spoil("evil");
    let verifying = Optimiser::open_for_all(&layout, true).unwrap();
    verifying.optimise(&paths[0]).unwrap();
    assert_eq!(fs::read_to_string(paths[0].join("a")).unwrap(), "same");
    assert_eq!(inode(&link), inode(paths[0].join("a")));
}

#[test]
fn writable_files_are_left_alone_and_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, paths) = store(directory.path(), &[&[("a", "same")]]);
    fs::set_permissions(paths[0].join("a"), Permissions::from_mode(0o644)).unwrap();
    let done = Optimiser::open(&layout)
        .unwrap()
        .optimise(&paths[0])
        .unwrap();
    assert!(
        done.warnings[0].contains("writable file"),
        "{:?}",
        done.warnings
    );
    assert_eq!(fs::metadata(paths[0].join("a")).unwrap().nlink(), 1);
}

#[test]
fn many_at_once_get_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let files: &[(&str, &str)] = &[
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("d/e", "1"),
        ("d/f", "2"),
    ];
    let (layout, paths) = store(directory.path(), &[files; 24]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (layout, paths) = (&layout, &paths);
            scope.spawn(move || {
                let optimiser = Optimiser::open(layout).unwrap();
                for turn in 0..paths.len() {
                    optimiser
                        .optimise(&paths[(turn + thread * 5) % paths.len()])
                        .unwrap();
                }
            });
        }
    });
    let first = inode(paths[0].join("a"));
    for path in &paths {
        assert_eq!(inode(path.join("a")), first);
        assert_eq!(inode(path.join("d/e")), first);
        assert_eq!(fs::read_to_string(path.join("d/f")).unwrap(), "2");
    }
    let hidden = fs::read_dir(&layout.real_store_dir).unwrap();
    let hidden = hidden.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains(".link-")
    });
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_whole_store() {
    let directory = tempfile::tempdir().unwrap();
    let files: &[(&str, &str)] = &[("a", "same"), ("b", "other")];
    let (layout, paths) = store(directory.path(), &[files; 5]);
    let mut local = LocalStore::open(layout.clone(), &DatabaseOptions::default()).unwrap();
    // The last is not valid, so it is left alone.
    for (number, path) in paths.iter().enumerate().take(4) {
        let (nar_hash, nar_size) = hash_nar(path).unwrap();
        let info = PathInfo {
            path: store_path(number),
            nar_hash,
            nar_size,
            registration_time: 1,
            deriver: None,
            references: Vec::new(),
            ultimate: true,
            sigs: Vec::new(),
            ca: None,
        };
        let outputs = Vec::new();
        local
            .database
            .register(&[Registration { info, outputs }])
            .unwrap();
    }
    let mut seen = Vec::new();
    let done = optimise_store(&mut local, false, |done, of| seen.push((done, of))).unwrap();
    assert_eq!(
        done.saved,
        Saved {
            files: 9,
            bytes: 3 * (4 + 5 + 6)
        }
    );
    assert_eq!(seen, [(4, 4)]);
    assert_ne!(inode(paths[4].join("a")), inode(paths[0].join("a")));
    let again = optimise_store(&mut local, true, |_, _| {}).unwrap();
    assert_eq!(again.saved, Saved::default());
}
