//! Whether the work at hand is to end: a signal has asked the program to stop, or nobody wants that
//! work any more. Whoever works or waits for long asks here, for each piece of it.
//!
//! A program that takes the signals over has a thread that waits for them ([`take_over`]). What is
//! under way then has a moment to end by itself and in good order; after that the thread ends the
//! process. So no wait and no computation needs a look at signals to be interruptible: only what
//! owes something to the machine when it ends does, and says so by an [`Owing`].

mod grace;
mod input;
mod relay;
mod stop;
mod watch;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::bounded;
use crate::threads::spawn;

pub use grace::{Grace, Shield};
pub use input::{Input, stdin};
pub use relay::{Relay, Told};
pub use stop::{Entered, Stop, current};
pub use watch::{Owing, conclude, event};

/// How often who can't wait for a signal looks for one.
pub const SLICE: Duration = Duration::from_millis(20);

/// How many signals have been taken.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// The number of the first of them.
static FIRST: AtomicI32 = AtomicI32::new(0);
/// How many it takes to end the work at hand.
static NEEDED: AtomicU32 = AtomicU32::new(1);
/// Whether the program takes the signals that ask it to stop, rather than to be ended by them.
static TAKEN_OVER: AtomicBool = AtomicBool::new(false);

/// Has the signals that ask the program to stop taken by a thread from now on: SIGINT, SIGTERM, and
/// SIGHUP unless it is ignored, as under nohup. They are blocked in this thread and those that it
/// starts. To be called by a program, before any other thread is started; one that does not call it
/// is ended by them, or handles them as it likes. `last_words` is called with the signal's number
/// before the thread ends the process.
///
/// # Errors
/// When there are no threads or descriptors left.
pub fn take_over(last_words: fn(i32)) -> io::Result<()> {
    if TAKEN_OVER.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if !is_ignored(libc::SIGHUP) {
        signals.add(Signal::SIGHUP);
    }
    signals.thread_block()?;
    watch::start(&signals, last_words)
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is an action; the call writes the present one and changes nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Makes the ends of children known again to a program whose parent has SIGCHLD ignored: without it
/// the kernel throws their exit statuses away. To be called by a program as it begins.
pub fn expect_children() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, and none of this program's is taken away.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &default) };
}

/// The first signal that was taken, whether it ends the work at hand or not.
pub fn signal() -> Option<i32> {
    match FIRST.load(Ordering::Acquire) {
        0 => None,
        signal => Some(signal),
    }
}

fn note(signal: i32) {
    let _ = FIRST.compare_exchange(0, signal, Ordering::Release, Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Release);
}

/// Whether signals end the work at hand.
pub fn is_signalled() -> bool {
    COUNT.load(Ordering::Relaxed) >= NEEDED.load(Ordering::Relaxed)
}

/// Whether the work at hand is to end, for a signal or because nobody wants it any more. Cheap
/// enough for every chunk and file.
#[inline]
pub fn has_come() -> bool {
    (is_signalled() || stop::is_set()) && !grace::lasts()
}

/// While it lives, the first signal does not end the work at hand, but the second one does.
#[derive(Debug)]
pub struct Patient(());

impl Patient {
    /// From now on.
    #[expect(clippy::new_without_default, reason = "what it does is no default")]
    pub fn new() -> Self {
        NEEDED.store(2, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        NEEDED.store(1, Ordering::Relaxed);
    }
}

/// Why work or a wait has ended before its time.
#[derive(Debug)]
struct Ended(String);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Ended {}

/// What ended work or an ended wait fails with; `what` says what was done or waited for. It is of
/// no kind that is tried again.
pub fn ended(what: &str) -> io::Error {
    io::Error::other(Ended(format!("{what}, and was asked to end")))
}

/// Whether the work at hand may go on; to be asked for each piece of it.
///
/// # Errors
/// What [`ended`] makes, if it is to end.
#[inline]
pub fn check() -> io::Result<()> {
    match has_come() {
        false => Ok(()),
        true => Err(ended("it was under way")),
    }
}

/// Whether an error, or what caused it, is that work was asked to end.
pub fn is_cause_of(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<Ended>()) || error.is::<Ended>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    bounded::read_to_end(File::open(path)?, bounded::TEXT_MAX)
}

/// Reads a file of [`bounded::TEXT_MAX`] bytes at most. If it is a pipe, somebody may take any time
/// to write to it.
///
/// # Errors
/// When it can't be read, or the wait is to end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        return read_whole(path);
    }
    let (tell, told) = std::sync::mpsc::channel();
    let owned = path.to_owned();
    // It is left alone when the wait ends: nothing wakes it but a writer.
    spawn("file", move || tell.send(read_whole(&owned)))?;
    loop {
        match told.recv_timeout(SLICE) {
            Ok(read) => return read,
            Err(RecvTimeoutError::Timeout) if !has_come() => {}
            Err(_) => return Err(ended("it was waited for until somebody writes to it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn an_end_is_found_as_the_cause_of_an_error() {
        let error = Error::io("read", "/file")(ended("it was read"));
        assert!(is_cause_of(&error), "{error}");
        assert!(is_cause_of(&ended("it was read")));
        let other = Error::io("read", "/file")(io::Error::other("some other reason"));
        assert!(!is_cause_of(&other));
    }
}
