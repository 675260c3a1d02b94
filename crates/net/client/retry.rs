//! When a request that failed is made again: as Nix 2.35, with delays that double, full jitter, and
//! the time that a server asks for.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use super::config::Notice;
use super::{Deadline, Excused, Limits};
use crate::error::{Doing, Fault, Kind};

/// How often something has been tried, and what for.
pub(crate) struct Attempts<'a> {
    limits: &'a Limits,
    excused: &'a Excused,
    notice: Option<&'a Notice>,
    about: (Doing, &'a str),
    made: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(
        (limits, excused): (&'a Limits, &'a Excused),
        notice: Option<&'a Notice>,
        about: (Doing, &'a str),
    ) -> Self {
        Self {
            limits,
            excused,
            notice,
            about,
            made: 0,
        }
    }

    /// Waits until it is time for another attempt.
    ///
    /// # Errors
    /// The fault, if there is to be none.
    pub(crate) async fn again(&mut self, fault: Fault) -> Result<(), Fault> {
        self.again_before(fault, &Deadline::new(Duration::ZERO))
            .await
    }

    /// The same, if that is before a deadline.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn again_before(
        &mut self,
        fault: Fault,
        deadline: &Deadline,
    ) -> Result<(), Fault> {
        self.made += 1;
        if !fault.transient || self.made >= self.limits.attempts.max(1) {
            return Err(fault);
        }
        let Some(delay) = delay(self.limits, self.made, &fault, random()) else {
            return Err(fault);
        };
        if deadline.left().is_some_and(|left| delay >= left) {
            return Err(fault);
        }
        if fault.retry_after.is_some() {
            self.excused.for_time(delay);
        }
        if let Some(notice) = self.notice {
            let Fault {
                kind, ref reason, ..
            } = fault;
            let (doing, url) = self.about;
            notice(&Fault::new(kind, reason).about(doing, url), delay);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Notes that the last attempt brought so much that it need not count.
    pub(crate) fn forgive(&mut self) {
        self.made = 0;
    }
}

/// How long to wait after `made` attempts; `None` if the server wants to be left alone for longer
/// than anybody should wait.
fn delay(limits: &Limits, made: u32, fault: &Fault, random: f64) -> Option<Duration> {
    let base = match fault.kind {
        Kind::Status(429 | 503) => limits.retry_delay_rate_limited,
        _ => limits.retry_delay,
    };
    let doubled = base.saturating_mul(1 << (made - 1).min(20));
    let asked = fault.retry_after.unwrap_or_default();
    if asked > limits.retry_max_delay {
        return None;
    }
    Some(asked + doubled.min(limits.retry_max_delay).mul_f64(random))
}

/// A number from 0 to 1, other ones in other processes.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let fraction = bits as f64 / (1_u64 << 53) as f64;
    fraction
}

/// What the header `Retry-After` says: seconds, or a date, from `now` on.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_ceiling_and_servers_are_obeyed() {
        let limits = Limits::default();
        let of = |kind, made, asked: Option<u64>| {
            let fault = Fault {
                retry_after: asked.map(Duration::from_secs),
                ..Fault::new(kind, "")
            };
            let at = |random| delay(&limits, made, &fault, random).map(|d| d.as_millis());
            (at(0.0), at(1.0))
        };
        assert_eq!(of(Kind::Reset, 1, None), (Some(0), Some(100)));
        assert_eq!(of(Kind::Reset, 4, None), (Some(0), Some(800)));
        assert_eq!(of(Kind::Reset, 60, None), (Some(0), Some(60_000)));
        assert_eq!(of(Kind::Status(429), 1, None), (Some(0), Some(5_000)));
        assert_eq!(
            of(Kind::Status(503), 2, Some(7)),
            (Some(7_000), Some(17_000))
        );
        assert_eq!(
            of(Kind::Status(500), 1, Some(60)),
            (Some(60_000), Some(60_100))
        );
        assert_eq!(of(Kind::Status(503), 1, Some(61)), (None, None));
        assert!((0..100).all(|_| (0.0..=1.0).contains(&random())));
    }

    #[test]
    fn servers_name_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = httpdate::parse_http_date(date).unwrap();
        let early = at - Duration::from_secs(9);
        let seconds = |text, now| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds(" 120", at), Some(120));
        assert_eq!(seconds(date, early), Some(9));
        assert_eq!(seconds(date, at + Duration::from_secs(1)), Some(0));
        assert_eq!(seconds("soon", at), None);
        assert_eq!(seconds("-1", at), None);
    }
}
