//! Archives, read and put on disk.

use std::ffi::CStr;
use std::io::Write as _;

use windrow_store::Result;
use windrow_store::nar::{Contents, Handler, dump, parse, restore, skip};
use windrow_sys::tree::delete_path;

use crate::shared::seeds as seeds_of;

/// Writes the archive that it is told.
#[derive(Default)]
struct Writer {
    text: Vec<u8>,
    depth: usize,
}

impl Writer {
    fn token(&mut self, token: &[u8]) {
        self.text.extend((token.len() as u64).to_le_bytes());
        self.text.extend(token);
        self.text.resize(self.text.len().next_multiple_of(8), 0);
    }

    fn words(&mut self, words: &[&str]) {
        words.iter().for_each(|word| self.token(word.as_bytes()));
    }

    fn begin(&mut self, name: Option<&CStr>, kind: &str) {
        assert_eq!(name.is_none(), self.depth == 0, "only the root has no name");
        match name {
            None => self.words(&["nix-archive-1"]),
            Some(name) => {
                self.words(&["entry", "(", "name"]);
                self.token(name.to_bytes());
                self.words(&["node"]);
            }
        }
        self.words(&["(", "type", kind]);
    }

    fn end(&mut self) {
        self.words(if self.depth > 0 { &[")", ")"] } else { &[")"] });
    }
}

impl Handler for Writer {
    fn enter(&mut self, name: Option<&CStr>) -> Result<()> {
        self.begin(name, "directory");
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.depth -= 1;
        self.end();
        Ok(())
    }

    fn file(
        &mut self,
        name: Option<&CStr>,
        executable: bool,
        contents: &mut Contents<'_>,
    ) -> Result<()> {
        self.begin(name, "regular");
        if executable {
            self.words(&["executable", ""]);
        }
        self.words(&["contents"]);
        let mut bytes = Vec::new();
        let size = contents.size();
        while let Some(chunk) = contents.next_chunk()? {
            bytes.extend_from_slice(chunk);
        }
        assert_eq!(bytes.len() as u64, size);
        self.token(&bytes);
        self.end();
        Ok(())
    }

    fn symlink(&mut self, name: Option<&CStr>, target: &CStr) -> Result<()> {
        self.begin(name, "symlink");
        self.words(&["target"]);
        self.token(target.to_bytes());
        self.end();
        Ok(())
    }
}

/// There is one archive of a tree: what is read is written as the same bytes, by the reader's
/// handler and from the disk.
pub fn check(bytes: &[u8]) {
    let mut writer = Writer::default();
    let mut rest = bytes;
    let parsed = parse(&mut rest, &mut writer);
    let used = &bytes[..bytes.len() - rest.len()];
    let mut skipped = bytes;
    assert_eq!(skip(&mut skipped).is_ok(), parsed.is_ok());
    assert_eq!(skipped.len(), rest.len());

    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().join("tree");
    let restored = restore(&mut &bytes[..], &tree);
    match parsed {
        Ok(()) => {
            assert_eq!(writer.text, used);
            restored.expect("what is an archive can be put on disk");
            let mut dumped = Vec::new();
            dump(&tree, &mut dumped).expect("what was restored is read");
            assert_eq!(dumped, used);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            restored.expect_err("what is no archive is not restored");
        }
    }
    delete_path(&tree).expect("it can be deleted, however deep");
    let left = std::fs::read_dir(directory.path()).map(Iterator::count);
    assert_eq!(left.ok(), Some(0), "nothing is written beside it");
}

/// Trees of every kind of entry, dumped from the disk.
pub fn seeds() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let mut seeds = Vec::new();
    let mut add = |name: &str| {
        let mut text = Vec::new();
        dump(&root.join(name), &mut text).expect("it is read");
        seeds.push(text);
    };
    std::fs::write(root.join("file"), "contents").expect("a file");
    add("file");
    std::os::unix::fs::symlink("target", root.join("link")).expect("a link");
    add("link");
    std::fs::create_dir_all(root.join("tree/a/b")).expect("directories");
    add("tree");
    for (name, text) in [("tree/a/x", ""), ("tree/z", "zz"), ("tree/a/b/0", "12345678")] {
        let mut file = std::fs::File::create(root.join(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
    }
    std::os::unix::fs::symlink("../x", root.join("tree/a/l")).expect("a link");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("tree/z"), mode).expect("it is its owner's");
    add("tree");
    let mut deep = root.join("deep");
    for _ in 0..20 {
        deep.push("d");
    }
    std::fs::create_dir_all(deep).expect("directories");
    add("deep");
    seeds.extend(seeds_of([b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0"]));
    seeds
}
