//! What a failure does to the rest of the graph, and what it leaves for people to look at.
//! The kinds of failures themselves are in failure.rs.

use serde_json::json;

use crate::harness::{World, graph_of, sh, sh_with, sorted_lines, text};

#[test]
fn a_dependency_that_fails() {
    let world = World::new();
    let graph = graph_of([("low", sh("exit 5")), ("top", sh("cat @{low} > $out"))]);
    let drv = world.add(&graph);
    let ran = world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(100)
        .prints_nothing()
        .no_panic();
    ran.says("low.drv' failed with exit code 5")
        .says(format!(
            "cannot build derivation '{drv}': 1 dependency couldn't be built"
        ))
        .says(format!("build of '{drv}' failed"));
    world.is_clean();
}

#[test]
fn failed_dependencies_are_counted_when_it_keeps_going() {
    let world = World::new();
    let log = world.file("runs");
    let good = |name: &str| sh(&format!("echo {name} >> {}; echo > $out", log.display()));
    let graph = graph_of([
        ("bad1", sh("exit 1")),
        ("bad2", sh("exit 2")),
        ("good", good("good")),
        ("mid", sh("cat @{bad1} @{bad2} @{good} > $out")),
        ("top", sh("cat @{mid} @{good} > $out")),
        ("other", good("other")),
    ]);
    let file = world.graph("g.json", &graph);
    let ran = world
        .windrow("build")
        .arg(file)
        .args(["-k", "-j1"])
        .run()
        .exits(100);
    let ran = ran
        .says("-mid.drv': 2 dependencies couldn't be built")
        .says("-top.drv': 1 dependency couldn't be built");
    let ran = ran
        .says("exit code 1")
        .says("exit code 2")
        .says("-top.drv' failed")
        .never_says("-other.drv' failed");
    assert_eq!(
        sorted_lines(&log),
        ["good", "other"],
        "all that can be built is built\n{ran}"
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn the_first_failure_ends_everything_unless_it_keeps_going() {
    let world = World::new();
    let go = world.file("slow-runs");
    let wait = format!(
        "i=0; while [ ! -e {} ]; do i=$((i+1)); [ $i -lt 400 ] || exit 7; sleep 0.05; done",
        go.display()
    );
    let log = world.file("runs");
    let graph = graph_of([
        ("bad", sh(&format!("{wait}; exit 1"))),
        (
            "slow",
            sh(&format!(": > {}; sleep 300; echo > $out", go.display())),
        ),
        (
            "after",
            sh(&format!(
                "echo after >> {}; cat @{{slow}} > $out",
                log.display()
            )),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    // It would take five minutes if it waited for the slow one.
    world
        .windrow("build")
        .arg(file)
        .arg("-j2")
        .run()
        .exits(100)
        .says("-bad.drv' failed")
        .prints_nothing();
    assert!(!log.exists());
    world.is_clean();
    world.stays_valid();
}

/// While "a" is built, "b" is prepared: its lock file, its build directory and its process are
/// there already.
#[test]
fn what_was_prepared_for_an_input_that_fails_goes() {
    for (how, status) in [("exit 1", 100), ("exit 0", 1), ("echo > $out", 0)] {
        let world = World::new();
        let graph = graph_of([
            ("a", sh(&format!("sleep 0.2; {how}"))),
            ("b", sh("cat @{a} > $out")),
            ("c", sh("cat @{b} > $out")),
        ]);
        let file = world.graph("g.json", &graph);
        let ran = world.windrow("build").arg(file).args(["-k", "-j2"]);
        ran.run().exits(status);
        world.is_clean();
        world.stays_valid();
        let mut left = world.store_entries();
        // That of "a" itself stays, as with Nix, for it did not become valid.
        left.retain(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".lock") && !name.ends_with("-a.lock")
        });
        assert!(left.is_empty(), "lock files are left: {left:?}");
    }
}

#[test]
fn what_was_built_beside_a_failure_stays() {
    let world = World::new();
    let log = world.file("runs");
    let graph = graph_of([
        ("bad", sh("cat @{good} > $out; exit 1")),
        (
            "good",
            sh(&format!("echo good >> {}; echo good > $out", log.display())),
        ),
    ]);
    let drv = world.add(&graph);
    world.windrow("build").arg(&drv).run().exits(100);
    world.windrow("build").arg(&drv).run().exits(100);
    assert_eq!(sorted_lines(log), ["good"], "built once");
}

#[test]
fn the_worst_failures_are_told_together() {
    let world = World::new();
    let fixed =
        json!({"outputHash": "0".repeat(64), "outputHashAlgo": "sha256", "outputHashMode": "flat"});
    let graph = graph_of([
        ("wrong", sh_with("echo > $out", fixed)),
        ("slow", sh("sleep 300")),
    ]);
    let file = world.graph("g.json", &graph);
    let ran = world
        .windrow("build")
        .arg(file)
        .args(["-k", "-j2", "--timeout", "1"])
        .run();
    ran.exits(103).says("hash mismatch").says("timed out");
    world.is_clean();
}

#[test]
fn a_failure_shows_the_end_of_the_log_and_how_to_see_all() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i of it; done; exit 1"),
    );
    let ran = world
        .windrow("build")
        .arg(&drv)
        .args(["--option", "log-lines", "3"])
        .run()
        .exits(100);
    let ran = ran
        .says("last 3 log lines:")
        .says("> line 38 of it")
        .says("> line 40 of it")
        .never_says("> line 37 of it");
    let command = format!("windrow log {drv}");
    let ran = ran.says(&command);
    let all = world.windrow("log").arg(&drv).ok().out();
    assert_eq!(all.lines().count(), 40, "{ran}");
    assert!(all.starts_with("line 1 of it\n"));
    // Without the setting it is the number of Nix since 2.20.
    let ran = world.windrow("build").arg(&drv).run().exits(100);
    ran.says("last 25 log lines:")
        .says("> line 16 of it")
        .never_says("> line 15 of it");
}

#[test]
fn a_failed_build_directory_is_kept_on_request() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let drv = world.add_one("x", sh("echo clue > clue; exit 1"));
    let ran = world.windrow("build").arg(&drv).arg("-K").run().exits(100);
    let kept = world.temporary();
    assert_eq!(kept.len(), 1, "{ran}");
    let ran = ran.says(kept[0].to_str().unwrap());
    assert!(kept[0].to_str().unwrap().ends_with("-x.drv-0"), "{ran}");
    assert_eq!(text(kept[0].join("clue")), "clue\n");
    assert_eq!(
        std::fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    let ran = world
        .windrow("build")
        .arg(&drv)
        .arg("--keep-failed")
        .run()
        .exits(100);
    let kept = world.temporary();
    assert_eq!(kept.len(), 2, "the next one takes the next number\n{ran}");
    assert!(kept[1].to_str().unwrap().ends_with("-x.drv-1"));
    world.windrow("build").arg(&drv).run().exits(100);
    world.is_clean_but_for(&kept);
    // What succeeds is never kept.
    let drv = world.add_one("y", sh("echo > $out; echo > file"));
    world.windrow("build").arg(&drv).arg("-K").ok();
    world.is_clean_but_for(&kept);
}
