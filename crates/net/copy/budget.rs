//! How much memory those have together who compress archives. Each takes its part before it
//! begins, and waits for others to give theirs back where there is not enough.

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

use windrow_sys::interrupt;
use windrow_sys::mutex::lock;

/// The memory.
#[derive(Debug)]
pub(super) struct Budget {
    /// All of it, in bytes.
    total: u64,
    taken: Mutex<u64>,
    given_back: Condvar,
    /// Held by who waits, so that what is small does not keep what is large waiting for ever.
    turn: Mutex<()>,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Part<'b> {
    budget: &'b Budget,
    size: u64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            taken: Mutex::default(),
            given_back: Condvar::new(),
            turn: Mutex::default(),
        }
    }

    /// All of it, in bytes.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Takes that number of bytes. What is more than there is can be had by itself.
    ///
    /// # Errors
    /// When the work at hand is to end.
    pub(super) fn take(&self, size: u64) -> io::Result<Part<'_>> {
        let _turn = lock(&self.turn);
        let mut taken = lock(&self.taken);
        while *taken > 0 && taken.saturating_add(size) > self.total {
            interrupt::check()?;
            let waited = self.given_back.wait_timeout(taken, interrupt::SLICE);
            (taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *taken = taken.saturating_add(size);
        Ok(Part { budget: self, size })
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        *lock(&self.budget.taken) -= self.size;
        self.budget.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use windrow_sys::interrupt::Stop;

    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_but_by_one_alone() {
        let budget = Budget::new(10);
        let (together, count) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for size in [1, 3, 4, 10, 25, 2, 9, 1] {
                let (budget, together, count) = (&budget, &together, &count);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let _part = budget.take(size).unwrap();
                        let others = together.fetch_add(size, Ordering::SeqCst);
                        assert!(others == 0 || others + size <= 10);
                        together.fetch_sub(size, Ordering::SeqCst);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 400);
        assert_eq!(*lock(&budget.taken), 0);
    }

    #[test]
    fn who_waits_ends_with_the_work() {
        let budget = Budget::new(10);
        let _all = budget.take(10).unwrap();
        let stop = Stop::default();
        stop.set();
        let _entered = stop.enter();
        assert!(interrupt::is_cause_of(&budget.take(1).unwrap_err()));
    }
}
