//! Command lines that make no sense: exit 1, and one message that names the word that was not
//! understood. Graph files that make no sense are in graph_mistakes.rs.

use crate::harness::{Ran, World, graph_of, sh};

#[test]
fn unknown_options_and_commands() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    world
        .windrow("build")
        .arg(&drv)
        .arg("--frobnicate")
        .run()
        .exits(1)
        .no_panic()
        .says("--frobnicate")
        .prints_nothing();
    world
        .windrow("plan")
        .arg(&drv)
        .arg("-Z")
        .run()
        .exits(1)
        .no_panic()
        .says("-Z")
        .prints_nothing();
    world
        .windrow("frobnicate")
        .run()
        .exits(1)
        .no_panic()
        .says("frobnicate")
        .prints_nothing();
    world
        .windrow("build")
        .arg(&drv)
        .args(["--log-format", "neon"])
        .run()
        .exits(1)
        .no_panic()
        .says("neon")
        .prints_nothing();
    world
        .windrow("show")
        .arg(&drv)
        .args(["--json-version", "77"])
        .run()
        .exits(1)
        .no_panic()
        .says("77")
        .prints_nothing();
    world
        .windrow("build")
        .arg(&drv)
        .args(["--timeout", "soon"])
        .run()
        .exits(1)
        .no_panic()
        .says("soon")
        .prints_nothing();
    world
        .windrow("build")
        .arg(&drv)
        .arg("--option")
        .arg("cores")
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing();
    world.is_clean();
}

#[test]
fn nothing_to_do() {
    let world = World::new();
    world
        .windrow("build")
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing();
    world
        .program(env!("CARGO_BIN_EXE_windrow"))
        .run()
        .exits(1)
        .no_panic()
        .prints_nothing();
}

#[test]
fn help_and_version() {
    let world = World::new();
    let help = world
        .program(env!("CARGO_BIN_EXE_windrow"))
        .arg("--help")
        .ok();
    for subcommand in ["build", "plan", "add", "show", "log"] {
        assert!(help.out().contains(subcommand), "{help}");
    }
    let help = world.windrow("build").arg("--help").ok();
    for option in [
        "--max-jobs",
        "--cores",
        "--keep-going",
        "--keep-failed",
        "--store",
        "--option",
        "--dry-run",
        "--add-root",
        "--print-build-trace",
        "--log-format",
        "--timeout",
        "--max-silent-time",
    ] {
        assert!(help.out().contains(option), "{option}\n{help}");
    }
    let version = world
        .program(env!("CARGO_BIN_EXE_windrow"))
        .arg("--version")
        .ok();
    assert!(version.out().starts_with("windrow "), "{version}");
}

/// Expects `build` to refuse these with one message.
#[track_caller]
fn refused(world: &World, what: &[&str]) -> Ran {
    let ran = world.windrow("build").args(what).run();
    ran.exits(1).one_error().prints_nothing()
}

#[test]
fn things_that_are_nothing_to_build() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    world.write("plain.txt", "hello\n");
    std::fs::create_dir(world.file("directory")).unwrap();
    std::os::unix::fs::symlink("nowhere", world.file("dangling")).unwrap();
    std::os::unix::fs::symlink("loop", world.file("loop")).unwrap();
    let elsewhere = "/other/store/00000000000000000000000000000000-x.drv";
    for what in [
        "nonsense",
        "/etc/passwd",
        "./directory",
        "directory",
        "plain.txt",
        "dangling",
        "loop",
        "no such thing",
        elsewhere,
        "x.drv",
        "/",
        "..",
        "--",
        "^out",
        "!",
    ] {
        if what == "--" {
            let ran = world.windrow("build").arg(what).run();
            ran.exits(1).no_panic().prints_nothing();
        } else {
            refused(&world, &[what]).says(what);
        }
    }
    refused(&world, &[""]);
    refused(&world, &[&drv, "nonsense"]).says("nonsense");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn paths_that_are_nothing_to_build() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    for suffix in ["^", "!", "^out,", "^,", "!*x", "^out^out"] {
        refused(&world, &[&format!("{drv}{suffix}")]).says(&drv);
    }
    let store = world.store();
    for bad in [
        "",
        "/x",
        "/short-x",
        "/00000000000000000000000000000000",
        "/00000000000000000000000000000000-",
        "/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-x",
        "/00000000000000000000000000000000-a b",
    ] {
        refused(&world, &[&format!("{}{bad}", store.display())]).says(bad);
    }
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_word_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    let word = std::ffi::OsStr::from_bytes(b"caf\xe9.drv");
    world
        .windrow("build")
        .arg(word)
        .run()
        .exits(1)
        .one_error()
        .prints_nothing()
        .says("caf");
    let file = world.write(
        "g.json",
        serde_json::to_vec(&graph_of([("x", sh("echo > $out"))])).unwrap(),
    );
    let odd = world
        .at("files")
        .join(std::ffi::OsStr::from_bytes(b"g\xe9.json"));
    std::fs::rename(file, &odd).unwrap();
    world.windrow("build").arg(odd).ok();
}

#[test]
fn a_list_with_a_word_that_makes_no_sense() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    world
        .windrow("build")
        .arg("-")
        .stdin(format!("{drv}\nnonsense\n"))
        .run()
        .exits(1)
        .one_error()
        .says("nonsense");
    world
        .windrow("build")
        .arg("-")
        .stdin(&b"\xff\xfe\n"[..])
        .run()
        .exits(1)
        .one_error();
}

#[test]
fn standard_output_that_goes_away_is_no_panic() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let line = format!(
        "{windrow} build {drv} | true; {windrow} build {drv} > /dev/full; echo status $?; \
         {windrow} --help > /dev/full; echo help $?",
        windrow = env!("CARGO_BIN_EXE_windrow"),
    );
    let ran = world.program("sh").args(["-c", &line]).run().no_panic();
    assert!(
        ran.out().contains("status 1"),
        "paths that can't be printed are an error\n{ran}"
    );
    assert!(ran.out().contains("help 1"), "{ran}");
    world.is_clean();
}
