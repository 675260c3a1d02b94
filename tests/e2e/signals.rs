//! A signal ends every wait and every long piece of work, wherever windrow is: with the status that
//! is documented, one message, and nothing left behind that nobody clears away. Each of these would
//! go on for longer than a test may take.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Cmd, HeldDatabase, Running, World, need, runs_until_go, sh};
use crate::pipes::wait_for_heed;

/// As large as most file systems let a file be, and without a block of its own.
const ENDLESS_FILE: &str = "truncate -s 8T";

const INTERRUPTED: &str = "interrupted by the user";

fn interrupt(running: Running) {
    wait_for_heed(&running);
    running.signal("INT");
    running.wait().exits(130).says(INTERRUPTED).no_panic();
}

/// A file that takes hours to read.
fn endless_file(world: &World, name: &str) -> PathBuf {
    let file = world.file(name);
    let line = format!("{ENDLESS_FILE} {}", file.display());
    world.program("/bin/sh").args(["-c", &line]).ok();
    file
}

/// A builder whose output takes hours to read.
fn endless_output(world: &World, runs: &str) -> serde_json::Value {
    let runs = world.file(runs);
    let path = "PATH=/bin:/usr/bin";
    sh(&format!(
        "{path} {ENDLESS_FILE} $out; : > {}",
        runs.display()
    ))
}

/// The command with a pipe as its standard input that nobody writes to.
fn with_open_input(cmd: Cmd) -> Cmd {
    cmd.through(
        "/bin/sh",
        &["-c", "mkfifo never && exec \"$@\" <>never", "sh"],
    )
}

#[test]
fn while_a_list_or_a_stream_is_read() {
    for args in [
        &["build", "-"] as &[&str],
        &["plan", "-"],
        &["nix-store", "--import"],
        &["nix-store", "--load-db"],
        &["nix-store", "--register-validity"],
        &["nix-store", "--restore", "restored"],
    ] {
        let world = World::new();
        let cmd = args[1..].iter().fold(world.windrow(args[0]), Cmd::arg);
        interrupt(with_open_input(cmd).start());
        world.windrow("nix-store").arg("--verify").ok();
    }
}

#[test]
fn while_files_are_read_that_have_no_end() {
    let world = World::new();
    let source = endless_file(&world, "source");
    for operation in [
        &["--add"] as &[&str],
        &["--add-fixed", "sha256"],
        &["--dump"],
    ] {
        let cmd = operation.iter().fold(world.windrow("nix-store"), Cmd::arg);
        let script = "exec \"$@\" > /dev/null";
        let cmd = cmd.arg(&source).through("/bin/sh", &["-c", script, "sh"]);
        interrupt(cmd.start());
    }
    let graph = json!({
        "sources": {"s": "source"},
        "derivations": {"x": {"builder": "/bin/sh", "args": ["-c", "cat @{s} > $out"]}},
    });
    let graph = world.graph("g.json", &graph);
    interrupt(world.windrow("build").arg(&graph).start());
    interrupt(world.windrow("add").arg(&graph).start());
    let entries = world.store_entries();
    assert!(
        entries.iter().all(|path| world.is_valid(path)),
        "{entries:?}"
    );
}

#[test]
fn while_an_output_is_looked_at_that_has_no_end() {
    let world = World::new();
    let drv = world.add_one("x", endless_output(&world, "runs"));
    let running = world.windrow("build").arg(&drv).start();
    world.wait_for("runs");
    // It ends at once; what it made takes hours.
    std::thread::sleep(std::time::Duration::from_secs(1));
    interrupt(running);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn the_limit_on_the_time_of_a_build_holds_while_its_output_is_looked_at() {
    let world = World::new();
    let drv = world.add_one("x", endless_output(&world, "runs"));
    let cmd = world.windrow("build").arg(&drv).args(["--timeout", "2"]);
    let ran = cmd.run().exits(101).no_panic();
    ran.says("timed out after 2 seconds, while what it made was being looked at");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn while_others_hold_a_lock_which_is_told() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let path = world.state().join("db/big-lock");
    let lock = fs::File::options().write(true).open(&path).unwrap();
    lock.lock().unwrap();
    let running = world.windrow("build").arg(&drv).start();
    wait_for_heed(&running);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    running.signal("TERM");
    let ran = running.wait().exits(143).says(INTERRUPTED);
    let waits = format!(
        "waiting for the lock on '{}', held by process {} (",
        path.display(),
        std::process::id()
    );
    assert_eq!(ran.stderr.matches(&waits).count(), 1, "{ran}");
    drop(lock);
    // The collector's lock, for who verifies.
    let path = world.state().join("gc.lock");
    let lock = fs::File::options().write(true).open(&path).unwrap();
    lock.lock().unwrap();
    for operation in ["--verify", "--gc"] {
        let running = world.windrow("nix-store").arg(operation).start();
        wait_for_heed(&running);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        running.signal("INT");
        let ran = running.wait().exits(130).says(INTERRUPTED);
        ran.says(format!(
            "waiting for the lock on '{}', held by process {} (",
            path.display(),
            std::process::id()
        ));
    }
    drop(lock);
    world.windrow("build").arg(&drv).ok();
}

#[test]
fn a_build_says_whose_process_builds_the_same() {
    let world = World::new();
    let drv = world.add_one("x", runs_until_go(&world));
    let first = world.windrow("build").arg(&drv).start();
    world.wait_for("runs");
    let second = world.windrow("build").arg(&drv).start();
    wait_for_heed(&second);
    std::thread::sleep(std::time::Duration::from_secs(4));
    world.write("go", "");
    let holder = first.id();
    first.wait().exits(0);
    let ran = second.wait().exits(0);
    let waits = format!("-x.lock', held by process {holder} (");
    assert_eq!(ran.stderr.matches(&waits).count(), 1, "{ran}");
}

#[test]
fn while_another_process_writes_to_the_database() {
    need!("sqlite3");
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let held = HeldDatabase::new(&world);
    let running = world.windrow("build").arg(&drv).start();
    wait_for_heed(&running);
    std::thread::sleep(std::time::Duration::from_secs(2));
    running.signal("INT");
    let ran = running.wait().exits(130).says(INTERRUPTED);
    ran.says(format!(
        "waiting for the database '{}', in use by process ",
        world.database().display()
    ));
    held.release();
    world.windrow("build").arg(&drv).ok();
}

#[test]
fn nohup_protects_from_the_end_of_the_terminal() {
    let world = World::new();
    let drv = world.add_one("x", runs_until_go(&world));
    let cmd = world.windrow("build").arg(&drv);
    let running = cmd
        .through("/usr/bin/env", &["--ignore-signal=HUP"])
        .start();
    world.wait_for("runs");
    running.signal("HUP");
    std::thread::sleep(std::time::Duration::from_millis(300));
    world.write("go", "");
    running.wait().exits(0);
}

#[test]
fn a_builder_fails_though_the_parent_ignores_the_ends_of_children() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out; exit 3"));
    let cmd = world.windrow("build").arg(&drv);
    let ran = cmd.through("/usr/bin/env", &["--ignore-signal=CHLD"]).run();
    ran.exits(100).says("failed with exit code 3");
}

#[test]
fn while_a_builder_writes_more_than_can_be_kept_up_with() {
    let world = World::new();
    let script = format!(
        "PATH=/bin:/usr/bin; : > {}; exec yes 0123456789",
        world.file("runs").display()
    );
    let drv = world.add_one("x", sh(&script));
    let running = world.windrow("build").arg(&drv).arg("-q").start();
    world.wait_for("runs");
    std::thread::sleep(std::time::Duration::from_millis(500));
    interrupt(running);
    world.is_clean();
    // The log that there is can be read.
    world.windrow("log").arg(&drv).ok();
}

#[test]
fn a_simulation_ends_with_the_documented_status() {
    let world = World::new();
    let running = world.windrow("simulate").arg("layered:n=2000000,seed=1");
    let running = running.start();
    interrupt(running);
}
