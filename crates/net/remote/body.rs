//! What is uploaded: bytes or a file, or a part of either, in pieces as the server takes them.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
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
    /// What the file holds; it must not change meanwhile.
    File(PathBuf),
}

impl Source {
    /// How many bytes it has.
    ///
    /// # Errors
    /// When the file is not there.
    pub(crate) fn length(&self) -> Result<u64, Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => {
                let failed =
                    |error| Fault::io(format_args!("cannot look at '{}'", path.display()), &error);
                Ok(std::fs::metadata(path).map_err(failed)?.len())
            }
        }
    }

    /// What reads it from its beginning.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub(crate) fn reader(&self) -> Result<Box<dyn Read + Send>, Fault> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
            Self::File(path) => {
                let failed =
                    |error| Fault::io(format_args!("cannot open '{}'", path.display()), &error);
                Box::new(File::open(path).map_err(failed)?)
            }
        })
    }

    /// So many bytes of it from there on, for a request. `sent` grows with the bytes taken.
    pub(crate) fn section(&self, start: u64, length: u64, sent: Arc<AtomicU64>) -> Pieces {
        let from = match self {
            Self::Bytes(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                From::Bytes(bytes.slice(at(start)..at(start + length)))
            }
            Self::File(path) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(path, start, length, &sender));
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

/// Reads a section of a file for whoever takes the pieces.
fn read(path: PathBuf, start: u64, length: u64, to: &mpsc::Sender<io::Result<Bytes>>) {
    let open = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        io::Result::Ok(file.take(length))
    };
    let mut file = match open() {
        Ok(file) => file,
        Err(error) => return drop(to.blocking_send(Err(error))),
    };
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
