//! When what is built becomes valid: soon, although builds are registered together, and whatever
//! ends the run.

use crate::harness::{World, graph_of, sh, wait_until};

/// Two builders of "x", "y" and "z" run and a third is ready when "a" is complete, so that nobody
/// waits for it.
fn with_a_complete_beside_two(world: &World, three: &str) -> std::path::PathBuf {
    let file = |name: &str| world.file(name).display().to_string();
    let one_runs = file("one-runs");
    let node = |name: &str| sh(&format!(": {name} @{{b}}\n: > {one_runs}\n{three}"));
    let patient = format!("until [ -e {one_runs} ]; do sleep 0.01; done; echo a > $out");
    let graph = graph_of([
        ("a", sh(&patient)),
        ("b", sh("echo b > $out")),
        ("x", node("x")),
        ("y", node("y")),
        ("z", node("z")),
    ]);
    world.graph("g.json", &graph)
}

fn is_a_valid(world: &World) -> bool {
    let entries = world.store_entries();
    let a = entries
        .iter()
        .find(|path| path.to_string_lossy().ends_with("-a"));
    a.is_some_and(|path| world.is_valid(path))
}

#[test]
fn what_nobody_waits_for_is_valid_long_before_the_next_build_ends() {
    let world = World::new();
    let go = world.file("go").display().to_string();
    let three = format!("until [ -e {go} ]; do sleep 0.01; done; echo > $out");
    let file = with_a_complete_beside_two(&world, &three);
    let running = world.windrow("build").arg(file).arg("-j2").start();
    // The others go on only when it is.
    wait_until("'a' is valid", || is_a_valid(&world));
    world.write("go", "");
    running.wait().exits(0).no_panic();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_is_complete_when_a_failure_ends_the_run_is_valid() {
    let world = World::new();
    let first = world.file("first").display().to_string();
    let three = format!("if mkdir {first}; then sleep 300; fi; exit 1");
    let file = with_a_complete_beside_two(&world, &three);
    let running = world.windrow("build").arg(file).arg("-j2").start();
    running.wait().exits(100).no_panic();
    assert!(is_a_valid(&world));
    world.is_clean();
    world.stays_valid();
}
