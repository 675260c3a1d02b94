//! The longest names that store paths can have, 211 letters with `.drv`: whatever is made beside
//! such a path, or named after it, must not get longer than file systems take.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::{
    World, busybox, for_each_caller, graph_of, have, need, sh, sh_with, sorted_lines, text,
};

/// Lengths of names of derivations, up to the longest.
const LENGTHS: [usize; 4] = [201, 202, 206, 207];

fn name(length: usize) -> String {
    "n".repeat(length)
}

#[test]
fn what_failed_can_be_built_again() {
    for length in LENGTHS {
        let world = World::new();
        let (flag, log) = (world.file("flag"), world.file("log"));
        let script = format!(
            "echo run >> {}; mkdir $out; echo x > $out/file; [ -e {} ]",
            log.display(),
            flag.display()
        );
        let drv = world.add_one(&name(length), sh(&script));
        let build = || world.windrow("build").arg(&drv);
        build().run().exits(100);
        build().arg("--keep-failed").run().exits(100);
        let kept = world.temporary();
        assert_eq!(kept.len(), 1);
        fs::remove_dir_all(&kept[0]).unwrap();
        fs::write(&flag, "").unwrap();
        let out = build().ok().line();
        assert_eq!(sorted_lines(&log).len(), 3);
        build().arg("--check").ok();
        let file = format!("{out}/file");
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&file, mode(0o644)).unwrap();
        fs::write(&file, "bad").unwrap();
        build().arg("--repair").ok();
        assert_eq!(text(&file), "x\n");
        assert!(world.log_file(&drv).is_file());
        world.windrow("log").arg(&drv).ok();
        // A link in the place of a result, and one more.
        for _ in 0..2 {
            let link = world.file(&"l".repeat(255));
            build().arg("--add-root").arg(&link).ok();
        }
        world.stays_valid();
        fs::remove_file(world.file(&"l".repeat(255))).unwrap();
        world.ours(["--optimise"]).ok();
        world.ours(["--gc"]).ok();
        assert_eq!(world.store_entries(), Vec::<std::path::PathBuf>::new());
        world.is_clean();
    }
}

#[test]
fn in_a_sandbox() {
    for_each_caller(|world, caller| {
        let names = [name(207), name(206)];
        let graph = graph_of([
            (
                &*names[0],
                busybox("mkdir $out; echo x > $out/file; exit 3"),
            ),
            (&*names[1], busybox("mkdir $out; echo x > $out/file")),
        ]);
        let file = world.graph("g.json", &graph);
        for _ in 0..2 {
            let build = world.windrow("build").arg(&file).args(["-k", "-K"]);
            let ran = caller.runs(build).run().exits(100);
            let kept = world.temporary();
            assert_eq!(kept.len(), 1, "{ran}");
            let dir = kept[0].display().to_string();
            ran.says(format!("keeping build directory '{dir}"));
            fs::remove_dir_all(&kept[0]).unwrap();
        }
        let drvs = caller.runs(world.windrow("add").arg(&file)).ok().lines();
        let good = drvs
            .iter()
            .find(|drv| drv.ends_with(&format!("-{}.drv", names[1])));
        let build = |mode: &[&str]| {
            caller
                .runs(world.windrow("build").args(good).args(mode))
                .ok()
                .line()
        };
        let out = build(&[]);
        build(&["--check"]);
        fs::remove_dir_all(&out).unwrap();
        build(&["--repair"]);
        assert_eq!(text(format!("{out}/file")), "x\n");
        world.is_clean();
    });
}

#[test]
fn outputs_and_sources() {
    let world = World::new();
    let output = "o".repeat(3);
    let (base, source) = (name(207), "s".repeat(211));
    let drv = world.add_one(
        &base,
        sh_with(
            "echo $out > $ooo; echo x > $out",
            json!({"outputs": ["out", output]}),
        ),
    );
    let outputs = world.windrow("build").arg(&drv).ok().lines();
    let long = outputs.iter().find(|path| path.ends_with("-ooo")).unwrap();
    let base = Path::new(long).file_name().unwrap();
    assert_eq!(base.len(), 33 + 211);
    // Its lock file, and names beside it, are longer still.
    fs::remove_file(long).unwrap();
    world.windrow("build").arg(&drv).arg("--repair").ok();
    assert!(text(long).ends_with("nnn\n"));
    let added = world.ours(["--add", world.write(&source, "x").to_str().unwrap()]);
    let added = added.ok().line();
    if have(&["nix-store"]) {
        let exported = world.ours(["--export", &added]).ok().stdout;
        world.ours(["--delete", &added]).ok();
        world.ours(["--import"]).stdin(exported).ok();
    }
    world.stays_valid();
    world.is_clean();
}

#[test]
fn a_path_that_is_fetched_and_one_that_is_repaired_by_fetching() {
    need!("sqlite3");
    let world = World::new();
    let graph = graph_of([(&*name(207), sh("mkdir $out; echo x > $out/file"))]);
    let drv = world.add(&graph);
    let out = world.windrow("build").arg(&drv).ok().line();
    let cache = crate::harness::Cache::of(&world, "cache", "%");
    world.set_aside("built");
    world.add(&graph);
    let program = cache.program(&world);
    let fetch = |more: &[&str]| {
        let cmd = world.windrow("build").env("NIX_SUBSTITUTERS", &program);
        cmd.args(["--option", "substitute", "true", &drv])
            .args(more)
            .ok()
    };
    fetch(&[]).never_says("building '");
    fs::remove_dir_all(&out).unwrap();
    fetch(&["--repair"]).never_says("building '");
    assert_eq!(text(format!("{out}/file")), "x\n");
    world.stays_valid();
    world.is_clean();
}
