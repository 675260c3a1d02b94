//! Stores that came with the image of a container: what is in them is on the lower layer of an
//! overlay, where no directory can be renamed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    Cache, Cmd, Ran, World, busybox, graph_of, have, need, need_overlays, sh, sh_with, skip, text,
};

/// A derivation with directories in its output.
const TREE: &str = "mkdir -p $out/sub/deep; echo good > $out/sub/deep/file; echo good > $out/file; \
                    ln -s file $out/link; touch $out/run; chmod 755 $out/run";

/// Makes a derivation of a script.
type Derivation = fn(&str) -> Value;

/// Other contents in the same file of the store.
fn spoil(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("a file");
    fs::write(file, "bad\n").expect("a writable file");
}

/// A script on the image of a world. `$w` is windrow there.
fn script(world: &World, lines: &str) -> Ran {
    let line = format!("w={}; {lines}", env!("CARGO_BIN_EXE_windrow"));
    let sh = world.program("/bin/sh").arg("-c").arg(line);
    sh.on_image(world).run().no_panic()
}

/// Where the output of a derivation belongs.
fn output(world: &World, drv: &str) -> String {
    world.ours(["-q", "--outputs", drv]).ok().line()
}

/// Puts a directory where an output belongs that is not valid.
fn plant_leftover(place: &str) {
    fs::create_dir_all(format!("{place}/some/where")).expect("a directory");
    fs::write(format!("{place}/some/where/file"), "left over").expect("a file");
}

/// Derivations in a sandbox, if there can be one, and without.
fn kinds() -> Vec<(&'static str, Derivation)> {
    let mut kinds: Vec<(&'static str, Derivation)> = vec![("", sh)];
    if have(&["busybox"]) {
        kinds.push((crate::harness::SEALED, busybox));
    } else {
        skip("in a sandbox: needs busybox");
    }
    kinds
}

#[test]
fn a_corrupt_output_is_repaired() {
    need_overlays!();
    need!("nix-store");
    for (conf, derivation) in kinds() {
        let world = World::new();
        world.conf(conf);
        let drv = world.add_one("x", derivation(TREE));
        let out = world.windrow("build").arg(&drv).ok().line();
        spoil(&Path::new(&out).join("sub/deep/file"));
        fs::create_dir(format!("{out}/sub/extra")).unwrap();
        for repair in [
            format!("$w build {drv} --repair"),
            format!("$w nix-store -r {drv} --repair"),
            format!("$w nix-store --repair-path {out}"),
            "$w nix-store --verify --check-contents --repair".to_owned(),
        ] {
            let check = "nix-store --verify --check-contents >&2; echo verified $?";
            let ran = script(
                &world,
                &format!("{repair} > /dev/null; echo status $?; {check}; ls {out}/.."),
            );
            let out = ran.out();
            assert!(out.starts_with("status 0\nverified 0\n"), "{repair}\n{ran}");
            // The derivation, the output, and nothing that was put aside.
            let lines: Vec<&str> = out.lines().skip(2).collect();
            assert_eq!(lines.len(), 2, "{repair}\n{ran}");
        }
    }
}

#[test]
fn a_repair_that_is_killed_is_done_again() {
    need_overlays!();
    need!("nix-store", "timeout");
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh(
            "for d in 1 2 3 4 5 6 7 8 9; do mkdir -p $out/$d; for f in a b c d e f g h; do \
            echo good > $out/$d/$f; done; done",
        ),
    );
    let out = world.windrow("build").arg(&drv).ok().line();
    for dir in 1..10 {
        for file in ["a", "c", "h"] {
            spoil(&Path::new(&out).join(format!("{dir}/{file}")));
        }
    }
    let ran = script(
        &world,
        &format!(
            "for t in 0.02 0.04 0.05 0.06 0.07 0.08 0.1; do timeout -s KILL $t $w build {drv} --repair; done; \
             cat {out}/*/* | sort | uniq -c >&2; ls {out}/* | wc -l >&2
             $w build {drv} --repair > /dev/null; echo status $?; cat {out}/*/* | sort -u"
        ),
    );
    assert!(ran.out().ends_with("status 0\ngood\n"), "{ran}");
}

#[test]
fn something_invalid_is_in_the_way_of_an_output() {
    need_overlays!();
    for (conf, derivation) in kinds() {
        let world = World::new();
        world.conf(conf);
        let graph = graph_of([
            ("x", derivation(TREE)),
            ("y", derivation("cat @{x}/sub/deep/file > $out")),
        ]);
        let drv = world.add(&graph);
        let drvs = world.ours(["-q", "--requisites", &drv]).ok().lines();
        for drv in drvs.iter().filter(|path| path.ends_with(".drv")) {
            plant_leftover(&output(&world, drv));
        }
        let ran = script(
            &world,
            &format!(
                "$w build {drv} > /dev/null; echo status $?; cat {}",
                output(&world, &drv)
            ),
        );
        assert_eq!(ran.out(), "status 0\ngood\n", "{ran}");
    }
}

#[test]
fn something_invalid_is_in_the_way_of_a_fixed_output_with_another_hash() {
    need_overlays!();
    let world = World::new();
    let wrong = json!({"outputHashMode": "flat", "outputHashAlgo": "sha256",
        "outputHash": "0000000000000000000000000000000000000000000000000000"});
    let drv = world.add_one("x", sh_with("echo x > $out", wrong));
    let ran = world.windrow("build").arg(&drv).run().exits(102);
    let kept = ran.stderr.split("is kept as '").nth(1);
    let kept = kept
        .and_then(|rest| rest.split('\'').next())
        .expect("a path");
    world.ours(["--delete", kept]).ok();
    plant_leftover(kept);
    let ran = world.windrow("build").arg(&drv).on_image(&world).run();
    ran.exits(102).says(format!("is kept as '{kept}'"));
}

#[test]
fn something_invalid_is_in_the_way_of_a_fetched_path() {
    need_overlays!();
    need!("sqlite3");
    let world = World::new();
    let graph = graph_of([("x", sh(TREE))]);
    let drv = world.add(&graph);
    let out = world.windrow("build").arg(&drv).ok().line();
    let cache = Cache::of(&world, "cache", "%-x");
    world.set_aside("built");
    world.add(&graph);
    plant_leftover(&out);
    let program = cache.program(&world);
    let build = |cmd: Cmd| {
        let cmd = cmd.env("NIX_SUBSTITUTERS", &program);
        cmd.args(["--option", "substitute", "true", &drv])
    };
    let ran = build(world.windrow("build")).on_image(&world).ok();
    ran.never_says("building '");
}

#[test]
fn what_nobody_needs_is_deleted() {
    need_overlays!();
    let world = World::new();
    let graph = graph_of([("x", sh(TREE)), ("y", sh(": @{x}; cp -R @{x} $out"))]);
    let drv = world.add(&graph);
    let out = world.windrow("build").arg(&drv).ok().line();
    plant_leftover(&world.at("store/.windrow-trash-1-2").display().to_string());
    let ran = script(
        &world,
        &format!(
            "$w nix-store --delete {out} > /dev/null; echo status $?; ls {out} 2>&1 | wc -l
             $w nix-store --gc > /dev/null; echo status $?; ls -A $NIX_STORE_DIR"
        ),
    );
    assert_eq!(ran.out(), "status 0\n1\nstatus 0\n.links\n", "{ran}");
    assert_eq!(text(format!("{out}/file")), "good\n", "the image stays");
}
