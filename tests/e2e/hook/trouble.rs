//! Everything that can go wrong with a hook.

use std::path::Path;

use super::{asked, here, hook, is_well, pair, runs, single, with_hook};
use crate::harness::{World, graph_of, sh, text};

/// How a hook that has accepted may fail: the exit status of windrow, and what it says.
const FAILURES: [(&str, i32, &str); 7] = [
    ("echo broken >&4; exit 100", 100, "builder for"),
    ("exit 101", 101, "timed out, as the build hook says"),
    ("exit 1", 1, "failed with exit code 1"),
    ("kill -9 $$", 1, "signal 9"),
    ("exit 0", 1, "failed to produce output path"),
    ("exec 4>&-; exit 3", 1, "failed with exit code 3"),
    ("for o in $outputs; do mkfifo $o; done", 1, "unsupported"),
];

#[test]
fn a_hook_that_fails_says_whose_fault_it_is() {
    for (work, status, says) in FAILURES {
        let (world, drv) = single();
        let hook = hook(&world, "hook", "accept", work);
        let ran = with_hook(&world, &hook)
            .arg(&drv)
            .arg("--print-build-trace");
        let ran = ran.run().exits(status).says(says).no_panic();
        let ran = ran.says(format!("build of '{drv}' failed"));
        let trace = match status {
            1 => format!("@ hook-failed {drv} - "),
            101 => format!("@ build-failed {drv} - timeout"),
            _ => format!("@ build-failed {drv} - 1 "),
        };
        let ran = ran.says(trace);
        if work.contains("broken") {
            ran.says("> broken");
        }
        assert!(runs(&world).is_empty(), "a failure there is a failure");
        is_well(&world);
    }
}

#[test]
fn trouble_of_a_hook_is_not_remembered_but_a_failed_builder_is() {
    for (work, status, again) in [
        ("exit 1", 1, 1),
        ("exit 101", 101, 101),
        ("exit 100", 100, 100),
    ] {
        let (world, drv) = single();
        world.conf("build-cache-failure = true\n");
        let hook = hook(&world, "hook", "accept", work);
        with_hook(&world, &hook).arg(&drv).run().exits(status);
        let starts = || {
            let asked = asked(&world);
            asked.iter().filter(|line| line.ends_with("x.drv ")).count()
        };
        assert_eq!(starts(), 1);
        let ran = with_hook(&world, &hook).arg(&drv).run().exits(again);
        if status == 100 {
            ran.says("failed previously (cached)");
            assert_eq!(starts(), 1, "nobody is asked again");
        } else {
            ran.never_says("cached");
            assert_eq!(starts(), 2);
        }
        // A setting that Nix warns of, for it has none of that name any more.
        world.conf("");
        is_well(&world);
    }
}

#[test]
fn a_hook_that_can_not_be_asked_costs_a_message_and_the_build_is_done_here() {
    for (decide, says) in [
        ("exit 3", "died unexpectedly: it failed with exit code 3"),
        ("kill -9 $$", "signal 9"),
        ("echo '# perhaps' >&2", "replied 'perhaps'"),
        (
            "exec >/dev/null 2>&1; sleep 1000",
            "closed its standard error",
        ),
        ("sleep 1000", "did not reply within 1 second"),
    ] {
        let (world, drv) = pair();
        let hook = hook(&world, "hook", decide, "");
        let ran = with_hook(&world, &hook)
            .arg(&drv)
            .args(["--max-silent-time", "1"])
            .ok();
        ran.says(says).says("hook.sh' failed").no_panic();
        assert_eq!(runs(&world), ["a", "b"], "{decide}");
        is_well(&world);
    }
    let (world, drv) = single();
    let ran = with_hook(&world, Path::new("/no/such/hook")).arg(&drv).ok();
    ran.says("No such file");
    assert_eq!(runs(&world), ["x"]);
}

#[test]
fn a_hook_that_fails_again_and_again_is_given_up() {
    let world = World::new();
    let names: Vec<String> = (0..9).map(|n| format!("n{n}")).collect();
    let graph = graph_of(names.iter().map(|name| (name.as_str(), here(&world, name))));
    let file = world.graph("g.json", &graph);
    let hook = hook(&world, "hook", "exit 3", "");
    let ran = with_hook(&world, &hook).arg(&file).ok();
    ran.says("it is not asked any more");
    let starts = asked(&world);
    let starts = starts.iter().filter(|line| line.starts_with("start"));
    assert_eq!(starts.count(), 3);
    assert_eq!(runs(&world).len(), 9);
}

#[test]
fn one_that_talks_much_and_reads_late_blocks_nobody() {
    let world = World::new();
    let names: Vec<String> = (0..300).map(|n| format!("input-{n:0>150}")).collect();
    let low = names.iter().map(|name| (name.as_str(), sh("echo > $out")));
    let needs: String = names
        .iter()
        .map(|name| format!(": @{{{name}}}\n"))
        .collect();
    let top = sh(&format!("{needs}echo here > $out"));
    let drv = world.add(&graph_of(low.chain([("x", top)])));
    let talk = "accept; sleep 0.3; head -c 300000 /dev/zero | tr '\\0' '\\n' >&2; \
                head -c 300000 /dev/zero | tr '\\0' x >&4";
    let decide = format!("case $drv in *-x.drv) {talk};; *) decline;; esac");
    let hook = hook(
        &world,
        "hook",
        &decide,
        "echo $inputs | wc -w > count; build",
    );
    let ran = with_hook(&world, &hook).arg(&drv).arg("-j8").ok();
    assert_eq!(text(ran.path()), "by the hook\n");
    assert_eq!(text(world.file("count")).trim(), "601");
}

#[test]
fn an_interruption_ends_hooks_with_a_word() {
    for decide in [": > here; sleep 1000", "accept"] {
        let (world, drv) = single();
        let work = "trap ': > told; kill $!; exit 1' TERM; : > here; sleep 1000 & wait";
        let hook = hook(&world, "hook", decide, work);
        let running = with_hook(&world, &hook).arg(&drv).start();
        world.wait_for("here");
        running.signal("INT");
        running.wait().exits(130);
        assert_eq!(world.file("told").exists(), decide == "accept");
        world.is_clean();
    }
}

#[test]
fn without_slots_what_no_hook_takes_is_a_clear_error() {
    let (world, drv) = single();
    let hook = hook(&world, "hook", "decline", "");
    let ran = with_hook(&world, &hook).arg(&drv).arg("-j0").run();
    ran.exits(1).says("--max-jobs");
    world.is_clean();
}

#[test]
fn keep_going_goes_on_past_a_hooks_failure() {
    let world = World::new();
    let graph = graph_of([
        ("bad", here(&world, "bad")),
        ("good", here(&world, "good")),
        ("top", sh("cat @{bad} > $out")),
    ]);
    let file = world.graph("g.json", &graph);
    let decide = "case $drv in *-bad.drv) accept;; *) decline;; esac";
    let hook = hook(&world, "hook", decide, "exit 100");
    let ran = with_hook(&world, &hook).arg(&file).arg("-k").run();
    ran.exits(100).says("1 dependency couldn't be built");
    assert_eq!(runs(&world), ["good"]);
    is_well(&world);
}
