//! Hash, size and references of a path from one read of its files.
//! Which references are looked for, and what the hash is compared with, is the caller's business.

use std::io::{self, Write};
use std::path::Path;

use sha2::Sha256;
use sha2::digest::Output;

use crate::error::Result;
use crate::nar;
use crate::nar::scan::{Candidates, Scanner};
use crate::nar::{ALIGNMENT, MAGIC, padding};

/// What registering a path needs to know about its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The SHA-256 of the path's NAR.
    pub nar_hash: [u8; 32],
    /// The length of the path's NAR, in bytes.
    pub nar_size: u64,
    /// The callers' indices of the candidates whose hash part the NAR holds, ascending.
    pub references: Vec<u32>,
}

/// Hashes the archive of `path` and scans it for `candidates`. Fails as [`nar::dump`] does.
pub fn digest(path: &Path, candidates: &Candidates) -> Result<Digest> {
    let mut hasher = <Sha256 as sha2::Digest>::new();
    let mut scanner = Scanner::new(candidates);
    let nar_size = feed_nar(path, |chunk| {
        sha2::Digest::update(&mut hasher, chunk);
        scanner.feed(chunk);
    })?;
    let nar_hash = sha2::Digest::finalize(hasher).into();
    Ok(Digest {
        nar_hash,
        nar_size,
        references: scanner.finish(),
    })
}

/// The SHA-256 and the length in bytes of the archive of `path`. Fails as [`nar::dump`] does.
pub fn hash_nar(path: &Path) -> Result<([u8; 32], u64)> {
    let (hash, size) = hash_nar_with::<Sha256>(path)?;
    Ok((hash.into(), size))
}

/// The SHA-256 and the length in bytes of the archive of a file with these contents that is no
/// program, without a look at any file.
pub fn hash_nar_of_contents(contents: &[u8]) -> ([u8; 32], u64) {
    let mut hasher = <Sha256 as sha2::Digest>::new();
    let mut size = 0;
    let mut feed = |bytes: &[u8]| {
        sha2::Digest::update(&mut hasher, bytes);
        size += bytes.len() as u64;
    };
    let parts = [MAGIC, "(", "type", "regular", "contents"].map(str::as_bytes);
    for token in parts.into_iter().chain([contents, b")"]) {
        let length = token.len() as u64;
        feed(&length.to_le_bytes());
        feed(token);
        feed(&[0; ALIGNMENT][..padding(length)]);
    }
    (sha2::Digest::finalize(hasher).into(), size)
}

/// As [`hash_nar`], with any hash function.
pub fn hash_nar_with<H: sha2::Digest>(path: &Path) -> Result<(Output<H>, u64)> {
    let mut hasher = H::new();
    let size = feed_nar(path, |chunk| hasher.update(chunk))?;
    Ok((hasher.finalize(), size))
}

/// Hands the archive of `path` to `feed`, chunk by chunk, and returns its length in bytes. Fails
/// as [`nar::dump`] does.
pub fn feed_nar(path: &Path, feed: impl FnMut(&[u8])) -> Result<u64> {
    let mut sink = Feed { feed, size: 0 };
    nar::dump(path, &mut sink)?;
    Ok(sink.size)
}

/// Hands the bytes of one regular file to `feed`, for flat hashes, and returns its size in bytes.
///
/// Links are not followed: [`crate::Error::File`] if `path` is one.
pub fn feed_flat(path: &Path, feed: impl FnMut(&[u8])) -> Result<u64> {
    let mut sink = Feed { feed, size: 0 };
    nar::feed_file(path, &mut sink)?;
    Ok(sink.size)
}

struct Feed<F> {
    feed: F,
    size: u64,
}

impl<F: FnMut(&[u8])> Write for Feed<F> {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        (self.feed)(chunk);
        self.size += chunk.len() as u64;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use sha2::Sha512;

    use super::*;
    use crate::error::Error;
    use crate::files::sample::{Tree, known};
    use windrow_sys::Error as FileError;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }

    #[test]
    fn contents_have_the_archive_of_the_file_that_holds_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, 7, 8, 9, 4096, 70_001] {
            let contents: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            std::fs::write(&path, &contents).unwrap();
            assert_eq!(hash_nar_of_contents(&contents), hash_nar(&path).unwrap());
        }
    }

    /// The hashes and sizes are those of `nix-store --dump` and `nix-hash` of Nix 2.8.
    #[test]
    fn hashes_are_those_of_nix() {
        let directory = tempfile::tempdir().unwrap();
        for (name, tree, hash, size) in [
            (
                "file",
                Tree::file(b"hello\n"),
                "1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13",
                120,
            ),
            (
                "exec",
                Tree::script(b"#!/bin/sh\n"),
                "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554",
                160,
            ),
            (
                "where",
                Tree::Link("../else".into()),
                "5921d24ad15e529fa5d8a910d7e60ef5174b33e04bfcf21cb4488b38934bae36",
                120,
            ),
            (
                "none",
                Tree::file(b""),
                "77ac62e2629d8e45f624589c0c8bf99e24b3a722349bf1e79bc186008534e246",
                112,
            ),
            (
                "dir",
                known(),
                "8a396f71ca70fb88f4959e56e6606f94fd6c52ce94a3532153a3c04665e3952c",
                302_208,
            ),
        ] {
            let path = directory.path().join(name);
            tree.plant(&path);
            let (found, found_size) = hash_nar(&path).unwrap();
            assert_eq!((hex(&found).as_str(), found_size), (hash, size), "{name}");
        }

        let dir = directory.path().join("dir");
        assert_eq!(
            hex(&hash_nar_with::<Sha512>(&dir).unwrap().0),
            "5ca71aefd06edad7c0eb9d225ae32d5438038eb3b5aa2781d2555405a6269ce7\
             5f0769ba52a1c2122de2c40bfcd876196540f46e8ee0eeb2b87c93d349d32018"
        );
        let mut flat = <Sha256 as sha2::Digest>::new();
        let size = feed_flat(&dir.join("big"), |chunk| {
            sha2::Digest::update(&mut flat, chunk)
        });
        assert_eq!(size.unwrap(), 300_001);
        assert_eq!(
            hex(&sha2::Digest::finalize(flat)),
            "1ebeaba04b98df6d4d8e37752bff6dee3f9ed2dc4e55d102fbf1968dee93faa4"
        );
    }

    #[test]
    fn references_are_found_in_contents_names_and_targets() {
        let parts: Vec<[u8; 32]> = (b'0'..b'5').map(|letter| [letter; 32]).collect();
        let text = |part: &[u8; 32]| String::from_utf8(part.to_vec()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tree");
        // A hash part lies across the end of the reader's first chunk.
        let mut large = vec![b'!'; 300_000];
        for start in (262_000..262_400).step_by(33) {
            large[start..start + 32].copy_from_slice(&parts[3]);
        }
        Tree::dir([
            (
                "content",
                Tree::file(format!("/nix/store/{}-a", text(&parts[0])).as_bytes()),
            ),
            (
                "link",
                Tree::Link(format!("/nix/store/{}-b", text(&parts[1])).into()),
            ),
            (&text(&parts[2]), Tree::dir([])),
            ("large", Tree::file(&large)),
        ])
        .plant(&path);
        let candidates = parts.iter().copied().zip([40, 30, 20, 10, 0]).collect();
        let digest = digest(&path, &candidates).unwrap();
        assert_eq!(digest.references, [10, 20, 30, 40]);
        assert_eq!((digest.nar_hash, digest.nar_size), hash_nar(&path).unwrap());
    }

    #[test]
    fn flat_hashes_are_for_regular_files_only() {
        let directory = tempfile::tempdir().unwrap();
        Tree::Link("/etc/passwd".into()).plant(&directory.path().join("link"));
        for path in [directory.path(), &directory.path().join("link")] {
            let error = feed_flat(path, |_| ()).unwrap_err();
            assert!(
                matches!(error, Error::File(FileError::NotRegularFile { .. })),
                "{error}"
            );
        }
    }
}
