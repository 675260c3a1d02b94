//! The engine against a naive model: random graphs go through the faulty world, and through a
//! recursion that does what the rules of Nix 1.8 say and nothing else. Both must come to the same,
//! after any number of crashes.
//!
//! `WINDROW_GRAPHS=1000000 cargo test --release -p windrow-systems --test engine model::`
//! tries a million graphs.

mod graphs;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};

use windrow_components::goal::{Outcome, Target};
use windrow_components::ids::{DrvId, PathId};
use windrow_components::request::RequestEnd;
use windrow_systems::Error;
use windrow_systems::failure::FailureKinds;
use windrow_systems::simulate::mishaps::{IoError, Mishaps, Mistake};
use windrow_systems::simulate::scenario::{Report, Scenario, run};

use graphs::{Made, make};
use rules::{End, Model};

/// How many graphs are tried, unless `WINDROW_GRAPHS` says otherwise.
const GRAPHS: u64 = 10_000;

fn end(outcome: Option<Outcome>) -> End {
    let Some(outcome) = outcome else {
        return End::Waits;
    };
    match outcome {
        Outcome::Success => End::Success,
        Outcome::Failed => End::Failed,
        Outcome::NoSubstituters => End::NoSubstituters,
        Outcome::IncompleteClosure => End::IncompleteClosure,
        Outcome::NotDelivered => End::NotDelivered,
        Outcome::Cancelled => End::Cancelled,
    }
}

/// What a graph had to show.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    graphs: u64,
    /// Something failed by the rules.
    failed: u64,
    /// Slots were lacking.
    stuck: u64,
    /// The engine was killed.
    crashes: u64,
    /// The database failed.
    broken: u64,
    /// Others made what was wanted.
    helped: u64,
    /// Goals were cancelled because no request needed them any more.
    cancelled: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.graphs += other.graphs;
        self.failed += other.failed;
        self.stuck += other.stuck;
        self.crashes += other.crashes;
        self.broken += other.broken;
        self.helped += other.helped;
        self.cancelled += other.cancelled;
    }
}

/// Says which graph it was when a promise is found broken deep in the engine.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("that was seed {}", self.0);
        }
    }
}

/// Takes a graph through all lives of the engine: what is wrong with one must not be wrong after
/// the next.
fn check(seed: u64, mistake: Option<Mistake>) -> Seen {
    let _named = Named(seed);
    let Made {
        mut scenario,
        wanted,
        once,
    } = make(seed);
    scenario.mishaps.mistake = mistake;
    let mut seen = Seen {
        graphs: 1,
        ..Seen::default()
    };
    for mishaps in once {
        let report = life(seed, scenario, &wanted, Some(mishaps));
        seen.crashes += u64::from(report.crashed);
        seen.broken += u64::from(report.is_store_broken);
        scenario = make(seed).scenario;
        scenario.valid = report.valid;
    }
    let report = life(seed, scenario, &wanted, None);
    seen.failed += u64::from(report.failures.any);
    let mut ends = report.derivations.values().chain(report.paths.values());
    seen.cancelled += u64::from(ends.any(|&how| how == Some(Outcome::Cancelled)));
    seen.stuck += u64::from(matches!(report.fatal, Some(Error::NoSlots)));
    seen.helped += u64::from(!report.made_by_others.is_empty());
    seen
}

/// One life of the engine, with what goes wrong in it beside what always does.
fn life(seed: u64, mut scenario: Scenario, wanted: &[Target], once: Option<Mishaps>) -> Report {
    let mut model = Model::new(&scenario);
    let ends = |model: &mut Model<'_>, wanted: &[Target]| -> Vec<End> {
        let end = |target: &Target| match *target {
            Target::Derivation(drv) => model.derivation(drv),
            Target::Path(path) | Target::Repair(path) => model.path(path),
        };
        wanted.iter().map(end).collect()
    };
    let first = ends(&mut model, wanted);
    let mut waits = first.contains(&End::Waits);
    let mut same_targets = true;
    let mut targets = vec![(first, scenario.keep_going, false)];
    for later in &scenario.later {
        let ends = ends(&mut model, &later.wanted);
        waits |= ends.contains(&End::Waits);
        same_targets &= later.wanted.iter().all(|target| wanted.contains(target));
        targets.push((ends, later.keep_going, later.cancel.is_some()));
    }
    let outputs = |drv: DrvId| -> Vec<PathId> {
        scenario
            .graph
            .outputs(drv)
            .iter()
            .map(|row| row.path)
            .collect()
    };
    let outputs: BTreeMap<DrvId, Vec<PathId>> = scenario
        .builds
        .keys()
        .map(|&drv| (drv, outputs(drv)))
        .collect();
    let expected = Expected {
        derivations: std::mem::take(&mut model.derivations),
        valid: std::mem::take(&mut model.valid),
        built: std::mem::take(&mut model.built),
        failures: model.failures,
        any_failure: model.any_failure,
        waits,
        targets,
        same_targets,
        before: scenario.valid.clone(),
        keep_going: scenario.keep_going,
        outputs,
    };
    let is_disturbed = once.is_some();
    if let Some(mishaps) = once {
        scenario.mishaps = mishaps;
    }
    let report = run(scenario, wanted);
    expected.check_promises(seed, &report);
    if !is_disturbed {
        expected.check_end(seed, &report);
    }
    report
}

/// What the model came to.
struct Expected {
    derivations: BTreeMap<DrvId, End>,
    valid: BTreeSet<PathId>,
    built: BTreeSet<DrvId>,
    failures: FailureKinds,
    any_failure: bool,
    waits: bool,
    /// By request: how its targets end, whether it keeps going, and whether it may be cancelled.
    targets: Vec<(Vec<End>, bool, bool)>,
    /// Whether all requests ask for what the first asks for. Where one asks for an input too, what
    /// it is substituted by depends on who comes first.
    same_targets: bool,
    before: BTreeSet<PathId>,
    keep_going: bool,
    /// The outputs of all derivations.
    outputs: BTreeMap<DrvId, Vec<PathId>>,
}

impl Expected {
    /// What holds whatever happens to the engine.
    fn check_promises(&self, seed: u64, report: &Report) {
        match &report.fatal {
            None => assert!(
                !report.is_store_broken,
                "seed {seed}: a broken store went unnoticed"
            ),
            Some(Error::NoSlots) => {}
            Some(error) => assert!(report.has_store_failed, "seed {seed}: {error}"),
        }
        assert!(
            report.valid.is_superset(&self.before),
            "seed {seed}: what was valid stays so"
        );
        // A goal that has ended well has made everything valid, whatever else went wrong.
        for (drv, &how) in &report.derivations {
            if how == Some(Outcome::Success) {
                assert!(
                    self.outputs[drv]
                        .iter()
                        .all(|path| report.valid.contains(path)),
                    "seed {seed}: {drv:?}"
                );
            }
        }
    }

    /// What the engine comes to if nothing stops it.
    fn check_end(&self, seed: u64, report: &Report) {
        let stuck = report.fatal.is_some();
        if self.targets.len() > 1 {
            return self.check_requests(seed, report);
        }
        if !self.keep_going && self.any_failure {
            let failed = report.derivations.values().chain(report.paths.values());
            let failed = failed.filter(|&&how| how == Some(Outcome::Failed)).count();
            assert!(failed > 0 || stuck, "seed {seed}: something was to fail");
            return;
        }
        let ends = report.derivations.iter();
        let ends: BTreeMap<DrvId, End> = ends.map(|(&drv, &how)| (drv, end(how))).collect();
        assert_eq!(
            ends, self.derivations,
            "seed {seed}: the same goals end in the same way"
        );
        let others = |drv: &DrvId| {
            let mut outputs = self.outputs[drv].iter();
            outputs.any(|path| report.made_by_others.contains(path))
        };
        let built: BTreeSet<DrvId> = self
            .built
            .iter()
            .copied()
            .filter(|drv| !others(drv))
            .collect();
        assert_eq!(
            report.built, built,
            "seed {seed}: the same derivations are built"
        );
        assert_eq!(
            report.valid, self.valid,
            "seed {seed}: the same paths are valid"
        );
        assert_eq!(
            report.failures, self.failures,
            "seed {seed}: the exit status is the same"
        );
        assert_eq!(stuck, self.waits, "seed {seed}: slots are lacking");
    }
}

impl Expected {
    /// What several requests come to. A failure may go better when a later one tries again.
    fn check_requests(&self, seed: u64, report: &Report) {
        if report.fatal.is_some() {
            // What is tried again may come further, to where a slot is lacking.
            let waits = self.waits || self.any_failure;
            assert!(waits, "seed {seed}: nothing waits for slots");
            return;
        }
        for (nth, (expected, keep_going, may_be_cancelled)) in self.targets.iter().enumerate() {
            let ended = &report.requests[nth];
            let how = ended.end.expect("all requests end");
            match how {
                RequestEnd::Done => {}
                RequestEnd::GivenUp => {
                    assert!(
                        !keep_going && (self.any_failure || !self.same_targets),
                        "seed {seed}: {nth} gives up"
                    );
                    continue;
                }
                RequestEnd::Cancelled => {
                    assert!(may_be_cancelled, "seed {seed}: nobody cancels {nth}");
                    continue;
                }
            }
            for (expected, outcome) in expected.iter().zip(&ended.targets) {
                let outcome = end(*outcome);
                assert!(
                    !matches!(outcome, End::Waits | End::Cancelled),
                    "seed {seed}: {nth} is done, and a target has not ended"
                );
                if self.same_targets && *expected == End::Success {
                    assert_eq!(outcome, End::Success, "seed {seed}: a target of {nth}");
                }
            }
        }
    }
}

/// Checks graphs on all processors; what all of them had to show.
fn check_all(graphs: u64) -> Seen {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    std::thread::scope(|scope| {
        let thread = |first: u64| {
            scope.spawn(move || {
                let mut seen = Seen::default();
                for seed in (first..graphs).step_by(threads as usize) {
                    seen.add(check(seed, None));
                }
                seen
            })
        };
        let running: Vec<_> = (0..threads).map(thread).collect();
        let mut seen = Seen::default();
        for thread in running {
            match thread.join() {
                Ok(more) => seen.add(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        seen
    })
}

#[test]
fn runs_end_as_the_rules_say_whatever_goes_wrong() {
    let graphs = std::env::var("WINDROW_GRAPHS").map_or(GRAPHS, |text| {
        text.parse().expect("WINDROW_GRAPHS is a number")
    });
    let seen = check_all(graphs);
    // Graphs without any trouble would show nothing.
    let all = graphs / 100;
    assert_eq!(seen.graphs, graphs);
    assert!(seen.failed > all * 20 && seen.failed < all * 80, "{seen:?}");
    assert!(seen.stuck > all * 2, "{seen:?}");
    assert!(seen.crashes > all * 5 && seen.broken > all, "{seen:?}");
    assert!(seen.helped > all && seen.cancelled > all * 5, "{seen:?}");
}

#[test]
fn a_crash_between_any_two_ticks_loses_nothing() {
    let mut crashes = 0;
    for seed in 0..150 {
        let whole = make(seed);
        let ticks = life(seed, whole.scenario, &whole.wanted, None).ticks;
        for tick in 0..ticks {
            let Made {
                scenario, wanted, ..
            } = make(seed);
            let mishaps = Mishaps {
                crash: Some(tick),
                ..scenario.mishaps.clone()
            };
            let report = life(seed, scenario, &wanted, Some(mishaps));
            assert!(report.crashed);
            crashes += 1;
            let mut scenario = make(seed).scenario;
            scenario.valid = report.valid;
            life(seed, scenario, &wanted, None);
        }
    }
    assert!(crashes > 1000, "{crashes}");
}

#[test]
fn deliberate_mistakes_are_found() {
    for mistake in [
        Mistake::RegistersFailures,
        Mistake::KeepsSlot,
        Mistake::KeepsPaths,
        Mistake::WakesEarly,
    ] {
        let finds = |seed: &u64| {
            let checked = || check(*seed, Some(mistake));
            catch_unwind(AssertUnwindSafe(checked)).is_err()
        };
        let found = (0..GRAPHS).find(finds);
        assert!(found.is_some(), "{mistake:?} goes unnoticed");
    }
}

#[test]
fn a_database_that_fails_at_any_call_ends_the_run() {
    let mut broken = 0;
    for seed in 0..60 {
        for call in 0..30 {
            let Made {
                scenario, wanted, ..
            } = make(seed);
            let io_error = Some(IoError { call, lasts: false });
            let mishaps = Mishaps {
                io_error,
                ..scenario.mishaps.clone()
            };
            let report = life(seed, scenario, &wanted, Some(mishaps));
            broken += u64::from(report.is_store_broken);
        }
    }
    assert!(broken > 500, "{broken}");
}

/// What a substitute had lacked was made by another process, and the substituter was not asked for
/// it again.
#[test]
fn substitutes_are_tried_again_with_what_others_made() {
    let seen = check(25_770, None);
    assert_eq!(seen.helped, 1);
}

/// What a goal had asked substituters for was forgotten when a later request took it up again, so
/// that they were not asked once more when its inputs were there.
#[test]
fn substitutes_are_tried_again_for_later_requests() {
    check(52_027, None);
}

/// One of two substitutes failed, the outputs were built instead, and the other substitute, for
/// whose lock a goal waited, was waited for still when all was done.
#[test]
fn what_a_goal_waits_for_no_longer_ends_with_the_request() {
    check(292_616, None);
}
