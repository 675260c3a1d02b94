//! Whether a substituter is worth asking: one that fails again and again is left out for a while,
//! and each time it goes on failing for twice as long.

use std::time::Duration;

/// After how many failures in a row it is left out.
const IN_A_ROW: u32 = 3;

/// After how many paths in a row that it has and does not deliver it is left out: more, for single
/// archives may be gone for good.
const UNDELIVERED: u32 = 8;

/// For how long, the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// For how long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How a substituter has done of late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    /// How often in a row it has failed.
    failures: u32,
    /// How many paths in a row it has not delivered.
    undelivered: u32,
    /// How long it was left out last.
    last_pause: Duration,
    paused_until: Duration,
    /// It was left out because it delivers nothing, and has delivered nothing since.
    delivers_nothing: bool,
}

impl Health {
    /// Times count from so much later on.
    pub(super) fn count_from(&mut self, start: Duration) {
        self.paused_until = self.paused_until.saturating_sub(start);
    }

    /// Whether it is asked at that moment.
    pub(super) fn is_good(&self, now: Duration) -> bool {
        now >= self.paused_until
    }

    /// It has answered.
    pub(super) fn succeed(&mut self) {
        let before = *self;
        *self = Self {
            undelivered: before.undelivered,
            ..Self::default()
        };
        if before.delivers_nothing {
            // To answer is not what it was left out for not doing.
            self.delivers_nothing = true;
            self.last_pause = before.last_pause;
            self.paused_until = before.paused_until;
        }
    }

    /// It has delivered a path.
    pub(super) fn deliver(&mut self) {
        self.undelivered = 0;
        self.delivers_nothing = false;
    }

    /// It has not delivered a path that it has. For how long it is left out from now on, if it is:
    /// whatever it answers, it is of no use.
    pub(super) fn fail_to_deliver(&mut self, now: Duration) -> Option<Duration> {
        self.undelivered += 1;
        if self.undelivered < UNDELIVERED {
            return None;
        }
        self.undelivered = 0;
        let pause = self.fail(true, now);
        self.delivers_nothing |= pause.is_some();
        pause
    }

    /// It has failed, or can't be reached at all. For how long it is left out from now on, if it
    /// is.
    pub(super) fn fail(&mut self, dead: bool, now: Duration) -> Option<Duration> {
        if !self.is_good(now) {
            return None;
        }
        self.failures += 1;
        // After a pause a single failure is enough.
        if !dead && self.failures < IN_A_ROW {
            return None;
        }
        let pause = (self.last_pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.last_pause = pause;
        self.paused_until = now + pause;
        Some(pause)
    }

    /// It wants to be left alone for so long, which counts as a failure. For how long it is left
    /// out from now on, if that is news.
    pub(super) fn leave_alone(&mut self, time: Duration, now: Duration) -> Option<Duration> {
        if !self.is_good(now) {
            return None;
        }
        let pause = self.fail(false, now).unwrap_or_default();
        let pause = pause.max(time).min(LONGEST_PAUSE);
        self.paused_until = now + pause;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_is_one_too_many() {
        let second = Duration::from_secs;
        let mut health = Health::default();
        assert_eq!(health.fail(false, second(1)), None);
        assert_eq!(health.fail(false, second(1)), None);
        health.succeed();
        assert_eq!(health.fail(false, second(2)), None);
        assert_eq!(health.fail(false, second(2)), None);
        assert!(health.is_good(second(2)));
        assert_eq!(health.fail(false, second(2)), Some(second(60)));
        assert!(!health.is_good(second(61)) && health.is_good(second(62)));
        // What was asked before the pause may fail in it.
        assert_eq!(health.fail(false, second(3)), None);
        assert_eq!(health.fail(false, second(62)), Some(second(120)));
        assert!(!health.is_good(second(181)));
        let mut now = second(182);
        for _ in 0..10 {
            now += health.fail(false, now).unwrap();
        }
        assert_eq!(health.fail(false, now), Some(LONGEST_PAUSE));
        health.succeed();
        assert!(health.is_good(now));
        assert_eq!(health.fail(true, now), Some(FIRST_PAUSE));
    }

    #[test]
    fn who_answers_and_delivers_nothing_is_left_out_in_the_end() {
        let mut health = Health::default();
        for _ in 0..2 {
            for _ in 1..UNDELIVERED {
                assert_eq!(health.fail_to_deliver(Duration::ZERO), None);
                health.succeed();
            }
            health.deliver();
        }
        for _ in 1..UNDELIVERED {
            assert_eq!(health.fail_to_deliver(Duration::ZERO), None);
        }
        let out = health.fail_to_deliver(Duration::ZERO);
        assert_eq!(out, Some(FIRST_PAUSE));
        // Answers to what it was asked before still come.
        health.succeed();
        assert!(!health.is_good(FIRST_PAUSE / 2) && health.is_good(FIRST_PAUSE));
        for _ in 1..UNDELIVERED {
            assert_eq!(health.fail_to_deliver(FIRST_PAUSE), None);
            health.succeed();
        }
        let out = health.fail_to_deliver(FIRST_PAUSE);
        assert_eq!(out, Some(FIRST_PAUSE * 2));
        health.deliver();
        health.succeed();
        assert!(health.is_good(FIRST_PAUSE));
    }

    #[test]
    fn who_wants_to_be_left_alone_is_for_so_long() {
        let second = Duration::from_secs;
        let mut health = Health::default();
        assert_eq!(health.leave_alone(second(30), second(1)), Some(second(30)));
        assert_eq!(health.leave_alone(second(30), second(2)), None);
        assert!(!health.is_good(second(30)) && health.is_good(second(31)));
        assert_eq!(health.leave_alone(second(2), second(31)), Some(second(2)));
        // The third time in a row.
        assert_eq!(health.leave_alone(second(2), second(33)), Some(FIRST_PAUSE));
        let mut health = Health::default();
        let day = second(24 * 3600);
        assert_eq!(health.leave_alone(day, second(1)), Some(LONGEST_PAUSE));
    }
}
