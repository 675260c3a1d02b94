//! When a build counts as ended, and that nothing it started outlives it.
//! Interruption of windrow itself is in interrupt.rs.

use crate::harness::{World, graph_of, need, sh, text};

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

/// Builds a derivation that leaves a process which has gone to a session of its own, where no
/// signal to the builder's group reaches it, and which the test ends.
#[track_caller]
fn leaves_a_daemon(daemon: &str, rest: &str, args: &[&str]) -> crate::harness::Ran {
    let world = World::new();
    let pid = world.file("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}; {daemon}' & while [ ! -s {0} ]; do sleep 0.01; done; {rest}",
        pid.display()
    );
    let drv = world.add_one("x", sh(&script));
    let ran = world.windrow("build").arg(&drv).args(args).run();
    let pid = text(pid);
    world
        .program("sh")
        .args(["-c", &format!("kill -9 {} 2>/dev/null || true", pid.trim())])
        .ok();
    world.is_clean();
    world.stays_valid();
    ran
}

#[test]
fn a_daemon_that_keeps_the_log_open_does_not_stall_the_build() {
    need!("setsid");
    leaves_a_daemon("exec sleep 300", "echo done > $out", &[]).exits(0);
    leaves_a_daemon("exec sleep 300", "exit 4", &[])
        .exits(100)
        .says("exit code 4");
}

#[test]
fn a_daemon_that_goes_on_writing_does_not_stall_the_build() {
    need!("setsid");
    leaves_a_daemon(
        "while :; do echo noise; sleep 0.01; done",
        "echo done > $out",
        &[],
    )
    .exits(0);
    leaves_a_daemon("exec yes", "echo done > $out", &[]).exits(0);
}

#[test]
fn a_daemon_does_not_keep_a_build_from_timing_out() {
    need!("setsid");
    let ran = leaves_a_daemon("exec sleep 300", "sleep 300", &["--timeout", "1"]);
    ran.exits(101).says("timed out after 1 second");
    let ran = leaves_a_daemon("exec sleep 300", "sleep 300", &["--max-silent-time", "1"]);
    ran.exits(101).says("of silence");
}

#[test]
fn what_a_builder_leaves_running_does_not_make_it_time_out() {
    // Its end counts, not that of the log, which comes a second later.
    let world = World::new();
    let drv = world.add_one("x", sh("sleep 300 & sleep 0.5; echo done > $out"));
    world
        .windrow("build")
        .arg(&drv)
        .args(["--timeout", "1", "--max-silent-time", "1"])
        .ok();
    world.is_clean();
}

#[test]
fn other_builds_go_on_while_one_is_looked_after() {
    let world = World::new();
    let flag = world.file("flag");
    let graph = crate::harness::graph_of([
        (
            "closed",
            sh(&format!(
                "exec >&- 2>&-; while [ ! -e {} ]; do sleep 0.01; done; echo > $out",
                flag.display()
            )),
        ),
        ("held", sh("sleep 300 & echo > $out")),
        (
            "after",
            sh(&format!(
                ": @{{held}}; echo > {}; echo > $out",
                flag.display()
            )),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    world.windrow("build").arg(file).arg("-j2").ok();
    world.is_clean();
}

#[test]
fn a_builder_that_closes_its_output_is_killed_when_it_takes_too_long() {
    let world = World::new();
    let drv = world.add_one("x", sh("exec >&- 2>&-; sleep 300; echo > $out"));
    for (option, says) in [
        ("--timeout", "after 1 second"),
        ("--max-silent-time", "of silence"),
    ] {
        let ran = world
            .windrow("build")
            .arg(&drv)
            .args([option, "1"])
            .run()
            .exits(101);
        ran.says(says);
        world.is_clean();
    }
}

#[test]
fn a_builder_that_stops_itself_is_killed_when_it_takes_too_long() {
    let world = World::new();
    let drv = world.add_one("x", sh("kill -STOP $$; echo > $out"));
    world
        .windrow("build")
        .arg(&drv)
        .args(["--timeout", "1"])
        .run()
        .exits(101);
    world.is_clean();
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

#[test]
fn a_process_made_in_advance_that_is_killed_fails_no_build() {
    let world = World::new();
    // Kills what waits for its program beside this builder, as the kernel may for want of memory.
    let kill = "killed=; while [ -z \"$killed\" ]; do for p in $(cat /proc/$PPID/task/*/children); do \
                case $p:$(cat /proc/$p/comm) in $$:*|*:builder-guard|*:) ;; \
                *) kill -9 $p && killed=$p ;; esac; done; done; \
                while [ -e /proc/$killed ] && ! grep -q '^State:.*Z' /proc/$killed/status; do :; done; \
                echo x > $out";
    let mut next = sh("echo y > $out");
    next["inputs"] = serde_json::json!(["first"]);
    let graph = graph_of([("first", sh(kill)), ("next", next)]);
    let graph = world.graph("graph.json", &graph);
    let ran = world.windrow("build").arg(&graph).args(["-j1"]);
    let out = ran.args(["--timeout", "60"]).ok().path();
    assert_eq!(text(out), "y\n");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_others_do_to_a_directory_made_in_advance_reaches_no_build() {
    let world = World::new();
    let next = world.file("tmp/nix-build-next.drv-0");
    for change in ["echo evil > DIR/evil", "rmdir DIR"] {
        let change = change.replace("DIR", next.to_str().unwrap());
        // It is there before this builder ends, where the file system lets one be made in advance.
        let first = format!(
            "i=0; until [ -e {0} ] || [ $i = 40 ]; do sleep 0.05; i=$((i+1)); done; \
                             {change}; echo '{change}' > $out",
            next.display()
        );
        let mut after = sh("ls -A > $out; echo there >> $out");
        after["inputs"] = serde_json::json!(["first"]);
        let graph = graph_of([("first", sh(&first)), ("next", after)]);
        let graph = world.graph("graph.json", &graph);
        let out = world.windrow("build").arg(&graph).ok().path();
        assert_eq!(text(out), "there\n", "{change}");
        world.is_clean();
    }
}

/// Waits a while until another builder of the engine has been executed and stands still; `held`
/// tells.
const SEE_HELD: &str = "held=no; i=0; until [ $held = yes ] || [ $i = 200 ]; do sleep 0.05; i=$((i+1)); \
     for p in $(cat /proc/$PPID/task/*/children); do read -r pid comm state rest < /proc/$p/stat || continue; \
     case $comm$state in '(sh)t') held=yes ;; esac; done; done; ";

#[test]
fn what_was_executed_before_its_turn_does_nothing_if_its_input_fails() {
    let world = World::new();
    let (seen, ran) = (world.file("seen"), world.file("ran"));
    let first = format!("{SEE_HELD} echo $held > {}; exit 1", seen.display());
    let mut next = sh(&format!("echo > {}; echo > $out", ran.display()));
    next["inputs"] = serde_json::json!(["first"]);
    let graph = graph_of([("first", sh(&first)), ("next", next)]);
    let graph = world.graph("graph.json", &graph);
    world.windrow("build").arg(&graph).run().exits(100);
    assert_eq!(text(seen), "yes\n");
    assert!(!ran.exists());
    world.is_clean();
}

#[test]
fn a_builder_that_an_input_makes_is_executed_in_its_turn() {
    let world = World::new();
    let seen = world.file("seen");
    let make = "/bin/mkdir -p $out/bin; echo '#!/bin/sh' > $out/bin/p; \
                echo 'exec /bin/sh -c \"$script\"' >> $out/bin/p; chmod +x $out/bin/p";
    let script = format!("{SEE_HELD} echo $held > {}; echo x > $out", seen.display());
    let made = serde_json::json!({
        "system": "x86_64-linux", "builder": "@{first}/bin/p", "args": [],
        "env": {"script": script, "PATH": "/bin:/usr/bin"}, "inputs": ["first"],
    });
    let mut last = sh("echo y > $out");
    last["inputs"] = serde_json::json!(["made"]);
    let graph = graph_of([("first", sh(make)), ("made", made), ("last", last)]);
    let graph = world.graph("graph.json", &graph);
    let out = world.windrow("build").arg(&graph).ok().path();
    assert_eq!(text(out), "y\n");
    // That its own builder could not be executed before its turn keeps no other one from it.
    assert_eq!(text(seen), "yes\n");
    world.is_clean();
}
