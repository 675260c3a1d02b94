//! How one build fails: the exit status of every kind of failure, and what it says. What a failure
//! does to other builds is in propagation.rs; input that is bad from the start in the bad_*.rs.

use serde_json::{Value, json};

use crate::harness::{World, need, sh, sh_with};

/// Builds a derivation "x" and expects one failure.
#[track_caller]
fn fails(world: &World, derivation: Value, status: i32, says: &str) {
    let drv = world.add_one("x", derivation);
    let ran = world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(status)
        .prints_nothing()
        .no_panic();
    ran.says(says)
        .says("x.drv'")
        .says(format!("build of '{drv}' failed"));
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_builder_that_exits_with_a_status() {
    fails(&World::new(), sh("exit 3"), 100, "failed with exit code 3");
}

#[test]
fn a_builder_that_makes_its_output_and_then_fails() {
    let world = World::new();
    fails(
        &world,
        sh("echo x > $out; exit 1"),
        100,
        "failed with exit code 1",
    );
    let valid = world
        .store_entries()
        .into_iter()
        .filter(|path| world.is_valid(path))
        .count();
    assert_eq!(valid, 1, "only the .drv is valid");
}

#[test]
fn a_builder_killed_by_a_signal() {
    fails(&World::new(), sh("kill -SEGV $$"), 100, "signal 11");
}

#[test]
fn a_builder_that_is_missing() {
    let world = World::new();
    let drv = world.add_one("x", json!({"builder": "/no/such/builder"}));
    let ran = world.windrow("build").args([&drv, "--keep-failed"]).run();
    // It has done nothing that somebody could want to look at.
    ran.exits(100)
        .prints_nothing()
        .says("its builder '/no/such/builder' can't be executed: No such file")
        .never_says("keeping build directory");
    world.is_clean();
    world.windrow("log").arg(&drv).run().exits(1);
}

#[test]
fn a_builder_that_is_not_executable() {
    let world = World::new();
    let builder = world.write("not-executable", "#!/bin/sh\n");
    fails(&world, json!({"builder": builder}), 100, "not-executable");
}

#[test]
fn a_builder_that_is_a_directory() {
    let world = World::new();
    let builder = world.at("files");
    fails(
        &world,
        json!({"builder": builder}),
        100,
        builder.to_str().unwrap(),
    );
}

#[test]
fn a_builder_whose_interpreter_is_missing() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let builder = world.write("script", "#!/no/such/interpreter\n");
    std::fs::set_permissions(&builder, std::fs::Permissions::from_mode(0o755)).unwrap();
    fails(&world, json!({"builder": builder}), 100, "script");
}

#[test]
fn an_output_that_is_missing() {
    fails(
        &World::new(),
        sh("true"),
        1,
        "failed to produce output path",
    );
}

#[test]
fn one_of_two_outputs_that_is_missing() {
    let world = World::new();
    fails(
        &world,
        sh_with("echo > $out", json!({"outputs": ["out", "dev"]})),
        1,
        "failed to produce output path",
    );
    let valid = world
        .store_entries()
        .into_iter()
        .filter(|path| world.is_valid(path))
        .count();
    assert_eq!(valid, 1, "an output alone is not registered");
}

#[test]
fn an_output_that_everybody_may_write_to() {
    fails(
        &World::new(),
        sh("echo > $out; chmod 666 $out"),
        1,
        "it has mode 0666 and belongs to user",
    );
}

#[test]
fn an_output_of_an_unsupported_type() {
    let world = World::new();
    fails(&world, sh("mkfifo -m 644 $out"), 1, "unsupported type");
    fails(
        &world,
        sh("mkdir $out; mkfifo $out/deep"),
        1,
        "/deep' has an unsupported type",
    );
}

#[test]
fn an_output_that_is_a_socket() {
    need!("perl");
    let script = "perl -MIO::Socket::UNIX -e 'umask 077; chdir $ENV{TMP};
        IO::Socket::UNIX->new(Local => q(s), Listen => 1) or die $!'; mv $TMP/s $out";
    fails(&World::new(), sh(script), 1, "unsupported type");
}

#[test]
fn an_output_that_is_a_device() {
    need!(root);
    let world = World::new();
    fails(&world, sh("mknod -m 644 $out c 1 3"), 1, "unsupported type");
    fails(
        &world,
        sh("mkdir $out; mknod -m 644 $out/null c 1 3"),
        1,
        "/null' has an unsupported type",
    );
}

#[test]
fn a_derivation_for_another_system() {
    fails(
        &World::new(),
        sh_with("echo > $out", json!({"system": "mips64-plan9"})),
        1,
        "mips64-plan9",
    );
}

#[test]
fn a_fixed_output_with_another_hash() {
    let world = World::new();
    let zero = "0".repeat(64);
    let fixed = json!({"outputHash": zero, "outputHashAlgo": "sha256", "outputHashMode": "flat"});
    let drv = world.add_one("x", sh_with("printf hello > $out", fixed));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(102)
        .prints_nothing()
        .says("hash mismatch")
        .says(&drv);
    // sha256 of "hello", as SRI.
    ran.says("sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_fixed_output_builder_that_fails() {
    let fixed = json!({"outputHash": "0".repeat(64), "outputHashAlgo": "sha256"});
    fails(
        &World::new(),
        sh_with("exit 3", fixed),
        1,
        "failed with exit code 3",
    );
}

#[test]
fn a_flat_fixed_output_that_is_a_directory() {
    let fixed =
        json!({"outputHash": "0".repeat(64), "outputHashAlgo": "sha256", "outputHashMode": "flat"});
    fails(
        &World::new(),
        sh_with("mkdir $out", fixed),
        1,
        "regular file",
    );
}

#[test]
fn outputs_that_refer_to_each_other_in_a_circle() {
    let world = World::new();
    let circle = sh_with(
        "echo $dev > $out; echo $out > $dev",
        json!({"outputs": ["out", "dev"]}),
    );
    fails(&world, circle, 1, "cycle");
    let valid = world
        .store_entries()
        .into_iter()
        .filter(|path| world.is_valid(path))
        .count();
    assert_eq!(valid, 1, "neither output is registered");
}

#[test]
fn builds_that_take_too_long() {
    let world = World::new();
    let drv = world.add_one("slow", sh("sleep 300 & echo begun; sleep 300; echo > $out"));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .args(["--timeout", "1"])
        .run()
        .exits(101)
        .prints_nothing();
    ran.says("timed out after 1 second").says(&drv);
    world.is_clean();
    let ran = world
        .windrow("build")
        .arg(&drv)
        .args(["--max-silent-time", "1"])
        .run()
        .exits(101);
    ran.says("timed out after 1 second of silence");
    world.is_clean();
    world.conf("timeout = 1\n");
    world.windrow("build").arg(&drv).run().exits(101);
    world.is_clean();
}

#[test]
fn the_log_may_have_a_limit() {
    let world = World::new();
    let drv = world.add_one("chatty", sh("yes | head -c 3000000; sleep 300"));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .args(["--option", "max-build-log-size", "100000"])
        .run();
    ran.exits(1).says("log").says("100000");
    world.is_clean();
    // It counts as well if the builder is done before anybody could have stopped it.
    let drv = world.add_one("brief", sh("yes | head -c 300000; echo > $out"));
    let build = |limit: &str| {
        world
            .windrow("build")
            .arg(&drv)
            .args(["--option", "max-build-log-size", limit])
            .run()
    };
    build("100000").exits(1).says("more than 100000 bytes");
    build("300000").exits(0);
    world.is_clean();
}

#[test]
fn arguments_that_no_program_could_take() {
    let world = World::new();
    let long = json!({"builder": "/bin/sh", "args": ["-c", "true", "x".repeat(300_000)]});
    fails(
        &world,
        long,
        100,
        "argument 3 has 300001 bytes, and one may have 131072",
    );
    let variable = json!({"builder": "/bin/sh", "args": ["-c", "true"], "env": {"many": "x".repeat(200_000), "A": "b"}});
    let says = "Argument list too long (os error 7): the variable 'many' has 200006 bytes";
    fails(&world, variable.clone(), 100, says);
    fails(&world, variable, 100, "'passAsFile'");
    let words: Vec<String> = (0..60).map(|_| "y".repeat(100_000)).collect();
    let env: serde_json::Map<_, _> = (0..)
        .map(|n| format!("v{n:02}"))
        .zip(words.into_iter().map(Into::into))
        .collect();
    let all = json!({"builder": "/bin/sh", "args": ["-c", "true"], "env": env});
    fails(&world, all, 100, "is the largest with 100005 bytes of 60");
}
