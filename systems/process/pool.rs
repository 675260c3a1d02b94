//! A few threads for what the scheduler must not do itself: hashing, deleting. Results come back as
//! events.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use windrow_sys::threads::spawn_some;

type Job<T> = Box<dyn FnOnce() -> Option<T> + Send>;

/// Threads that run jobs and hand their results back. Dropping it waits for the jobs under way and
/// queued.
pub struct Pool<T> {
    jobs: Option<Sender<Job<T>>>,
    /// How many jobs are queued or under way.
    left: Arc<AtomicUsize>,
    results: Receiver<std::thread::Result<T>>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped, it lets threads end that have nothing more to do.
    stay: Option<Sender<Infallible>>,
}

/// Threads of a pool that is finished. Dropped, they end, and with them whatever process they have
/// made.
#[must_use]
pub struct Finished {
    _threads: Box<dyn Any>,
}

impl<T: Send + 'static> Pool<T> {
    /// Starts `threads` threads, or as many as there may be; `wake` is called after each result is
    /// there to be taken.
    ///
    /// # Errors
    /// When there may be none.
    pub fn new(
        name: &str,
        threads: usize,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = unbounded::<Job<T>>();
        let (done, results) = unbounded();
        let (stay, leave) = bounded(0);
        let wake = Arc::new(wake);
        let left = Arc::new(AtomicUsize::new(0));
        let threads = spawn_some(name, threads.max(1), || {
            let (queue, done, wake) = (queue.clone(), done.clone(), Arc::clone(&wake));
            let leave: Receiver<Infallible> = leave.clone();
            let left = Arc::clone(&left);
            move || {
                for job in queue {
                    // A job that panics is a bug. Somebody waits for its result, so it is theirs to
                    // panic.
                    let result = catch_unwind(AssertUnwindSafe(job)).transpose();
                    left.fetch_sub(1, Ordering::Relaxed);
                    if let Some(result) = result
                        && done.send(result).is_ok()
                    {
                        wake();
                    }
                }
                drop(done);
                // It only ever hears that nobody is left to tell it anything.
                let _ = leave.recv();
            }
        })?;
        Ok(Self {
            jobs: Some(jobs),
            left,
            results,
            threads,
            stay: Some(stay),
        })
    }

    /// Queues a job. What it returns, if anything, comes back through [`Pool::take`].
    pub fn submit(&self, job: impl FnOnce() -> Option<T> + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            self.left.fetch_add(1, Ordering::Relaxed);
            // The threads live as long as this sender, so somebody is there to receive.
            let _ = jobs.send(Box::new(job));
        }
    }

    /// Whether no job is queued or under way.
    pub fn is_idle(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// A way to queue jobs from other threads. The pool does not end before it is dropped.
    pub fn remote(&self) -> Remote<T> {
        let left = Arc::clone(&self.left);
        Remote(self.jobs.clone(), left)
    }

    /// Waits for all jobs, and gives the results that were not taken. Those that panicked have
    /// none. The threads stay until what is returned with them is dropped.
    pub fn finish(mut self) -> (Vec<T>, Finished) {
        self.jobs = None;
        let results = self.results.iter().flatten().collect();
        let threads = Box::new(self);
        (results, Finished { _threads: threads })
    }

    /// A result that has come back, if there is one.
    ///
    /// # Panics
    /// If the job did.
    pub fn take(&self) -> Option<T> {
        let result = self.results.try_recv().ok()?;
        Some(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

/// Queues jobs of a pool from another thread.
pub struct Remote<T>(Option<Sender<Job<T>>>, Arc<AtomicUsize>);

impl<T> Remote<T> {
    /// As [`Pool::submit`].
    pub fn submit(self, job: impl FnOnce() -> Option<T> + Send + 'static) {
        if let Some(jobs) = self.0 {
            self.1.fetch_add(1, Ordering::Relaxed);
            // The pool's threads live as long as this sender.
            let _ = jobs.send(Box::new(job));
        }
    }
}

impl<T> Pool<T> {
    fn join(&mut self) {
        (self.jobs, self.stay) = (None, None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn results_come_back_and_dropping_waits() {
        let woken = Arc::new(AtomicU32::new(0));
        let pool = {
            let woken = Arc::clone(&woken);
            let wake = move || {
                woken.fetch_add(1, Ordering::SeqCst);
            };
            Pool::new("test", 2, wake).unwrap()
        };
        let ran = Arc::new(AtomicU32::new(0));
        for n in 0..100_u32 {
            let ran = Arc::clone(&ran);
            pool.submit(move || {
                ran.fetch_add(1, Ordering::SeqCst);
                assert!(n != 50, "one job panics");
                (n % 2 == 0).then_some(n)
            });
        }
        let (results, left) = (pool.results.clone(), Arc::clone(&pool.left));
        drop(pool);
        assert_eq!(left.load(Ordering::SeqCst), 0, "idle");
        assert_eq!(ran.load(Ordering::SeqCst), 100);
        assert_eq!(results.try_iter().flatten().count(), 49);
        assert_eq!(woken.load(Ordering::SeqCst), 50);
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_reaches_whoever_waits() {
        let (woken, wakes) = unbounded();
        let wake = move || {
            let _ = woken.send(());
        };
        let pool = Pool::<()>::new("test", 1, wake).unwrap();
        pool.submit(|| panic!("a bug"));
        wakes
            .recv_timeout(std::time::Duration::from_secs(60))
            .expect("to be woken");
        pool.take();
    }
}
