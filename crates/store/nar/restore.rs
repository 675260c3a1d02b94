//! Putting the tree that an archive describes on disk, in a place where nothing is yet.
//! Metadata is left to the canonicalisation that follows.

use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::path::Path;

use super::parse::{Contents, Entries, Handler, parse, parse_entries};
use crate::error::{Error, Result};
use windrow_sys::interrupt;
use windrow_sys::tree::NewTree;

/// Reads one archive from `source`, and not a byte beyond it, and creates its tree at `dest`.
///
/// `dest` must not exist and its parent must. Nothing outside `dest` is written, whatever the
/// archive says. On failure, which is [`parse`]'s or an [`Error::File`] on the file that could not
/// be created, the part restored so far stays for the caller to delete.
pub fn restore(source: &mut impl Read, dest: &Path) -> Result<()> {
    let tree = NewTree::new(dest)?;
    let root = tree.root_name().to_owned();
    parse(source, &mut Restorer { tree, root })
}

/// As [`restore`], for an archive in which names were replaced, so that they may be out of order. A
/// name that comes twice is an [`Error::File`].
pub(crate) fn restore_rewritten(source: &mut impl Read, dest: &Path) -> Result<()> {
    let tree = NewTree::new(dest)?;
    let root = tree.root_name().to_owned();
    parse_entries(source, &mut Restorer { tree, root }, Entries::Any)
}

struct Restorer<'p> {
    tree: NewTree<'p>,
    root: CString,
}

impl Handler for Restorer<'_> {
    fn enter(&mut self, name: Option<&CStr>) -> Result<()> {
        Ok(self.tree.enter(name.unwrap_or(&self.root))?)
    }

    fn leave(&mut self) -> Result<()> {
        Ok(self.tree.leave()?)
    }

    fn file(
        &mut self,
        name: Option<&CStr>,
        executable: bool,
        contents: &mut Contents<'_>,
    ) -> Result<()> {
        let name = name.unwrap_or(&self.root);
        let mut file = self.tree.file(name, executable)?;
        while let Some(chunk) = contents.next_chunk()? {
            interrupt::check().map_err(|ended| Error::io("write", self.tree.path(name))(ended))?;
            file.write_all(chunk)
                .map_err(|error| Error::io("write", self.tree.path(name))(error))?;
        }
        Ok(())
    }

    fn symlink(&mut self, name: Option<&CStr>, target: &CStr) -> Result<()> {
        Ok(self.tree.symlink(name.unwrap_or(&self.root), target)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::files::sample::{Tree, known, trees};
    use crate::nar::{NarFault, dump, skip};
    use windrow_sys::tree::delete_path;

    /// A directory with one other entry, which must be all there is beside the restored tree.
    fn yard() -> (TempDir, PathBuf) {
        let yard = tempfile::tempdir().unwrap();
        fs::write(yard.path().join("other"), "untouched").unwrap();
        let dest = yard.path().join("dest");
        (yard, dest)
    }

    fn assert_yard_is_clean(yard: &TempDir) {
        assert_eq!(fs::read(yard.path().join("other")).unwrap(), b"untouched");
        let mut names: Vec<_> = fs::read_dir(yard.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.retain(|name| name != "other" && name != "dest");
        assert!(names.is_empty(), "{names:?}");
    }

    fn archive(tree: &Tree) -> Vec<u8> {
        let (_yard, path) = yard();
        tree.plant(&path);
        dumped(&path)
    }

    fn dumped(path: &Path) -> Vec<u8> {
        let mut archive = Vec::new();
        dump(path, &mut archive).unwrap();
        archive
    }

    fn small() -> Tree {
        Tree::dir([
            ("file", Tree::file(b"hello, world")),
            ("link", Tree::Link("../other".into())),
            ("sub", Tree::dir([("run", Tree::script(b"#!"))])),
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn what_was_dumped_comes_back(tree in trees()) {
            let (yard, dest) = yard();
            let archive = archive(&tree);
            let mut source = archive.as_slice();
            restore(&mut source, &dest).unwrap();
            prop_assert!(source.is_empty());
            prop_assert_eq!(Tree::read(&dest), tree);
            prop_assert_eq!(dumped(&dest), archive);
            assert_yard_is_clean(&yard);
        }

        /// Whatever is accepted is a valid tree: its own archive is the one that was read.
        #[test]
        fn damaged_archives_stay_inside(
            tree in trees(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        ) {
            let (yard, dest) = yard();
            let mut archive = archive(&tree);
            for (at, flip) in flips {
                let at = at.index(archive.len());
                archive[at] ^= flip;
            }
            let mut source = archive.as_slice();
            if restore(&mut source, &dest).is_ok() {
                let read = archive.len() - source.len();
                prop_assert_eq!(dumped(&dest), &archive[..read]);
            }
            assert_yard_is_clean(&yard);
        }
    }

    #[test]
    fn large_files_come_back() {
        let (_yard, dest) = yard();
        restore(&mut archive(&known()).as_slice(), &dest).unwrap();
        assert!(Tree::read(&dest) == known());
    }

    #[test]
    fn cut_at_every_byte_it_is_truncated() {
        let archive = archive(&small());
        for cut in 0..archive.len() {
            let (yard, dest) = yard();
            let error = restore(&mut &archive[..cut], &dest).unwrap_err();
            let Error::NarDamaged {
                offset,
                fault: NarFault::Truncated,
            } = error
            else {
                panic!("cut at {cut}: {error}");
            };
            assert_eq!(offset, cut as u64);
            assert_yard_is_clean(&yard);
        }
    }

    #[test]
    fn each_byte_changed_gives_an_error_or_the_tree_it_describes() {
        let original = archive(&small());
        for at in 0..original.len() {
            let (yard, dest) = yard();
            let mut archive = original.clone();
            archive[at] ^= [1, b'.' ^ b'/', 0x80][at % 3];
            if restore(&mut archive.as_slice(), &dest).is_ok() {
                assert_eq!(dumped(&dest), archive, "byte {at}");
            }
            assert_yard_is_clean(&yard);
        }
    }

    #[test]
    fn an_existing_place_is_left_alone() {
        let (yard, _) = yard();
        let other = yard.path().join("other");
        for tree in [small(), Tree::file(b"new"), Tree::Link("new".into())] {
            let error = restore(&mut archive(&tree).as_slice(), &other).unwrap_err();
            assert!(
                matches!(&error, Error::File(windrow_sys::Error::Io { path, .. }) if *path == other),
                "{error}"
            );
            assert_yard_is_clean(&yard);
        }
    }

    #[test]
    fn any_depth_is_restored() {
        let head = archive(&Tree::dir([("d", Tree::file(b""))]));
        let leaf = archive(&Tree::file(b""));
        let magic = 24;
        // The head ends with two closing brackets of 16 bytes, after the file.
        let start = head.len() - 32 - (leaf.len() - magic);
        let mut deep = leaf[magic..].to_vec();
        let mut frames = head[..magic].to_vec();
        for _ in 0..5000 {
            frames.extend(&head[magic..start]);
            deep.extend(&head[head.len() - 32..]);
        }
        frames.extend(deep);
        skip(&mut frames.as_slice()).unwrap();
        let (_yard, dest) = yard();
        restore(&mut frames.as_slice(), &dest).unwrap();
        assert!(dumped(&dest) == frames);
        delete_path(&dest).unwrap();
    }
}
