//! What windrow does where few descriptors, processes or threads are allowed: fewer builds at a
//! time, or one message. Each limit is set by `ulimit` in a shell that becomes windrow.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::{Cmd, World, graph_of, need, sh, text};

/// A user that nothing else runs as.
const NOBODY_ELSE: &str = "48123";

/// That many derivations, which have nothing to do with each other.
fn many(count: usize, script: &str) -> Value {
    let names: Vec<String> = (0..count).map(|n| format!("d{n}")).collect();
    graph_of(names.iter().map(|name| (name.as_str(), sh(script))))
}

/// windrow where `ulimit` was given these limits.
fn limited(world: &World, subcommand: &str, limits: &str) -> Cmd {
    let script = format!(
        "for limit in {limits}; do ulimit ${{limit%=*}} ${{limit#*=}} || exit 9; done; exec \"$@\""
    );
    let cmd = world.windrow(subcommand);
    cmd.through("/bin/bash", &["-c", &script, "sh"])
}

#[test]
fn two_hundred_derivations_are_built_with_64_descriptors() {
    need!("bash");
    let world = World::new();
    let graph = world.graph("graph.json", &many(200, "echo x > $out"));
    let ran = limited(&world, "build", "-n=64")
        .arg(&graph)
        .args(["-j", "50"]);
    let ran = ran.ok().says("'max-jobs' is 50").says("ulimit -n");
    assert_eq!(ran.lines().len(), 200);
    assert_eq!(ran.stderr.matches("ulimit").count(), 1, "{ran}");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_threads_have_open_is_waited_for() {
    need!("bash");
    let world = World::new();
    // A log and a directory of its own, which threads write and delete when the builder has ended.
    let script = "echo to the log; mkdir a b c; echo x > a/f; echo x > $out";
    let graph = world.graph("graph.json", &many(200, script));
    for limit in [19, 20, 21, 22, 24, 26, 30] {
        let ran = limited(&world, "build", &format!("-n={limit}"))
            .arg(&graph)
            .args(["-j", "4"])
            .run()
            .no_panic();
        if ran.status.success() {
            assert_eq!(ran.lines().len(), 200, "{limit}: {ran}");
            // With what one that failed could not even delete.
            world.is_clean();
        } else {
            // So few may not do for one build, and nobody needs to be told that 200 times.
            assert!(limit < 24, "{limit}: {ran}");
            let ran = ran.exits(1);
            let errors = ran
                .stderr
                .lines()
                .filter(|line| line.starts_with("error: "));
            // Why, and which build has failed.
            assert_eq!(errors.count(), 2, "{limit}: {ran}");
            ran.says(format!("; {limit} files may be open at a time"));
        }
        world.set_aside(&limit.to_string());
    }
}

#[test]
fn more_outputs_than_descriptors_are_one_message() {
    need!("bash");
    let world = World::new();
    let outputs: Vec<String> = (0..80).map(|n| format!("o{n}")).collect();
    let script = format!(
        "for o in {}; do eval echo x \\> \\$$o; done",
        outputs.join(" ")
    );
    let wide = |n: usize| {
        let mut wide = sh(&script);
        wide["outputs"] = outputs[..n].into();
        wide
    };
    let graph = graph_of([("plain", sh("echo x > $out")), ("wide", wide(80))]);
    let graph = world.graph("graph.json", &graph);
    let ran = limited(&world, "build", "-n=64")
        .arg(&graph)
        .args(["-k"])
        .run();
    ran.exits(1).says("64 files may be open").no_panic();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn the_soft_limit_is_raised_and_builders_do_not_see_that() {
    need!("bash");
    let world = World::new();
    let graph = graph_of([("x", sh("ulimit -Sn > $out; ulimit -Hn >> $out"))]);
    let graph = world.graph("graph.json", &graph);
    let ran = limited(&world, "build", "-Sn=64 -Hn=1024").arg(&graph);
    let ran = ran.args(["-j", "50"]).ok().never_says("max-jobs");
    assert_eq!(crate::harness::text(ran.path()), "64\n1024\n");
    // The hook, and what it starts, are children as well.
    let limit = world.file("limit");
    let hook = format!(
        "ulimit -Sn > {}\necho '# decline-permanently' >&2",
        limit.display()
    );
    let hook = world.script("hook", &hook);
    let graph = world.graph("graph.json", &many(1, "echo y > $out"));
    let ran = limited(&world, "build", "-Sn=64 -Hn=1024").arg(&graph);
    ran.env("NIX_BUILD_HOOK", &hook).ok();
    assert_eq!(crate::harness::text(limit), "64\n");
}

#[test]
fn a_deep_tree_takes_few_descriptors() {
    need!("bash");
    let world = World::new();
    let script = "mkdir $out; cd $out; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; echo x > f";
    let graph = world.graph("graph.json", &many(4, script));
    limited(&world, "build", "-n=64").arg(&graph).ok();
    world.stays_valid();
}

#[test]
fn of_many_failures_the_last_message_names_some() {
    let world = World::new();
    let graph = world.graph("graph.json", &many(40, "exit 1"));
    let ran = world.windrow("build").arg(&graph).args(["-k", "-j4"]).run();
    ran.exits(100).says("and 30 more failed");
}

/// windrow as a user who has no other processes.
fn alone(world: &World, limits: &str) -> Cmd {
    let cmd = limited(world, "build", limits);
    let ids = [
        format!("--reuid={NOBODY_ELSE}"),
        format!("--regid={NOBODY_ELSE}"),
    ];
    cmd.through("setpriv", &[&ids[0], &ids[1], "--clear-groups"])
}

#[test]
fn few_processes_mean_fewer_builds_at_a_time_or_one_message() {
    need!(root);
    need!("bash", "setpriv");
    let world = World::new();
    world.open_to_all();
    let graph = world.graph(
        "graph.json",
        &many(12, "read -t 0.2 x <> /dev/zero; echo x > $out"),
    );
    // Every number, from no thread at all to enough for everything: none may lead to a panic.
    let mut built = false;
    for limit in [1, 2, 4, 6, 8, 10, 14, 40] {
        let ran = alone(&world, &format!("-u={limit}"))
            .arg(&graph)
            .args(["-j12"]);
        let ran = ran.run().no_panic();
        match ran.status.code() {
            Some(0) => built = true,
            Some(1 | 100) => assert!(!built || limit < 40, "{limit}: {ran}"),
            _ => panic!("{limit}: {ran}"),
        }
        let says = ran.stderr.contains("ulimit -u");
        assert!(says || ran.status.success(), "{limit}: {ran}");
        if built {
            world.set_aside(&format!("{limit}"));
        }
    }
    assert!(built);
}

#[test]
fn what_has_no_end_is_refused() {
    need!("bash", "timeout");
    let world = World::new();
    let endless = |args: &str, stdin: &str| {
        let script = format!("ulimit -v 4000000; exec \"$0\" {args} < <({stdin})");
        let windrow = env!("CARGO_BIN_EXE_windrow");
        let ran = world
            .program("timeout")
            .args(["60", "/bin/bash", "-c", &script, windrow]);
        ran.run().exits(1).no_panic()
    };
    let zeros = "exec cat /dev/zero";
    for operation in ["--load-db", "--register-validity"] {
        let ran = endless(&format!("nix-store {operation}"), zeros);
        ran.says("more than 65536 bytes").says("line 1");
    }
    endless("build -", zeros).says("more than 268435456 bytes");
    endless("build -", "exec yes").says("more than 268435456 bytes");
    std::os::unix::fs::symlink("/dev/zero", world.file("zero.json")).unwrap();
    endless("build zero.json", "true")
        .says("cannot read")
        .says("1073741824 bytes");
    endless("add zero.json", "true")
        .says("cannot read")
        .says("1073741824 bytes");
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_ends_nothing_but_builders() {
    need!("bash");
    let world = World::new();
    let graph = world.graph("graph.json", &many(100, "echo x > $out"));
    let ran = limited(&world, "build", "-f=60").arg(&graph).run();
    ran.exits(1).says("ulimit -f").no_panic();
    world.is_clean();
    let script = "(/bin/head -c 9000000 /dev/zero > big); echo $? > $out";
    let graph = world.graph("graph.json", &many(1, script));
    let ran = limited(&world, "build", "-f=8000").arg(&graph).ok();
    // The signal, which is handled by default in builders.
    assert_eq!(crate::harness::text(ran.path()), "153\n");
    world.stays_valid();
}

/// The C library would reserve some 64 MiB for each thread.
#[test]
fn threads_reserve_little_where_memory_is_limited() {
    need!("bash");
    let world = World::new();
    let peak = "while read -r name size unit; do [ $name != VmPeak: ] || echo $size; done";
    let graph = world.graph(
        "graph.json",
        &many(1, &format!("{peak} < /proc/$PPID/status > $out")),
    );
    let ran = limited(&world, "build", "-v=2000000").arg(&graph).ok();
    let kibibytes: u64 = text(ran.path()).trim().parse().expect("a number");
    assert!((10_000..200_000).contains(&kibibytes), "{kibibytes}");
}

/// A derivation in the store that only seems to be huge: it has a hole.
#[test]
fn a_huge_derivation_is_not_read() {
    need!("bash", "timeout");
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    fs::set_permissions(&drv, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(&drv).unwrap();
    file.set_len(3 << 30).unwrap();
    let run = |args: &[&str]| {
        let script = "ulimit -v 2000000; exec \"$@\"";
        let cmd = world.windrow(args[0]).args(&args[1..]).arg(&drv);
        let cmd = cmd.through("timeout", &["60", "/bin/bash", "-c", script, "sh"]);
        cmd.run()
            .exits(1)
            .no_panic()
            .says("more than 268435456 bytes")
    };
    run(&["build"]);
    run(&["plan"]);
    run(&["show"]);
    run(&["graph"]);
    run(&["nix-store", "-q", "--binding", "out"]);
    run(&["nix-store", "-r"]);
}

#[test]
fn want_of_memory_is_one_message() {
    need!("bash");
    let world = World::new();
    let graph = world.graph("graph.json", &many(20, "echo x > $out"));
    // From hardly enough for the program itself to enough for all: each thread that is started is
    // the one too many for some of them.
    let few = (52_000..80_000).step_by(500);
    for kibibytes in few.chain([100_000, 200_000, 400_000, 2_000_000]) {
        let ran = limited(&world, "build", &format!("-v={kibibytes}"));
        let ran = ran.arg(&graph).run().no_panic();
        world.set_aside(&kibibytes.to_string());
        if !ran.status.success() {
            assert!(kibibytes < 2_000_000, "{ran}");
            assert_eq!(ran.status.code(), Some(1), "{kibibytes}: {ran}");
            assert!(ran.stderr.contains("memory"), "{kibibytes}: {ran}");
        }
    }
}
