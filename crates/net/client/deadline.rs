//! Until when a small thing must have come, over all attempts at it; and when a cache that says
//! nothing has a reason for that.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Fault, Kind};

/// How long something may take in all. That it waits for its turn, because other requests are under
/// way to the same server, does not count before its first request.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// Zero for no limit.
    most: Duration,
    begun: OnceLock<Instant>,
}

impl Deadline {
    pub(crate) fn new(most: Duration) -> Self {
        Self {
            most,
            begun: OnceLock::new(),
        }
    }

    /// The first request is made.
    pub(crate) fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    /// How much time is left, if that is limited.
    pub(crate) fn left(&self) -> Option<Duration> {
        if self.most.is_zero() {
            return None;
        }
        let spent = self.begun.get().map_or(Duration::ZERO, Instant::elapsed);
        Some(self.most.saturating_sub(spent))
    }

    /// What `work` comes to within a time, and before the deadline; zero for no limit of its own.
    ///
    /// # Errors
    /// When it comes too late. There is no other attempt after the deadline.
    pub(crate) async fn within<T>(
        &self,
        most: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        match self.left() {
            Some(left) if most.is_zero() || left < most => {
                let late = |_| {
                    let text = format!("it was not answered within {}", seconds(self.most));
                    let fault = Fault::new(Kind::Timeout, text);
                    Fault {
                        transient: false,
                        ..fault
                    }
                };
                tokio::time::timeout(left, work).await.map_err(late)?
            }
            _ => within(most, work).await,
        }
    }
}

/// What `work` comes to within a time; zero for no limit.
///
/// # Errors
/// When it comes too late.
pub(crate) async fn within<T>(
    most: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    if most.is_zero() {
        return work.await;
    }
    let late = |_| {
        let text = format!("nothing has come for {}", seconds(most));
        Fault::new(Kind::Timeout, text)
    };
    tokio::time::timeout(most, work).await.map_err(late)?
}

/// A time as it is written in a message.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Until when a cache need not say anything: it has just sent a piece of something large, or has
/// said when it wants to be asked again.
#[derive(Debug)]
pub(crate) struct Excused {
    began: Instant,
    /// In milliseconds since then; zero for never.
    until: AtomicU64,
}

impl Default for Excused {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            until: AtomicU64::new(0),
        }
    }
}

impl Excused {
    /// It need not say anything for so long from now on.
    pub(crate) fn for_time(&self, time: Duration) {
        let until = (self.began.elapsed() + time).as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.until.fetch_max(until, Ordering::Relaxed);
    }

    /// Until when, if it ever was.
    pub(crate) fn until(&self) -> Option<Instant> {
        let until = self.until.load(Ordering::Relaxed);
        (until > 0).then(|| self.began + Duration::from_millis(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_the_first_request_on() {
        let deadline = Deadline::new(Duration::from_secs(60));
        assert_eq!(deadline.left(), Some(Duration::from_secs(60)));
        deadline.begin();
        let left = deadline.left().unwrap();
        deadline.begin();
        assert!(deadline.left().unwrap() <= left && !left.is_zero());
        assert_eq!(Deadline::new(Duration::ZERO).left(), None);
    }

    #[test]
    fn who_is_excused_for_long_stays_so() {
        let excused = Excused::default();
        assert_eq!(excused.until(), None);
        excused.for_time(Duration::from_secs(60));
        let until = excused.until().unwrap();
        excused.for_time(Duration::ZERO);
        assert_eq!(excused.until(), Some(until));
    }
}
