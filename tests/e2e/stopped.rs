//! The engine is stopped for a while and goes on: by a signal, or with all its cgroup. What has
//! happened is heard before time is judged, and the time in between is nobody's silence.

use std::time::Duration;

use crate::harness::{Running, World, sh};

/// Longer than what it may take anybody in these tests to say something.
const PAUSE: Duration = Duration::from_secs(4);

fn pause(running: &Running) {
    running.signal("STOP");
    std::thread::sleep(PAUSE);
    running.signal("CONT");
}

/// A builder that says when it runs, writes twice a second, and ends a while after it may.
fn talker(world: &World) -> String {
    let (runs, go) = (world.file("runs"), world.file("go"));
    let script = format!(
        "PATH=/bin:/usr/bin; : > {}; until [ -e {} ]; do echo here; sleep 0.5; done; sleep 1; echo > $out",
        runs.display(),
        go.display()
    );
    world.add_one("x", sh(&script))
}

#[test]
fn a_builder_that_wrote_was_not_silent() {
    let world = World::new();
    let drv = talker(&world);
    let cmd = world.windrow("build").arg(&drv);
    let running = cmd.args(["--max-silent-time", "2"]).start();
    world.wait_for("runs");
    for _ in 0..2 {
        pause(&running);
        std::thread::sleep(Duration::from_millis(300));
    }
    world.write("go", "");
    running.wait().exits(0);
    world.is_clean();
}

#[test]
fn a_builder_that_could_not_write_was_not_silent_either() {
    let world = World::new();
    let runs = world.file("runs");
    // It is stopped together with the engine, as a frozen container is.
    let script = format!(
        "PATH=/bin:/usr/bin; echo $$ > {0}.new; mv {0}.new {0}; sleep 1.2; echo here; sleep 1.2; echo > $out",
        runs.display()
    );
    let drv = world.add_one("x", sh(&script));
    let cmd = world.windrow("build").arg(&drv);
    let running = cmd.args(["--max-silent-time", "2"]).start();
    world.wait_for("runs");
    let builder = crate::harness::text(&runs);
    let signal_builder = |name: &str| {
        let line = format!("kill -{name} -{}", builder.trim());
        world.program("/bin/sh").args(["-c", &line]).ok();
    };
    running.signal("STOP");
    signal_builder("STOP");
    std::thread::sleep(PAUSE);
    signal_builder("CONT");
    running.signal("CONT");
    running.wait().exits(0);
}

#[test]
fn the_pause_is_no_part_of_the_time_that_a_build_may_take() {
    let world = World::new();
    let drv = talker(&world);
    let cmd = world.windrow("build").arg(&drv).args(["--timeout", "3"]);
    let running = cmd.start();
    world.wait_for("runs");
    pause(&running);
    world.write("go", "");
    running.wait().exits(0);
}

#[test]
fn a_builder_that_is_silent_afterwards_is_killed_nevertheless() {
    let world = World::new();
    let runs = world.file("runs");
    let script = format!("PATH=/bin:/usr/bin; : > {}; sleep 300", runs.display());
    let drv = world.add_one("x", sh(&script));
    let cmd = world.windrow("build").arg(&drv);
    let running = cmd.args(["--max-silent-time", "2"]).start();
    world.wait_for("runs");
    pause(&running);
    running.wait().exits(101).says("2 seconds of silence");
    world.is_clean();
}

#[test]
fn a_hook_that_answered_is_not_given_up() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let asked = world.file("asked");
    let hook = world.script(
        "hook",
        &format!(
            "read -r line; : > {}; sleep 1; echo '# decline' >&2; read -r line",
            asked.display()
        ),
    );
    let cmd = world.windrow("build").env("NIX_BUILD_HOOK", hook);
    let running = cmd.arg(&drv).args(["--max-silent-time", "3"]).start();
    world.wait_for("asked");
    pause(&running);
    let ran = running.wait().exits(0);
    ran.never_says("failed");
}

#[test]
fn a_substituter_that_answered_is_not_given_up() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let asked = world.file("asked");
    let program = world.script(
        "substituter",
        &format!(
            "echo; while read -r line; do : > {}; sleep 1; echo; done",
            asked.display()
        ),
    );
    let cmd = world.windrow("build").env("NIX_SUBSTITUTERS", program);
    let options = [
        "--option",
        "substitute",
        "true",
        "--option",
        "stalled-download-timeout",
        "3",
    ];
    let running = cmd.arg(&drv).args(options).start();
    world.wait_for("asked");
    pause(&running);
    let ran = running.wait().exits(0);
    ran.never_says("said nothing");
}
