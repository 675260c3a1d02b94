//! What came of a run, for its end: counts, what took longest, what failed and what was not built
//! because of it.

use std::time::Duration;

use hashbrown::HashMap;
use windrow_components::goal::BuildMode;
use windrow_systems::failure::FailureKind;
use windrow_systems::report::{Counts, Event};

use super::failures::FailedBuild;

/// How many of the builds that took longest are named.
const SLOWEST: usize = 5;

/// Builds that took less are not worth a name.
const SLOW: Duration = Duration::from_secs(1);

/// How many names of what was not built are kept.
const NOT_BUILT_NAMED: usize = 10;

/// How much of what came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) built: u32,
    pub(crate) checked: u32,
    pub(crate) repaired: u32,
    pub(crate) fetched: u32,
    pub(crate) failed: u32,
    pub(crate) not_built: u32,
    /// Valid before.
    pub(crate) there: u32,
    /// When something last happened, since the run began.
    pub(crate) last: Duration,
}

/// What has come of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What the engine said last.
    pub(super) counts: Counts,
    /// Builds that failed for themselves, in the order in which they did.
    pub(crate) failures: Vec<FailedBuild>,
    built: u32,
    checked: u32,
    repaired: u32,
    fetched: u32,
    failed: u32,
    not_built: u32,
    /// Names of what was not built, the first of them.
    not_built_names: Vec<String>,
    /// When what runs was started, and why.
    running: HashMap<u64, (Duration, BuildMode)>,
    /// The longest first.
    slowest: Vec<(Duration, String)>,
    /// When something last happened, since the run began.
    last: Duration,
}

impl Tally {
    /// Takes in an event. If it is the end of a build or of a fetch that was started, how long that
    /// took.
    pub(super) fn note(&mut self, event: &Event<'_>) -> Option<Duration> {
        match *event {
            Event::Progress(counts) => self.counts = counts,
            Event::Started {
                build, at, mode, ..
            } => {
                self.last = at;
                self.running.insert(build.id, (at, mode));
            }
            Event::FetchStarted { build, at, .. } => {
                self.last = at;
                self.running.insert(build.id, (at, BuildMode::Normal));
            }
            Event::Succeeded { build, at } => {
                let (took, mode) = self.end(build.id, at);
                match mode {
                    BuildMode::Normal => self.built += 1,
                    BuildMode::Check => self.checked += 1,
                    BuildMode::Repair => self.repaired += 1,
                }
                self.note_time(took.unwrap_or_default(), build.name);
                return took;
            }
            Event::FetchSucceeded { build, at } => {
                self.fetched += 1;
                return self.end(build.id, at).0;
            }
            Event::Failed {
                build, kind, at, ..
            } => {
                let took = self.end(build.id, at).0;
                match kind {
                    FailureKind::Dependency => self.note_not_built(build.name),
                    _ => self.failed += 1,
                }
                return took;
            }
            Event::FetchFailed { build, at, .. } | Event::Cancelled { build, at } => {
                return self.end(build.id, at).0;
            }
            Event::Message { .. }
            | Event::Output { .. }
            | Event::HelperOutput { .. }
            | Event::SecondPassed
            | Event::LockAwaited { .. }
            | Event::Exited { .. }
            | Event::Used { .. }
            | Event::Over => {}
        }
        None
    }

    fn end(&mut self, id: u64, at: Duration) -> (Option<Duration>, BuildMode) {
        self.last = at;
        match self.running.remove(&id) {
            Some((since, mode)) => (Some(at.saturating_sub(since)), mode),
            None => (None, BuildMode::Normal),
        }
    }

    fn note_time(&mut self, took: Duration, name: &str) {
        let place = self.slowest.partition_point(|(other, _)| *other >= took);
        if took >= SLOW && place < SLOWEST {
            self.slowest.insert(place, (took, name.to_owned()));
            self.slowest.truncate(SLOWEST);
        }
    }

    fn note_not_built(&mut self, name: &str) {
        self.not_built += 1;
        if self.not_built_names.len() < NOT_BUILT_NAMED {
            self.not_built_names.push(name.to_owned());
        }
    }

    /// How many derivations are done with, and how many there are as far as is known, with them.
    pub(super) fn done(&self) -> (u32, u32) {
        let done = self.built + self.checked + self.repaired + self.failed;
        (done, self.counts.expected.max(done + self.not_built))
    }

    /// How many derivations were not built: those that need what failed, and where the run ended
    /// for that, all that were not built by then.
    fn not_built(&self) -> u32 {
        let Counts {
            expected,
            built,
            failed,
            ..
        } = self.counts;
        match self.failed {
            0 => self.not_built,
            _ => self.not_built.max(expected.saturating_sub(built + failed)),
        }
    }

    /// All counts.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            built: self.built,
            checked: self.checked,
            repaired: self.repaired,
            fetched: self.fetched,
            failed: self.failed,
            not_built: self.not_built(),
            there: self.counts.there,
            last: self.last,
        }
    }

    /// Names of what was not built because something it needs failed, the first of them.
    pub(crate) fn not_built_names(&self) -> &[String] {
        &self.not_built_names
    }

    /// One line about the whole run, if there is anything to say.
    pub(super) fn summary(&self) -> Option<String> {
        let done = [
            (self.built, "built"),
            (self.checked, "built again and found the same"),
            (self.repaired, "repaired"),
            (self.fetched, "fetched"),
            (self.failed, "failed"),
            (self.not_built(), "not built"),
        ];
        if done.iter().all(|(count, _)| *count == 0) {
            return None;
        }
        let mut parts = Vec::new();
        for (count, what) in done {
            let nothing_else = what == "built" && self.checked + self.repaired == 0;
            if count == 0 && !nothing_else {
                continue;
            }
            // Beside numbers of derivations, the noun stands once.
            let noun = match (what, parts.is_empty(), count) {
                ("fetched", _, 1) => " path",
                ("fetched", _, _) => " paths",
                (_, false, _) => "",
                (_, true, 1) => " derivation",
                (_, true, _) => " derivations",
            };
            parts.push(format!("{count}{noun} {what}"));
        }
        let there = match self.counts.there {
            0 => String::new(),
            1 => "; 1 was there before".to_owned(),
            count => format!("; {count} were there before"),
        };
        Some(format!(
            "{} in {}{there}",
            parts.join(", "),
            seconds(self.last)
        ))
    }

    /// Which builds took longest, if more than one was built and it took long.
    pub(super) fn slowest(&self) -> Option<String> {
        if self.built + self.checked + self.repaired < 2 || self.slowest.is_empty() {
            return None;
        }
        let builds = self.slowest.iter();
        let builds: Vec<String> = builds
            .map(|(took, name)| format!("{name} {}", seconds(*took)))
            .collect();
        Some(format!("slowest: {}", builds.join(", ")))
    }

    /// What was not built because something it needs failed, by name.
    pub(super) fn dependents(&self) -> Option<String> {
        if self.not_built_names.is_empty() {
            return None;
        }
        let named = self.not_built_names.join(", ");
        let more = match self.not_built as usize - self.not_built_names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("not built because of that: {named}{more}"))
    }
}

/// A time in the unit people think in.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The same for a clock that runs.
pub(crate) fn whole_seconds(time: Duration) -> String {
    match time.as_secs() {
        whole @ 0..60 => format!("{whole} s"),
        _ => seconds(time),
    }
}

#[cfg(test)]
mod tests {
    use windrow_systems::report::{BuildRef, Outlook};

    use super::*;

    fn build(id: u64, name: &'static str) -> BuildRef<'static> {
        BuildRef {
            id,
            drv_path: "/s/x.drv",
            name,
        }
    }

    fn started(id: u64, name: &'static str, at: u64) -> Event<'static> {
        Event::Started {
            build: build(id, name),
            system: "",
            log_file: "",
            outputs: &[],
            mode: BuildMode::Normal,
            outlook: Outlook::default(),
            by_hook: false,
            at: Duration::from_secs(at),
        }
    }

    fn failed(id: u64, name: &'static str, kind: FailureKind) -> Event<'static> {
        Event::Failed {
            build: build(id, name),
            kind,
            started: true,
            system: "",
            message: "it failed",
            log_tail: &[],
            kept: None,
            at: Duration::from_secs(2),
        }
    }

    #[test]
    fn what_needs_a_failure_is_counted_apart() {
        let mut tally = Tally::default();
        tally.note(&failed(1, "bad", FailureKind::Permanent));
        tally.note(&failed(2, "mid", FailureKind::Dependency));
        tally.note(&failed(3, "top", FailureKind::Dependency));
        let summary = tally.summary().unwrap();
        assert_eq!(
            summary,
            "0 derivations built, 1 failed, 2 not built in 2.0 s"
        );
        let dependents = tally.dependents().unwrap();
        assert_eq!(dependents, "not built because of that: mid, top");
        // Where the run ended for it, what had not been started was not built either.
        let (expected, there) = (9, 4);
        let (built, failed) = (1, 1);
        tally.note(&Event::Progress(Counts {
            expected,
            built,
            failed,
            there,
            ..Counts::default()
        }));
        assert_eq!(
            tally.summary().unwrap(),
            "0 derivations built, 1 failed, 7 not built in 2.0 s; 4 were there before"
        );
        for id in 4..40 {
            tally.note(&super::tests::failed(id, "x", FailureKind::Dependency));
        }
        let dependents = tally.dependents().unwrap();
        assert!(dependents.ends_with(", x, x and 28 more"), "{dependents}");
    }

    #[test]
    fn the_longest_builds_are_named() {
        let mut tally = Tally::default();
        let names = ["a", "b", "c", "d", "e", "f", "short"];
        let times = [3, 70, 2, 5, 4, 9, 0];
        for (id, (name, time)) in (0..).zip(names.into_iter().zip(times)) {
            tally.note(&started(id, name, 10));
            let took = tally.note(&Event::Succeeded {
                build: build(id, name),
                at: Duration::from_secs(10 + time),
            });
            assert_eq!(took, Some(Duration::from_secs(time)));
        }
        let slowest = tally.slowest().unwrap();
        assert_eq!(
            slowest,
            "slowest: b 1 min 10 s, f 9.0 s, d 5.0 s, e 4.0 s, a 3.0 s"
        );
        assert_eq!(tally.done(), (7, 7));
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(75)), "1 min 15 s");
        assert_eq!(seconds(Duration::from_secs(3700)), "1 h 01 min");
    }
}
