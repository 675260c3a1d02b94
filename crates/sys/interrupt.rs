//! Whether the engine has been asked to stop, for code that waits outside of the event loop: the
//! signals are blocked, so that none of them ends a system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask the engine to stop.
pub fn stop_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Whether the program takes the signals that ask it to stop, rather than to be ended by them.
static TAKEN_OVER: AtomicBool = AtomicBool::new(false);

/// Blocks the signals that ask the engine to stop, in this thread and those it starts from now on:
/// they wait until somebody takes them. To be called by a program, before any thread is started;
/// one that does not call it is ended by them, or handles them as it likes.
pub fn take_over() {
    // This fails only for a set that is no set.
    let _ = stop_signals().thread_block();
    TAKEN_OVER.store(true, Ordering::Relaxed);
}

/// Whether the program takes the signals.
pub fn are_taken_over() -> bool {
    TAKEN_OVER.load(Ordering::Relaxed)
}

/// How often who can't wait for a signal looks for one.
pub const SLICE: Duration = Duration::from_millis(20);

/// Whether a signal was taken, by the event loop or here.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// To be called by who takes a signal.
pub fn note_taken() {
    TAKEN.store(true, Ordering::Relaxed);
}

/// Whether a signal that asks the engine to stop has come, be it taken or not.
pub fn has_come() -> bool {
    TAKEN.load(Ordering::Relaxed) || is_pending()
}

/// Whether a signal that asks the engine to stop has come and was not taken.
pub fn is_pending() -> bool {
    if !are_taken_over() {
        return false;
    }
    let stop = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
    // SAFETY: all zeros is a set of signals; it is written to by the first call, and only read by
    // the others.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigpending(&raw mut set) == 0
            && stop
                .into_iter()
                .any(|signal| libc::sigismember(&raw const set, signal) == 1)
    }
}

/// What an ended wait fails with. It is of no kind that is tried again.
pub fn ended(what: &str) -> io::Error {
    io::Error::other(format!("{what}, and a signal ended the wait"))
}

/// Reads a file, as [`std::fs::read`] does. If it is a pipe, somebody may take any time to write to
/// it.
///
/// # Errors
/// When it can't be read, or a signal that is blocked asks for an end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        return std::fs::read(path);
    }
    let (tell, told) = std::sync::mpsc::channel();
    let owned = path.to_owned();
    // It is left alone when the wait ends: nothing wakes it but a writer.
    std::thread::Builder::new().spawn(move || tell.send(std::fs::read(owned)))?;
    loop {
        match told.recv_timeout(SLICE) {
            Ok(read) => return read,
            Err(RecvTimeoutError::Timeout) if !has_come() => {}
            Err(_) => return Err(ended("it gives nothing")),
        }
    }
}

/// While it lives, a signal ends the process as it ends any: for waits in which nothing is under
/// way.
#[derive(Debug)]
pub struct Exposed(Option<SigSet>);

impl Exposed {
    /// Lets signals through in this thread, also one that came while they were blocked.
    #[expect(clippy::new_without_default, reason = "what it does is no default")]
    pub fn new() -> Self {
        let before = SigSet::thread_get_mask().ok();
        // This fails only for a set that is no set.
        let _ = stop_signals().thread_unblock();
        Self(before)
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        let _ = self.0.map(|before| before.thread_set_mask());
    }
}

/// The signals that ask the engine to stop, to be waited for together with something else.
#[derive(Debug)]
pub struct Interrupts(SignalFd);

impl Interrupts {
    /// Watches from now on; a signal that came before while it was blocked counts too.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn watch() -> io::Result<Self> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&stop_signals(), flags)?))
    }

    /// Takes a signal that has come: its number.
    pub fn take(&self) -> Option<i32> {
        let info = self.0.read_signal().ok()??;
        note_taken();
        i32::try_from(info.ssi_signo).ok()
    }

    /// Sleeps until `fd` can be read from or is at its end. The signal that has come first, if one
    /// has; it is taken.
    ///
    /// # Errors
    /// When `fd` can't be waited for.
    pub fn or_readable(&self, fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        loop {
            let mut fds = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            ];
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(signal) = self.take() {
                return Ok(Some(signal));
            }
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return Ok(None);
            }
        }
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
