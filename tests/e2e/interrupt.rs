//! Interruption: children die, nothing is registered by halves, and the next run finds a store in
//! order. Signals go to windrow alone, as a supervisor would send them.

use std::fs;

use crate::harness::{Ran, World, graph_of, sh, sorted_lines, step, text, wait_until};

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
