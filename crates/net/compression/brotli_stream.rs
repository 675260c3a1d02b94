//! Brotli: one stream, and nothing behind it. Its window is 16 MiB at most, since streams with
//! larger ones, an extension, are refused.

use std::io::{self, BufRead, Read};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use super::source::{at_end, damaged, truncated};

/// What a stream holds.
pub(super) struct Brotli<R> {
    source: R,
    /// None at the end of the stream.
    state: Option<Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>>,
}

impl<R: BufRead> Brotli<R> {
    pub(super) fn new(source: R) -> Self {
        let state = BrotliState::new_strict(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        Self {
            source,
            state: Some(Box::new(state)),
        }
    }
}

impl<R: BufRead> Read for Brotli<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(state) = &mut self.state {
            let input = self.source.fill_buf()?;
            let is_last = input.is_empty();
            let (mut left, mut read) = (input.len(), 0);
            let (mut room, mut written, mut total) = (into.len(), 0, 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                input,
                &mut room,
                &mut written,
                into,
                &mut total,
                state,
            );
            self.source.consume(read);
            match result {
                BrotliResult::ResultFailure => {
                    return Err(damaged("the compressed data are damaged"));
                }
                BrotliResult::NeedsMoreInput if is_last && written == 0 => return Err(truncated()),
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultSuccess => {
                    self.state = None;
                    if !at_end(&mut self.source)? {
                        return Err(damaged("there is something behind the compressed data"));
                    }
                }
            }
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}
