//! Work that can be told to end by who gave it, whatever signals do: each thread may work under one
//! such word at a time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends work when it is set. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

thread_local! {
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

impl Stop {
    /// Has the work that is done under it end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What this thread does is done under it, until what is returned is dropped.
    pub fn enter(&self) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }
}

/// What this thread works under, for the threads that it starts for the same work.
pub fn current() -> Option<Stop> {
    CURRENT.with_borrow(Clone::clone)
}

/// Whether what this thread does is to end.
pub(super) fn is_set() -> bool {
    CURRENT.with_borrow(|stop| stop.as_ref().is_some_and(Stop::is_set))
}

/// While it lives, this thread works under a [`Stop`]; afterwards under what it did before.
#[derive(Debug)]
pub struct Entered(Option<Stop>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check, has_come};
    use super::*;

    #[test]
    fn work_ends_for_the_thread_that_does_it_only() {
        let (inner, outer) = (Stop::default(), Stop::default());
        let _outer = outer.enter();
        {
            let _inner = inner.enter();
            inner.clone().set();
            assert!(has_come() && check().is_err());
            let elsewhere = std::thread::spawn(has_come);
            assert!(!elsewhere.join().unwrap());
            let stop = current().unwrap();
            let with_it = std::thread::spawn(move || {
                let _entered = stop.enter();
                has_come()
            });
            assert!(with_it.join().unwrap());
        }
        assert!(!has_come());
        outer.set();
        assert!(has_come());
    }
}
