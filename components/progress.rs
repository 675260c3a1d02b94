//! Long work that is under way: what it is, and how far. Whoever works counts and waits for nobody;
//! whoever shows it reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The work that is under way. There is one at a time in a program: what a user waits for.
static UNDER_WAY: Mutex<Option<Arc<Work>>> = Mutex::new(None);

/// Work, and how far it is.
#[derive(Debug)]
pub struct Work {
    /// What is done, such as `writing derivations`.
    pub what: String,
    /// What is counted, in the plural.
    pub unit: &'static str,
    /// How many there are, if that is known.
    pub total: Option<u64>,
    /// When it began.
    pub began: Instant,
    done: AtomicU64,
}

impl Work {
    /// How many have been done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Work is under way as long as this lives.
#[derive(Debug)]
pub struct UnderWay(Arc<Work>);

fn lock() -> MutexGuard<'static, Option<Arc<Work>>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that work begins, after any that was under way before.
pub fn begin(what: impl Into<String>, unit: &'static str, total: Option<u64>) -> UnderWay {
    let work = Arc::new(Work {
        what: what.into(),
        unit,
        total,
        began: Instant::now(),
        done: AtomicU64::new(0),
    });
    *lock() = Some(Arc::clone(&work));
    UnderWay(work)
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = lock();
        if under_way
            .as_ref()
            .is_some_and(|work| Arc::ptr_eq(work, &self.0))
        {
            *under_way = None;
        }
    }
}

/// Counts more of the work that is under way as done, if any is. To be called for some thousands
/// at a time.
pub fn add(count: u64) {
    if let Some(work) = &*lock() {
        work.done.fetch_add(count, Ordering::Relaxed);
    }
}

/// The work that is under way.
pub fn under_way() -> Option<Arc<Work>> {
    lock().clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_under_way_at_a_time() {
        let first = begin("reading", "tasks", None);
        add(2);
        assert_eq!(first.0.done(), 2);
        let second = begin("writing", "tasks", Some(7));
        drop(first);
        add(3);
        let work = under_way().unwrap();
        assert_eq!(
            (&*work.what, work.done(), work.total),
            ("writing", 3, Some(7))
        );
        drop(second);
        assert!(under_way().is_none());
        add(1);
    }
}
