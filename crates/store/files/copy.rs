//! Copying a tree as the store would see it: files, links, directories and the executable bit.
//! Used to bring sources in; what they become afterwards is decided elsewhere.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use windrow_sys::interrupt;
use windrow_sys::tree::{Kind, NewTree, Node, Order, Visitor, unsupported, walk};
use windrow_sys::{Error, Result};

/// How much of a file is copied between two looks whether to go on, in bytes.
const PIECE_BYTES: u64 = 8 << 20;

/// Copies the file, link or directory at `source` to `dest`, following no link.
///
/// `dest` must not exist and its parent must. Fails with [`Error::UnsupportedFileType`] on fifos,
/// sockets and devices, else with [`Error::Io`]; what was copied by then stays for the caller to
/// delete. Owners, times and modes are not copied, nor are extended attributes.
/// Uses up to twice the descriptors of [`walk`].
pub fn copy_tree(source: &Path, dest: &Path) -> Result<()> {
    let tree = NewTree::new(dest)?;
    let root = tree.root_name().to_owned();
    walk(source, Order::Any, &mut Copier { tree, root })
}

struct Copier<'p> {
    tree: NewTree<'p>,
    root: CString,
}

impl Visitor for Copier<'_> {
    type Dir = ();

    fn visit(&mut self, node: &Node<'_>) -> Result<Option<(OwnedFd, ())>> {
        let name = if node.is_root() {
            &self.root
        } else {
            node.name()
        };
        match node.kind()? {
            Kind::Directory => {
                let handle = node.open_directory()?;
                self.tree.enter(name)?;
                return Ok(Some((handle, ())));
            }
            Kind::Regular => {
                let (mut from, stat) = node.open_file()?;
                let mut to = self.tree.file(name, stat.st_mode & 0o100 != 0)?;
                copy_contents(&mut from, &mut to)
                    .map_err(|error| Error::io("copy", node.path())(error))?;
            }
            Kind::Symlink => {
                let target = CString::new(node.read_link()?)
                    .map_err(|nul| Error::io("read the link", node.path())(nul.into()))?;
                self.tree.symlink(name, &target)?;
            }
            Kind::Other => return Err(unsupported(node)),
        }
        Ok(None)
    }

    fn leave(&mut self, _node: &Node<'_>, _handle: OwnedFd, _dir: ()) -> Result<()> {
        self.tree.leave()
    }
}

/// In pieces, for the kernel would not end a long copy for anything.
fn copy_contents(from: &mut File, to: &mut File) -> io::Result<()> {
    loop {
        interrupt::check()?;
        let copied = io::copy(&mut from.by_ref().take(PIECE_BYTES), to)?;
        if copied < PIECE_BYTES {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixListener;

    use proptest::prelude::*;

    use super::*;
    use crate::files::sample::{Tree, known, plant_chain, trees};
    use windrow_sys::tree::delete_path;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_copy_reads_like_its_source(tree in trees()) {
            let directory = tempfile::tempdir().unwrap();
            let (source, dest) = (directory.path().join("source"), directory.path().join("dest"));
            tree.plant(&source);
            copy_tree(&source, &dest).unwrap();
            prop_assert_eq!(Tree::read(&dest), tree);
        }
    }

    #[test]
    fn large_files_and_deep_trees_are_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (source, dest) = (
            directory.path().join("source"),
            directory.path().join("dest"),
        );
        known().plant(&source);
        copy_tree(&source, &dest).unwrap();
        assert!(Tree::read(&dest) == known());
        let (deep, copy) = (directory.path().join("deep"), directory.path().join("copy"));
        plant_chain(&deep, 2000);
        copy_tree(&deep, &copy).unwrap();
        let hash = |path| crate::nar::digest::hash_nar(path).unwrap();
        assert_eq!(hash(&deep), hash(&copy));
        delete_path(&deep).unwrap();
        delete_path(&copy).unwrap();
    }

    #[test]
    fn special_bits_are_not_copied_and_special_files_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (source, dest) = (
            directory.path().join("source"),
            directory.path().join("dest"),
        );
        Tree::script(b"x").plant(&source);
        fs::set_permissions(&source, Permissions::from_mode(0o4755)).unwrap();
        copy_tree(&source, &dest).unwrap();
        assert_eq!(fs::metadata(&dest).unwrap().mode() & 0o7100, 0o100);

        let error = copy_tree(&source, &dest).unwrap_err();
        assert!(
            matches!(&error, Error::Io { path, .. } if *path == dest),
            "{error}"
        );
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let error = copy_tree(&socket, &directory.path().join("new")).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFileType { path } if path == socket));
    }
}
