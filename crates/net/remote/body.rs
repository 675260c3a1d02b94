//! What is uploaded: bytes or a file, or a part of either, in pieces as the server takes them.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::error::Fault;

/// How large the pieces are, and how many of a file are read ahead.
const PIECE: usize = 128 << 10;
const AHEAD: usize = 4;

/// What is uploaded. Each attempt reads it from its beginning.
#[derive(Debug, Clone)]
pub enum Source {
    /// These bytes.
    Bytes(Bytes),
    /// What the file holds; it must not change meanwhile. It stays open as long as it is wanted.
    File(Arc<File>),
}

impl Source {
    /// How many bytes it has.
    ///
    /// # Errors
    /// When the file can't be looked at.
    pub(crate) fn length(&self) -> Result<u64, Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => {
                let failed = |error| Fault::io("cannot look at the file with it", &error);
                Ok(file.metadata().map_err(failed)?.len())
            }
        }
    }

    /// What reads it from its beginning.
    pub(crate) fn reader(&self) -> Box<dyn Read + Send> {
        match self {
            Self::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
            Self::File(file) => Box::new(Place::new(file, 0)),
        }
    }

    /// So many bytes of it from there on, for a request. `sent` grows with the bytes taken.
    pub(crate) fn section(&self, start: u64, length: u64, sent: Arc<AtomicU64>) -> Pieces {
        let from = match self {
            Self::Bytes(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                From::Bytes(bytes.slice(at(start)..at(start + length)))
            }
            Self::File(file) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                let file = Place::new(file, start).take(length);
                tokio::task::spawn_blocking(move || read(file, &sender));
                From::File(receiver)
            }
        };
        Pieces {
            from,
            left: length,
            sent,
        }
    }
}

/// A place in a file that others read at other places.
struct Place {
    file: Arc<File>,
    at: u64,
}

impl Place {
    fn new(file: &Arc<File>, at: u64) -> Self {
        let file = Arc::clone(file);
        Self { file, at }
    }
}

impl Read for Place {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Reads a section of a file for whoever takes the pieces.
fn read(mut file: impl Read, to: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let piece = match file.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                Ok(Bytes::from(piece))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if to.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

#[derive(Debug)]
enum From {
    Bytes(Bytes),
    File(mpsc::Receiver<io::Result<Bytes>>),
}

/// The body of a request whose length is known.
#[derive(Debug)]
pub(crate) struct Pieces {
    from: From,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.from {
            From::Bytes(bytes) if bytes.is_empty() => None,
            From::Bytes(bytes) => Some(Ok(bytes.split_to(bytes.len().min(PIECE)))),
            From::File(pieces) => std::task::ready!(pieces.poll_recv(context)),
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => Some(Err(error)),
            None if self.left > 0 => {
                self.left = 0;
                Some(Err(io::Error::other("the file has become shorter")))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
