//! `--realise` with its options, queries that build first, and the memory of failed builds.

use std::ffi::OsString;

use crate::harness::{World, have, need, sorted_lines, text};

/// Two derivations, the second needs the first and has two outputs; each notes that it ran.
fn pair(world: &World, salt: &str) -> Vec<String> {
    world.instantiate(&format!(
        r#"let make = name: more: derivation ({{ inherit name; system = builtins.currentSystem; builder = "/bin/sh"; }} // more);
               log = "echo to the log; echo ran >> {runs};";
               a = make "a{salt}" {{ args = [ "-c" "${{log}} echo a > $out" ]; }};
               b = make "b{salt}" {{ outputs = [ "out" "dev" ]; args = [ "-c" "${{log}} read x < ${{a}}; echo $x > $out; echo $out > $dev" ]; }};
           in [ a b ]"#,
        runs = world.file("runs").display()
    ))
}

/// The part of standard error that says what will be done.
fn announced(stderr: &str) -> Vec<String> {
    let lines = stderr.lines();
    let wanted = |line: &&str| {
        line.starts_with("  /")
            || line.contains("will be built")
            || line.contains("will be fetched")
            || line.contains("don't know how")
    };
    lines.filter(wanted).map(str::to_owned).collect()
}

#[test]
fn dry_runs_say_the_same() {
    need!(nix);
    let world = World::new();
    let drvs = pair(&world, "");
    let absent = format!(
        "{}/8rhh74q2l84v5z1fa0n941xhbpgw3ncf-absent",
        world.store().display()
    );
    let absent_drv = format!("{absent}.drv");
    let both = |flags: &[&str], paths: &[&str]| {
        let args = [flags, paths].concat();
        let theirs = world.theirs(&args).run();
        let ours = world.alike(&args);
        assert_eq!(
            announced(&ours.stderr),
            announced(&theirs.stderr),
            "{args:?}\n{theirs}\n{ours}"
        );
        ours
    };
    both(&["-r", "--dry-run"], &[&drvs[0]]).says("this derivation will be built:");
    both(&["--realise", "--dry-run"], &[&drvs[1]]).says("these 2 derivations will be built:");
    both(&["--realise", "--dry-run"], &[&drvs[1], &drvs[0], &drvs[1]]);
    both(&["-r", "--dry-run"], &[&absent, &drvs[0]]).says("don't know how to build these paths:");
    both(&["-r", "--dry-run"], &[&absent_drv]);
    both(
        &["-r", "--dry-run", "--ignore-unknown"],
        &[&absent, &drvs[0]],
    )
    .never_says("don't know");
    both(&["-r", "--dry-run"], &[&format!("{}!dev", drvs[1])]);
    both(&["-r", "--dry-run"], &[]);
    assert!(!world.file("runs").exists());
    world.theirs(["-r", &drvs[0]]).ok();
    both(&["-r", "--dry-run"], &[&drvs[0]]).never_says("will be built");
    both(&["-r", "--dry-run"], &[&drvs[1]]).says("this derivation will be built:");
    both(&["-r", "--dry-run", "--quiet"], &[&drvs[1]]).never_says("will be built");
}

/// What a build of a new [`pair`] printed, its exit status, the roots it made, what is registered
/// of them, and who ran. Leaves nothing of it.
fn built_anew(
    world: &World,
    args: &[&str],
    ours: bool,
) -> (String, Option<i32>, Vec<String>, Vec<OsString>, Vec<String>) {
    const ROOTS: [&str; 6] = [
        "root",
        "root-dev",
        "root-2",
        "root-2-dev",
        "dir/root",
        "dir/root-dev",
    ];
    pair(world, "");
    let ran = if ours {
        world.ours(args).run().no_panic()
    } else {
        world.theirs(args).run()
    };
    let target = |name: &str| {
        let target = std::fs::read_link(world.file(name));
        target.map_or("-".to_owned(), |to| to.display().to_string())
    };
    let roots = ROOTS.map(target).to_vec();
    let auto = std::fs::read_dir(world.state().join("gcroots/auto"));
    let auto = auto.into_iter().flatten();
    let mut auto: Vec<_> = auto.map(|entry| entry.unwrap().file_name()).collect();
    auto.sort();
    let runs = sorted_lines(world.file("runs"));
    world.verifies();
    for name in ROOTS.iter().chain(&["runs"]) {
        let _ = std::fs::remove_file(world.file(name));
    }
    for dir in ["store", "state", "log"] {
        let writable = world.program("chmod").args(["-R", "u+w"]);
        writable.arg(world.at(dir)).run();
        let _ = std::fs::remove_dir_all(world.at(dir));
    }
    (ran.out(), ran.status.code(), roots, auto, runs)
}

#[test]
fn what_is_built_is_printed_alike() {
    need!(nix);
    let world = World::new();
    let drvs = pair(&world, "");
    let with_outputs = format!("{}!out,dev", drvs[1]);
    for args in [
        &["-r", &drvs[1]][..],
        &["--realise", &drvs[1], &drvs[0]],
        &[
            "--realize",
            "-j2",
            "-k",
            "-K",
            "-Q",
            "--fallback",
            "--cores",
            "1",
            "--timeout",
            "100",
            "--max-silent-time",
            "100",
            &drvs[1],
        ],
        &["-r", &format!("{}!dev", drvs[1]), &drvs[0]],
        &["-r", &with_outputs],
        &["-r", "--no-output", &drvs[1]],
        &["-r", "--ignore-unknown", &drvs[1]],
        &["-r", "--option", "max-jobs", "2", &drvs[1]],
        &["-r", "--add-root", "root", "--indirect", &drvs[0], &drvs[1]],
        &["-r", "--add-root", "root", &drvs[1], &drvs[0]],
        &["-r", "--add-root", "dir/root", &drvs[1]],
        &["-r", &format!("{}!nothing", drvs[1])],
        &["-r", "--nonsense", &drvs[1]],
        &["-r", "/etc/passwd"],
        &["-r"],
        &["-q", "-f", &drvs[1]],
        &["-q", "--force-realise", "--hash", "-u", &drvs[1]],
        &["-qRf", &drvs[1]],
    ] {
        let theirs = built_anew(&world, args, false);
        let ours = built_anew(&world, args, true);
        assert_eq!(ours, theirs, "{args:?}: windrow's on the left");
    }
}

#[test]
fn failures_end_alike() {
    need!(nix);
    let world = World::new();
    let mut world_drv = world.instantiate(
        r#"let make = name: script: derivation { inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ]; };
               fixed = hash: script: derivation { name = "fixed"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
                 outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hash; };
           in [ (make "differs" "echo $$ > $out") (make "fails" "echo no; exit 3") (make "none" ":") (make "slow" "exec /bin/sleep 100") (make "fine" "echo x > $out")
                (fixed "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" "echo other > $out")
                (derivation { name = "elsewhere"; system = "m68k-amiga"; builder = "/bin/sh"; }) ]"#,
    );
    let absent = format!(
        "{}/8rhh74q2l84v5z1fa0n941xhbpgw3ncf-absent",
        world.store().display()
    );
    let differs = world_drv.remove(0);
    let drvs = world_drv;
    world.theirs(["-r", &differs]).ok();
    for args in [
        &["-r", "--check", &differs][..],
        &["-r", "--check", "-K", "-Q", &differs],
        &["-r", "--check", &drvs[3]],
        &["-r", &drvs[0]],
        &["-r", &drvs[1]],
        &["-r", "--timeout", "1", &drvs[2]],
        &["-r", "--max-silent-time", "1", &drvs[2]],
        &["-r", "--timeout", "1", "-k", &drvs[2], &drvs[4]],
        &["-r", "-k", &drvs[0], &drvs[3]],
        &["-r", &drvs[4]],
        &["-r", &drvs[5]],
        &["-r", &absent],
        &["-r", &format!("{absent}.drv")],
        &["-q", "-f", &drvs[0]],
    ] {
        let ran = world.alike(args);
        assert_ne!(ran.status.code(), Some(0), "{ran}");
        ran.prints_nothing();
    }
    world.verifies();
}

#[test]
fn builders_are_heard_unless_told_otherwise() {
    need!(nix);
    let world = World::new();
    let drvs = pair(&world, "1");
    let ran = world.ours(["-r", "--print-build-trace", &drvs[0]]).ok();
    let ran = ran
        .says("to the log")
        .says("@ build-started ")
        .says("@ build-succeeded ");
    let ran = ran.says("you did not specify '--add-root'");
    assert_eq!(ran.lines().len(), 1);
    let drvs = pair(&world, "2");
    world
        .ours(["-rQ", "--no-gc-warning", &drvs[0]])
        .ok()
        .never_says("to the log")
        .never_says("--add-root");
    let drvs = pair(&world, "3");
    world
        .ours(["-r", "--log-format", "internal-json", &drvs[0]])
        .ok()
        .says("@nix {");
    world
        .ours(["-r", "--log-format", "nothing", &drvs[0]])
        .run()
        .exits(1)
        .one_error();
    assert_eq!(sorted_lines(world.file("runs")).len(), 3);
    assert!(text(world.file("runs")).contains("ran"));
}

#[test]
fn failed_paths_are_listed_and_forgotten() {
    need!("nix-instantiate");
    if !have(&["nix-store"]) {
        return;
    }
    let world = World::new();
    let drv = world
        .instantiate(&format!(
            r#"derivation {{ name = "fails"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ran >> {}; exit 1" ]; }}"#,
            world.file("runs").display()
        ))
        .remove(0);
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    world.ours(["--query-failed-paths"]).ok().prints_nothing();
    let build = || {
        world
            .ours(["-r", "--build-cache-failure", &drv])
            .run()
            .exits(100)
    };
    build();
    assert_eq!(world.ours(["--query-failed-paths"]).ok().line(), out);
    build();
    assert_eq!(sorted_lines(world.file("runs")).len(), 1);
    world.ours(["--clear-failed-paths"]).ok();
    assert_eq!(world.ours(["--query-failed-paths"]).ok().line(), out);
    for what in [&*out, "*"] {
        world
            .ours(["--clear-failed-paths", what])
            .ok()
            .prints_nothing();
        world.ours(["--query-failed-paths"]).ok().prints_nothing();
        build();
    }
    assert_eq!(sorted_lines(world.file("runs")).len(), 3);
    world
        .ours(["--query-failed-paths", "x"])
        .run()
        .exits(1)
        .one_error();
}

#[test]
fn what_was_modified_is_repaired() {
    use std::os::unix::fs::PermissionsExt as _;
    need!(nix);
    let world = World::new();
    let drvs = pair(&world, "");
    let outs = world.ours(["-r", "-Q", &drvs[0], &drvs[1]]).ok().lines();
    let break_it = |path: &str| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(path, "something else").unwrap();
    };
    for args in [
        &["--repair-path", &outs[0]][..],
        &["--verify", "--check-contents", "--repair"],
        &["-r", "--repair", &drvs[0]],
    ] {
        break_it(&outs[0]);
        world.alike(&["--verify-path", &outs[0]]).exits(1);
        world.ours(args).ok();
        world.alike(&["--verify-path", &outs[0]]).exits(0);
        assert_eq!(text(&outs[0]), "a\n");
        world.verifies();
    }
    // Nobody knows how to make a source.
    let file = world.write("plain", "text");
    let source = world.ours(["--add".as_ref(), file.as_os_str()]).ok().line();
    break_it(&source);
    break_it(&outs[0]);
    world
        .ours(["--repair-path", &source])
        .run()
        .exits(1)
        .one_error();
    let ran = world
        .ours(["--verify", "--check-contents", "--repair"])
        .run()
        .exits(1);
    ran.says("not all store errors were fixed").no_panic();
    world.alike(&["--verify-path", &outs[0]]).exits(0);
    world.alike(&["--verify-path", &source]).exits(1);
    world.is_clean();
}

/// A derivation with outputs `a` and `b`, whose builder writes three lines, one of them cut.
fn two_outputs(world: &World) -> String {
    let expression = r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; outputs = [ "a" "b" ];
        args = [ "-c" "echo one; echo 'error: two' >&2; echo A > $a; echo B > $b; printf three" ]; }"#;
    let drv = world.instantiate(expression).remove(0);
    // Nix 2.8 names the first output if that is not called `out`.
    drv.trim_end_matches("!a").to_owned()
}

#[test]
fn what_builders_write_has_nothing_before_it() {
    need!(nix);
    let logs: &[&[&str]] = &[
        &[],
        &["--log-format", "raw"],
        &["--log-format", "raw-with-logs"],
    ];
    for &more in logs {
        let world = World::new();
        let drv = two_outputs(&world);
        let args = [&["-r", &drv], more].concat();
        let lines = |stderr: &str| {
            let ours = ["one", "error: two", "three"];
            let lines = stderr.lines().filter(|line| ours.contains(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let theirs = world.theirs(&args).ok();
        world.set_aside("nix");
        let drv = two_outputs(&world);
        let ours = world.ours([&["-r", &drv], more].concat()).ok();
        // With `raw` alone this program keeps what builders write to itself.
        if more.last() != Some(&"raw") {
            assert_eq!(
                lines(&ours.stderr),
                lines(&theirs.stderr),
                "{theirs}\n{ours}"
            );
            assert_eq!(
                lines(&ours.stderr),
                ["one", "error: two", "three"],
                "{ours}"
            );
        }
    }
    let world = World::new();
    let drv = two_outputs(&world);
    let bar = ["-r", &drv, "--log-format", "bar-with-logs"];
    world.ours(bar).ok().says("x> one");
    world
        .ours(["-r", "--check", "-Q", &drv])
        .ok()
        .never_says("one");
}

#[test]
fn a_check_needs_only_the_outputs_that_are_asked_for() {
    need!(nix);
    let world = World::new();
    let drv = two_outputs(&world);
    world.ours(["-r", &drv]).ok();
    let (a, b) = (format!("{drv}!a"), format!("{drv}!b"));
    let path_of = |output: &str| {
        let all = world.ours(["-q", "--outputs", &drv]).ok().lines();
        let found = all.into_iter().find(|path| path.ends_with(output));
        found.expect("an output of that name")
    };
    world.ours(["--delete", &path_of("-b")]).ok();
    let before = world.store_entries();
    for target in [&a, &format!("{drv}^a")] {
        world
            .ours(["-r", "--check", target])
            .ok()
            .says("checking outputs of");
        world.windrow("build").args(["--check", target]).ok();
    }
    for target in [&b, &drv] {
        let refused = world.alike(&["-r", "--check", target]).one_error();
        refused
            .says("some outputs of")
            .never_says("nothing to build");
    }
    assert_eq!(
        world.store_entries(),
        before,
        "the other is not there after all"
    );
    world.is_clean();
    world.verifies();
    // Nix leaves the other output in its place, though it is not valid.
    world.theirs(["-r", "--check", &a]).ok();
}

#[test]
fn a_check_of_some_outputs_tells_what_differs() {
    let world = World::new();
    let script = format!(
        "echo run >> {0}; cat {0} > $a; echo $b >> $a; cat {0} > $b",
        world.file("runs").display()
    );
    let two = serde_json::json!({"outputs": ["a", "b"]});
    let drv = world.add_one("x", crate::harness::sh_with(&script, two));
    let outputs = world.ours(["-r", &drv]).ok().lines();
    let ending = |end: &str| outputs.iter().find(|path| path.ends_with(end)).unwrap();
    world.ours(["--delete", ending("-x-a")]).ok();
    let ran = world
        .ours(["-r", "--check", &format!("{drv}!b")])
        .run()
        .exits(104);
    ran.says(format!("output '{}' differs", ending("-x-b")));
    world.is_clean();
}

#[test]
fn that_there_is_nothing_to_build_stands_before_no_error() {
    let world = World::new();
    let nothing = "nothing to build";
    let drv = world.add_one("x", crate::harness::sh("echo > $out"));
    let out = world.ours(["-r", &drv]).ok().never_says(nothing).line();
    for target in [&drv, &out] {
        world.ours(["-r", target]).ok().says(nothing);
        world.windrow("build").arg(target).ok().says(nothing);
        world
            .ours(["-r", "--quiet", target])
            .ok()
            .never_says(nothing);
    }
    let absent = out.replace("-x", "-absent");
    let absent_drv = format!("{absent}.drv");
    for args in [
        &["-r", &absent][..],
        &["-r", &absent_drv],
        &["-r", &drv, &absent],
        &["-r", &format!("{drv}!dev")],
        &["-r", &drv, "--add-root", "/dev/null/link", "--indirect"],
        &["--repair-path", &absent],
        &["-r", "--check", &absent_drv],
        &["-r", &drv, "--cores", "x"],
    ] {
        let ran = world.ours(args).run().exits(1);
        ran.says("error: ").never_says(nothing);
    }
    let link = ["--add-root", "/dev/null/link"];
    let ran = world.windrow("build").arg(&drv).args(link).run().exits(1);
    ran.one_error().never_says(nothing);
}
