//! Repair (`--repair`): corrupt and missing outputs, and what they refer to, are made anew, and
//! nothing good is taken away before. How one path takes the place of another is tested beside the
//! code.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::json;

use crate::harness::{
    Cmd, World, busybox_with, for_each_caller, graph_of, need, sh, sh_with, sorted_lines, text,
};

fn repair(world: &World, what: &str) -> Cmd {
    world.windrow("build").args([what, "--repair"])
}

/// Writes other contents of the same length into a file of the store.
fn spoil(file: impl AsRef<Path>) {
    let file = file.as_ref();
    let spoilt = text(file).replace(['a', 'e', 'o'], "#");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("a file");
    fs::write(file, spoilt).expect("a writable file");
    fs::set_permissions(file, fs::Permissions::from_mode(0o444)).expect("a file");
}

fn remove(path: &str) {
    assert!(
        std::process::Command::new("rm")
            .args(["-rf", path])
            .status()
            .unwrap()
            .success()
    );
}

/// Builds, and gives the outputs.
#[track_caller]
fn build(world: &World, drv: &str) -> Vec<String> {
    world.windrow("build").arg(drv).ok().lines()
}

/// What lies in the store, except the lock files that failed builds leave.
fn entries(world: &World) -> Vec<std::path::PathBuf> {
    let mut entries = world.store_entries();
    entries.retain(|path| path.extension().is_none_or(|end| end != "lock"));
    entries
}

/// Expects everything to be in order again, with nothing more in the store than before.
#[track_caller]
fn is_whole(world: &World, before: &[std::path::PathBuf]) {
    assert_eq!(entries(world), before);
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_corrupt_or_missing_output() {
    let world = World::new();
    let log = world.file("runs");
    let script = format!(
        "echo run >> {}; mkdir $out; echo one $out > $out/file",
        log.display()
    );
    let drv = world.add_one("x", sh(&script));
    let out = build(&world, &drv).remove(0);
    let before = entries(&world);
    let good = text(format!("{out}/file"));

    let ran = repair(&world, &drv).ok();
    assert_eq!(
        (ran.line(), sorted_lines(&log).len()),
        (out.clone(), 1),
        "nothing to repair"
    );
    spoil(format!("{out}/file"));
    let ran = repair(&world, &drv).ok();
    assert_eq!(ran.line(), out);
    ran.says("repairing outputs of '")
        .says("1 derivation repaired");
    assert_eq!(
        (text(format!("{out}/file")), sorted_lines(&log).len()),
        (good.clone(), 2)
    );
    is_whole(&world, &before);
    remove(&out);
    repair(&world, &drv).ok();
    assert_eq!(
        (text(format!("{out}/file")), sorted_lines(&log).len()),
        (good.clone(), 3)
    );
    is_whole(&world, &before);
    // By the path alone.
    spoil(format!("{out}/file"));
    assert_eq!(repair(&world, &out).ok().line(), out);
    assert_eq!(text(format!("{out}/file")), good);
    is_whole(&world, &before);
}

#[test]
fn only_the_bad_one_of_two_outputs_is_replaced() {
    let world = World::new();
    let script =
        "echo $dev $out > $out; mkdir $dev; echo one > $dev/file; ln -s $dev/file $dev/link";
    let drv = world.add_one("x", sh_with(script, json!({"outputs": ["out", "dev"]})));
    let outputs = build(&world, &drv);
    let out = outputs.iter().find(|path| path.ends_with("-x")).unwrap();
    let dev = outputs
        .iter()
        .find(|path| path.ends_with("-x-dev"))
        .unwrap();
    let inode = |path: &String| fs::metadata(path).unwrap().ino();
    let before = (entries(&world), inode(dev), text(out));
    // The hash parts of both stay as they are, so it is the contents that are wrong, not the
    // references.
    fs::set_permissions(out, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(out, format!("{}{}", text(out), "more")).unwrap();
    repair(&world, &drv).ok();
    assert_eq!((inode(dev), text(out)), (before.1, before.2));
    is_whole(&world, &before.0);
    // What is not wanted is not looked at, unless what is wanted refers to it.
    spoil(format!("{dev}/file"));
    repair(&world, &format!("{drv}^out")).ok().says("repairing");
    assert_eq!(text(format!("{dev}/file")), "one\n");
    spoil(out);
    repair(&world, &format!("{drv}^dev"))
        .ok()
        .never_says("repairing");
    repair(&world, &drv).ok().says("repairing");
    is_whole(&world, &before.0);
}

#[test]
fn the_old_one_stays_until_the_new_one_is_there() {
    let world = World::new();
    let (place, seen, fail) = (world.file("place"), world.file("seen"), world.file("fail"));
    let script = format!(
        "if [ -e {0} ]; then cat $(cat {0}) >> {1}; fi; [ ! -e {2} ] || exit 3; echo contents > $out",
        place.display(),
        seen.display(),
        fail.display(),
    );
    let drv = world.add_one("x", sh(&script));
    let out = build(&world, &drv).remove(0);
    let before = entries(&world);
    world.write("place", &out);
    spoil(&out);
    let bad = text(&out);
    // A repair that fails leaves what there was.
    world.write("fail", "");
    repair(&world, &drv)
        .run()
        .exits(100)
        .says("failed with exit code 3");
    assert_eq!((text(&out), text(&seen)), (bad.clone(), bad.clone()));
    assert_eq!(entries(&world), before);
    world.is_clean();
    fs::remove_file(&fail).unwrap();
    repair(&world, &drv).ok();
    assert_eq!(
        (text(&out).as_str(), text(&seen)),
        ("contents\n", bad.repeat(2))
    );
    is_whole(&world, &before);
}

#[test]
fn what_an_output_refers_to_is_repaired_by_its_own_derivation() {
    let world = World::new();
    let log = world.file("runs");
    let step =
        |name: &str, script: &str| sh(&format!("echo {name} >> {}; {script}", log.display()));
    let graph = graph_of([
        ("base", step("base", "echo one > $out")),
        ("middle", step("middle", "echo @{base} > $out")),
        ("tool", step("tool", "echo tool > $out")),
        ("top", step("top", ": @{tool}; echo @{middle} > $out")),
    ]);
    let drv = world.add(&graph);
    build(&world, &drv);
    let find = |name: &str| {
        let found = entries(&world)
            .into_iter()
            .find(|path| path.to_string_lossy().ends_with(name));
        found.unwrap().display().to_string()
    };
    let (base, tool) = (find("-base"), find("-tool"));
    let before = entries(&world);
    fs::remove_file(&log).unwrap();
    spoil(&base);
    // The tool is in no output's closure, so nobody looks at it.
    spoil(&tool);
    let ran = repair(&world, &drv).ok();
    ran.says(format!(
        "found corrupted or missing path '{base}' in the output closure of '{drv}'"
    ))
    .never_says("'-tool'");
    assert_eq!(text(&base), "one\n");
    assert_eq!(sorted_lines(&log), ["base"], "nothing else is built");
    // But what must be built anew is built from good inputs only.
    spoil(&base);
    spoil(find("-top"));
    repair(&world, &drv).ok();
    assert_eq!(
        (text(&base).as_str(), text(&tool).as_str()),
        ("one\n", "tool\n")
    );
    assert_eq!(sorted_lines(&log), ["base", "base", "tool", "top"]);
    is_whole(&world, &before);
}

#[test]
fn what_nobody_can_make_is_named() {
    let world = World::new();
    world.write("source", "some source");
    let mut graph = graph_of([("x", sh("echo @{source} > $out"))]);
    graph["sources"] = json!({"source": "source"});
    let drv = world.add(&graph);
    let out = build(&world, &drv).remove(0);
    let source = text(&out).trim().to_owned();
    repair(&world, &source).ok();
    spoil(&source);
    let ran = repair(&world, &drv).run().exits(1).prints_nothing();
    ran.says(format!("found corrupted or missing path '{source}'"))
        .says(format!(
            "output closure of derivation '{drv}' could not be repaired"
        ));
    let ran = repair(&world, &source).run().exits(1).prints_nothing();
    ran.says(format!("cannot repair '{source}'"));
    world.is_clean();
}

#[test]
fn what_was_never_built_is_built() {
    let world = World::new();
    let drv = world.add(&graph_of([
        ("x", sh("cat @{y} > $out")),
        ("y", sh("echo y > $out")),
    ]));
    let out = repair(&world, &drv).ok().line();
    assert_eq!(text(out), "y\n");
    world.stays_valid();
}

#[test]
fn a_corrupt_file_that_others_are_linked_to_is_no_longer_used() {
    let world = World::new();
    world.conf("auto-optimise-store = true\n");
    let graph = graph_of([
        ("one", sh("mkdir $out; echo one > $out/file")),
        ("two", sh("mkdir $out; echo one > $out/file; : > $out/own")),
    ]);
    let file = world.graph("g.json", &graph);
    let outputs = world.windrow("build").arg(&file).ok().lines();
    let before = entries(&world);
    spoil(format!("{}/file", outputs[0]));
    assert_eq!(
        text(format!("{}/file", outputs[1])),
        "#n#\n",
        "they are one file"
    );
    world.windrow("build").arg(&file).arg("--repair").ok();
    for out in &outputs {
        assert_eq!(text(format!("{out}/file")), "one\n");
    }
    is_whole(&world, &before);
}

#[test]
fn nix_finds_in_order_what_windrow_repaired() {
    need!(nix);
    let world = World::new();
    let graph = graph_of([
        (
            "base",
            sh("mkdir $out; echo one > $out/file; echo $out > $out/self"),
        ),
        ("top", sh("echo @{base} > $out")),
    ]);
    let drv = world.add(&graph);
    let top = build(&world, &drv).remove(0);
    let base = text(&top).trim().to_owned();
    spoil(format!("{base}/file"));
    let verify = || {
        world
            .program("nix-store")
            .args(["--verify", "--check-contents"])
            .run()
    };
    assert!(verify().stderr.contains("modified"));
    repair(&world, &drv).ok();
    world.verifies();
    world
        .program("nix-store")
        .args(["--verify-path", &base, &top])
        .ok();
}

#[test]
fn more_outputs_wanted_while_the_first_are_looked_at() {
    let world = World::new();
    // The longer, the later it is found to be bad: b after a, and x after both.
    let script = "head -c 60000000 /dev/zero > $out; echo one > $dev";
    let two = sh_with(script, json!({"outputs": ["out", "dev"]}));
    let graph = graph_of([
        ("x", two),
        ("a", sh(": @{x}; echo one > $out")),
        (
            "b",
            sh("head -c 8000000 /dev/zero > $out; cat @{x^dev} >> $out"),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    let outputs = world.windrow("build").arg(&file).ok().lines();
    let before = entries(&world);
    let dev = before
        .iter()
        .find(|path| path.to_string_lossy().ends_with("-x-dev"))
        .unwrap();
    // a asks for x first, and b for its other output while x is being looked at.
    for path in outputs.iter().map(Path::new).chain([dev.as_path()]) {
        spoil(path);
    }
    world.windrow("build").arg(&file).arg("--repair").ok();
    for path in outputs.iter().map(Path::new).chain([dev.as_path()]) {
        assert!(text(path).ends_with("one\n"), "{}", path.display());
    }
    is_whole(&world, &before);
}

#[test]
fn in_a_sandbox() {
    for_each_caller(|world, caller| {
        let script =
            "echo $dev $out > $out; mkdir $dev; echo one > $dev/file; ln -s $dev/file $dev/link";
        let derivation = busybox_with(script, json!({"outputs": ["out", "dev"]}));
        let file = world.graph("g.json", &graph_of([("x", derivation)]));
        let build = |mode: Option<&str>| {
            let drv = caller.runs(world.windrow("add").arg(&file)).ok().line();
            let cmd = world.windrow("build").arg(drv).args(mode);
            caller.runs(cmd).ok()
        };
        let outputs = build(None).lines();
        let out = outputs.iter().find(|path| path.ends_with("-x")).unwrap();
        let dev = outputs
            .iter()
            .find(|path| path.ends_with("-x-dev"))
            .unwrap();
        let inode = || fs::metadata(dev).unwrap().ino();
        let (before, good, kept) = (entries(world), text(out), inode());
        build(Some("--check")).says("checking outputs of '");
        assert_eq!((entries(world), inode()), (before.clone(), kept));
        spoil(out);
        build(Some("--repair")).says("repairing outputs of '");
        assert_eq!(
            (text(out), inode()),
            (good.clone(), kept),
            "the good one stays"
        );
        remove(dev);
        build(Some("--repair"));
        assert_eq!(text(format!("{dev}/file")), "one\n");
        // What a check finds different is kept with its own name in it.
        let fixed = text(&file).replace("echo one", "cat /proc/sys/kernel/random/uuid");
        fs::write(&file, fixed).unwrap();
        let dev = build(None)
            .lines()
            .into_iter()
            .find(|path| path.ends_with("-dev"))
            .unwrap();
        let drv = caller.runs(world.windrow("add").arg(&file)).ok().line();
        let cmd = world.windrow("build").args([&drv, "--check", "-K"]);
        caller
            .runs(cmd)
            .run()
            .exits(104)
            .says(format!("output '{dev}' differs"));
        let link = fs::read_link(format!("{dev}.check/link")).unwrap();
        assert_eq!(link, Path::new(&dev).join("file"));
        assert_ne!(
            text(format!("{dev}.check/file")),
            text(format!("{dev}/file"))
        );
        assert_eq!(
            fs::metadata(format!("{dev}.check")).unwrap().mode() & 0o777,
            0o555
        );
        for kept in world.temporary() {
            remove(kept.to_str().unwrap());
        }
        world.is_clean();
        world.stays_valid();
    });
}
