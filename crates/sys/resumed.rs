//! How often the program has gone on after it was stopped, by Ctrl-Z or by a signal: what it had
//! drawn on a terminal may be gone by then.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static COUNT: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(_signal: i32) {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Has it counted. To be called by programs, not libraries, for it handles SIGCONT.
pub fn count_from_now_on() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action = SigAction::new(
            SigHandler::Handler(note),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        // SAFETY: the handler only adds to an atomic number, and no other handler is lost that this
        // program has.
        let _ = unsafe { sigaction(Signal::SIGCONT, &action) };
    });
}

/// How often that was, since it is counted.
pub fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_is_counted() {
        count_from_now_on();
        let before = count();
        nix::sys::signal::raise(Signal::SIGCONT).unwrap();
        assert_eq!(count(), before + 1);
    }
}
