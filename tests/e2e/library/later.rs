//! Requests that come after others, or beside them: what earlier ones have left must not count for
//! them.

use super::*;

/// Tells of each exit of a builder.
struct Exits(Sender<String>);

impl Reporter for Exits {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Exited { build, .. } = event {
            self.0.send(build.name.to_owned()).ok();
        }
    }
}

#[test]
fn a_limit_holds_beside_a_request_without_one() {
    let place = Place::new();
    let engine = place.engine();
    for nth in 0..2 {
        let name = format!("hurried-{nth}");
        let pid = format!("{name}.pid");
        let hurried = graph([(&*name, place.stays(&pid))]);
        let hurried = hurried.timeout(Duration::from_secs(1), Duration::ZERO);
        let hurried = engine.submit(hurried).unwrap();
        let wait = format!("while [ ! -e go-{nth} ]; do sleep 0.01; done; echo > $out");
        let patient = engine
            .submit(graph([("patient", place.sh(&wait))]))
            .unwrap();
        let hurried = hurried.wait().unwrap();
        let (_, failure) = hurried.failures().next().expect("a timeout");
        assert_eq!(failure.kind, windrow::FailureKind::TimedOut);
        std::fs::write(place.at(&format!("go-{nth}")), "").unwrap();
        assert!(patient.wait().unwrap().is_success());
    }
}

#[test]
fn what_failed_for_an_earlier_request_is_no_cause() {
    let place = Place::new();
    let engine = place.engine();
    let flaky: Vec<String> = (0..8).map(|nth| format!("flaky-{nth}")).collect();
    let one = || {
        let inputs: String = flaky.iter().map(|name| format!("@{{{name}}} ")).collect();
        let above = place.sh(&format!(": @{{worse}} {inputs} > $out"));
        let flaky = flaky.iter().map(|name| {
            let script = format!("[ -e there ] && echo {name} > $out");
            (&**name, place.sh(&script))
        });
        let wanted = graph(flaky.chain([("worse", place.sh("exit 1")), ("above", above)]));
        engine
            .submit(wanted.keep_going(true))
            .unwrap()
            .wait()
            .unwrap()
    };
    assert_eq!(one().failures().count(), 9);
    std::fs::write(place.at("there"), "").unwrap();
    let outcome = one();
    assert_eq!(outcome.failures().count(), 1);
    let because = |verdict: &Verdict| matches!(verdict, Verdict::NotBuilt { because_of } if because_of.ends_with("-worse.drv"));
    assert!(
        outcome.asked_for().any(|it| because(&it.verdict)),
        "{outcome:?}"
    );
}

#[test]
fn a_check_compares_what_was_just_given_up() {
    let place = Place::new();
    let engine = place.engine();
    let script = "echo x >> runs; echo $$ > $out; truncate -s 200M $out";
    let random = || graph([("random", place.sh(script))]);
    let (exits, heard) = channel();
    let first = engine.submit(random().reporter(Exits(exits))).unwrap();
    assert_eq!(heard.recv_timeout(LIMIT).unwrap(), "random");
    // It is being scanned, and ends well nevertheless.
    first.cancel();
    let check = engine.submit(random().check()).unwrap().wait().unwrap();
    assert_eq!(first.wait().unwrap().end, RequestEnd::Cancelled);
    let (_, failure) = check.failures().next().expect("a difference");
    assert_ne!(text(place.at("runs")), "x\n", "{}", failure.message);
}

#[test]
fn a_request_has_the_outputs_that_it_asked_for() {
    let place = Place::new();
    let mut two = place.sh("echo o > $out; echo d > $dev");
    two["outputs"] = json!(["out", "dev"]);
    let engine = place.engine();
    let one = |request: Request| engine.submit(request).unwrap().wait().unwrap();
    let drv = one(graph([("two", two)])).results[0].path.clone();
    let all = one(Request::new().target(&*drv));
    assert_eq!(all.outputs().count(), 2);
    let dev = one(Request::new().target(format!("{drv}^dev")));
    let [dev] = dev.outputs().collect::<Vec<_>>()[..] else {
        panic!("{dev:?}")
    };
    assert!(dev.ends_with("-two-dev"), "{dev}");
}

#[test]
fn an_engine_that_can_do_nothing_more_leaves_nothing() {
    use std::os::unix::fs::FileExt as _;
    let place = Place::new();
    let engine = place.engine();
    let stays = engine.submit(graph([("stays", place.stays("stays.pid"))]));
    let waits = place.sh("echo > waits; while [ ! -e go ]; do sleep 0.01; done; echo > $out");
    let waits = engine.submit(graph([("waits", waits)])).unwrap();
    for name in ["stays.pid", "waits"] {
        place.wait_for(name);
    }
    for name in ["db.sqlite", "db.sqlite-wal"] {
        let file = place.at("nix/state/db").join(name);
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.write_all_at(&[0xff; 1 << 15], 0).unwrap();
    }
    std::fs::write(place.at("go"), "").unwrap();
    let error = waits.wait().unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(!place.lives("stays.pid"));
    assert!(stays.unwrap().wait().is_err());
    let one = engine.submit(graph([("one", place.sh("echo > $out"))]));
    assert!(one.is_err() || one.unwrap().wait().is_err());
}
