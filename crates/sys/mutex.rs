//! Locks of what stays usable when a thread has panicked in the middle of using it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, whether or not somebody panicked while holding it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
