//! Hashing of what is large by a thread of its own, while it is being written.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use windrow_components::hash::{Hash, HashAlgo, Hasher};
use windrow_sys::limits;
use windrow_sys::threads::spawn;

/// What has no more bytes is hashed before another thread would have begun.
const SMALL: u64 = 2 << 20;

/// How much is handed over at once, in bytes.
const PIECE: usize = 256 << 10;

/// How many pieces wait at most.
const PIECES: usize = 3;

/// A hasher that may have a thread.
pub(super) enum AnyHasher {
    Here(Hasher),
    Aside(Aside),
}

/// The thread, and what it has not been given yet.
pub(super) struct Aside {
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    /// Where pieces come back from that were hashed.
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl AnyHasher {
    /// For `size` bytes.
    pub(super) fn new(algo: HashAlgo, size: u64) -> Self {
        let aside =
            (size > SMALL && limits::processors(2) > 1).then(|| Aside::start(algo.hasher()));
        match aside {
            Some(Ok(aside)) => Self::Aside(aside),
            // There are none left.
            Some(Err(_)) | None => Self::Here(algo.hasher()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Here(hasher) => hasher.update(bytes),
            Self::Aside(aside) => aside.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Hash {
        match self {
            Self::Here(hasher) => hasher.finish(),
            Self::Aside(aside) => aside.finish().finish(),
        }
    }
}

impl Aside {
    fn start(hasher: Hasher) -> std::io::Result<Self> {
        let (full, filled) = sync_channel(PIECES);
        let (emptied, empty) = channel();
        let thread = spawn("hash", move || hash(hasher, &filled, &emptied))?;
        Ok(Self {
            piece: Vec::with_capacity(PIECE),
            full,
            empty,
            thread,
        })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE - self.piece.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = rest;
            if self.piece.len() == PIECE {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let next = self.empty.try_recv();
        let next = next.unwrap_or_else(|_| Vec::with_capacity(PIECE));
        // If the thread is gone, its join tells of that.
        let _ = self.full.send(std::mem::replace(&mut self.piece, next));
    }

    fn finish(mut self) -> Hasher {
        self.hand_over();
        drop(self.full);
        let joined = self.thread.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The thread: hashes to the end, or until nobody wants it any more.
fn hash(mut hasher: Hasher, filled: &Receiver<Vec<u8>>, emptied: &Sender<Vec<u8>>) -> Hasher {
    for mut piece in filled {
        hasher.update(&piece);
        piece.clear();
        // Whether it is wanted again is of no matter.
        let _ = emptied.send(piece);
    }
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_comes_to_the_same_hash() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            for step in [1 << 10, PIECE + 3, 3 * PIECE] {
                let mut aside = Aside::start(HashAlgo::Sha256.hasher()).unwrap();
                bytes.chunks(step).for_each(|part| aside.update(part));
                let hash = aside.finish().finish();
                assert_eq!(hash, HashAlgo::Sha256.hash(&bytes), "{length} {step}");
            }
        }
    }

    #[test]
    fn what_is_given_up_is_not_waited_for() {
        let mut aside = Aside::start(HashAlgo::Sha256.hasher()).unwrap();
        aside.update(&[0; 2 * PIECE]);
        drop(aside);
        let small = AnyHasher::new(HashAlgo::Sha256, SMALL);
        assert!(matches!(small, AnyHasher::Here(_)));
    }
}
