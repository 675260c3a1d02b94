//! The thread that writes a download into its file, so that a disk that is slow holds up no other
//! transfer.

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
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<(Partial, io::Result<()>)>,
}

impl Writer {
    /// Begins to append to the file.
    pub(crate) fn start(partial: Partial) -> Self {
        let (pieces, mut taken) = mpsc::channel::<Bytes>(BACKLOG);
        let write = move || {
            let mut partial = partial;
            while let Some(piece) = taken.blocking_recv() {
                if let Err(error) = partial.append(&piece) {
                    return (partial, Err(error));
                }
            }
            (partial, Ok(()))
        };
        Self {
            pieces,
            thread: tokio::task::spawn_blocking(write),
        }
    }

    /// Hands on a piece; whether it is taken: if not, [`Writer::finish`] says why.
    pub(crate) async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// The file, when all is written.
    ///
    /// # Errors
    /// When something could not be written.
    pub(crate) async fn finish(self) -> (Option<Partial>, Result<(), Fault>) {
        drop(self.pieces);
        match self.thread.await {
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
