//! What decoders have in common: the end of a source, and how they fail.

use std::io::{self, BufRead, ErrorKind};

/// A source of which no more than this comes at first, in bytes, is small or comes slowly: to start
/// threads for it takes longer than to unpack it.
pub(super) const SMALL: usize = 128 << 10;

/// Whether nothing is left of a source.
pub(super) fn at_end(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match source.fill_buf() {
            Ok(bytes) => return Ok(bytes.is_empty()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn truncated() -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        "the compressed data end too early",
    )
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The error of what refers back further than `window` bytes.
pub(super) fn too_large(window: u64) -> io::Error {
    let text = format!("it takes more than {} MiB to unpack", window >> 20);
    io::Error::new(ErrorKind::Unsupported, text)
}
