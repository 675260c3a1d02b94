//! The setting `sandbox-paths`: what of the machine builders see, and where.
//! Reads words; looks at the file system only to say what kind of thing a source is.

use std::io;
use std::path::{Component, Path, PathBuf};

/// A path of the machine that builders see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    /// Where builders see it.
    pub target: PathBuf,
    /// Where it lies.
    pub source: PathBuf,
    /// Whether it may be missing.
    pub optional: bool,
}

/// What a sandbox path shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A directory.
    Directory,
    /// A file, a device or the like.
    File,
    /// A symbolic link into the store, which is made anew so that it reads the same.
    Link(PathBuf),
}

impl SandboxPath {
    /// Reads `PATH`, `TARGET=SOURCE` and either with `?` at its end.
    ///
    /// # Errors
    /// When a path is not absolute, or has `..` in it.
    pub fn parse(word: &str) -> Result<Self, String> {
        let (word, optional) = match word.strip_suffix('?') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let path = Self::plain(word, "the setting 'sandbox-paths'")?;
        Ok(Self { optional, ..path })
    }

    /// Reads `PATH` or `TARGET=SOURCE`, which must not be missing. `whose` is what has the word, to
    /// be named in messages.
    ///
    /// # Errors
    /// As [`SandboxPath::parse`].
    pub fn plain(word: &str, whose: &str) -> Result<Self, String> {
        let (target, source) = word.split_once('=').unwrap_or((word, word));
        let clean = |path: &str| {
            let path = Path::new(path);
            let plain = path
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            if path.is_absolute() && plain {
                Ok(path.components().as_path().to_owned())
            } else {
                Err(format!(
                    "{whose} has '{word}', but '{}' is not an absolute path without '..'; write PATH, or TARGET=SOURCE",
                    path.display()
                ))
            }
        };
        let (target, source) = (clean(target)?, clean(source)?);
        if target == Path::new("/") {
            return Err(format!(
                "{whose} has '/' as a target; name what builders need below it"
            ));
        }
        Ok(Self {
            target,
            source,
            optional: false,
        })
    }

    /// What it shows; `None` if it is missing and may be.
    ///
    /// # Errors
    /// When it is missing, or can't be looked at.
    pub fn look(&self, store_dir: &Path) -> Result<Option<Shown>, String> {
        match self.kind(store_dir) {
            Ok(shown) => Ok(Some(shown)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.optional => Ok(None),
            Err(error) => Err(format!(
                "cannot show '{}' to builders, as the setting 'sandbox-paths' asks: {error}; add '?' to it if it may \
                 be missing",
                self.source.display()
            )),
        }
    }

    /// What it shows, whether it may be missing or not.
    ///
    /// # Errors
    /// When the source can't be looked at.
    pub fn kind(&self, store_dir: &Path) -> io::Result<Shown> {
        if std::fs::symlink_metadata(&self.source)?.is_symlink() {
            let link = std::fs::read_link(&self.source)?;
            if link.starts_with(store_dir) {
                return Ok(Shown::Link(link));
            }
        }
        Ok(match std::fs::metadata(&self.source)?.is_dir() {
            true => Shown::Directory,
            false => Shown::File,
        })
    }

    /// The path of the store that the source lies in, or that it links to, if any.
    pub fn store_path(&self, store_dir: &Path) -> Option<String> {
        let of = |path: &Path| {
            let below = path.strip_prefix(store_dir).ok()?;
            let name = below.components().next()?.as_os_str().to_str()?;
            Some(format!("{}/{name}", store_dir.to_str()?))
        };
        of(&self.source).or_else(|| of(&std::fs::read_link(&self.source).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str) -> SandboxPath {
        SandboxPath::parse(word).unwrap()
    }

    #[test]
    fn all_forms_are_read() {
        let plain = parse("/etc/x/");
        assert_eq!(plain.target, Path::new("/etc/x"));
        assert_eq!(plain.source, plain.target);
        assert!(!plain.optional);
        let other = parse("/bin/sh=/bin/busybox?");
        assert_eq!(
            (other.target.to_str(), other.source.to_str(), other.optional),
            (Some("/bin/sh"), Some("/bin/busybox"), true)
        );
        for bad in [
            "",
            "x",
            "/a/../b",
            "/a=b",
            "=/a",
            "/=/a",
            "/",
            "/a=/b/../c?",
        ] {
            let error = SandboxPath::parse(bad).unwrap_err();
            assert!(error.contains("sandbox-paths"), "{bad}: {error}");
        }
    }

    #[test]
    fn kinds_are_told_apart_and_what_may_be_missing_is() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        std::fs::create_dir(&store).unwrap();
        std::fs::write(store.join("abc-x"), "").unwrap();
        std::os::unix::fs::symlink(store.join("abc-x"), directory.path().join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.path().join("out")).unwrap();
        let look = |name: &str, more: &str| {
            let word = format!("{}{more}", directory.path().join(name).display());
            parse(&word).look(&store)
        };
        assert_eq!(look("store", ""), Ok(Some(Shown::Directory)));
        assert_eq!(look("store/abc-x", ""), Ok(Some(Shown::File)));
        assert_eq!(look("in", ""), Ok(Some(Shown::Link(store.join("abc-x")))));
        assert_eq!(look("out", ""), Ok(Some(Shown::Directory)));
        assert_eq!(look("none", "?"), Ok(None));
        assert!(look("none", "").unwrap_err().contains("none"));

        let word = format!("/x={}", store.join("abc-x/bin").display());
        let inside = parse(&word).store_path(&store).unwrap();
        assert_eq!(Path::new(&inside), store.join("abc-x"));
        let link = parse(&format!("{}", directory.path().join("in").display()));
        assert_eq!(link.store_path(&store), Some(inside));
        assert_eq!(parse("/etc").store_path(&store), None);
    }
}
