//! Nix, windrow and the collector on one store at one moment: nothing is built twice, nothing
//! needed goes. Builders note their names outside the store, so that a second run of one shows.

use crate::harness::{
    Cmd, TOO_DEEP, World, graph_of, need, sh, sorted_lines, step, text, wait_until,
};
use crate::real_nix::rich_expression;

/// Runs the two on the same graph at once, and expects each derivation to have been built once.
#[track_caller]
fn together(world: &World, first: Cmd, second: Cmd, runs: usize) {
    let (first, second) = (first.start(), second.start());
    let (first, second) = (first.wait().exits(0), second.wait().exits(0));
    assert_eq!(first.lines(), second.lines(), "{first}{second}");
    let log = sorted_lines(world.file("runs"));
    let mut once = log.clone();
    once.dedup();
    assert_eq!(log, once, "something was built twice\n{first}{second}");
    assert_eq!(log.len(), runs, "{log:?}");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn nix_and_windrow_at_the_same_moment() {
    need!("nix-store", "nix-instantiate", "nix-hash");
    let world = World::new();
    let drv = world.instantiate(&rich_expression(&world)).remove(0);
    together(
        &world,
        nix(&world, &drv).arg("-j2"),
        windrow(&world, &drv).arg("-j2"),
        18,
    );
}

#[test]
fn two_windrows_at_the_same_moment() {
    let world = World::new();
    let log = world.file("runs");
    let names: Vec<String> = (0..40).map(|i| format!("n{i}")).collect();
    let node = |i: usize| {
        let needs: Vec<&str> = [8, 9, 11]
            .iter()
            .filter_map(|back| Some(names[i.checked_sub(*back)?].as_str()))
            .collect();
        let mut node = step(&names[i], &log, &needs);
        let script = format!("{}\nsleep 0.01", node["args"][1].as_str().unwrap());
        node["args"][1] = script.into();
        (names[i].as_str(), node)
    };
    let file = world.graph("g.json", &graph_of((0..40).map(node)));
    let windrow = || world.windrow("build").arg(&file).arg("-j2");
    together(&world, windrow(), windrow(), 40);
}

#[test]
fn two_windrows_on_a_store_that_does_not_exist_yet() {
    for _ in 0..5 {
        let world = World::new();
        let file = world.graph(
            "g.json",
            &graph_of([("x", step("x", &world.file("runs"), &[]))]),
        );
        let windrow = || world.windrow("build").arg(&file);
        together(&world, windrow(), windrow(), 1);
    }
}

/// Starts the second while the first builds; expects it to wait and then to use what the first
/// made.
fn waits(first: impl Fn(&World, &str) -> Cmd, second: impl Fn(&World, &str) -> Cmd) {
    let world = World::new();
    let script = format!(
        "echo x >> {}; while [ ! -e {} ]; do sleep 0.05; done; echo x > $out",
        world.file("runs").display(),
        world.file("go").display()
    );
    let drv = world.add_one("x", sh(&script));
    let first = first(&world, &drv).start();
    world.wait_for("runs");
    let mut second = second(&world, &drv).start();
    wait_until("the second one is at work", || {
        let roots = std::fs::read_dir(world.state().join("temproots"));
        !second.is_running() || roots.is_ok_and(|roots| roots.count() == 2)
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(second.is_running(), "it must wait");
    world.write("go", "");
    let (first, second) = (first.wait().exits(0), second.wait().exits(0));
    assert_eq!(first.line(), second.line());
    assert_eq!(sorted_lines(world.file("runs")), ["x"], "{first}{second}");
    world.is_clean();
    world.stays_valid();
}

fn windrow(world: &World, drv: &str) -> Cmd {
    world.windrow("build").arg(drv)
}

/// Nix looks at foreign locks every five seconds unless told otherwise.
fn nix(world: &World, drv: &str) -> Cmd {
    let often = ["--option", "build-poll-interval", "1"];
    world
        .program("nix-store")
        .arg("--realise")
        .args(often)
        .arg(drv)
}

#[test]
fn a_windrow_waits_for_the_lock_of_another() {
    waits(windrow, windrow);
}

#[test]
fn a_windrow_waits_for_nix() {
    need!(nix);
    waits(nix, windrow);
}

#[test]
fn nix_waits_for_a_windrow() {
    need!(nix);
    waits(windrow, nix);
}

#[test]
fn a_collection_in_the_middle_of_a_build_deletes_nothing_it_needs() {
    need!(nix);
    let world = World::new();
    let go = world.file("go");
    let wait = format!(
        ": > {}; while [ ! -e {} ]; do sleep 0.05; done",
        world.file("runs").display(),
        go.display()
    );
    world.write("source", "source\n");
    let mut graph = graph_of([
        ("low", sh("echo low > $out")),
        (
            "mid",
            sh(&format!("mkdir $out; {wait}; cat @{{low}} > $out/low")),
        ),
        ("side", sh("echo side > $out")),
        ("top", sh("cat @{mid}/low @{side} @{source} > $out")),
    ]);
    graph["sources"] = serde_json::json!({"source": "source"});
    let rubbish = world.add_one("rubbish", sh("echo rubbish > $out"));
    let rubbish_out = world.windrow("build").arg(&rubbish).ok().path();
    let file = world.graph("g.json", &graph);
    let running = world.windrow("build").arg(file).arg("-j1").start();
    world.wait_for("runs");
    for _ in 0..3 {
        world.program("nix-store").arg("--gc").ok();
    }
    assert!(!rubbish_out.exists(), "the collection does collect");
    std::fs::write(&go, "").unwrap();
    let out = running.wait().exits(0).path();
    assert_eq!(text(out), "low\nside\nsource\n");
    world.is_clean();
    world.verifies();
}

#[test]
fn collections_all_through_a_build() {
    need!(nix);
    let world = World::new();
    let log = world.file("runs");
    let names: Vec<String> = (0..60).map(|i| format!("n{i}")).collect();
    let node = |i: usize| {
        let needs: Vec<&str> = [10, 13, 17]
            .iter()
            .filter_map(|back| Some(names[i.checked_sub(*back)?].as_str()))
            .collect();
        (names[i].as_str(), step(&names[i], &log, &needs))
    };
    let graph = graph_of((0..60).map(node));
    let drvs = {
        let file = world.graph("g.json", &graph);
        world.windrow("add").arg(file).ok().lines()
    };
    // Collections before windrow has its roots would take the .drv files, rightly; so these get a
    // root.
    for (number, drv) in drvs.iter().enumerate() {
        std::os::unix::fs::symlink(drv, world.state().join(format!("gcroots/drv{number}")))
            .unwrap();
    }
    let mut running = world.windrow("build").args(&drvs).arg("-j2").start();
    let mut collections = 0;
    while running.is_running() {
        world.program("nix-store").arg("--gc").ok();
        collections += 1;
    }
    let outs = running.wait().exits(0).lines();
    assert!(collections > 0);
    assert_eq!(outs.len(), drvs.len());
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(
        sorted_lines(&log),
        expected,
        "nothing was collected and built again"
    );
    world.is_clean();
    world.verifies();
}

#[test]
fn a_build_started_during_a_collection() {
    need!(nix);
    let world = World::new();
    let log = world.file("runs");
    let drv = world.add_one("x", step("x", &log, &[]));
    let dir = world.state().join("gcroots");
    std::os::unix::fs::symlink(&drv, dir.join("drv")).unwrap();
    // Unregistered rubbish keeps the collector busy for a while.
    for number in 0..300 {
        let dead = world.store().join(format!("{number:032}-dead"));
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join("f"), "x").unwrap();
    }
    let mut collector = world.program("nix-store").arg("--gc").start();
    wait_until("the collection is under way", || {
        let lock = std::fs::File::open(world.state().join("gc.lock"));
        lock.is_ok_and(|lock| lock.try_lock().is_err()) || !collector.is_running()
    });
    let out = world.windrow("build").arg(&drv).ok().line();
    let collected = collector.wait();
    if !collected.stderr.contains(TOO_DEEP) {
        collected.exits(0);
    }
    assert_eq!(text(&out), "x\n");
    world.is_clean();
    world.verifies();
}
