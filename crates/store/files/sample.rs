//! Trees for the tests of this directory: drawn at random, planted on disk and read back.
//! Uses only the standard library for the disk, so that it can judge our own walking.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use windrow_sys::tree::NewTree;

/// What a NAR keeps of a file tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    File { executable: bool, contents: Vec<u8> },
    Link(OsString),
    Dir(BTreeMap<OsString, Tree>),
}

impl Tree {
    pub(crate) fn file(contents: &[u8]) -> Self {
        Self::File {
            executable: false,
            contents: contents.to_vec(),
        }
    }

    pub(crate) fn script(contents: &[u8]) -> Self {
        Self::File {
            executable: true,
            contents: contents.to_vec(),
        }
    }

    pub(crate) fn dir<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Dir(entries.map(|(name, tree)| (name.into(), tree)).into())
    }

    pub(crate) fn plant(&self, path: &Path) {
        match self {
            Self::File {
                executable,
                contents,
            } => {
                fs::write(path, contents).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            Self::Link(target) => symlink(target, path).unwrap(),
            Self::Dir(entries) => {
                fs::create_dir(path).unwrap();
                entries
                    .iter()
                    .for_each(|(name, tree)| tree.plant(&path.join(name)));
            }
        }
    }

    pub(crate) fn read(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        if metadata.is_symlink() {
            Self::Link(fs::read_link(path).unwrap().into())
        } else if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            Self::Dir(
                entries
                    .map(|entry| (entry.file_name(), Self::read(&entry.path())))
                    .collect(),
            )
        } else {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Self::File {
                executable,
                contents: fs::read(path).unwrap(),
            }
        }
    }
}

/// The tree whose archive and hashes were taken from Nix 2.8.
pub(crate) fn known() -> Tree {
    let big: Vec<u8> = (0..300_001_u32).map(|at| (at * 7 % 251) as u8).collect();
    Tree::dir([
        ("a", Tree::file(b"a")),
        ("a.b", Tree::file(b"b")),
        ("a-b", Tree::file(b"c")),
        ("A", Tree::file(b"d")),
        ("é", Tree::file(b"e")),
        ("empty-dir", Tree::dir([])),
        ("big", Tree::file(&big)),
        (
            "sub",
            Tree::dir([
                ("eight", Tree::file(b"12345678")),
                ("link", Tree::Link("/nowhere/at/all".into())),
                ("run", Tree::script(b"x")),
            ]),
        ),
    ])
}

/// Small trees, with empty files, empty directories and names and targets of any bytes.
pub(crate) fn trees() -> impl Strategy<Value = Tree> {
    let bytes = |forbidden: &'static [u8]| {
        any::<u8>().prop_filter("forbidden byte", |byte| !forbidden.contains(byte))
    };
    let name = vec(bytes(b"\0/"), 1..12)
        .prop_filter("taken name", |name| name != b"." && name != b"..")
        .prop_map(OsString::from_vec);
    let leaf = prop_oneof![
        3 => (any::<bool>(), vec(any::<u8>(), 0..70))
            .prop_map(|(executable, contents)| Tree::File { executable, contents }),
        1 => vec(bytes(b"\0"), 1..40).prop_map(|target| Tree::Link(OsString::from_vec(target))),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        btree_map(name.clone(), inner, 0..6).prop_map(Tree::Dir)
    })
}

/// Plants `depth` directories inside each other, deeper than any path can name, with a file in
/// the innermost.
pub(crate) fn plant_chain(root: &Path, depth: usize) {
    let mut tree = NewTree::new(root).unwrap();
    tree.enter(&CString::new(root.file_name().map_or(&[][..], OsStr::as_bytes)).unwrap())
        .unwrap();
    for _ in 1..depth {
        tree.enter(c"d").unwrap();
    }
    tree.file(c"leaf", false).unwrap();
}
