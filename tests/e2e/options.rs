//! Options and configuration as they show from outside: what they change, and which of two settings
//! wins. Options that concern failures, logs and display are tested where those are.

use std::fs;

use serde_json::json;

use crate::harness::{
    World, graph_of, is_root, need, need_usual_place, sh, sh_with, sorted_lines, step, text,
};

#[test]
fn cores_from_every_place_and_the_nearest_wins() {
    let world = World::new();
    let mut number = 0;
    let mut cores = |args: &[&str], nix_config: &str| {
        number += 1;
        let script = format!(": {number}; echo $NIX_BUILD_CORES > $out");
        let file = world.graph("g.json", &graph_of([("cores", sh(&script))]));
        let out = world
            .windrow("build")
            .arg(file)
            .args(args)
            .env("NIX_CONFIG", nix_config)
            .ok()
            .path();
        text(out).trim().to_owned()
    };
    world.conf("cores = 4\n");
    assert_eq!(cores(&[], ""), "4");
    assert_eq!(cores(&[], "cores = 5"), "5");
    assert_eq!(cores(&["--option", "cores", "7"], "cores = 5"), "7");
    assert_eq!(cores(&["--cores", "3"], "cores = 5"), "3");
}

#[test]
fn an_unknown_setting_is_an_error_where_it_is_typed_and_a_warning_in_a_file() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    let unknown = world
        .windrow("build")
        .arg(&file)
        .args(["--option", "no-such-thing", "1"]);
    unknown.run().exits(1).one_error().says("no-such-thing");
    world.conf(
        "no-such-thing = 1
",
    );
    world
        .windrow("build")
        .arg(&file)
        .ok()
        .says("warning")
        .says("no-such-thing");
    world.conf("");
}

/// What Nix's language, flakes and daemon are told in a nix.conf is no matter of a build. Who says
/// it to this run thinks it is.
#[test]
fn what_means_nothing_to_builds_is_warned_of_on_the_command_line_only() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    let files = "restrict-eval = true\nextra-experimental-features = flakes\ntrusted-users = x\n\
                 allowed-users = y\naccept-flake-config = true\nhttp2 = false\nwarn-dirty = false\n";
    world.conf(files);
    let build = |args: &[&str]| world.windrow("build").arg(&file).args(args).ok();
    build(&[]).never_says("warning:");
    let drv = world.windrow("add").arg(&file).ok().line();
    let silent = ["-q", "--extra-experimental-features", "x", "--show-trace"];
    let ours = |args: &[&str]| world.windrow("nix-store").args(args).arg(&drv).ok();
    ours(&silent).never_says("warning:");
    build(&["--option", "experimental-features", "x"]).never_says("warning:");
    let warning = "warning: the option 'restrict-eval' of the command line has no effect\n";
    let ran = build(&["--option", "restrict-eval", "true"]);
    assert_eq!(ran.stderr.matches("warning:").count(), 1, "{ran}");
    ran.says(warning);
    ours(&["-q", "--restrict-eval"]).says(warning);
    // A file that is not written is missed.
    world.conf("json-log-path = /log.json\n");
    build(&[]).says("nix.conf:7: the setting 'json-log-path' has no effect here");
}

#[test]
fn what_will_be_built_is_said_unless_it_is_not_to_be() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    let realise = |args: &[&str]| {
        let cmd = world.windrow("nix-store").args(["-r", "--dry-run", &drv]);
        cmd.args(args).ok()
    };
    let said = "this derivation will be built";
    realise(&[]).says(said);
    realise(&["--no-print-missing"]).never_says(said);
    realise(&["--option", "print-missing", "false"]).never_says(said);
}

#[test]
fn a_setting_without_effect_is_warned_of_once() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    world.conf("preallocate-contents = true\n");
    let build = |args: &[&str]| {
        let run = world.windrow("build").arg(&file).args(args).ok();
        let lines = run.stderr.lines().map(str::to_owned);
        lines
            .filter(|line| line.starts_with("warning:"))
            .collect::<Vec<_>>()
    };
    let [warning] = build(&[]).try_into().unwrap();
    assert!(
        warning.ends_with("nix.conf:7: the setting 'preallocate-contents' has no effect here"),
        "{warning}"
    );
    world.conf("");
    assert_eq!(
        build(&["--option", "builders-use-substitutes", "false"]),
        [""; 0]
    );
    let options = ["--option", "builders-use-substitutes", "true"];
    assert_eq!(
        build(&options),
        [
            "warning: the option 'builders-use-substitutes' of the command line has no effect without a \
             substituter program or a build hook program"
        ]
    );
    let twice = ["--option", "keep-env-derivations", "true"].repeat(2);
    assert_eq!(
        build(&twice),
        ["warning: the option 'keep-env-derivations' of the command line has no effect"]
    );
    let run = world.windrow("build").arg(&file).args(options);
    let helper = world.script("none.sh", "exit 0");
    let run = run.env("NIX_BUILD_HOOK", helper).ok();
    let named = run.stderr.contains("builders-use-substitutes");
    assert!(!named, "{}", run.stderr);
}

#[test]
fn a_setting_with_a_bad_value_is_an_error() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    world
        .windrow("build")
        .arg(&file)
        .args(["--option", "cores", "many"])
        .run()
        .exits(1)
        .one_error()
        .says("cores");
    world
        .windrow("build")
        .arg(&file)
        .args(["-j", "several"])
        .run()
        .exits(1)
        .one_error()
        .says("several");
    world.conf("cores = many\n");
    world
        .windrow("build")
        .arg(&file)
        .run()
        .exits(1)
        .one_error()
        .says("nix.conf")
        .says("cores");
}

#[test]
fn max_jobs_zero_builds_nothing_and_says_so() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    world
        .windrow("build")
        .arg(&drv)
        .args(["-j", "0"])
        .run()
        .exits(1)
        .one_error()
        .says("max-jobs")
        .prints_nothing();
    world.is_clean();
    let out = world
        .windrow("build")
        .arg(&drv)
        .args(["-j", "auto"])
        .ok()
        .line();
    assert_eq!(
        world
            .windrow("build")
            .arg(&drv)
            .args(["-j", "0"])
            .ok()
            .line(),
        out,
        "nothing to build, no slot needed"
    );
}

#[test]
fn a_dry_run_builds_nothing() {
    let world = World::new();
    let log = world.file("runs");
    let graph = graph_of([
        ("top", step("top", &log, &["low"])),
        ("low", step("low", &log, &[])),
    ]);
    let drv = world.add(&graph);
    let ran = world.windrow("build").arg(&drv).arg("--dry-run").ok();
    let lines = ran.lines();
    assert_eq!((lines.len(), &lines[1]), (2, &drv), "{ran}");
    assert!(lines[0].ends_with("-low.drv"), "{ran}");
    assert!(!log.exists(), "something was built\n{ran}");
    world.windrow("build").arg(&drv).ok();
    world
        .windrow("build")
        .arg(&drv)
        .arg("--dry-run")
        .ok()
        .prints_nothing();
    world.is_clean();
}

#[test]
fn a_plan_is_in_order_and_counts() {
    let world = World::new();
    let log = world.file("runs");
    let graph = graph_of([
        ("top", step("top", &log, &["left", "right"])),
        ("left", step("left", &log, &["base"])),
        ("right", step("right", &log, &[])),
        ("base", step("base", &log, &[])),
    ]);
    let drv = world.add(&graph);
    let ran = world.windrow("plan").arg(&drv).ok();
    let lines = ran.lines();
    let place = |name: &str| {
        lines
            .iter()
            .position(|line| line.ends_with(&format!("-{name}.drv")))
    };
    assert_eq!(lines.len(), 4, "{ran}");
    assert!(
        place("base") < place("left")
            && place("left") < place("top")
            && place("right") < place("top"),
        "{ran}"
    );
    assert_eq!(lines.last(), Some(&drv));
    assert!(
        ran.stderr.contains('4') && ran.stderr.contains('3'),
        "four derivations, three deep\n{ran}"
    );
    assert!(!log.exists());

    let left = lines[place("left").unwrap()].clone();
    world.windrow("build").arg(&left).ok();
    let names = |ran: crate::harness::Ran| {
        ran.lines()
            .iter()
            .map(|l| l[l.len() - 8..].to_owned())
            .collect::<Vec<_>>()
    };
    let mut rest = names(world.windrow("plan").arg(&drv).ok());
    rest.sort();
    assert_eq!(
        rest,
        ["ight.drv", "-top.drv"]
            .map(str::to_owned)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    world.windrow("build").arg(&drv).ok();
    world.windrow("plan").arg(&drv).ok().prints_nothing();
    world.is_clean();
}

#[test]
fn add_root_keeps_outputs_from_being_collected() {
    need!(nix);
    let world = World::new();
    let script = "echo out > $out; echo dev > $dev";
    let drv = world.add_one("x", sh_with(script, json!({"outputs": ["out", "dev"]})));
    let link = world.file("result");
    world
        .windrow("build")
        .arg(format!("{drv}^out"))
        .arg("--add-root")
        .arg(&link)
        .ok();
    let out = fs::read_link(&link).unwrap();
    assert_eq!(text(&out), "out\n");
    world.program("nix-store").arg("--gc").ok();
    assert!(world.is_valid(&out) && out.exists());
    fs::remove_file(&link).unwrap();
    world.program("nix-store").arg("--gc").ok();
    assert!(!out.exists(), "without its root it goes");
}

#[test]
fn add_root_names_links_after_outputs() {
    let world = World::new();
    let script = "echo out > $out; echo dev > $dev";
    let drv = world.add_one("x", sh_with(script, json!({"outputs": ["out", "dev"]})));
    world
        .windrow("build")
        .arg(&drv)
        .arg("--add-root")
        .arg("r")
        .ok();
    assert_eq!(text(world.file("r")), "out\n");
    assert_eq!(text(world.file("r-dev")), "dev\n");
    world.write("mine", "precious");
    world
        .windrow("build")
        .arg(&drv)
        .arg("--add-root")
        .arg("mine")
        .run()
        .exits(1)
        .one_error()
        .says("mine");
    assert_eq!(text(world.file("mine")), "precious");
}

#[test]
fn a_store_of_ones_own() {
    let world = World::new();
    let log = world.file("runs");
    let file = world.graph("g.json", &graph_of([("x", step("x", &log, &[]))]));
    let windrow = || {
        let cmd = world.windrow("build").arg(&file).args(["--store", "own"]);
        ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"]
            .iter()
            .fold(cmd, |cmd, name| cmd.env_remove(name))
    };
    let out = windrow()
        .env("XDG_DATA_HOME", world.at("home/data"))
        .ok()
        .path();
    assert!(
        out.starts_with(world.at("home/data/windrow/store")),
        "{}",
        out.display()
    );
    assert_eq!(text(&out), "x\n");
    let out = windrow().ok().path();
    assert!(
        out.starts_with(world.at("home/.local/share/windrow/store")),
        "{}",
        out.display()
    );
    assert_eq!(sorted_lines(log), ["x", "x"]);
}

#[test]
fn a_store_below_a_directory_is_seen_at_its_usual_place() {
    need_usual_place!();
    if !is_root()
        && fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() == "0")
    {
        return crate::harness::skip("needs root or user namespaces");
    }
    let world = World::new();
    let tool = sh("echo '#!/bin/sh' > $out; echo 'echo $out > $out' >> $out; chmod 755 $out");
    let graph = graph_of([
        ("tool", tool),
        ("low", json!({"builder": "@{tool}"})),
        (
            "top",
            sh("[ -e @{low} ] && cat @{low} > $out; echo $out >> $out"),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    let windrow = || {
        let cmd = world
            .windrow("build")
            .arg(&file)
            .arg("--store")
            .arg(world.at("chroot"));
        ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"]
            .iter()
            .fold(cmd, |cmd, name| cmd.env_remove(name))
    };
    let ran = windrow().ok();
    let out = ran.line();
    assert!(out.starts_with("/nix/store/"), "{ran}");
    let found = text(world.at("chroot").join(&out[1..]));
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(
        found.lines().all(|line| line.starts_with("/nix/store/")),
        "{found}"
    );
    assert!(
        !std::path::Path::new(&out).exists(),
        "it must not lie in the machine's own store"
    );
    assert_eq!(windrow().ok().line(), out);
    assert!(world.at("chroot/nix/var/nix/db/db.sqlite").exists());
    assert!(world.at("chroot/nix/var/log/nix/drvs").exists());
    world.is_clean();
}

#[test]
fn every_level_says_what_the_seed_says_at_it() {
    // Each with the number of -v from which on it is said; -1 stands for --quiet.
    let told = [
        ("building '", 0),
        ("scanning for references inside '", 1),
        ("built '", 0),
        ("executing builder '/bin/sh'", 2),
        ("error: builder for '", -1),
    ];
    for verbosity in -1..=2_i32 {
        let world = World::new();
        let graph = graph_of([("good", sh("echo x > $out")), ("bad", sh("exit 1"))]);
        let file = world.graph("g.json", &graph);
        let mut cmd = world.windrow("build").args(["-k", "-j1"]).arg(&file);
        if verbosity < 0 {
            cmd = cmd.arg("--quiet");
        }
        for _ in 0..verbosity {
            cmd = cmd.arg("-v");
        }
        let mut ran = cmd.run().exits(100);
        for (text, from) in told {
            ran = if verbosity >= from {
                ran.says(text)
            } else {
                ran.never_says(text)
            };
        }
    }
}
