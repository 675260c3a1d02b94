//! Building again to see whether it comes out the same (`--check`): what is compared, what is kept,
//! what stays untouched. Where a real Nix is at hand it checks the same derivations.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Cmd, Ran, World, graph_of, need, sh, sh_with, sorted_lines, text};

fn check(world: &World, drv: &str) -> Cmd {
    world.windrow("build").args([drv, "--check"])
}

/// The paths in the store whose names end so.
fn ending(world: &World, end: &str) -> Vec<PathBuf> {
    let mut entries = world.store_entries();
    entries.retain(|path| path.to_string_lossy().ends_with(end));
    entries
}

/// Builds, and gives the outputs.
#[track_caller]
fn build(world: &World, drv: &str) -> Vec<String> {
    world.windrow("build").arg(drv).ok().lines()
}

#[test]
fn what_comes_out_the_same() {
    let world = World::new();
    let log = world.file("runs");
    // Both outputs name themselves and each other's kind, so that the scratch names of the second
    // build matter.
    let script = format!(
        "echo run >> {}; mkdir $out; echo $out $dev > $out/file; ln -s $out/file $out/link; echo $dev > $dev",
        log.display()
    );
    let input = (
        "input",
        sh(&format!("echo input >> {}; echo > $out", log.display())),
    );
    let two = sh_with(
        &format!(": @{{input}}; {script}"),
        json!({"outputs": ["out", "dev"]}),
    );
    let drv = world.add(&graph_of([input, ("x", two)]));
    let outputs = build(&world, &drv);
    let before: Vec<u64> = outputs
        .iter()
        .map(|it| std::fs::metadata(it).unwrap().ino())
        .collect();
    let entries = world.store_entries();

    let ran = check(&world, &drv).arg("--print-build-trace").ok();
    assert_eq!(ran.lines(), outputs);
    ran.says("checking outputs of '").says("@ build-succeeded ");
    assert_eq!(
        sorted_lines(&log),
        ["input", "run", "run"],
        "its input is not built again"
    );
    let after: Vec<u64> = outputs
        .iter()
        .map(|it| std::fs::metadata(it).unwrap().ino())
        .collect();
    assert_eq!(before, after, "what was valid is not touched");
    assert_eq!(world.store_entries(), entries);
    world.is_clean();
    world.stays_valid();
}

/// A derivation one of whose outputs has another line each time.
fn changing(world: &World) -> String {
    let log = world.file("runs");
    let script = format!(
        "echo run >> {0}; cat {0} > $dev; echo same > $out; echo $dev >> $dev",
        log.display()
    );
    world.add_one("x", sh_with(&script, json!({"outputs": ["out", "dev"]})))
}

#[test]
fn what_comes_out_different_is_named_and_kept_on_request() {
    let world = World::new();
    let drv = changing(&world);
    let outputs = build(&world, &drv);
    let dev = outputs
        .iter()
        .find(|path| path.ends_with("-x-dev"))
        .unwrap();
    let ran = check(&world, &drv).run().exits(104).prints_nothing();
    let ran = ran.says(format!(
        "derivation '{drv}' may not be deterministic: output '{dev}' differs"
    ));
    let named = ran.stderr.matches("output '").count();
    assert_eq!(named, 1, "only one differs\n{ran}");
    assert!(ending(&world, ".check").is_empty());
    let ran = check(&world, &drv).arg("-K").run().exits(104);
    ran.says(format!("differs from '{dev}.check'"));
    assert_eq!(text(dev), format!("run\n{dev}\n"), "the valid one stays");
    // The scratch names are gone from what is kept.
    assert_eq!(
        text(format!("{dev}.check")),
        format!("run\nrun\nrun\n{dev}\n")
    );
    assert_eq!(ending(&world, ".check").len(), 1);
    // The next one takes the place of what was kept.
    check(&world, &drv).arg("-K").run().exits(104);
    assert_eq!(ending(&world, ".check").len(), 1);
    for kept in world.temporary() {
        std::fs::remove_dir_all(kept).unwrap();
    }
    world.is_clean();
    world.stays_valid();
}

#[test]
fn nix_says_the_same() {
    need!(nix);
    let world = World::new();
    let drv = changing(&world);
    let outputs = build(&world, &drv);
    let nix = |more: &[&str]| -> Ran {
        let cmd = world
            .program("nix-store")
            .args(["--realise", "--check", &drv]);
        cmd.args(more).run()
    };
    nix(&[]).exits(104);
    check(&world, &drv).run().exits(104);
    nix(&["-K"]).exits(104);
    let kept = ending(&world, ".check");
    assert_eq!(kept.len(), 1);
    check(&world, &drv).arg("-K").run().exits(104);
    assert_eq!(ending(&world, ".check"), kept);
    assert_eq!(outputs.len(), 2);
    let same = world.add_one("same", sh("echo same > $out"));
    build(&world, &same);
    world
        .program("nix-store")
        .args(["--realise", "--check", &same])
        .ok();
    check(&world, &same).ok();
    world.verifies();
}

#[test]
fn what_is_not_there_cannot_be_compared() {
    let world = World::new();
    let log = world.file("runs");
    let input = (
        "input",
        sh(&format!("echo run >> {}; echo > $out", log.display())),
    );
    let drv = world.add(&graph_of([input, ("x", sh("cat @{input} > $out"))]));
    let ran = check(&world, &drv)
        .run()
        .exits(1)
        .prints_nothing()
        .one_error();
    ran.says("some outputs of '")
        .says("are not valid, so checking is not possible");
    assert!(sorted_lines(&log).is_empty(), "nothing is built for it");
    world.is_clean();
}

#[test]
fn a_builder_that_fails_the_second_time() {
    let world = World::new();
    let flag = world.file("flag");
    let script = format!(
        "echo x > $out; [ ! -e {0} ] || exit 3; : > {0}",
        flag.display()
    );
    let drv = world.add_one("x", sh(&script));
    let outputs = build(&world, &drv);
    let entries = world.store_entries();
    // That is no failure to remember, for the output is there.
    let ran = check(&world, &drv)
        .args(["--option", "build-cache-failure", "true"])
        .run()
        .exits(100);
    ran.says("failed with exit code 3");
    assert_eq!(world.windrow("failed-paths").ok().out(), "");
    build(&world, &drv);
    assert!(world.is_valid(&outputs[0]));
    let mut left = world.store_entries();
    // As after any failed build.
    left.retain(|path| path.extension().is_none_or(|end| end != "lock"));
    assert_eq!(left, entries, "nothing is left of it");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn differences_and_failures_are_told_together() {
    let world = World::new();
    let changing = changing(&world);
    let flag = world.file("flag");
    let script = format!("echo x > $out; [ ! -e {} ] || sleep 300", flag.display());
    let slow = world.add_one("slow", sh(&script));
    build(&world, &changing);
    build(&world, &slow);
    world.write("flag", "");
    let cmd = check(&world, &changing).args([&slow, "-k", "--timeout", "1"]);
    cmd.run()
        .exits(109)
        .says("timed out")
        .says("may not be deterministic");
    world.is_clean();
}

#[test]
fn a_fixed_output_is_compared_too() {
    let world = World::new();
    let log = world.file("runs");
    let fixed = json!({
        "outputHash": "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "outputHashMode": "flat",
    });
    let script = format!("echo run >> {}; printf hello > $out", log.display());
    let drv = world.add_one("x", sh_with(&script, fixed));
    build(&world, &drv);
    check(&world, &drv).ok();
    assert_eq!(sorted_lines(&log).len(), 2);
    world.stays_valid();
}
