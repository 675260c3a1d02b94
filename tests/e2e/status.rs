//! What runs in a store is listed from any shell, and the log of a running build is followed to its
//! end, whatever that is.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use windrow::{Engine, Request, Store};

use crate::bad_disk::{as_nobody, nobody_reaches_windrow};
use crate::harness::{Cmd, Running, World, graph_of, need, runs_until_go, sh, text, wait_until};

/// A builder that comes to a phase, says something, makes `runs` and waits for `go`.
fn compiling(world: &World) -> Value {
    sh(&format!(
        "echo '@nix {{\"action\":\"setPhase\",\"phase\":\"buildPhase\"}}'; echo compiling a.c
         : > {}; until [ -e {} ]; do sleep 0.05; done; echo > $out",
        world.file("runs").display(),
        world.file("go").display()
    ))
}

/// A builder that writes a line, waits for a file `go1`, writes the next, and so on.
fn steps(world: &World, lines: &[&str], end: &str) -> Value {
    let mut script = String::new();
    for (number, line) in lines.iter().enumerate() {
        let go = world.file(&format!("go{number}"));
        script += &format!(
            "until [ -e {} ]; do sleep 0.02; done; {line}\n",
            go.display()
        );
    }
    sh(&format!("{script}\n{end}"))
}

/// What `windrow status --json` prints.
#[track_caller]
fn status(world: &World) -> Vec<Value> {
    let ran = world.windrow("status").arg("--json").ok();
    let lines = ran.lines().into_iter();
    lines
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .collect()
}

/// Waits until there is something in the status that is so, and gives it.
#[track_caller]
fn wait_for(world: &World, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    wait_until(what, || {
        found = status(world).into_iter().find(|value| is_it(value));
        found.is_some()
    });
    found.unwrap()
}

fn builds(value: &Value) -> bool {
    value["work"][0]["kind"] == "build"
}

/// Follows a log into the file `followed`.
fn follow(world: &World, drv: &str) -> (Running, PathBuf) {
    let file = world.write("followed", "");
    let redirect = format!("exec \"$@\" > {}", file.display());
    let follower = world.windrow("log").arg("-f").arg(drv);
    let follower = follower.through("/bin/sh", &["-c", &redirect, "sh"]);
    (follower.start(), file)
}

#[track_caller]
fn nothing_runs(world: &World) {
    world
        .windrow("status")
        .ok()
        .says("nothing is being built in this store")
        .prints_nothing();
    assert!(status(world).is_empty());
    world.is_clean();
}

#[test]
fn a_running_build_is_listed() {
    let world = World::new();
    nothing_runs(&world);
    // Then it is known how long it takes.
    let quick = world.add_one("x", sh("echo > $out"));
    world.windrow("build").arg(quick).ok();
    nothing_runs(&world);
    let drv = world.add_one("x", compiling(&world));
    let engine = world.windrow("build").arg(&drv).start();
    let run = wait_for(&world, "it has said something", |run| {
        run["work"][0]["lastLine"].is_string() && run["work"][0]["phase"].is_string()
    });
    assert_eq!(run["process"]["pid"], engine.id());
    assert_eq!(run["process"]["uid"], nix::unistd::getuid().as_raw());
    let command = run["process"]["command"].as_array().unwrap();
    assert_eq!(command[1..], ["build", drv.as_str()]);
    assert_eq!((&run["built"], &run["expected"]), (&0.into(), &1.into()));
    let work = &run["work"][0];
    assert_eq!(work["name"], "x");
    assert_eq!(work["path"], drv.as_str());
    assert_eq!(work["phase"], "buildPhase");
    assert_eq!(work["lastLine"], "compiling a.c");
    assert!(work["expected"].is_u64(), "{work}");
    assert!(work["began"].as_u64() >= run["began"].as_u64(), "{run}");
    let log = work["log"].as_str().unwrap();
    assert!(text(log).ends_with("compiling a.c\n"));
    // Its end is missing, which is said.
    let so_far = world.windrow("log").arg(&drv).ok().says("is cut");
    assert!(so_far.out().ends_with("compiling a.c\n"));

    let shown = world.windrow("status").ok().out();
    let head = format!("process {} of ", engine.id());
    assert!(shown.starts_with(&head), "{shown}");
    assert!(
        shown.contains(&format!("windrow build {drv}): 0/1 built, ")),
        "{shown}"
    );
    assert!(shown.contains("\n  build x  "), "{shown}");
    assert!(shown.contains("  buildPhase: compiling a.c\n"), "{shown}");
    assert!(shown.contains(&drv) && shown.contains(log), "{shown}");
    world.write("go", "");
    engine.wait().exits(0);
    nothing_runs(&world);
    assert!(!PathBuf::from(log).exists(), "it is compressed");
    assert!(
        world
            .windrow("log")
            .arg(&drv)
            .ok()
            .out()
            .ends_with("compiling a.c\n")
    );
}

#[test]
fn a_log_is_followed_line_by_line_to_its_end() {
    let long = "head -c 300000 /dev/zero | tr '\\0' x; echo";
    let whole = format!("one\n{}\nthree\n", "x".repeat(300_000));
    for compress in ["true", "false"] {
        let world = World::new();
        let lines = ["echo one", long, "echo three"];
        let drv = world.add_one("x", steps(&world, &lines, "echo > $out"));
        let build = world.windrow("build").arg(&drv);
        let engine = build.args(["--option", "compress-build-log", compress]);
        let engine = engine.start();
        wait_for(&world, "it is built", builds);
        let (follower, file) = follow(&world, &drv);
        for (number, length) in [4, 300_005, whole.len()].into_iter().enumerate() {
            assert!(text(&file).len() < length);
            world.write(&format!("go{number}"), "");
            wait_until("the line has come", || text(&file) == whole[..length]);
        }
        let ran = follower.wait().exits(0);
        assert_eq!(ran.stderr, "");
        engine.wait().exits(0);
        assert!(text(&file) == whole);
        assert!(world.windrow("log").arg(&drv).ok().out() == whole);
        nothing_runs(&world);
    }
}

#[test]
fn by_an_output_and_from_the_middle() {
    let world = World::new();
    let drv = world.add_one("x", steps(&world, &["echo one", "echo two"], "echo > $out"));
    let shown = world.windrow("show").arg(&drv).ok().out();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let shown = shown.as_object().unwrap().values().next().unwrap();
    let out = shown["outputs"]["out"]["path"].as_str().unwrap();
    world.write("go0", "");
    let engine = world.windrow("build").arg(&drv).start();
    wait_for(&world, "it has said something", |run| {
        run["work"][0]["lastLine"] == "one"
    });
    let (follower, file) = follow(&world, out);
    wait_until("what there was has come", || text(&file) == "one\n");
    world.write("go1", "");
    follower.wait().exits(0);
    engine.wait().exits(0);
    assert_eq!(text(&file), "one\ntwo\n");
}

#[test]
fn whoever_follows_a_build_is_told_that_it_failed() {
    for (end, options, status, why) in [
        ("exit 3", &[][..], 100, "failed with exit code 3"),
        (
            "exec sleep 600",
            &["--max-silent-time", "5"],
            101,
            "timed out",
        ),
        (":", &[], 1, "failed to produce output"),
    ] {
        let world = World::new();
        let go = world.file("go0");
        // It is silent only from then on.
        let script = format!(
            "until [ -e {} ]; do echo waiting; sleep 0.05; done; echo one; {end}",
            go.display()
        );
        let drv = world.add_one("x", sh(&script));
        let engine = world.windrow("build").arg(&drv).args(options).start();
        wait_for(&world, "it is built", builds);
        let (follower, file) = follow(&world, &drv);
        world.write("go0", "");
        engine.wait().exits(status);
        follower.wait().exits(status).one_error().says(why);
        assert!(text(file).ends_with("waiting\none\n"));
        nothing_runs(&world);
    }
}

/// Follows a build whose engine gets a signal; gives what was said.
#[track_caller]
fn ended_by(signal: &str, why: &str) {
    let world = World::new();
    let drv = world.add_one("x", steps(&world, &["echo one", "echo"], "echo > $out"));
    world.write("go0", "");
    let engine = world.windrow("build").arg(&drv).start();
    wait_for(&world, "it is built", builds);
    let (follower, file) = follow(&world, &drv);
    wait_until("the line has come", || text(&file) == "one\n");
    engine.signal(signal);
    follower.wait().exits(1).one_error().says(why).says(&drv);
    engine.wait();
    let ran = world.windrow("status").ok();
    ran.says("nothing is being built in this store")
        .prints_nothing();
    let runs = fs::read_dir(world.state().join("windrow/runs")).unwrap();
    assert_eq!(runs.count(), 0, "the file is deleted");
    // What it had written is there, and goes when it is built again.
    if signal == "KILL" {
        assert_eq!(
            world.windrow("log").arg(&drv).ok().says("is cut").out(),
            "one\n"
        );
    }
    world.write("go1", "");
    world.windrow("build").arg(&drv).ok();
    let ran = world.windrow("log").arg(&drv).ok().never_says("cut");
    assert_eq!(ran.out(), "one\n\n");
    nothing_runs(&world);
}

#[test]
fn the_end_of_an_engine_that_is_killed_is_noticed() {
    ended_by("KILL", "was killed");
}

#[test]
fn the_end_of_an_engine_that_is_interrupted_is_noticed() {
    ended_by("INT", "interrupted");
}

#[test]
fn what_does_not_run_is_printed_and_not_waited_for() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo said; echo > $out"));
    let never = world.windrow("log").arg("-f").arg(&drv).run();
    never
        .exits(1)
        .one_error()
        .says("no build log")
        .prints_nothing();
    world.windrow("build").arg(&drv).ok();
    let after = world.windrow("log").arg("-f").arg(&drv).ok();
    assert_eq!(after.says("nobody builds").out(), "said\n");
    // Another build runs.
    let other = world.add_one("y", runs_until_go(&world));
    let engine = world.windrow("build").arg(other).start();
    wait_for(&world, "it is built", builds);
    let beside = world.windrow("log").arg("-f").arg(&drv).ok();
    assert_eq!(beside.says("nobody builds").out(), "said\n");
    world.write("go", "");
    engine.wait().exits(0);
}

#[test]
fn what_is_still_to_be_built_is_waited_for() {
    let world = World::new();
    let above = steps(&world, &["cat @{below}; echo above"], "echo > $out");
    let graph = graph_of([("below", runs_until_go(&world)), ("above", above)]);
    let file = world.graph("g.json", &graph);
    let engine = world.windrow("build").arg(&file).start();
    wait_for(&world, "it is built", builds);
    let (follower, followed) = follow(&world, &format!("{}#above", file.display()));
    let second = follow_errors(&world, &file);
    wait_until("it waits", || {
        text(world.file("waits")).contains("waiting until process")
    });
    world.write("go", "");
    world.write("go0", "");
    follower
        .wait()
        .exits(0)
        .says(format!("process {}", engine.id()));
    second.wait().exits(0);
    assert_eq!(text(followed), "\nabove\n");
    engine.wait().exits(0);
    nothing_runs(&world);
}

/// Follows `above` of a graph, with what is said in the file `waits`.
fn follow_errors(world: &World, graph: &std::path::Path) -> Running {
    let said = world.write("waits", "");
    let redirect = format!("exec \"$@\" 2> {}", said.display());
    let what = format!("{}#above", graph.display());
    let follower = world.windrow("log").arg("-f").arg(what);
    follower
        .through("/bin/sh", &["-c", &redirect, "sh"])
        .start()
}

#[test]
fn what_waits_for_a_build_that_fails_is_told_so() {
    let world = World::new();
    let failing = sh(&format!(
        "until [ -e {} ]; do sleep 0.05; done; exit 1",
        world.file("go").display()
    ));
    let graph = graph_of([("below", failing), ("above", sh("cat @{below} > $out"))]);
    let file = world.graph("g.json", &graph);
    let engine = world.windrow("build").arg(&file).start();
    wait_for(&world, "it is built", builds);
    let follower = follow_errors(&world, &file);
    wait_until("it waits", || {
        text(world.file("waits")).contains("waiting until process")
    });
    world.write("go", "");
    engine.wait().exits(100);
    follower.wait().exits(1).prints_nothing();
    assert!(text(world.file("waits")).contains("did not end"));
}

#[test]
fn two_engines_and_what_one_waits_for() {
    let world = World::new();
    let drv = world.add_one("x", runs_until_go(&world));
    let first = world.windrow("build").arg(&drv).start();
    wait_for(&world, "it is built", builds);
    let second = world.windrow("build").arg(&drv).start();
    let waits = wait_for(&world, "the second one waits", |run| {
        run["work"][0]["kind"] == "wait" && run["work"][0]["for"].is_string()
    });
    assert_eq!(waits["process"]["pid"], second.id());
    let what = waits["work"][0]["for"].as_str().unwrap();
    assert!(what.contains(&format!("process {}", first.id())), "{what}");
    assert_eq!(status(&world).len(), 2, "and no lock of another program");
    let shown = world.windrow("status").ok().out();
    assert!(
        shown.contains("\n  wait x  ") && shown.contains(what),
        "{shown}"
    );
    // The second one's user follows the build of the first.
    let (follower, _) = follow(&world, &drv);
    world.write("go", "");
    follower.wait().exits(0);
    first.wait().exits(0);
    second.wait().exits(0);
    nothing_runs(&world);
}

#[test]
fn somebody_else_sees_it() {
    need!(root);
    need!("setpriv");
    if !nobody_reaches_windrow() {
        return crate::harness::skip("needs a build directory that every user can read");
    }
    let world = World::new();
    let drv = world.add_one("x", compiling(&world));
    let engine = world.windrow("build").arg(&drv).start();
    wait_for(&world, "it has said something", |run| {
        run["work"][0]["lastLine"].is_string()
    });
    let shown = as_nobody(world.windrow("status")).ok().out();
    assert!(
        shown.contains("of root (") && shown.contains("compiling a.c"),
        "{shown}"
    );
    let follower = as_nobody(world.windrow("log").arg("-f").arg(&drv)).start();
    // What a dead run left is not that user's to delete, and no run.
    let left = world.state().join("windrow/runs/1-0");
    fs::write(&left, "{}\n").unwrap();
    let count = |cmd: Cmd| cmd.arg("--json").ok().lines().len();
    assert_eq!(count(as_nobody(world.windrow("status"))), 1);
    assert!(left.exists());
    assert_eq!(count(world.windrow("status")), 1);
    assert!(!left.exists());
    world.write("go", "");
    let followed = follower.wait().exits(0).out();
    assert!(followed.ends_with("compiling a.c\n"), "{followed}");
    engine.wait().exits(0);
}

#[test]
fn files_that_hold_rubbish_do_no_harm() {
    let world = World::new();
    let drv = world.add_one("x", runs_until_go(&world));
    let dir = world.state().join("windrow/runs");
    fs::create_dir_all(&dir).unwrap();
    let deep = format!("{}\n", "[".repeat(100_000));
    let rubbish: [&[u8]; 4] = [
        b"",
        b"\xff\0\n{}\n",
        deep.as_bytes(),
        b"{\"event\":\"run\",\"pid\":",
    ];
    let mut held = Vec::new();
    for (number, bytes) in rubbish.iter().enumerate() {
        let path = dir.join(format!("{number}-0"));
        fs::write(&path, bytes).unwrap();
        // As if its run lived.
        let file = fs::File::open(&path).unwrap();
        file.try_lock().unwrap();
        held.push(file);
        fs::write(dir.join(format!("{number}-1")), bytes).unwrap();
    }
    let ran = world.windrow("status").ok().no_panic();
    ran.says("nothing is being built").prints_nothing();
    let engine = world.windrow("build").arg(&drv).start();
    wait_for(&world, "it is built", builds);
    let (follower, _) = follow(&world, &drv);
    world.write("go", "");
    follower.wait().exits(0).no_panic();
    engine.wait().exits(0);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), rubbish.len());
    drop(held);
    nothing_runs(&world);
}

#[test]
fn a_build_of_nix_is_seen_by_its_lock() {
    need!(nix);
    let world = World::new();
    let drv = world.add_one("x", runs_until_go(&world));
    let other = world
        .program("nix-store")
        .arg("--realise")
        .arg(&drv)
        .start();
    world.wait_for("runs");
    let lock = wait_for(&world, "the lock is seen", |it| it["kind"] == "lock");
    assert!(lock["path"].as_str().unwrap().ends_with("-x"), "{lock}");
    assert_eq!(lock["process"]["pid"], other.id());
    let shown = world.windrow("status").ok().out();
    let expected = format!("is locked by process {} of ", other.id());
    assert!(
        shown.contains(&expected) && shown.contains("nix-store --realise"),
        "{shown}"
    );
    world.write("go", "");
    other.wait().exits(0);
    nothing_runs(&world);
}

#[test]
fn following_ends_with_who_reads_and_with_a_signal() {
    let world = World::new();
    let drv = world.add_one("x", steps(&world, &["echo one", ":"], "echo > $out"));
    world.write("go0", "");
    let engine = world.windrow("build").arg(&drv).start();
    wait_for(&world, "it is built", builds);
    let follower = || world.windrow("log").arg("-f").arg(&drv);
    let head = "\"$@\" | head -n 1; echo ended";
    let read = follower().through("/bin/sh", &["-c", head, "sh"]).ok();
    assert_eq!((read.out(), &*read.stderr), ("one\nended\n".to_owned(), ""));
    let (interrupted, file) = follow(&world, &drv);
    wait_until("the line has come", || text(&file) == "one\n");
    interrupted.signal("INT");
    interrupted
        .wait()
        .exits(130)
        .one_error()
        .says("interrupted");
    world.write("go1", "");
    engine.wait().exits(0);
    nothing_runs(&world);
}

#[test]
fn a_program_that_embeds_the_engine_is_listed() {
    let world = World::new();
    let nix = world.at("nix");
    let engine = Engine::builder(Store::In(nix.clone()))
        .option("sandbox", "false")
        .option("build-users-group", "")
        .option("build-dir", world.at("tmp").display().to_string())
        .build()
        .unwrap();
    let graph = graph_of([("x", runs_until_go(&world))]).to_string();
    let build = engine.submit(Request::new().graph(graph)).unwrap();
    let status = || {
        let cmd = world.windrow("status").arg("--json");
        let cmd = cmd.env("NIX_STORE_DIR", nix.join("store"));
        cmd.env("NIX_STATE_DIR", nix.join("state")).ok().lines()
    };
    let builds = || status().first().is_some_and(|run| run.contains("\"path\""));
    wait_until("what it builds is listed", builds);
    let run: Value = serde_json::from_str(&status()[0]).unwrap();
    assert_eq!(run["process"]["pid"], std::process::id());
    assert_eq!(run["work"][0]["name"], "x");
    world.write("go", "");
    assert!(build.wait().unwrap().is_success());
    // It lasts as long as the engine, which may be asked for more.
    let run: Value = serde_json::from_str(&status()[0]).unwrap();
    wait_until("it has ended", || !builds());
    assert_eq!(run["kind"], "run");
    drop(engine);
    assert!(status().is_empty());
}
