//! Binary caches that real Nix writes.
//! Knows the files of a cache, and how to damage them.

use std::fs;
use std::path::{Path, PathBuf};

use super::World;

/// A key that caches are signed with.
pub(crate) struct Key {
    pub(crate) secret: PathBuf,
    /// As `trusted-public-keys` takes it.
    pub(crate) public: String,
}

impl Key {
    #[track_caller]
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let (secret, public) = (world.file(&format!("{name}.sec")), world.file("public"));
        let made = world
            .program("nix-store")
            .args(["--generate-binary-cache-key", name]);
        made.arg(&secret).arg(&public).ok();
        let public = fs::read_to_string(public).expect("a key");
        Self { secret, public }
    }
}

/// A binary cache in a directory.
pub(crate) struct BinaryCache {
    pub(crate) dir: PathBuf,
}

impl BinaryCache {
    /// Has Nix copy paths with all that they refer to into a cache of that name, compressed so, and
    /// signed if there is a key.
    #[track_caller]
    pub(crate) fn written_by_nix(
        world: &World,
        name: &str,
        how: (&str, Option<&Key>),
        paths: &[&str],
    ) -> Self {
        Self::written_by("nix", world, name, how, paths)
    }

    /// The same, by that program.
    #[track_caller]
    pub(crate) fn written_by(
        nix: &str,
        world: &World,
        name: &str,
        (compression, key): (&str, Option<&Key>),
        paths: &[&str],
    ) -> Self {
        let dir = world.file(name);
        let mut url = format!("file://{}?compression={compression}", dir.display());
        if let Some(key) = key {
            url.push_str(&format!("&secret-key={}", key.secret.display()));
        }
        let copy = world.program(nix).args(["copy", "--no-check-sigs", "--to"]);
        copy.arg(url).args(paths).ok();
        Self { dir }
    }

    /// As the setting `substituters` names it.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.dir.display())
    }

    /// The narinfo of a path.
    pub(crate) fn narinfo(&self, path: &str) -> PathBuf {
        let name = Path::new(path).file_name().expect("a name");
        let hash = &name.to_str().expect("ASCII")[..32];
        self.dir.join(format!("{hash}.narinfo"))
    }

    /// The archive of a path.
    #[track_caller]
    pub(crate) fn archive(&self, path: &str) -> PathBuf {
        self.dir.join(self.field(path, "URL"))
    }

    /// A field of the narinfo of a path.
    #[track_caller]
    pub(crate) fn field(&self, path: &str, name: &str) -> String {
        let text = fs::read_to_string(self.narinfo(path)).expect("a narinfo");
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| *known == name);
        found.expect("a field").1.to_owned()
    }

    /// Replaces text in the narinfo of a path.
    #[track_caller]
    pub(crate) fn change(&self, path: &str, from: &str, to: &str) {
        let file = self.narinfo(path);
        let text = fs::read_to_string(&file).expect("a narinfo");
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).expect("a file of ours");
    }

    /// Forgets a path.
    #[track_caller]
    pub(crate) fn forget(&self, path: &str) {
        fs::remove_file(self.narinfo(path)).expect("a known path");
    }

    /// Changes a byte in the middle of the archive of a path.
    #[track_caller]
    pub(crate) fn damage(&self, path: &str) {
        let file = self.archive(path);
        let mut bytes = fs::read(&file).expect("an archive");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        fs::write(file, bytes).expect("a file of ours");
    }
}
