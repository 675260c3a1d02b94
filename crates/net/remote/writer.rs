//! The thread that writes a download into its file, so that a disk that is slow holds up no other
//! transfer; there is none for what is in memory.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::partial::Partial;
use crate::error::{Fault, Kind};

/// How many pieces may wait to be written.
const BACKLOG: usize = 16;

/// Writes what it is given, in order.
#[derive(Debug)]
pub(crate) struct Writer {
    pieces: Option<mpsc::Sender<Bytes>>,
    written: Written,
}

/// What is written to.
#[derive(Debug)]
enum Written {
    /// Something in memory, which needs no thread.
    Here(Partial),
    ByThread(JoinHandle<(Partial, io::Result<()>)>),
    /// Nothing: it is being handed over.
    Nowhere,
}

impl Writer {
    /// Begins to append to the file.
    pub(crate) fn start(partial: Partial) -> Self {
        let mut this = Self {
            pieces: None,
            written: Written::Here(partial),
        };
        if !this.is_in_memory() {
            this.use_file();
        }
        this
    }

    /// Whether what there is has no file.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(&self.written, Written::Here(partial) if partial.has_room(0))
    }

    /// Has all be in a file.
    pub(crate) fn use_file(&mut self) {
        let partial = match std::mem::replace(&mut self.written, Written::Nowhere) {
            Written::Here(partial) => partial,
            others => return self.written = others,
        };
        let (pieces, mut taken) = mpsc::channel::<Bytes>(BACKLOG);
        let write = move || {
            let mut partial = partial;
            let mut written = partial.put_on_disk();
            while written.is_ok()
                && let Some(piece) = taken.blocking_recv()
            {
                written = partial.append(&piece);
            }
            (partial, written)
        };
        self.pieces = Some(pieces);
        self.written = Written::ByThread(tokio::task::spawn_blocking(write));
    }

    /// Hands on a piece; whether it is taken: if not, [`Writer::finish`] says why.
    pub(crate) async fn write(&mut self, piece: Bytes) -> bool {
        if let Written::Here(partial) = &mut self.written
            && partial.has_room(piece.len())
        {
            return partial.append(&piece).is_ok();
        }
        self.use_file();
        match &self.pieces {
            Some(pieces) => pieces.send(piece).await.is_ok(),
            None => false,
        }
    }

    /// The file, when all is written.
    ///
    /// # Errors
    /// When something could not be written.
    pub(crate) async fn finish(self) -> (Option<Partial>, Result<(), Fault>) {
        drop(self.pieces);
        let thread = match self.written {
            Written::Here(partial) => return (Some(partial), Ok(())),
            Written::ByThread(thread) => thread,
            Written::Nowhere => return (None, Ok(())),
        };
        match thread.await {
            Ok((partial, written)) => {
                let failed = |error| Fault::io("cannot write the file for it", &error);
                (Some(partial), written.map_err(failed))
            }
            Err(error) => {
                let text = format!("the thread that writes it has ended: {error}");
                (None, Err(Fault::new(Kind::Io, text)))
            }
        }
    }
}
