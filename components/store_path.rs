//! Store paths: what a valid one looks like and how each kind is computed. Touches no file system.

use std::fmt;

use crate::hash::{Hash, HashAlgo, base16, compress, sha256};
use crate::{Error, Result, nix32};

/// The length of the hash part of a store path, in characters.
pub const HASH_LEN: usize = 32;

/// The longest name a store path may have, in characters.
pub const NAME_MAX_LEN: usize = 211;

/// The base name of a store path, `HASH-NAME`. Which store it lies in is said by a [`StoreDir`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(Box<str>);

impl StorePath {
    /// Checks that `base` is `HASH-NAME`.
    ///
    /// # Errors
    /// [`Error::BadStorePath`] says which part is wrong.
    pub fn from_base_name(base: &str) -> Result<Self> {
        check_base_name(base).map_err(|reason| Error::BadStorePath {
            path: base.to_owned(),
            reason,
        })?;
        Ok(Self(base.into()))
    }

    /// `HASH-NAME`.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 characters before the dash.
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_LEN]
    }

    /// What follows the dash.
    pub fn name(&self) -> &str {
        &self.0[HASH_LEN + 1..]
    }

    /// Whether the name says that it is a derivation.
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(DERIVATION_EXTENSION)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the names of derivations end in.
pub const DERIVATION_EXTENSION: &str = ".drv";

fn check_base_name(base: &str) -> Result<(), String> {
    let bytes = base.as_bytes();
    if bytes.len() < HASH_LEN + 2 || bytes[HASH_LEN] != b'-' {
        return Err(format!(
            "it should be {HASH_LEN} characters of hash, a dash and a name"
        ));
    }
    if !bytes[..HASH_LEN].iter().all(|&byte| nix32::is_digit(byte)) {
        return Err("its hash has a character that Nix's base 32 does not use".to_owned());
    }
    name_problem(&base[HASH_LEN + 1..]).map_or(Ok(()), |problem| Err(problem.to_owned()))
}

/// What forbids `name` as the name of a store path, if anything (Nix's `checkName`).
fn name_problem(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > NAME_MAX_LEN {
        Some("it has more than 211 characters")
    } else if !name.bytes().all(allowed) {
        Some("it may only have letters, digits and + - . _ ? =")
    } else if matches!(name.split('-').next(), Some("." | "..")) {
        Some("it may not be or begin with '.' or '..' before the first dash")
    } else {
        None
    }
}

/// Checks a name for a new store path.
///
/// # Errors
/// [`Error::BadName`] says what is wrong.
pub fn check_name(name: &str) -> Result<()> {
    match name_problem(name) {
        Some(reason) => Err(Error::BadName {
            name: name.to_owned(),
            reason,
        }),
        None => Ok(()),
    }
}

/// How the contents of a fixed output are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashMode {
    /// The bytes of one regular file.
    Flat,
    /// The NAR of the whole tree.
    Recursive,
}

/// The logical store directory, part of every path's fingerprint. Without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(Box<str>);

impl StoreDir {
    /// The store directory at `dir`, an absolute path; a trailing slash is dropped.
    pub fn new(dir: &str) -> Self {
        Self(dir.trim_end_matches('/').into())
    }

    /// The directory, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full path of `path`.
    pub fn display(&self, path: &StorePath) -> String {
        self.join(path.base_name())
    }

    /// The directory and a base name joined.
    pub fn join(&self, base_name: &str) -> String {
        let mut full = String::with_capacity(self.0.len() + 1 + base_name.len());
        full.push_str(&self.0);
        full.push('/');
        full.push_str(base_name);
        full
    }

    /// The base name of a full path that lies directly in this store, unchecked beyond that.
    pub fn strip<'a>(&self, full: &'a str) -> Option<&'a str> {
        let base = full.strip_prefix(&*self.0)?.strip_prefix('/')?;
        (!base.contains('/')).then_some(base)
    }

    /// Reads a full store path.
    ///
    /// # Errors
    /// [`Error::BadStorePath`] when it does not lie directly in this store or its base name is
    /// malformed.
    pub fn parse(&self, full: &str) -> Result<StorePath> {
        let bad = |reason: String| Error::BadStorePath {
            path: full.to_owned(),
            reason,
        };
        let base = self.strip(full).ok_or_else(|| {
            bad(format!(
                "it does not lie directly in the store '{}'",
                self.0
            ))
        })?;
        check_base_name(base).map_err(bad)?;
        Ok(StorePath(base.into()))
    }

    /// The store path that `full`, a path to something in the store, lies in or is (Nix's
    /// `toStorePath`).
    ///
    /// # Errors
    /// [`Error::BadStorePath`] when it is not in this store.
    pub fn enclosing(&self, full: &str) -> Result<StorePath> {
        let inside = full
            .strip_prefix(&*self.0)
            .and_then(|rest| rest.strip_prefix('/'));
        match inside.and_then(|rest| rest.split('/').next()) {
            Some(base) => self.parse(&self.join(base)),
            None => self.parse(full),
        }
    }

    /// The path of kind `kind` whose inner hash is `inner` (Nix's `makeStorePath`).
    ///
    /// # Errors
    /// [`Error::BadName`] when `name` can't stand in a store path.
    pub fn make_path(&self, kind: &str, inner: &[u8; 32], name: &str) -> Result<StorePath> {
        check_name(name)?;
        let fingerprint = format!("{kind}:sha256:{}:{}:{name}", base16(inner), self.0);
        let hash = nix32::encode(&compress(&sha256(fingerprint.as_bytes())));
        Ok(StorePath(format!("{hash}-{name}").into()))
    }

    /// The path of a text file, as every `.drv` is (Nix's `computeStorePathForText`). `references`
    /// are full paths.
    ///
    /// # Errors
    /// As [`StoreDir::make_path`].
    pub fn text_path<'a>(
        &self,
        name: &str,
        contents_sha256: &[u8; 32],
        references: impl IntoIterator<Item = &'a str>,
    ) -> Result<StorePath> {
        self.make_path(
            &kind_with_references("text", references, false),
            contents_sha256,
            name,
        )
    }

    /// The path of a tree added by the SHA-256 of its NAR (Nix's `makeFixedOutputPath`).
    /// `references` are full paths.
    ///
    /// # Errors
    /// As [`StoreDir::make_path`].
    pub fn source_path<'a>(
        &self,
        name: &str,
        nar_sha256: &[u8; 32],
        references: impl IntoIterator<Item = &'a str>,
        refers_to_itself: bool,
    ) -> Result<StorePath> {
        let kind = kind_with_references("source", references, refers_to_itself);
        self.make_path(&kind, nar_sha256, name)
    }

    /// The path of a fixed output without references (Nix's `makeFixedOutputPath`).
    ///
    /// # Errors
    /// As [`StoreDir::make_path`].
    pub fn fixed_path(&self, name: &str, mode: HashMode, hash: &Hash) -> Result<StorePath> {
        if mode == HashMode::Recursive && hash.algo() == HashAlgo::Sha256 {
            let mut nar_sha256 = [0; 32];
            nar_sha256.copy_from_slice(hash.as_bytes());
            return self.source_path(name, &nar_sha256, [], false);
        }
        let recursive = if mode == HashMode::Recursive {
            "r:"
        } else {
            ""
        };
        let inner = format!("fixed:out:{recursive}{}:", hash.prefixed_base16());
        self.make_path("output:out", &sha256(inner.as_bytes()), name)
    }

    /// The path of an ordinary derivation's output (Nix's `makeOutputPath`); `modulo` is the
    /// derivation's masked hash.
    ///
    /// # Errors
    /// As [`StoreDir::make_path`].
    pub fn output_path(&self, output: &str, modulo: &[u8; 32], name: &str) -> Result<StorePath> {
        let name = output_path_name(name, output);
        self.make_path(&format!("output:{output}"), modulo, &name)
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of the store path of output `output` of a derivation called `name`.
pub fn output_path_name(name: &str, output: &str) -> String {
    if output == "out" {
        name.to_owned()
    } else {
        format!("{name}-{output}")
    }
}

fn kind_with_references<'a>(
    kind: &str,
    references: impl IntoIterator<Item = &'a str>,
    refers_to_itself: bool,
) -> String {
    let mut sorted: Vec<&str> = references.into_iter().collect();
    sorted.sort_unstable();
    // A derivation may be an input and a source at once.
    sorted.dedup();
    let mut text = kind.to_owned();
    for reference in sorted {
        text.push(':');
        text.push_str(reference);
    }
    if refers_to_itself {
        text.push_str(":self");
    }
    text
}

/// The text that stands for a derivation's own output in its arguments and environment until it is
/// built (Nix's `hashPlaceholder`).
pub fn placeholder(output: &str) -> String {
    format!(
        "/{}",
        nix32::encode(&sha256(format!("nix-output:{output}").as_bytes()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store() -> StoreDir {
        StoreDir::new("/nix/store/")
    }

    #[test]
    fn blake3_paths_are_those_of_nix() {
        let hash = Hash::parse("blake3-6o8WPbOGgpJeRJHF5Y1Ls1Bu+MFOt4qG6QjFYkpnIA8=", None);
        let hash = hash.unwrap();
        let store = StoreDir::new("/nix/store");
        for (mode, name, expected) in [
            (HashMode::Flat, "x", "na24adn4lvj7mxwh85i7mkvlnrqpr8r1-x"),
            (
                HashMode::Recursive,
                "x",
                "vcma2prqmlz9rj844d5qzwf67ayh72jc-x",
            ),
            (
                HashMode::Flat,
                "hello",
                "1bzz0vcn185267fscx3pzj2aa25cwflh-hello",
            ),
        ] {
            let path = store.fixed_path(name, mode, &hash).unwrap();
            assert_eq!(store.display(&path), format!("/nix/store/{expected}"));
        }
    }

    #[test]
    fn the_placeholder_of_out_is_that_of_nix() {
        assert_eq!(
            placeholder("out"),
            "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"
        );
    }

    #[test]
    fn names_are_checked_as_nix_does() {
        for good in ["a", ".foo", "a+b-c._?=", "..a", &"x".repeat(211)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".-a",
            "..-a",
            "a/b",
            "a b",
            "ü",
            &"x".repeat(212),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let full = "/nix/store/8rhh74q2l84v5z1fa0n941xhbpgw3ncf-xf86bigfontproto-1.2.0.drv";
        let path = store().parse(full).unwrap();
        assert_eq!(path.hash_part(), "8rhh74q2l84v5z1fa0n941xhbpgw3ncf");
        assert_eq!(path.name(), "xf86bigfontproto-1.2.0.drv");
        assert!(path.is_derivation());
        assert_eq!(store().display(&path), full);
        assert_eq!(store().enclosing(&format!("{full}/bin/x")).unwrap(), path);
        for bad in [
            "/nix/store",
            "/nix/store/",
            "/nix/store/x",
            "/nix/other/y",
            &full[..43],
        ] {
            assert!(store().parse(bad).is_err(), "{bad}");
            assert!(store().enclosing(bad).is_err(), "{bad}");
        }
        assert!(store().parse(&format!("{full}/bin")).is_err());
    }

    #[test]
    fn references_are_sorted_and_part_of_the_path() {
        let hash = sha256(b"text");
        let one = store()
            .text_path("n", &hash, ["/nix/store/b", "/nix/store/a"])
            .unwrap();
        let two = store()
            .text_path("n", &hash, ["/nix/store/a", "/nix/store/b"])
            .unwrap();
        assert_eq!(one, two);
        let twice = ["/nix/store/a", "/nix/store/b", "/nix/store/a"];
        assert_eq!(one, store().text_path("n", &hash, twice).unwrap());
        assert_ne!(one, store().text_path("n", &hash, []).unwrap());
        assert_ne!(
            one,
            StoreDir::new("/other").text_path("n", &hash, []).unwrap()
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = store().parse(&text);
            let _ = store().enclosing(&format!("/nix/store/{text}"));
        }
    }
}
