//! Interruption: children die, nothing is registered by halves, and the next run finds a store in
//! order. Signals go to windrow alone, as a supervisor would send them.

use std::fs;

use crate::harness::{
    Ran, Running, World, graph_of, runs_until_go, sh, sorted_lines, step, text, wait_until,
};

/// Starts two builders that sleep, and a third after them; sends the signal once both run.
fn interrupted(world: &World, signal: &str, trap: &str) -> Ran {
    let sleeper = |name: &str| {
        let script = format!(
            "{trap} mkdir $out; echo half > $out/half; echo litter > litter; sleep 300 & : > {}; [ -e {} ] || wait",
            world.file(name).display(),
            world.file("go").display()
        );
        sh(&format!("{script}; echo whole > $out/whole"))
    };
    let log = world.file("runs");
    let graph = graph_of([
        ("early", step("early", &log, &[])),
        ("one", sleeper("one-runs")),
        (
            "two",
            sh(&format!(
                ": @{{early}}\n{}",
                sleeper("two-runs")["args"][1].as_str().unwrap()
            )),
        ),
        (
            "late",
            sh(&format!(
                "ls @{{one}} @{{two}} >> $out; echo late >> {}",
                log.display()
            )),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    let running = world.windrow("build").arg(file).arg("-j2").start();
    world.wait_for("one-runs");
    world.wait_for("two-runs");
    running.signal(signal);
    running.wait()
}

fn check(signal: &str, status: i32) {
    let world = World::new();
    interrupted(&world, signal, "")
        .exits(status)
        .prints_nothing()
        .no_panic();
    world.is_clean();
    world.stays_valid();
    let valid: Vec<_> = world
        .store_entries()
        .into_iter()
        .filter(|path| world.is_valid(path))
        .collect();
    let outputs: Vec<_> = valid
        .iter()
        .filter(|path| path.extension().is_none_or(|end| end != "drv"))
        .collect();
    assert_eq!(
        outputs.len(),
        1,
        "only what was built before is valid: {outputs:?}"
    );
    // What is left in the store is no obstacle to the next run.
    world.write("go", "");
    let out = world.windrow("build").arg(world.file("g.json")).ok().path();
    assert_eq!(text(out).matches("whole").count(), 2);
    assert_eq!(sorted_lines(world.file("runs")), ["early", "late"]);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn by_control_c() {
    check("INT", 130);
}

#[test]
fn by_a_request_to_terminate() {
    check("TERM", 143);
}

#[test]
fn by_a_terminal_that_goes_away() {
    check("HUP", 129);
}

#[test]
fn builders_that_ignore_signals_die_too() {
    let world = World::new();
    interrupted(&world, "TERM", "trap '' INT TERM HUP;").exits(143);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn two_signals_in_a_row_are_one_interruption() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh(&format!(": > {}; sleep 300", world.file("runs").display())),
    );
    let running = world.windrow("build").arg(drv).start();
    world.wait_for("runs");
    running.signal("INT");
    running.signal("INT");
    running.wait().exits(130);
    world.is_clean();
}

#[test]
fn a_killed_windrow_leaves_a_store_that_works() {
    let world = World::new();
    let go = world.file("go");
    let script = format!(
        ": > {}; [ -e {} ] || sleep 300; mkdir $out",
        world.file("runs").display(),
        go.display()
    );
    let drv = world.add_one("x", sh(&script));
    let running = world.windrow("build").arg(&drv).start();
    world.wait_for("runs");
    running.signal("KILL");
    assert_eq!(running.wait().status.code(), None);
    world.stays_valid();
    world.write("go", "");
    let mut next = world.windrow("build").arg(&drv).start();
    wait_until("the next run ends", || !next.is_running());
    assert!(next.wait().exits(0).path().is_dir());
    world.stays_valid();
}

#[test]
fn while_it_waits_for_the_lock_of_another() {
    let world = World::new();
    let script = format!(
        "echo x >> {}; while [ ! -e {} ]; do sleep 0.05; done; echo x > $out",
        world.file("runs").display(),
        world.file("go").display()
    );
    let drv = world.add_one("x", sh(&script));
    let first = world.windrow("build").arg(&drv).start();
    world.wait_for("runs");
    let second = world.windrow("build").arg(&drv).start();
    wait_until("the second one is at work", || {
        fs::read_dir(world.state().join("temproots")).is_ok_and(|roots| roots.count() == 2)
    });
    // Its roots are there before it heeds signals; a moment later it waits for the lock.
    std::thread::sleep(std::time::Duration::from_millis(500));
    second.signal("INT");
    second.wait().exits(130).prints_nothing();
    world.write("go", "");
    first.wait().exits(0);
    assert_eq!(sorted_lines(world.file("runs")), ["x"]);
    world.is_clean();
}

/// Two builders, one after the other in one slot; the first says that it runs and ends when it may.
fn one_after_the_other(world: &World) -> Running {
    let script = format!(
        "PATH=/bin:/usr/bin; echo x >> {}; until [ -e {} ]; do sleep 0.05; done; echo > $out",
        world.file("runs").display(),
        world.file("go").display()
    );
    let graph = graph_of([("one", sh(&script)), ("two", sh(&format!(": ; {script}")))]);
    let file = world.graph("g.json", &graph);
    let cmd = world.windrow("build").arg(file);
    let running = cmd.args(["-j1", "--finish-running"]).start();
    world.wait_for("runs");
    running.signal("INT");
    // It has come when the second one does.
    std::thread::sleep(std::time::Duration::from_millis(500));
    running
}

#[test]
fn what_runs_may_end_if_that_is_asked_for() {
    let world = World::new();
    let mut running = one_after_the_other(&world);
    assert!(running.is_running());
    world.write("go", "");
    let ran = running.wait().exits(130).prints_nothing();
    ran.says("waiting for the build that runs to end")
        .says("interrupted by the user");
    assert_eq!(sorted_lines(world.file("runs")), ["x"]);
    let valid = world
        .store_entries()
        .into_iter()
        .filter(|path| world.is_valid(path));
    let is_output = |path: &std::path::PathBuf| path.extension().is_none_or(|end| end != "drv");
    assert_eq!(valid.filter(is_output).count(), 1);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn the_last_build_that_ends_so_is_a_success() {
    let world = World::new();
    let drv = world.add_one("x", runs_until_go(&world));
    let cmd = world
        .windrow("nix-store")
        .args(["-r", &drv, "--finish-running"]);
    let running = cmd.start();
    world.wait_for("runs");
    running.signal("TERM");
    std::thread::sleep(std::time::Duration::from_millis(500));
    world.write("go", "");
    running.wait().exits(0);
    world.is_clean();
}

#[test]
fn a_second_signal_kills_what_was_to_end() {
    let world = World::new();
    let running = one_after_the_other(&world);
    running.signal("INT");
    running.wait().exits(130).prints_nothing();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_trace_says_for_how_long_a_killed_builder_ran() {
    let world = World::new();
    let script = format!(
        "PATH=/bin:/usr/bin; : > {}; sleep 300",
        world.file("runs").display()
    );
    let drv = world.add_one("x", sh(&script));
    let trace = world.file("trace.json");
    let cmd = world.windrow("build").arg(&drv).arg("--trace").arg(&trace);
    let running = cmd.start();
    world.wait_for("runs");
    std::thread::sleep(std::time::Duration::from_secs(1));
    running.signal("INT");
    running.wait().exits(130);
    let events: serde_json::Value = serde_json::from_str(&text(&trace)).unwrap();
    let spans = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["ph"] == "X");
    let spans: Vec<_> = spans.collect();
    assert_eq!(spans.len(), 1, "{events}");
    assert!(spans[0]["dur"].as_u64().unwrap() >= 1_000_000, "{events}");
}
