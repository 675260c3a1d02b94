//! Failures that are remembered: which ones, what they do to later runs, and how they are listed
//! and forgotten. The exit status of each kind of failure is in failure.rs.

use serde_json::json;

use crate::harness::{Cmd, World, graph_of, sh, sh_with, sorted_lines};

/// A build that remembers failures.
fn build(world: &World, drv: &str) -> Cmd {
    let cmd = world.windrow("build").arg(drv);
    cmd.args([
        "--print-build-trace",
        "--option",
        "build-cache-failure",
        "true",
    ])
}

fn failed_paths(world: &World, args: &[&str]) -> Vec<String> {
    world.windrow("failed-paths").args(args).ok().lines()
}

/// A builder that notes each run and fails.
fn failing(world: &World) -> serde_json::Value {
    let log = world.file("runs");
    sh_with(
        &format!("echo run >> {}; exit 3", log.display()),
        json!({"outputs": ["out", "dev"]}),
    )
}

#[test]
fn a_failure_is_remembered_until_it_is_cleared() {
    let world = World::new();
    assert!(failed_paths(&world, &[]).is_empty(), "no store at all");
    let graph = graph_of([("x", failing(&world)), ("top", sh("cat @{x} > $out"))]);
    let top = world.add(&graph);
    let runs = || sorted_lines(world.file("runs")).len();
    // Without the setting nothing is remembered.
    world.windrow("build").arg(&top).run().exits(100);
    assert!(failed_paths(&world, &[]).is_empty());
    let ran = build(&world, &top).run().exits(100);
    ran.says("-x.drv - 1 builder").never_says("previously");
    assert_eq!(runs(), 2);
    let known = failed_paths(&world, &[]);
    assert_eq!(known.len(), 2, "both outputs of x, none of top: {known:?}");
    assert!(
        known.iter().any(|path| path.ends_with("-x-dev")),
        "{known:?}"
    );

    let ran = build(&world, &top).run().exits(100).prints_nothing();
    let ran = ran
        .says("failed previously (cached)")
        .never_says("build-started");
    assert!(
        ran.stderr
            .lines()
            .any(|line| line.starts_with("@ build-failed ") && line.ends_with("-x.drv - cached"))
    );
    assert_eq!(runs(), 2, "it is not tried again");
    // Who does not ask for it is not held up by it.
    world.windrow("build").arg(&top).run().exits(100);
    assert_eq!(runs(), 3);

    assert_eq!(failed_paths(&world, &[&known[0]]), known[..1]);
    assert!(failed_paths(&world, &["--clear", &known[0]]).is_empty());
    assert_eq!(failed_paths(&world, &[]), known[1..]);
    build(&world, &top).run().exits(100).says("previously");
    let x = ran_drv(&ran);
    assert_eq!(
        failed_paths(&world, &[&x]),
        known[1..],
        "a derivation stands for its outputs"
    );
    failed_paths(&world, &["--clear", &x]);
    assert!(failed_paths(&world, &[]).is_empty());
    build(&world, &top)
        .run()
        .exits(100)
        .never_says("previously");
    assert_eq!(runs(), 4);
    failed_paths(&world, &["--clear"]);
    assert!(failed_paths(&world, &[]).is_empty());
    world.is_clean();
    world.stays_valid();
}

/// The derivation that a trace says has failed.
fn ran_drv(ran: &crate::harness::Ran) -> String {
    let mut lines = ran.stderr.lines();
    let line = lines.find(|line| line.starts_with("@ build-failed "));
    line.and_then(|line| line.split(' ').nth(2))
        .expect("a path")
        .to_owned()
}

#[test]
fn outputs_that_cannot_be_accepted_are_remembered() {
    for script in ["true", "echo > $out; chmod 666 $out", "mkfifo -m 644 $out"] {
        let world = World::new();
        let drv = world.add_one("x", sh(script));
        build(&world, &drv).run().exits(1);
        build(&world, &drv).run().exits(100).says("previously");
    }
}

#[test]
fn what_may_go_better_another_time_is_not_remembered() {
    let world = World::new();
    let fixed = json!({"outputHash": "0".repeat(64), "outputHashAlgo": "sha256"});
    let graph = graph_of([
        ("fails", sh_with("exit 3", fixed.clone())),
        ("differs", sh_with("echo > $out", fixed.clone())),
        ("lacks", sh_with("true", fixed)),
        ("slow", sh("sleep 300")),
        (
            "foreign",
            sh_with("echo > $out", json!({"system": "mips64-plan9"})),
        ),
        (
            "top",
            sh(": @{fails} @{differs} @{lacks} @{slow} @{foreign}"),
        ),
    ]);
    let top = world.add(&graph);
    let slow = ["-k", "-j5", "--timeout", "1"];
    build(&world, &top).args(slow).run().exits(103);
    assert!(failed_paths(&world, &[]).is_empty());
}

#[test]
fn a_failure_of_another_run_counts_once_its_lock_is_free() {
    let world = World::new();
    let (runs, go) = (world.file("runs"), world.file("go"));
    let wait = format!(
        "echo run >> {}; until [ -e {} ]; do sleep 0.02; done; exit 3",
        runs.display(),
        go.display()
    );
    let drv = world.add_one("x", sh(&wait));
    let first = build(&world, &drv).start();
    world.wait_for("runs");
    let mut second = build(&world, &drv).start();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(second.is_running());
    world.write("go", "");
    first.wait().exits(100).never_says("previously");
    second.wait().exits(100).says("previously");
    assert_eq!(sorted_lines(runs).len(), 1, "it was tried once");
    world.is_clean();
}
