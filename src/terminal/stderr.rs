//! Standard error in a run that heeds signals: written by a thread of its own, so that nobody who
//! does not read it keeps the engine from its work or its end.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use windrow_sys::interrupt;
use windrow_sys::mutex;
use windrow_sys::threads::spawn_some;

/// From this many unwritten bytes on, output of builders and helpers waits, and the live region
/// is not drawn.
const BEHIND_BYTES: usize = 1 << 20;

/// No more bytes than this wait to be written, and one line. Who has more to say waits, until a
/// signal ends that too.
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;

/// How much is written at a time, in bytes, if lines are not longer. A pipe takes as much in one
/// piece.
const CHUNK_BYTES: usize = 4 << 10;

/// How often those who wait look for a signal.
const SLICE: Duration = Duration::from_millis(10);

/// How long a reader that takes nothing is waited for after a signal.
const LAST_WORDS: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    /// What is to be written.
    waiting: Vec<u8>,
    /// How many bytes the thread is about to write.
    in_hand: usize,
    /// Whether a signal has come while the reader took nothing. What is not written then never will
    /// be.
    given_up: bool,
}

impl State {
    fn unwritten(&self) -> usize {
        self.waiting.len() + self.in_hand
    }
}

struct Pump {
    state: Mutex<State>,
    /// There is something to write.
    more: Condvar,
    /// Something was written.
    written: Condvar,
}

static PUMP: OnceLock<Pump> = OnceLock::new();

/// Has standard error written by a thread from now on. The signals that end a run are to be blocked
/// already.
///
/// # Errors
/// When there are no threads left.
pub(super) fn start() -> io::Result<()> {
    if PUMP.get().is_some() {
        return Ok(());
    }
    let pump = || {
        PUMP.get_or_init(|| Pump {
            state: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
        })
    };
    // Without a thread there must be no pump: who wrote to it would wait for ever.
    spawn_some("stderr", 1, || move || pump().run())?;
    pump();
    Ok(())
}

/// Writes bytes that belong together. That nobody reads them is no reason to stop.
pub(super) fn write(bytes: &[u8]) {
    match PUMP.get() {
        Some(pump) => pump.push(bytes),
        None => drop(super::stderr().write_all(bytes)),
    }
}

/// Whether its reader is so far behind that what can wait should.
pub fn is_behind() -> bool {
    PUMP.get()
        .is_some_and(|pump| pump.lock().unwritten() > BEHIND_BYTES)
}

/// Waits until all is written. A signal ends the wait, unless the reader still reads.
pub(super) fn flush() {
    if let Some(pump) = PUMP.get() {
        pump.wait_until(|state| state.unwritten() == 0);
    }
}

impl Pump {
    fn lock(&self) -> MutexGuard<'_, State> {
        mutex::lock(&self.state)
    }

    fn push(&self, bytes: &[u8]) {
        let fits = |state: &State| state.unwritten() <= UNWRITTEN_BYTES_MAX;
        let mut state = self.lock();
        if !fits(&state) {
            drop(state);
            self.wait_until(fits);
            state = self.lock();
        }
        if state.given_up {
            return;
        }
        // The thread waits only if there was nothing, and each notification is a system call.
        let is_news = state.waiting.is_empty();
        state.waiting.extend_from_slice(bytes);
        drop(state);
        if is_news {
            self.more.notify_one();
        }
    }

    /// The thread.
    fn run(&self) {
        let mut in_hand = Vec::new();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                state = (self.more.wait(state)).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.waiting, &mut in_hand);
            state.in_hand = in_hand.len();
            drop(state);
            let mut rest = &in_hand[..];
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(whole_lines(rest));
                let _ = super::stderr().write_all(chunk);
                rest = more;
                self.lock().in_hand -= chunk.len();
                self.written.notify_all();
            }
            in_hand.clear();
            in_hand.shrink_to(BEHIND_BYTES);
        }
    }

    /// Waits for `done`. Once a signal has come, no longer than the reader reads.
    fn wait_until(&self, done: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        let mut last = (state.unwritten(), Instant::now());
        while !done(&state) && !state.given_up {
            let slice = self.written.wait_timeout(state, SLICE);
            state = slice.unwrap_or_else(PoisonError::into_inner).0;
            if state.unwritten() != last.0 {
                last = (state.unwritten(), Instant::now());
            }
            // Else the thread may have had no time to write, on a busy machine.
            let is_stuck = last.1.elapsed() > LAST_WORDS && !can_write();
            state.given_up = is_stuck && interrupt::has_come();
        }
    }
}

/// How much is to be written in one piece: lines that are whole, for others may write in between.
fn whole_lines(bytes: &[u8]) -> usize {
    match bytes.get(..CHUNK_BYTES) {
        None => bytes.len(),
        Some(chunk) => memchr::memrchr(b'\n', chunk).map_or(CHUNK_BYTES, |end| end + 1),
    }
}

/// Whether standard error takes something now.
fn can_write() -> bool {
    let stderr = super::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_whole() {
        assert_eq!(whole_lines(b"a\nb"), 3);
        let mut text = vec![b'x'; CHUNK_BYTES + 1];
        assert_eq!(whole_lines(&text), CHUNK_BYTES);
        text[10] = b'\n';
        assert_eq!(whole_lines(&text), 11);
        text[CHUNK_BYTES - 1] = b'\n';
        assert_eq!(whole_lines(&text), CHUNK_BYTES);
    }
}
