//! A moment to clean up in, although work is to end.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long cleaning up may go on after work was asked to end.
const MOMENT: Duration = Duration::from_millis(60);
/// How much processor time it has in any case: on a busy machine a moment passes without any.
const WORK: Duration = Duration::from_millis(50);
/// How long it may go on at most, also if it only waits for a disk.
const LIMIT: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy)]
enum State {
    None,
    /// What is done now is done to its end.
    Shielded,
    /// Nothing was asked to end yet.
    Unused,
    /// It was, at that time, when the thread had used that much processor time.
    Since(Instant, Duration),
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::None) };
}

/// While it lives, what this thread does goes on to its end: for what would leave something broken
/// that was whole before.
#[derive(Debug)]
pub struct Shield(State);

impl Shield {
    /// From now on.
    #[expect(clippy::new_without_default, reason = "what it does is no default")]
    pub fn new() -> Self {
        Self(STATE.replace(State::Shielded))
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        STATE.set(self.0);
    }
}

/// While it lives, what this thread does may go on for a moment after it should have ended: for
/// what deletes what would be left behind otherwise. One moment for all that is done by then.
#[derive(Debug)]
pub struct Grace(State);

impl Grace {
    /// From now on.
    #[expect(clippy::new_without_default, reason = "what it does is no default")]
    pub fn new() -> Self {
        let before = STATE.get();
        if matches!(before, State::None) {
            STATE.set(State::Unused);
        }
        Self(before)
    }

    /// For all that this thread does from now on.
    pub fn for_thread() {
        std::mem::forget(Self::new());
    }
}

impl Drop for Grace {
    fn drop(&mut self) {
        STATE.set(self.0);
    }
}

/// Whether this thread may go on although it should end.
pub(super) fn lasts() -> bool {
    match STATE.get() {
        State::None => false,
        State::Shielded => true,
        State::Unused => {
            STATE.set(State::Since(Instant::now(), cpu_time()));
            true
        }
        State::Since(since, used) => {
            let waited = since.elapsed();
            waited < MOMENT || (waited < LIMIT && cpu_time().saturating_sub(used) < WORK)
        }
    }
}

/// How much processor time this thread has used.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes to `time` only, and fails only for another clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::super::{Stop, has_come};
    use super::*;

    #[test]
    fn cleaning_up_goes_on_for_a_moment_and_no_longer() {
        let stop = Stop::default();
        stop.set();
        let _entered = stop.enter();
        assert!(has_come());
        let grace = Grace::new();
        assert!(!has_come());
        while !has_come() {
            std::hint::spin_loop();
        }
        drop(grace);
        assert!(has_come());
        let _shield = Shield::new();
        assert!(!has_come());
    }
}
