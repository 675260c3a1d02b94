//! Hashing and counting what passes through, on its way in or out.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

/// Passes on what is read from `inner` or written to it, hashed and counted.
#[derive(Debug)]
pub struct Tee<T> {
    inner: T,
    hasher: Sha256,
    size: u64,
}

impl<T> Tee<T> {
    /// Of which nothing has been read or written yet.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            size: 0,
        }
    }

    /// What is behind it, and the SHA-256 and the number of the bytes that have passed.
    pub fn finish(self) -> (T, [u8; 32], u64) {
        (self.inner, self.hasher.finalize().into(), self.size)
    }
}

impl<T: Write> Write for Tee<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Tee<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
