//! How much time is left of a run: from what the history says of what must be built, corrected by
//! what this run has taken so far.

use std::time::Duration;

use windrow_systems::report::Counts;

/// What is supposed to have been built already in just the time that the history says. What is
/// measured soon outweighs it.
const SUPPOSED: Duration = Duration::from_secs(5);

/// What builds of this run have taken.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long those were thought to take of which the history knew something.
    expected: Duration,
    /// How long they took.
    took: Duration,
    /// How long all have taken, and how many they are.
    all: (Duration, u32),
}

/// A build that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) elapsed: Duration,
    pub(super) expected: Option<Duration>,
    /// It and what needs it, one after the other.
    pub(super) chain: Option<Duration>,
}

impl Pace {
    /// A build has ended well.
    pub(super) fn learn(&mut self, expected: Option<Duration>, took: Duration) {
        if let Some(expected) = expected {
            self.expected += expected;
            self.took += took;
        }
        self.all = (self.all.0 + took, self.all.1 + 1);
    }

    /// The least and the most time that is left. `None` if nothing is known, or nothing left.
    ///
    /// All slots are never idle while something is ready, so what is left takes its work divided by
    /// the slots, or its longest chain, or at most both together.
    pub(super) fn left(&self, counts: Counts, running: &[Running]) -> Option<(Duration, Duration)> {
        let done = counts.built + counts.failed + counts.not_built;
        let left = counts.expected.checked_sub(done).filter(|left| *left > 0)?;
        let factor = (self.took + SUPPOSED).div_duration_f64(self.expected + SUPPOSED);
        let mean = match (self.all, counts.estimated) {
            ((took, count @ 1..), _) => took / count,
            (_, known @ 1..) => counts.work.mul_f64(factor) / known,
            (_, 0) => return None,
        };
        let unknown = left.saturating_sub(counts.estimated);
        let mut work = counts.work.mul_f64(factor) + mean * unknown;
        let mut longest = Duration::ZERO;
        for build in running {
            let own = build.expected.map_or(mean, |it| it.mul_f64(factor));
            let passed = build.elapsed.min(own);
            work = work.saturating_sub(passed);
            let chain = build.chain.map_or(own, |it| it.mul_f64(factor));
            longest = longest.max(chain.saturating_sub(passed));
        }
        let share = work / counts.slots.max(1);
        Some((share.max(longest), share + longest))
    }
}

/// A range of times in words.
pub(super) fn range((least, most): (Duration, Duration)) -> String {
    let unit = match most.as_secs() {
        0..90 => (1, "s"),
        90..5400 => (60, "min"),
        _ => (3600, "h"),
    };
    let (seconds, name) = unit;
    let least = least.as_secs() / seconds;
    let most = most.as_secs().div_ceil(seconds).max(1);
    match least == most || least == 0 {
        true => format!("{most} {name}"),
        false => format!("{least}–{most} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counts(expected: u32, estimated: u32, work: u32) -> Counts {
        Counts {
            expected,
            estimated,
            work: SECOND * work,
            slots: 2,
            ..Counts::default()
        }
    }

    #[test]
    fn work_is_shared_by_slots_and_chains_are_not() {
        let pace = Pace::default();
        let left = |running: &[Running]| pace.left(counts(10, 10, 100), running);
        assert_eq!(left(&[]), Some((SECOND * 50, SECOND * 50)));
        let mut build = Running {
            elapsed: SECOND * 2,
            expected: Some(SECOND * 10),
            chain: Some(SECOND * 80),
        };
        assert_eq!(left(&[build]), Some((SECOND * 78, SECOND * 127)));
        // What takes longer than it was thought to is about to end, for all that is known.
        build.elapsed = SECOND * 99;
        assert_eq!(left(&[build]), Some((SECOND * 70, SECOND * 115)));
    }

    #[test]
    fn it_learns_from_what_was_built() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(counts(4, 0, 0), &[]), None, "nothing is known");
        pace.learn(None, SECOND * 8);
        assert_eq!(
            pace.left(counts(4, 0, 0), &[]),
            Some((SECOND * 16, SECOND * 16))
        );
        pace.learn(Some(SECOND * 5), SECOND * 15);
        assert_eq!(
            pace.left(counts(4, 4, 10), &[]),
            Some((SECOND * 10, SECOND * 10))
        );
        let done = Counts {
            built: 3,
            not_built: 1,
            ..counts(4, 0, 0)
        };
        assert_eq!(pace.left(done, &[]), None, "nothing is left");
    }

    #[test]
    fn ranges_are_short() {
        let text = |least, most| range((Duration::from_secs(least), Duration::from_secs(most)));
        assert_eq!(text(0, 0), "1 s");
        assert_eq!(text(5, 12), "5–12 s");
        assert_eq!(text(100, 290), "1–5 min");
        assert_eq!(text(3600, 3600), "60 min");
        assert_eq!(text(7200, 9000), "2–3 h");
    }
}
