//! The thread that takes the signals, and ends a process that does not end by itself.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, eventfd};

use super::{is_signalled, note, relay, signal};
use crate::raw;
use crate::threads::spawn;

/// How long a process that owes nothing may take to end by itself, with a message of its own.
const MOMENT: Duration = Duration::from_millis(80);
/// The same for one that owes something. It looks for signals itself, so that this is for what
/// nobody has thought of: the kernel does not let a child die, say.
const LAST_RESORT: Duration = Duration::from_secs(10);
/// How often the thread looks whether the process has ended.
const LOOK_MS: u8 = 10;

/// How many owe something.
static OWING: AtomicU32 = AtomicU32::new(0);
/// Who says with which status the process ends: nobody yet, the program, or the thread.
static CONCLUDED_BY: AtomicU8 = AtomicU8::new(NOBODY);
const NOBODY: u8 = 0;
const PROGRAM: u8 = 1;
const THREAD: u8 = 2;
/// Readable from the first signal on; written to again with each.
static EVENT: OnceLock<OwnedFd> = OnceLock::new();

/// While it lives, something is under way that must end in good order: a signal does not end the
/// process before it is gone, and whoever holds it looks for signals.
#[derive(Debug)]
pub struct Owing(());

impl Owing {
    /// From now on.
    #[expect(clippy::new_without_default, reason = "what it does is no default")]
    pub fn new() -> Self {
        OWING.fetch_add(1, Ordering::AcqRel);
        Self(())
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        OWING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// To be called by a program that knows how it ends: signals do not change that any more. If the
/// thread is about to end the process for one, this does not return.
pub fn conclude() {
    while !is_concluded_by(PROGRAM) {
        std::thread::park();
    }
}

fn is_concluded_by(who: u8) -> bool {
    let (order, relaxed) = (Ordering::AcqRel, Ordering::Acquire);
    let before = CONCLUDED_BY.compare_exchange(NOBODY, who, order, relaxed);
    before.is_ok() || before == Err(who)
}

/// Becomes readable with the first signal, and stays so, if the program takes signals at all. An
/// edge comes with each of them.
pub fn event() -> Option<BorrowedFd<'static>> {
    EVENT.get().map(|fd| fd.as_fd())
}

/// Starts the thread. The signals are blocked by now.
pub(super) fn start(signals: &SigSet, last_words: fn(i32)) -> io::Result<()> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let _ = EVENT.set(eventfd(0, flags)?);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(signals, flags)?;
    spawn("signals", move || watch(&signals, last_words)).map(drop)
}

fn watch(signals: &SignalFd, last_words: fn(i32)) {
    let (mut since, mut owes_nothing_since) = (None, None);
    loop {
        let timeout = match signal() {
            None => PollTimeout::NONE,
            Some(_) => PollTimeout::from(LOOK_MS),
        };
        let _ = nix::poll::poll(
            &mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)],
            timeout,
        );
        if let Ok(Some(info)) = signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(libc::SIGTERM);
            if relay::pass_on(signal, info.ssi_code) {
                continue;
            }
            note(signal);
            if let Some(event) = EVENT.get() {
                // It is full only after more signals than anybody sends.
                let _ = nix::unistd::write(event, &1_u64.to_ne_bytes());
            }
        }
        let (Some(signal), true) = (signal(), is_signalled()) else {
            continue;
        };
        let begun = *since.get_or_insert_with(Instant::now);
        let is_late = if OWING.load(Ordering::Acquire) > 0 {
            owes_nothing_since = None;
            begun.elapsed() >= LAST_RESORT
        } else {
            let free = *owes_nothing_since.get_or_insert_with(Instant::now);
            free.elapsed() >= MOMENT
        };
        if !is_late {
            continue;
        }
        if !is_concluded_by(THREAD) {
            return;
        }
        last_words(signal);
        raw::exit(128 + signal)
    }
}
