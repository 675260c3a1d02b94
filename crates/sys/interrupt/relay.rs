//! Signals that are for another program: one that runs at the terminal in this one's place.

use std::ffi::c_int;
use std::sync::Mutex;

use crate::mutex;

/// What `si_code` is of signals that the kernel sends by itself: those of a terminal's keys, and of
/// its end (`SI_KERNEL` of asm-generic/siginfo.h).
const BY_KERNEL: c_int = 0x80;

/// A signal that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub signal: i32,
    /// Whether it comes of the terminal, which sends it to all that run in its foreground, rather
    /// than of a process, which sent it to this one.
    pub by_terminal: bool,
}

type Handler = Box<dyn Fn(Told) + Send>;

static HANDLER: Mutex<Option<Handler>> = Mutex::new(None);

/// While it lives, signals do not end the work at hand: a function is told of each.
#[derive(Debug)]
pub struct Relay(());

impl Relay {
    /// From now on the thread that takes the signals calls `handler` for each, if the program
    /// [takes them over](super::take_over). There is one at a time.
    pub fn new(handler: impl Fn(Told) + Send + 'static) -> Self {
        *mutex::lock(&HANDLER) = Some(Box::new(handler));
        Self(())
    }
}

impl Drop for Relay {
    /// The function is not called any more when this returns.
    fn drop(&mut self) {
        *mutex::lock(&HANDLER) = None;
    }
}

/// Tells the function of a signal, if there is one.
pub(super) fn pass_on(signal: i32, code: c_int) -> bool {
    let handler = mutex::lock(&HANDLER);
    let Some(handler) = &*handler else {
        return false;
    };
    handler(Told {
        signal,
        by_terminal: code == BY_KERNEL,
    });
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn signals_are_passed_on_as_long_as_somebody_takes_them() {
        assert!(!pass_on(libc::SIGINT, BY_KERNEL));
        let told = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&told);
        let relay = Relay::new(move |it| mutex::lock(&all).push((it.signal, it.by_terminal)));
        assert!(pass_on(libc::SIGINT, BY_KERNEL));
        assert!(pass_on(libc::SIGTERM, libc::SI_USER));
        drop(relay);
        assert!(!pass_on(libc::SIGTERM, libc::SI_USER));
        let told = mutex::lock(&told);
        assert_eq!(*told, [(libc::SIGINT, true), (libc::SIGTERM, false)]);
    }
}
