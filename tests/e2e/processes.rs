//! When a build counts as ended, and that nothing it started outlives it.
//! Interruption of windrow itself is in interrupt.rs.

use crate::harness::{World, sh, text};

/// Builds a derivation, whose output's text it gives, and expects nothing to be left.
#[track_caller]
fn built(script: &str) -> String {
    let world = World::new();
    let drv = world.add_one("x", sh(script));
    let out = world.windrow("build").arg(&drv).ok().path();
    world.is_clean();
    world.stays_valid();
    text(out)
}

#[test]
fn a_process_left_in_the_background_is_killed() {
    assert_eq!(
        built("sleep 300 </dev/null >/dev/null 2>&1 & echo done > $out"),
        "done\n"
    );
}

#[test]
fn a_child_that_keeps_the_log_open_does_not_stall_the_build() {
    assert_eq!(built("sleep 300 & echo done > $out"), "done\n");
}

#[test]
fn a_child_that_goes_on_writing_does_not_stall_the_build() {
    assert_eq!(
        built("(while :; do echo noise; sleep 0.01; done) & echo done > $out"),
        "done\n"
    );
}

#[test]
fn a_builder_that_closes_its_output_may_go_on() {
    assert_eq!(
        built("exec >&- 2>&-; sleep 0.5; echo late > $out"),
        "late\n"
    );
}

#[test]
fn a_failure_after_the_output_was_closed_is_a_failure() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("exec >&- 2>&-; sleep 0.2; echo late > $out; exit 6"),
    );
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(100)
        .says("exit code 6");
    world.is_clean();
}

#[test]
fn processes_of_a_failed_build_are_killed() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("sleep 300 & (trap '' TERM INT HUP; sleep 301) & exit 1"),
    );
    world.windrow("build").arg(&drv).run().exits(100);
    world.is_clean();
}

#[test]
fn all_that_was_written_before_the_end_is_in_the_log() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("sleep 300 & head -c 300000 /dev/zero | tr '\\0' y; echo > $out"),
    );
    world.windrow("build").arg(&drv).ok();
    assert_eq!(world.windrow("log").arg(&drv).ok().stdout.len(), 300_000);
    world.is_clean();
}
