//! Stores that can't be written, and disks that fill up: one message, its exit status, and a store
//! that stays valid.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Cmd, Ran, World, graph_of, need, need_mounts, sh};

#[test]
fn a_read_only_state() {
    need_mounts!();
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let state = world.state();
    let line = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0}",
        state.display()
    );
    let ran = world
        .windrow("build")
        .arg(&drv)
        .after_mounting(&line)
        .run()
        .exits(1)
        .one_error()
        .prints_nothing();
    ran.says(state.to_str().unwrap())
        .says_one_of(&["read-only", "Read-only"]);
    world.windrow("build").arg(&drv).ok();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_read_only_log_directory() {
    need_mounts!();
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let log = world.at("log");
    fs::create_dir_all(&log).unwrap();
    let line = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0}",
        log.display()
    );
    let ran = world
        .windrow("build")
        .arg(&drv)
        .after_mounting(&line)
        .run()
        .exits(0)
        .no_panic();
    ran.says(log.to_str().unwrap())
        .says_one_of(&["read-only", "Read-only"]);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_temporary_directory_that_is_not_there() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .env("TMPDIR", "/no/such/directory")
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing();
    ran.says("/no/such/directory");
    world.is_clean();
    world.stays_valid();
}

/// The command as a user without rights.
pub(crate) fn as_nobody(cmd: Cmd) -> Cmd {
    cmd.through(
        "/usr/bin/setpriv",
        &["--reuid=65534", "--regid=65534", "--clear-groups"],
    )
}

/// Whether that user can execute windrow where it lies.
pub(crate) fn nobody_reaches_windrow() -> bool {
    as_nobody(Cmd::new(env!("CARGO_BIN_EXE_windrow"), "/".as_ref()).arg("--version"))
        .run()
        .status
        .success()
}

#[test]
fn a_store_of_somebody_else() {
    need!(root);
    need!("setpriv");
    if !nobody_reaches_windrow() {
        return crate::harness::skip("needs a build directory that every user can read");
    }
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let other = world.graph("g.json", &graph_of([("y", sh("echo y > $out"))]));
    let refused = |cmd: Cmd| -> Ran {
        let ran = as_nobody(cmd).run().exits(1).one_error().prints_nothing();
        ran.says(world.at("").to_str().unwrap())
            .says_one_of(&["permission", "Permission"])
    };
    refused(world.windrow("build").arg(&drv));
    refused(world.windrow("add").arg(other));
    world.windrow("build").arg(&drv).ok();
    let empty = World::new();
    let graph = empty.graph("g.json", &graph_of([("y", sh("echo y > $out"))]));
    let ran = as_nobody(empty.windrow("add").arg(graph)).run();
    ran.exits(1).one_error().says("--store own");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn somebody_without_rights_builds_in_a_store_of_his_own() {
    need!(root);
    need!("setpriv");
    if !nobody_reaches_windrow() {
        return crate::harness::skip("needs a build directory that every user can read");
    }
    let world = World::new();
    let file = world.graph(
        "g.json",
        &graph_of([(
            "x",
            sh("mkdir $out; echo x > $out/f; chmod 0 $out/f; chmod 500 $out"),
        )]),
    );
    for dir in ["", "tmp", "home", "files"] {
        fs::set_permissions(world.at(dir), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let out = as_nobody(world.windrow("build").arg(&file)).ok().path();
    assert_eq!(
        fs::metadata(out.join("f")).unwrap().permissions().mode() & 0o7777,
        0o444
    );
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o7777,
        0o555
    );
    assert_eq!(
        as_nobody(world.windrow("build").arg(&file)).ok().path(),
        out
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_log_directory_that_is_full() {
    need_mounts!();
    need!("dd");
    ["true", "false"].into_iter().for_each(fill_log_directory);
}

fn fill_log_directory(compress: &str) {
    let world = World::new();
    // More than there is room for, even compressed, first and as the last that is written.
    let noise = "dd if=/dev/urandom bs=1M count=3 2>/dev/null; echo the end; echo > $out";
    let graph = graph_of([
        ("long", sh(noise)),
        ("quiet", sh(": @{long}; echo > $out")),
        ("last", sh(&format!(": @{{quiet}}; {noise}"))),
    ]);
    let file = world.graph("g.json", &graph);
    fs::create_dir_all(world.at("log")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=256k none {0} || exit 77; w={2}
         $w build {1} --option compress-build-log {compress} 2>&1; echo status $?
         for drv in $($w add --all {1}); do case $drv in *-quiet.drv) continue; esac
             $w log $drv 2>&1 >/dev/null; $w nix-store --read-log $drv 2>&1 >/dev/null
         done",
        world.at("log").display(),
        file.display(),
        env!("CARGO_BIN_EXE_windrow"),
    );
    let unshare = world.program("/usr/bin/unshare");
    let ran = unshare.args(["--mount", "/bin/sh", "-c", &script]).run();
    let out = ran.out();
    assert!(out.contains("status 0"), "{ran}");
    assert_eq!(out.matches("cannot write the log file").count(), 1, "{ran}");
    assert_eq!(out.matches(".drv' is cut").count(), 4, "{ran}");
    world.stays_valid();
}

/// A script in a world on a file system of `mebibytes`. What is `before` the commands is run first.
fn small_disk(world: &World, mebibytes: u32, before: &str, cmds: &[&str]) -> Ran {
    let mount = format!("mount -t tmpfs -o size={mebibytes}m none");
    world.on_disk(&mount, &format!("{before}\n{}", cmds.join("\n")))
}

#[test]
fn a_disk_that_a_builder_fills() {
    need_mounts!();
    need!("nix-store", "dd");
    let world = World::new();
    let graph = graph_of([
        ("small", sh("echo small > $out")),
        (
            "huge",
            sh(": @{small}; dd if=/dev/zero of=$out bs=1M count=200 2>/dev/null"),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    // What is full while the builder runs is free again afterwards, so the same store serves the
    // commands after it.
    let build = format!("$w build {}; echo status $?", file.display());
    let ran = small_disk(
        &world,
        40,
        "",
        &[
            &build,
            "rm -f $NIX_STORE_DIR/*-huge; nix-store --verify --check-contents >&2; echo verified $?",
            "sqlite3 $NIX_STATE_DIR/db/db.sqlite 'pragma integrity_check; select path from ValidPaths'",
            "ls $TMPDIR | wc -l",
        ],
    );
    let out = ran.out();
    assert!(
        out.contains("status 1\n"),
        "a full disk is not the builder's fault\n{ran}"
    );
    assert!(
        out.contains("verified 0\n") && out.contains("\nok\n"),
        "{ran}"
    );
    assert!(
        out.contains("-small\n") && !out.contains("-huge\n"),
        "{ran}"
    );
    assert!(
        out.trim().ends_with("\n0"),
        "no build directory is left\n{ran}"
    );
    ran.no_panic()
        .says("-huge.drv'")
        .says_one_of(&["disk", "space"]);
}

#[test]
fn a_build_directory_that_a_builder_fills() {
    need_mounts!();
    need!("dd");
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("dd if=/dev/zero of=big bs=1M count=100 2>/dev/null && exit 5"),
    );
    let small = format!(
        "mount -t tmpfs -o size=20m none {}",
        world.at("tmp").display()
    );
    let ran = world
        .windrow("build")
        .arg(&drv)
        .after_mounting(&small)
        .run()
        .exits(1)
        .one_error();
    ran.says("nearly full").says(&drv);
    let large = format!(
        "mount -t tmpfs -o size=200m none {}",
        world.at("tmp").display()
    );
    let ran = world
        .windrow("build")
        .arg(&drv)
        .after_mounting(&large)
        .run()
        .exits(100);
    ran.says("exit code 5").never_says("nearly full");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_a_full_disk_makes_fail_is_not_remembered() {
    need_mounts!();
    need!("dd");
    let world = World::new();
    world.conf("build-cache-failure = true\n");
    let fill = "dd if=/dev/zero of=$TMP/x bs=1M count=200 2>/dev/null";
    let one = |name: &'static str, script: &str| {
        let file = world.graph(&format!("{name}.json"), &graph_of([(name, sh(script))]));
        format!("$w build {}; echo status $?", file.display())
    };
    // One after the other, for the space of one is free only when it has ended.
    let ran = small_disk(
        &world,
        40,
        "",
        &[
            &one("fails-anyhow", "exit 3"),
            &one("fails", fill),
            &one("overlooks", &format!("{fill} || exit 0")),
            "$w failed-paths",
        ],
    );
    let out = ran.out();
    assert!(out.starts_with("status 100\nstatus 1\nstatus 1\n"), "{ran}");
    assert!(out.ends_with("-fails-anyhow\n"), "{ran}");
    assert_eq!(out.lines().count(), 4, "{ran}");
}

#[test]
fn a_disk_that_is_full_before_anything_is_added() {
    need_mounts!();
    need!("nix-store", "dd", "sqlite3");
    let world = World::new();
    world.write("source", vec![7; 3_000_000]);
    let first = world.graph(
        "first.json",
        &graph_of([("first", sh("echo first > $out"))]),
    );
    let mut graph = graph_of([("second", sh("cat @{source} > $out"))]);
    graph["sources"] = serde_json::json!({"source": "source"});
    let second = world.graph("second.json", &graph);
    let ran = small_disk(
        &world,
        24,
        &format!("$w build {}", first.display()),
        &[
            // The rest of the space goes, even of what the database keeps in reserve.
            "dd if=/dev/zero of=$NIX_LOG_DIR/ballast bs=4k 2>/dev/null",
            &format!("$w add {}; echo status $?", second.display()),
            &format!("$w build {}; echo status $?", second.display()),
            "rm $NIX_LOG_DIR/ballast; nix-store --verify --check-contents >&2; echo verified $?",
            &format!(
                "$w build {} > /dev/null; echo afterwards $?",
                second.display()
            ),
        ],
    );
    let out = ran.out();
    assert_eq!(out.matches("status 1\n").count(), 2, "{ran}");
    assert!(out.contains("verified 0\n"), "{ran}");
    assert!(
        out.contains("afterwards 0\n"),
        "with space it goes on\n{ran}"
    );
    ran.no_panic()
        .says_one_of(&["No space left", "disk is full", "disk full"]);
}

#[test]
fn a_relative_or_impossible_store() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let windrow = |name: &str, value: &str| {
        world
            .windrow("build")
            .arg(&file)
            .env(name, value)
            .run()
            .exits(1)
            .one_error()
            .prints_nothing()
            .says(value)
    };
    windrow("NIX_STORE_DIR", "relative/store").says("NIX_STORE_DIR");
    windrow("NIX_STATE_DIR", "relative/state").says("NIX_STATE_DIR");
    windrow("NIX_STORE_DIR", "/dev/null/store");
    windrow("NIX_STATE_DIR", "/dev/null/state");
    windrow("NIX_REMOTE", "daemon");
    std::os::unix::fs::symlink(world.at("elsewhere"), world.at("linked")).unwrap();
    fs::create_dir(world.at("elsewhere")).unwrap();
    let linked = world.at("linked/store");
    windrow("NIX_STORE_DIR", linked.to_str().unwrap()).says("symbolic link");
}
