//! Pipes that others hold the other end of: who does not read, writes without end or stays when it
//! should have gone keeps windrow neither from its work nor from its end.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Cmd, Running, World, graph_of, need, sh, sh_with, text, wait_until};

/// The command with a full pipe, which nobody reads, in the place of `redirected`: `1`, `2` or
/// both. Signals have their default effect, although whoever runs the tests may ignore some.
fn stuck(cmd: Cmd, redirected: &str) -> Cmd {
    let script = format!(
        "mkfifo stuck && exec 3<>stuck && head -c 65536 /dev/zero >&3 && \
         exec env --default-signal=INT,HUP,TERM \"$@\" {redirected} 3>&-"
    );
    cmd.through("/bin/sh", &["-c", &script, "sh"])
}

/// Waits until signals are its own matter, so that none of them simply ends it.
pub(crate) fn wait_for_heed(running: &Running) {
    let status = PathBuf::from(format!("/proc/{}/status", running.id()));
    wait_until("signals are heeded", || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // SIGINT is the second.
        blocked.is_some_and(|mask| mask & 2 != 0)
    });
    // Whatever it then waits for, it is waiting by now.
    std::thread::sleep(Duration::from_millis(300));
}

/// A script for windrow to run as a helper, in the directory of the world's files.
fn helper(world: &World, text: &str) -> PathBuf {
    let dir = world.at("files");
    world.script("helper", &format!("cd {}\n{text}", dir.display()))
}

/// A builder that says when it runs, does something, and sleeps.
fn builder(world: &World, name: &str, work: &str) -> serde_json::Value {
    let runs = world.file(name);
    let runs = runs.display();
    sh(&format!(
        "echo $$ > {runs}.new; mv {runs}.new {runs}; {work}; sleep 300"
    ))
}

#[track_caller]
fn is_well(world: &World) {
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_signal_ends_a_run_whose_standard_error_nobody_reads() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        for args in [
            &["-L"] as &[&str],
            &["--log-format", "internal-json"],
            &["--print-build-trace", "-v"],
        ] {
            let world = World::new();
            let drv = world.add_one("x", builder(&world, "runs", "head -c 3000000 /dev/zero"));
            let running = stuck(world.windrow("build").arg(&drv).args(args), "2>&3").start();
            world.wait_for("runs");
            std::thread::sleep(Duration::from_millis(300));
            running.signal(signal);
            running.wait().exits(status).prints_nothing();
            is_well(&world);
        }
    }
}

#[test]
fn builders_take_no_longer_than_they_may_though_nobody_reads_what_they_write() {
    let world = World::new();
    let loud = "while echo 0123456789012345678901234567890123456789; do :; done";
    let drv = world.add_one("x", builder(&world, "runs", loud));
    let cmd = world
        .windrow("build")
        .arg(&drv)
        .args(["-L", "--timeout", "3"]);
    let running = stuck(cmd, "2>&3").start();
    world.wait_for("runs");
    let builder = PathBuf::from(format!("/proc/{}", text(world.file("runs")).trim()));
    wait_until("the builder was killed", || !builder.exists());
    // What is left is to say so, to nobody.
    running.signal("INT");
    running.wait().exits(101);
    is_well(&world);
}

#[test]
fn a_reader_that_comes_late_gets_everything() {
    let world = World::new();
    let drv = world.add_one("x", sh("seq 300000; echo > $out"));
    // Twice as much as waits to be written before a builder waits.
    let script = "mkfifo slow; exec 3<>slow; { until [ -e go ]; do sleep 0.05; done; exec cat; } < slow > got 3>&- & \
                  : > ready; \"$@\" 2>&3 3>&-; status=$?; exec 3>&-; wait; exit $status";
    let cmd = world.windrow("build").arg(&drv).arg("-L");
    let running = cmd.through("/bin/bash", &["-c", script, "sh"]).start();
    world.wait_for("ready");
    std::thread::sleep(Duration::from_millis(500));
    world.write("go", "");
    running.wait().exits(0);
    let got = text(world.file("got"));
    let numbers: Vec<&str> = got
        .lines()
        .filter_map(|line| line.strip_prefix("x> "))
        .collect();
    assert_eq!(numbers.len(), 300_000);
    let in_order = |(at, number): (usize, &&str)| *number == (at + 1).to_string();
    assert!(numbers.iter().enumerate().all(in_order));
    assert!(
        got.trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("1 derivation built")
    );
}

#[test]
fn a_signal_ends_a_run_whose_standard_output_nobody_reads() {
    for (command, redirected) in [
        (&["build"] as &[&str], ">&3"),
        (&["build"], ">&3 2>&3"),
        (&["nix-store", "-r"], ">&3"),
    ] {
        let world = World::new();
        let drv = world.add_one(
            "x",
            sh(&format!(
                "echo > $out; : > {}",
                world.file("runs").display()
            )),
        );
        let cmd = command[1..]
            .iter()
            .fold(world.windrow(command[0]), Cmd::arg);
        let running = stuck(cmd.arg(&drv), redirected).start();
        world.wait_for("runs");
        wait_until("all is done except the paths", || {
            let holds_no_lock = fs::read_dir(world.store()).unwrap().all(|entry| {
                !entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".lock")
            });
            holds_no_lock
                && world
                    .store_entries()
                    .iter()
                    .any(|path| path.to_string_lossy().ends_with("-x"))
        });
        std::thread::sleep(Duration::from_millis(500));
        running.signal("INT");
        let ran = running.wait();
        assert_eq!(ran.status.code(), Some(130), "{ran}");
        is_well(&world);
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_list_on_standard_input() {
    let world = World::new();
    let script = "mkfifo never && exec \"$@\" <>never";
    let cmd = world.windrow("build").arg("-");
    let running = cmd.through("/bin/sh", &["-c", script, "sh"]).start();
    wait_for_heed(&running);
    running.signal("INT");
    running.wait().exits(130).says("interrupted by the user");
}

#[test]
fn a_signal_ends_the_wait_for_a_graph_that_nobody_writes() {
    let world = World::new();
    let script = "mkfifo never.json && exec \"$@\"";
    let cmd = world.windrow("build").arg("never.json");
    let running = cmd.through("/bin/sh", &["-c", script, "sh"]).start();
    wait_for_heed(&running);
    running.signal("INT");
    running.wait().exits(130).says("interrupted by the user");
    is_well(&world);
    // One that somebody does write to is a graph like any other.
    let graph = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let script = "cat g.json > never.json & exec \"$@\"";
    let cmd = world.windrow("build").arg("never.json");
    cmd.through("/bin/sh", &["-c", script, "sh"]).ok();
    fs::remove_file(graph).unwrap();
}

#[test]
fn a_signal_ends_the_wait_for_a_lock_on_the_database() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let lock = fs::File::options()
        .write(true)
        .open(world.state().join("db/big-lock"));
    let lock = lock.expect("the lock");
    lock.lock().unwrap();
    let running = world.windrow("build").arg(&drv).start();
    wait_for_heed(&running);
    running.signal("INT");
    running.wait().exits(130).says("interrupted by the user");
    drop(lock);
    world.windrow("build").arg(&drv).ok();
    is_well(&world);
}

#[test]
fn a_signal_ends_a_run_at_a_terminal_that_was_stopped() {
    need!("script");
    for args in ["", "-L"] {
        let world = World::new();
        let drv = world.add_one("x", builder(&world, "runs", "seq 300000"));
        let windrow = env!("CARGO_BIN_EXE_windrow");
        let line = format!("echo $$ > pid.new; mv pid.new pid; exec {windrow} build {drv} {args}");
        let cmd = world
            .program("script")
            .args(["--quiet", "--flush", "--command", &line]);
        let cmd = cmd
            .arg("/dev/null")
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh");
        // It passes on nothing, so that the terminal is full soon.
        let running = stuck(cmd, ">&3").start();
        world.wait_for("runs");
        std::thread::sleep(Duration::from_secs(2));
        let pid = text(world.file("pid"));
        world.program("kill").args(["-INT", pid.trim()]).ok();
        let proc = PathBuf::from(format!("/proc/{}/exe", pid.trim()));
        // Its parent waits for it only when its own output is read; until then there is a dead
        // process.
        wait_until("it has ended", || fs::read_link(&proc).is_err());
        running.signal("KILL");
        let _ = running.wait();
        is_well(&world);
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_substituter_before_anything_is_built() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let program = helper(&world, ": > asked; sleep 300");
    for command in [
        &["nix-store", "-r"] as &[&str],
        &["nix-store", "-r", "--dry-run"],
        &["build", "--dry-run"],
    ] {
        let cmd = command[1..]
            .iter()
            .fold(world.windrow(command[0]), Cmd::arg);
        let cmd = cmd.arg(&drv).env("NIX_SUBSTITUTERS", &program);
        let running = cmd.args(["--option", "substitute", "true"]).start();
        world.wait_for("asked");
        wait_for_heed(&running);
        running.signal("INT");
        running.wait().exits(130).prints_nothing();
        fs::remove_file(world.file("asked")).unwrap();
        is_well(&world);
    }
}

/// What ends and leaves a process in a session of its own, where it is not killed with its parent.
/// That ends with the test.
const LEAVE_ONE_BEHIND: &str = "setsid sh -c ': > there; until [ -e go ]; do sleep 0.1; done; : > gone' & \
                                until [ -e there ]; do sleep 0.1; done; exit 3";

/// What writes without end, to the descriptor named after it.
const ENDLESS: [&str; 2] = ["exec yes >&", "exec tr '\\0' x < /dev/zero >&"];

#[test]
fn a_hook_that_writes_without_end_does_not_take_the_engine_over() {
    for endless in ENDLESS {
        for (before, fd) in [
            ("", 2),
            ("echo '# accept' >&2; ", 2),
            ("echo '# accept' >&2; ", 4),
        ] {
            let world = World::new();
            let drv = world.add_one("x", sh("echo > $out"));
            let script = format!("read -r line; {before}: > runs; {endless}{fd}");
            let hook = helper(&world, &script);
            let cmd = world.windrow("build").env("NIX_BUILD_HOOK", hook);
            let running = cmd.arg(&drv).arg("-q").start();
            world.wait_for("runs");
            std::thread::sleep(Duration::from_millis(300));
            running.signal("INT");
            running.wait().exits(130);
            is_well(&world);
        }
    }
}

#[test]
fn a_hook_that_reads_nothing_keeps_nobody() {
    let world = World::new();
    // More paths than a pipe holds.
    let name = |n: u32| format!("{}-{n}", "a-long-name".repeat(15));
    let mut graph: Vec<_> = (0..200).map(|n| (name(n), sh("echo > $out"))).collect();
    let inputs: Vec<String> = graph
        .iter()
        .map(|(name, _)| format!("@{{{name}}}"))
        .collect();
    let top = sh_with("echo > $out", json!({"env": {"inputs": inputs.join(" ")}}));
    graph.push(("x".to_owned(), top));
    let drv = world.add(&graph_of(
        graph.iter().map(|(name, it)| (&**name, it.clone())),
    ));
    let hook = helper(
        &world,
        "while read -r willing system drv features; do case $drv in \
         *-x.drv) echo '# accept' >&2; : > accepted; sleep 300;; *) echo '# decline' >&2;; esac; done",
    );
    let cmd = world.windrow("build").env("NIX_BUILD_HOOK", hook);
    let running = cmd.arg(&drv).args(["-q", "-j4"]).start();
    world.wait_for("accepted");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    running.wait().exits(130);
    is_well(&world);
}

#[test]
fn what_a_hook_that_died_left_running_is_not_waited_for() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo here > $out"));
    let hook = helper(&world, &format!("read -r line; {LEAVE_ONE_BEHIND}"));
    let cmd = world.windrow("build").env("NIX_BUILD_HOOK", hook);
    let ran = cmd.arg(&drv).ok();
    world.write("go", "");
    world.wait_for("gone");
    ran.says("it died unexpectedly: it failed with exit code 3");
    is_well(&world);
}

#[test]
fn a_substituter_that_talks_without_end_does_not_take_the_engine_over() {
    for endless in ENDLESS {
        for script in [
            // Instead of an answer, and beside it.
            format!(": > asked; {endless}2"),
            format!("echo; read -r line; : > asked; {endless}2"),
        ] {
            let world = World::new();
            let drv = world.add_one("x", sh("echo > $out"));
            let program = helper(&world, &script);
            let cmd = world.windrow("build").env("NIX_SUBSTITUTERS", &program);
            let cmd = cmd.arg(&drv).args(["-q", "--option", "substitute", "true"]);
            let running = cmd.start();
            world.wait_for("asked");
            std::thread::sleep(Duration::from_millis(300));
            running.signal("INT");
            running.wait().exits(130);
            is_well(&world);
        }
    }
}

#[test]
fn a_substituter_whose_answer_does_not_end_is_given_up() {
    for endless in ENDLESS {
        let world = World::new();
        let drv = world.add_one("x", sh("echo here > $out"));
        let script = format!("echo; read -r line; echo /x; echo; echo 1000000; {endless}1");
        let program = helper(&world, &script);
        let cmd = world.windrow("build").env("NIX_SUBSTITUTERS", &program);
        let ran = cmd.arg(&drv).args(["--option", "substitute", "true"]).ok();
        let ran = ran.says_one_of(&[
            "its answer is longer than",
            "where the size of the download",
        ]);
        assert!(ran.stderr.len() < 4000, "{ran}");
        is_well(&world);
    }
}

#[test]
fn what_a_substituter_that_died_left_running_is_not_waited_for() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo here > $out"));
    let program = helper(&world, LEAVE_ONE_BEHIND);
    let cmd = world.windrow("build").env("NIX_SUBSTITUTERS", &program);
    let ran = cmd.arg(&drv).args(["--option", "substitute", "true"]).ok();
    world.write("go", "");
    world.wait_for("gone");
    ran.says("it died unexpectedly: it failed with exit code 3; it is not asked any more");
    is_well(&world);
}

/// What asks something on standard error, without ending the line, until it is answered.
const ASKS: &str = "printf 'what is it? ' >&2; until [ -e go ]; do sleep 0.05; done; echo >&2";

#[test]
fn lines_without_end_of_helpers_are_shown_while_they_run() {
    let no_answer = "while read -r kind rest; do case $kind in info|have) echo;; esac; done";
    let offered = "while read -r line; do case $line in *)";
    for (variable, script) in [
        ("NIX_SUBSTITUTERS", format!("{ASKS}; echo; {no_answer}")),
        (
            "NIX_SUBSTITUTERS",
            format!("echo; while read -r kind rest; do {ASKS}; echo; done"),
        ),
        (
            "NIX_BUILD_HOOK",
            format!("{offered} {ASKS}; echo '# decline' >&2;; esac; done"),
        ),
        (
            "NIX_BUILD_HOOK",
            format!("read -r line; echo '# accept' >&2; {ASKS}; exit 1"),
        ),
        ("post-build-hook", ASKS.to_owned()),
    ] {
        let world = World::new();
        let drv = world.add_one("x", sh("echo > $out"));
        let program = helper(&world, &script);
        let err = world.write("err", "");
        let redirect = format!("exec \"$@\" 2> {}", err.display());
        let cmd = world.windrow("build").arg(&drv);
        let cmd = cmd.args(["--option", "substitute", "true"]);
        let cmd = match variable.starts_with("NIX") {
            true => cmd.env(variable, &program),
            false => cmd.args(["--option", variable]).arg(&program),
        };
        let running = cmd.through("/bin/sh", &["-c", &redirect, "sh"]).start();
        wait_until(&format!("{variable}: the line is shown"), || {
            text(&err).contains(": what is it?")
        });
        world.write("go", "");
        running.wait();
        // Nor is the rest of the line, which is empty, one more.
        let shown = text(&err);
        assert_eq!(shown.matches(": what is it?").count(), 1, "{shown}");
        assert!(!shown.contains(": \n"), "{shown}");
    }
}
