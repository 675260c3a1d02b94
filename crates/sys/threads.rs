//! How threads are started: each with room for its beginnings, so that a limit on memory is an
//! error of whoever starts it, with what helps; and how work is shared among some.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::interrupt;
use crate::limits::{has_memory_limit, remedy};
use crate::mutex::lock;
use crate::told::told;

/// What a thread maps before its work begins: its stack of 2 MiB, as the standard library has it,
/// another for signals, and what it allocates first.
const BEGINNINGS: usize = 3 << 20;

/// Held while a thread begins, where memory is limited: two at once could each see the same room.
static BEGINNING: Mutex<()> = Mutex::new(());

/// A thread that is being started.
struct Begin(Option<(MutexGuard<'static, ()>, Receiver<()>)>);

impl Begin {
    /// Returns once the thread is at its work, if that is of any matter.
    fn wait(self) {
        if let Some((_one_at_a_time, begun)) = self.0 {
            // It is told by what the thread drops.
            let _ = begun.recv();
        }
    }
}

/// Looks whether there is room for another thread. The standard library panics in a thread that has
/// a stack and no room for that of its signals.
///
/// # Errors
/// `ENOMEM`, where this process may not map as much.
fn with_room<T>(work: impl FnOnce() -> T) -> io::Result<(Begin, impl FnOnce() -> T)> {
    let (begin, at_work) = if has_memory_limit() {
        let one_at_a_time = lock(&BEGINNING);
        let (at_work, begun) = channel::<()>();
        let (prot, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
        // SAFETY: the kernel chooses addresses that nobody uses, and nobody ever learns them.
        unsafe {
            let place = mmap_anonymous(std::ptr::null_mut(), BEGINNINGS, prot, flags)?;
            munmap(place, BEGINNINGS)?;
        }
        (Begin(Some((one_at_a_time, begun))), Some(at_work))
    } else {
        (Begin(None), None)
    };
    let work = move || {
        drop(at_work);
        work()
    };
    Ok((begin, work))
}

/// Starts a thread of that name.
///
/// # Errors
/// When the kernel gives none, with what helps.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let start = || {
        let (begin, work) = with_room(work)?;
        let thread = Builder::new().name(name.to_owned()).spawn(work)?;
        begin.wait();
        Ok(thread)
    };
    start().map_err(|error: io::Error| {
        let text = format!(
            "cannot start the thread '{name}': {error}{}",
            remedy(&error)
        );
        told(error, text)
    })
}

/// Starts a thread that ends with the scope.
///
/// # Errors
/// When the kernel gives none.
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let (begin, work) = with_room(work)?;
    let thread = Builder::new().spawn_scoped(scope, work)?;
    begin.wait();
    Ok(thread)
}

/// Starts up to `count` threads, and fewer where the kernel gives no more.
///
/// # Errors
/// When it gives none at all; not if none was wanted.
pub fn spawn_some<F: FnOnce() + Send + 'static>(
    name: &str,
    count: usize,
    mut work: impl FnMut() -> F,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for _ in 0..count {
        match spawn(name, work()) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(threads)
}

/// Has `count` threads do `work` until the scope ends, or as many as the kernel gives; how many
/// those are. What ends the caller's work ends theirs. Where it may give none, the caller does the
/// work too.
pub fn share_work<'scope, F: FnOnce() + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    count: usize,
    mut work: impl FnMut() -> F,
) -> usize {
    let stop = interrupt::current();
    let mut start = || {
        let (work, stop) = (work(), stop.clone());
        spawn_scoped(scope, move || {
            let _entered = stop.as_ref().map(interrupt::Stop::enter);
            work();
        })
    };
    let started = (0..count).take_while(|_| start().is_ok());
    started.count()
}

/// Has this thread, and those that it starts from now on, get a processor after all others that
/// want one. Nothing but speed depends on it.
pub fn give_way() {
    // SAFETY: a number goes in, and on Linux the thread's own priority alone changes.
    unsafe { libc::nice(10) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn work_is_shared() {
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let count = || {
                done.fetch_add(1, Ordering::Relaxed);
            };
            assert_eq!(share_work(scope, 3, || count), 3);
        });
        assert_eq!(done.into_inner(), 3);
    }
}
