//! The library as a program uses it: requests that share, give up, are cancelled and tried again,
//! and an engine that ends in the middle of its work.

mod later;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windrow::{Engine, EngineBuilder, Event, Reporter, Request, RequestEnd, Store, Verdict};

use crate::harness::{LIMIT, text};

/// A directory with a store in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("builds")).unwrap();
        Self(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn builder(&self) -> EngineBuilder {
        Engine::builder(Store::In(self.at("nix")))
            .option("sandbox", "false")
            .option("build-users-group", "")
            .option("build-dir", self.at("builds").display().to_string())
            .max_jobs(4)
    }

    fn engine(&self) -> Engine {
        self.builder().build().unwrap()
    }

    /// A derivation by a script whose first command goes into the directory.
    fn sh(&self, script: &str) -> Value {
        let script = format!(
            "PATH=/bin:/usr/bin; cd {}; {script}",
            self.0.path().display()
        );
        json!({"builder": "/bin/sh", "args": ["-c", script]})
    }

    /// One that says who it is and stays.
    fn stays(&self, name: &str) -> Value {
        self.sh(&format!(
            "echo $$ > {name}.new; mv {name}.new {name}; sleep 1000 & wait"
        ))
    }

    #[track_caller]
    fn wait_for(&self, name: &str) {
        let start = Instant::now();
        while !self.at(name).exists() {
            assert!(start.elapsed() < LIMIT, "waited in vain for {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the process that said its number in a file is there.
    fn lives(&self, name: &str) -> bool {
        let pid = text(self.at(name));
        Path::new("/proc").join(pid.trim()).exists()
    }

    /// What a builder left where it worked.
    fn build_dirs(&self) -> usize {
        std::fs::read_dir(self.at("builds")).unwrap().count()
    }
}

fn graph<'a>(derivations: impl IntoIterator<Item = (&'a str, Value)>) -> Request {
    let derivations: serde_json::Map<String, Value> = derivations
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Request::new().graph(json!({ "derivations": derivations }).to_string())
}

/// Tells what was started, and whether it is to panic then.
struct Starts(Sender<String>, bool);

impl Reporter for Starts {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Started { build, .. } = event {
            self.0.send(build.name.to_owned()).ok();
            assert!(!self.1, "a reporter that panics");
        }
    }
}

fn starts(panics: bool) -> (Starts, Receiver<String>) {
    let (tell, told) = channel();
    (Starts(tell, panics), told)
}

#[test]
fn what_two_requests_need_is_built_once_and_each_hears_of_its_own() {
    let place = Place::new();
    let engine = place.engine();
    let base = place.sh("echo x >> base.runs; while [ ! -e go ]; do sleep 0.01; done; echo > $out");
    let (one, ones) = starts(false);
    let (other, others) = starts(false);
    let with = |name| {
        graph([
            ("base", base.clone()),
            (name, place.sh("cat @{base} > $out")),
        ])
    };
    let first = engine.submit(with("one").reporter(one)).unwrap();
    place.wait_for("base.runs");
    let second = graph([
        ("base", base.clone()),
        ("two", place.sh("cat @{base} > $out")),
        ("begun", place.sh("echo > begun; echo > $out")),
    ]);
    let second = engine.submit(second.reporter(other)).unwrap();
    // That it was submitted does not say that the engine has taken it up.
    place.wait_for("begun");
    std::fs::write(place.at("go"), "").unwrap();
    let (first, second) = (first.wait().unwrap(), second.wait().unwrap());
    assert!(first.is_success() && second.is_success());
    assert_eq!(text(place.at("base.runs")), "x\n");
    assert_eq!(ones.iter().collect::<Vec<_>>(), ["base", "one"]);
    // When the base was started, there was no second request yet.
    assert_eq!(others.iter().collect::<Vec<_>>(), ["begun", "two"]);
    let built = |outcome: &windrow::Outcome| {
        let results = outcome.results.iter();
        results
            .filter(|result| matches!(result.verdict, Verdict::Built))
            .count()
    };
    assert_eq!((built(&first), built(&second)), (2, 3));
    // Those that come later find everything there, and look no further.
    for engine in [&engine, &place.engine()] {
        let third = engine.submit(with("one")).unwrap().wait().unwrap();
        let [result] = &third.results[..] else {
            panic!("{third:?}")
        };
        assert!(matches!(result.verdict, Verdict::Valid), "{result:?}");
    }
}

#[test]
fn a_failure_ends_the_requests_that_need_it_and_no_others() {
    let place = Place::new();
    let engine = place.engine();
    let stays = place.stays("stays.pid");
    let failing = graph([
        (
            "fails",
            place.sh("while [ ! -e go ]; do sleep 0.01; done; exit 1"),
        ),
        ("above", place.sh(": @{fails} > $out")),
        ("stays", stays),
        ("both", place.sh(": @{above} @{stays} > $out")),
    ]);
    let fine = graph([(
        "fine",
        place.sh("while [ ! -e on ]; do sleep 0.01; done; echo > $out"),
    )]);
    let failing = engine.submit(failing.keep_going(false)).unwrap();
    let fine = engine.submit(fine.keep_going(false)).unwrap();
    place.wait_for("stays.pid");
    std::fs::write(place.at("go"), "").unwrap();
    let failing = failing.wait().unwrap();
    assert_eq!(failing.end, RequestEnd::GivenUp);
    let verdict = |name: &str| {
        let ends = format!("-{name}.drv");
        let result = failing.results.iter().find(|it| it.path.ends_with(&ends));
        &result.unwrap().verdict
    };
    assert!(matches!(verdict("fails"), Verdict::Failed(_)));
    assert!(
        matches!(verdict("above"), Verdict::NotBuilt { because_of } if because_of.ends_with("-fails.drv"))
    );
    assert!(matches!(verdict("stays"), Verdict::Cancelled));
    let start = Instant::now();
    while place.lives("stays.pid") {
        assert!(start.elapsed() < LIMIT, "what nobody needs goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(place.at("on"), "").unwrap();
    assert!(fine.wait().unwrap().is_success());
}

#[test]
fn a_failure_ends_a_request_although_another_keeps_going() {
    let place = Place::new();
    let engine = place.engine();
    let fails = place.sh("while [ ! -e go ]; do sleep 0.01; done; exit 1");
    let later = place.sh("while [ ! -e on ]; do sleep 0.01; done; echo > $out");
    let both = || {
        graph([
            ("fails", fails.clone()),
            ("later", later.clone()),
            ("both", place.sh(": @{fails} @{later} > $out")),
        ])
    };
    let patient = engine.submit(both().keep_going(true)).unwrap();
    let hasty = engine.submit(both().keep_going(false)).unwrap();
    std::fs::write(place.at("go"), "").unwrap();
    // Though what they ask for waits for more.
    assert_eq!(hasty.wait().unwrap().end, RequestEnd::GivenUp);
    std::fs::write(place.at("on"), "").unwrap();
    let patient = patient.wait().unwrap();
    assert_eq!(patient.end, RequestEnd::Done);
    assert_eq!(patient.failures().count(), 1);
    assert!(
        patient
            .results
            .iter()
            .any(|it| matches!(it.verdict, Verdict::Built))
    );
}

/// Tells which builds have failed.
struct Failures(Sender<String>);

impl Reporter for Failures {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Failed { build, .. } = event {
            self.0.send(build.name.to_owned()).ok();
        }
    }
}

#[test]
fn a_failure_ends_a_request_that_begins_after_it_while_another_keeps_going() {
    let place = Place::new();
    let engine = place.engine();
    let later = place.sh("while [ ! -e on ]; do sleep 0.01; done; echo > $out");
    let both = || {
        graph([
            ("fails", place.sh("exit 1")),
            ("later", later.clone()),
            ("both", place.sh(": @{fails} @{later} > $out")),
        ])
    };
    let (tell, told) = channel();
    let patient = both().keep_going(true).reporter(Failures(tell));
    let patient = engine.submit(patient).unwrap();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "fails");
    let hasty = engine.submit(both().keep_going(false)).unwrap();
    let (tell, told) = channel();
    let waiting = std::thread::spawn(move || tell.send(hasty.wait()));
    let hasty = told.recv_timeout(LIMIT).expect("it ends at once").unwrap();
    waiting.join().unwrap().unwrap();
    assert_eq!(hasty.end, RequestEnd::GivenUp);
    assert_eq!(hasty.failures().count(), 1);
    std::fs::write(place.at("on"), "").unwrap();
    assert_eq!(patient.wait().unwrap().end, RequestEnd::Done);
}

#[test]
fn what_has_failed_for_one_request_is_tried_again_for_the_next() {
    let place = Place::new();
    let engine = place.engine();
    let wanted = || {
        graph([
            ("flaky", place.sh("[ -e there ] && echo > $out")),
            ("above", place.sh("cat @{flaky} > $out")),
        ])
    };
    let first = engine.submit(wanted()).unwrap().wait().unwrap();
    assert!(!first.is_success());
    let (result, failure) = first.failures().next().unwrap();
    assert_eq!(failure.kind, windrow::FailureKind::Permanent);
    assert!(result.log.as_ref().unwrap().is_file());
    std::fs::write(place.at("there"), "").unwrap();
    let second = engine.submit(wanted()).unwrap().wait().unwrap();
    assert!(second.is_success(), "{second:?}");
    assert_eq!(second.failures().count(), 0);
}

#[test]
fn what_was_cancelled_can_be_asked_for_again_at_once() {
    let place = Place::new();
    let engine = place.engine();
    let wanted = || {
        graph([
            (
                "base",
                place.sh(
                    "if [ -e once ]; then echo > $out; exit; fi; echo > once; sleep 1000 & wait",
                ),
            ),
            ("above", place.sh("cat @{base} > $out")),
        ])
    };
    let first = engine.submit(wanted()).unwrap();
    place.wait_for("once");
    first.cancel();
    let second = engine.submit(wanted()).unwrap();
    assert_eq!(first.wait().unwrap().end, RequestEnd::Cancelled);
    assert!(second.wait().unwrap().is_success());
}

#[test]
fn a_check_waits_for_what_is_under_way() {
    let place = Place::new();
    let engine = place.engine();
    let random = place.sh("echo $$ > $out");
    let one = || graph([("random", random.clone())]);
    assert!(engine.submit(one()).unwrap().wait().unwrap().is_success());
    let slow = place.sh("while [ ! -e go ]; do sleep 0.01; done; echo > $out");
    let slow = engine.submit(graph([("slow", slow)])).unwrap();
    let check = engine.submit(one().check()).unwrap();
    std::fs::write(place.at("go"), "").unwrap();
    assert!(slow.wait().unwrap().is_success());
    let check = check.wait().unwrap();
    let (_, failure) = check.failures().next().expect("a difference");
    assert_eq!(failure.kind, windrow::FailureKind::NotDeterministic);
    // And what comes after it is no check.
    assert!(engine.submit(one()).unwrap().wait().unwrap().is_success());
}

#[test]
fn limits_are_those_of_the_request() {
    let place = Place::new();
    let engine = place.engine();
    let one = |request: Request| engine.submit(request).unwrap().wait().unwrap();
    let hurried =
        graph([("slow", place.stays("slow.pid"))]).timeout(Duration::from_secs(1), Duration::ZERO);
    let outcome = one(hurried);
    let (_, failure) = outcome.failures().next().expect("a timeout");
    assert_eq!(failure.kind, windrow::FailureKind::TimedOut);
    assert!(one(graph([("fine", place.sh("sleep 1.2; echo > $out"))])).is_success());
}

#[test]
fn an_engine_without_slots_says_so_and_goes_on() {
    let place = Place::new();
    let engine = place.builder().max_jobs(0).build().unwrap();
    for _ in 0..2 {
        let request = graph([("one", place.sh("echo > $out"))]);
        let error = engine.submit(request).unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("max-jobs"), "{error}");
    }
}

#[test]
fn mistakes_are_told_before_anything_is_built() {
    let place = Place::new();
    let engine = place.engine();
    let error = engine.submit(Request::new().target("nonsense"));
    assert!(error.unwrap_err().to_string().contains("'nonsense'"));
    let error = engine.submit(Request::new().graph("{"));
    assert!(error.unwrap_err().to_string().contains("graph.json"));
}

#[test]
fn an_engine_that_is_dropped_leaves_nothing() {
    let place = Place::new();
    let engine = place.engine();
    let submitted = engine
        .submit(graph([("stays", place.stays("stays.pid"))]))
        .unwrap();
    place.wait_for("stays.pid");
    drop(engine);
    assert!(!place.lives("stays.pid"));
    assert_eq!(place.build_dirs(), 0);
    assert!(submitted.wait().is_err());
    // Another engine has the locks at once.
    let again = place.engine();
    let (reporter, told) = starts(false);
    let again = again.submit(
        graph([("stays", place.stays("stays.pid"))])
            .reporter(reporter)
            .timeout(Duration::from_secs(1), Duration::ZERO),
    );
    let again = again.unwrap();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "stays");
    assert!(!again.wait().unwrap().is_success());
}

#[test]
fn an_engine_that_panics_leaves_nothing() {
    let place = Place::new();
    let engine = place.engine();
    let (reporter, _told) = starts(true);
    let one = graph([
        ("one", place.stays("one.pid")),
        ("two", place.stays("two.pid")),
    ]);
    let submitted = engine.submit(one.reporter(reporter)).unwrap();
    assert!(submitted.wait().is_err());
    let again = engine.submit(graph([("one", place.sh("echo > $out"))]));
    assert!(again.is_err());
    drop(engine);
    for pid in ["one.pid", "two.pid"] {
        assert!(!place.at(pid).exists() || !place.lives(pid));
    }
    assert_eq!(place.build_dirs(), 0);
}

#[test]
fn an_engine_leaves_signals_alone() {
    let place = Place::new();
    let mask = |thread: &str| {
        let file = Path::new("/proc/self/task").join(thread).join("status");
        let status = std::fs::read_to_string(file).ok()?;
        let mut lines = status.lines();
        lines
            .find(|line| line.starts_with("SigBlk"))
            .map(str::to_owned)
    };
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let own = own.file_name().unwrap().to_str().unwrap().to_owned();
    let before = mask(&own);
    let engine = place.engine();
    let stays = engine.submit(graph([("stays", place.stays("stays.pid"))]));
    place.wait_for("stays.pid");
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap().path();
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        if name.trim() == "windrow" {
            let id = thread.file_name().unwrap().to_str().unwrap().to_owned();
            // While a process is made all signals are blocked; other tests' engines end.
            let start = Instant::now();
            while mask(&id).is_some_and(|mask| Some(mask) != before) {
                assert!(start.elapsed() < LIMIT, "signals stay blocked");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    assert_eq!(mask(&own), before);
    drop((engine, stays));
}
