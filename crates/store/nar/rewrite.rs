//! Replaces hash parts in a tree by others of the same length: how outputs that were built under
//! scratch names get their own (Nix 1.8: `rewriteHashes`, but streamed).

use std::io::{BufReader, Write};
use std::path::Path;

use memchr::memmem;

use crate::error::{Error, Result};
use crate::files::beside::unique_beside;
use crate::nar;
use crate::nar::scan::HASH_PART;
use windrow_sys::interrupt::{self, Grace};
use windrow_sys::threads::spawn_scoped;
use windrow_sys::tree::delete_path;

/// A hash part and what to put in its place.
pub type Rewrite = ([u8; HASH_PART], [u8; HASH_PART]);

/// Rewrites everything in the tree at `path`: contents, names and link targets. The tree is dumped,
/// rewritten and restored beside it at once, then takes its place.
///
/// # Errors
/// When the tree can't be read, or the new one can't be written; `path` is then as it was.
///
/// Nix 1.8: `rewriteHashes`.
pub fn rewrite_hashes(path: &Path, rewrites: &[Rewrite]) -> Result<()> {
    let new = unique_beside(path, "rewrite");
    if let Err(error) = copy_rewritten(path, &new, rewrites) {
        // The first error is the one to tell.
        let _grace = Grace::new();
        let _ = delete_path(&new);
        return Err(error);
    }
    delete_path(path)?;
    std::fs::rename(&new, path).map_err(Error::io("put the rewritten output at", path))
}

fn copy_rewritten(from: &Path, to: &Path, rewrites: &[Rewrite]) -> Result<()> {
    let (reader, writer) = std::io::pipe().map_err(Error::io("make a pipe to rewrite", from))?;
    std::thread::scope(|scope| {
        let stop = interrupt::current();
        let dump = spawn_scoped(scope, move || {
            let _entered = stop.as_ref().map(interrupt::Stop::enter);
            let mut sink = RewriteSink {
                inner: writer,
                rewrites,
                held: Vec::new(),
            };
            nar::dump(from, &mut sink)?;
            sink.finish().map_err(Error::io("rewrite", from))
        });
        let dump = dump.map_err(Error::io("start a thread to rewrite", from))?;
        let restored = nar::restore_rewritten(&mut BufReader::new(reader), to);
        let dumped = dump
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A dump that failed is why the restoration found the archive cut short.
        dumped.and(restored)
    })
}

/// Passes on what is written to it with hash parts replaced, those across two writes too.
struct RewriteSink<'a, W> {
    inner: W,
    rewrites: &'a [Rewrite],
    /// Bytes that may be the beginning of a hash part.
    held: Vec<u8>,
}

impl<W: Write> RewriteSink<'_, W> {
    fn finish(mut self) -> std::io::Result<()> {
        self.inner.write_all(&self.held)?;
        self.inner.flush()
    }
}

impl<W: Write> Write for RewriteSink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.held.extend_from_slice(bytes);
        for (from, to) in self.rewrites {
            let found: Vec<usize> = memmem::find_iter(&self.held, from).collect();
            for at in found {
                self.held[at..at + HASH_PART].copy_from_slice(to);
            }
        }
        let pass = self.held.len().saturating_sub(HASH_PART - 1);
        self.inner.write_all(&self.held[..pass])?;
        self.held.drain(..pass);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: [u8; 32] = *b"0123456789abcdfghijklmnpqrsvwxyz";
    const TO: [u8; 32] = *b"zyxwvsrqpnmlkjihgfdcba9876543210";

    #[test]
    fn contents_names_and_targets_are_rewritten() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let text = |hash: &[u8]| String::from_utf8(hash.to_vec()).unwrap();
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join(text(&FROM)), format!("a{}b", text(&FROM))).unwrap();
        std::os::unix::fs::symlink(text(&FROM), tree.join("link")).unwrap();
        rewrite_hashes(&tree, &[(FROM, TO)]).unwrap();
        let file = std::fs::read_to_string(tree.join(text(&TO))).unwrap();
        assert_eq!(file, format!("a{}b", text(&TO)));
        assert_eq!(
            std::fs::read_link(tree.join("link")).unwrap().to_str(),
            Some(&*text(&TO))
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            before in 0..70_usize, between in 0..40_usize, cuts in proptest::collection::vec(1..50_usize, 0..9),
        ) {
            let stream = |hash: &[u8]| {
                [&vec![b'-'; before][..], hash, &vec![b'+'; between][..], hash, b"end"].concat()
            };
            let input = stream(&FROM);
            let mut output = Vec::new();
            let mut sink = RewriteSink { inner: &mut output, rewrites: &[(FROM, TO)], held: Vec::new() };
            let mut rest = &input[..];
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                sink.write_all(piece).unwrap();
                rest = left;
            }
            sink.write_all(rest).unwrap();
            sink.finish().unwrap();
            prop_assert_eq!(output, stream(&TO));
        }
    }
}
