//! The speed that all downloads together are kept to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A limit of bytes a second; 0 for none.
#[derive(Debug)]
pub(crate) struct Speed {
    bytes_per_s: u64,
    /// When the bytes that have been taken are paid for.
    even: Mutex<Option<Instant>>,
}

impl Speed {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            even: Mutex::new(None),
        }
    }

    /// Waits as long as it should have taken to receive this number of bytes.
    pub(crate) async fn took(&self, bytes: usize) {
        if self.bytes_per_s > 0 {
            tokio::time::sleep_until(self.due(Instant::now(), bytes)).await;
        }
    }

    /// When that number of bytes, which has come now, should have come, for who waits on a thread.
    pub(crate) fn due_now(&self, bytes: usize) -> std::time::Instant {
        match self.bytes_per_s {
            0 => std::time::Instant::now(),
            _ => self.due(Instant::now(), bytes).into_std(),
        }
    }

    /// When bytes that have come now should have come.
    fn due(&self, now: Instant, bytes: usize) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "no chunk is so large")]
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let mut even = self.even.lock().unwrap_or_else(PoisonError::into_inner);
        let due = even.map_or(now, |even| even.max(now)) + cost;
        *even = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_are_kept_to_it() {
        let speed = Speed::new(1000);
        let begin = Instant::now();
        let s = Duration::from_secs;
        assert_eq!(speed.due(begin, 1000), begin + s(1));
        assert_eq!(speed.due(begin, 2000), begin + s(3));
        // Time in which nothing came is not saved up.
        assert_eq!(speed.due(begin + s(10), 1000), begin + s(11));
    }
}
