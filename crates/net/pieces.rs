//! What comes in pieces, as something that is read: the reader's side of a thread that makes the
//! pieces.

use std::io::{self, Read};

/// Reads pieces one after the other. An empty one is the end; after that, and after an error, no
/// more are asked for.
pub(crate) struct PieceReader<F> {
    /// Gives the next piece for the one that was used, whose memory may serve again.
    next: F,
    piece: Vec<u8>,
    /// How much of it was used.
    used: usize,
    is_over: bool,
}

impl<F: FnMut(Vec<u8>) -> io::Result<Vec<u8>>> PieceReader<F> {
    pub(crate) fn new(next: F) -> Self {
        Self {
            next,
            piece: Vec::new(),
            used: 0,
            is_over: false,
        }
    }
}

impl<F: FnMut(Vec<u8>) -> io::Result<Vec<u8>>> Read for PieceReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() && !self.is_over && !into.is_empty() {
            self.used = 0;
            let next = (self.next)(std::mem::take(&mut self.piece));
            self.piece = next.inspect_err(|_| self.is_over = true)?;
            self.is_over = self.piece.is_empty();
        }
        let count = into.len().min(self.piece.len() - self.used);
        into[..count].copy_from_slice(&self.piece[self.used..][..count]);
        self.used += count;
        Ok(count)
    }
}
