//! Reading ahead: what a reader gives is read by a thread of its own, while what came before is
//! used.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use windrow_sys::mutex::lock;
use windrow_sys::threads::spawn;

use crate::pieces::PieceReader;

/// How much is read at once, in bytes.
const PIECE: usize = 256 << 10;

/// How many pieces wait at most.
const PIECES: usize = 3;

/// Has a reader read by another thread, some pieces ahead. If there is none left it is read as it
/// was.
pub(super) fn read_ahead(source: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    let (sender, full) = sync_channel(PIECES);
    let (empty, emptied) = channel();
    // Threads that can't be started do not give back what they were to have.
    let slot = Arc::new(Mutex::new(Some(source)));
    let theirs = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<_>>| lock(slot).take();
    let started = spawn("unpack", move || {
        if let Some(source) = take(&theirs) {
            fill(source, &sender, &emptied);
        }
    });
    if started.is_err()
        && let Some(source) = take(&slot)
    {
        return source;
    }
    Box::new(PieceReader::new(move |used| {
        // Whether it is wanted again is of no matter.
        let _ = empty.send(used);
        let next = full.recv();
        let next = next.map_err(|_| io::Error::other("the thread that unpacks has ended"));
        next.flatten()
    }))
}

/// Reads to the end, to the first error, or until nobody wants more. An empty piece is the end.
fn fill(
    mut source: impl Read,
    full: &SyncSender<io::Result<Vec<u8>>>,
    emptied: &Receiver<Vec<u8>>,
) {
    loop {
        let mut piece = emptied.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let read = loop {
            match source.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.map(|count| {
            piece.truncate(count);
            piece
        });
        let is_last = read.as_ref().map_or(true, Vec::is_empty);
        if full.send(read).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives bytes in odd pieces, and then fails or not.
    struct Odd(usize, bool);

    impl Read for Odd {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = into.len().min(self.0).min(77_777);
            into[..count].fill(7);
            self.0 -= count;
            match count == 0 && self.1 {
                true => Err(io::Error::other("broken")),
                false => Ok(count),
            }
        }
    }

    #[test]
    fn all_is_read_whatever_its_length() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 5] {
            let mut bytes = Vec::new();
            let mut reader = read_ahead(Box::new(Odd(length, false)));
            reader.read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() == length && bytes.iter().all(|&byte| byte == 7));
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        let mut bytes = Vec::new();
        let mut reader = read_ahead(Box::new(Odd(3 * PIECE, true)));
        let error = reader.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), bytes.len()),
            ("broken", 3 * PIECE)
        );
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn the_thread_ends_with_its_reader() {
        struct Endless {
            _alive: Arc<()>,
        }
        impl Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                into.fill(1);
                Ok(into.len())
            }
        }
        let alive = Arc::new(());
        let mut reader = read_ahead(Box::new(Endless {
            _alive: Arc::clone(&alive),
        }));
        reader.read_exact(&mut [0; 10]).unwrap();
        drop(reader);
        while Arc::strong_count(&alive) > 1 {
            std::thread::yield_now();
        }
    }
}
