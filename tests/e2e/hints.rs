//! What messages tell people to do: the cause by its name, what was typed and nothing else, and a
//! remedy that helps.

use crate::harness::{Cmd, Ran, World, graph_of, need, need_usual_place, sh, sh_with, skip, text};

/// The same without what says where the store is.
fn unsaid(cmd: Cmd) -> Cmd {
    let said = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"];
    said.into_iter().fold(cmd, Cmd::env_remove)
}

#[test]
fn a_store_of_ones_own_that_fails_is_not_what_is_suggested() {
    need!("setpriv");
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let home = world.at("home/.local");
    std::fs::create_dir(&home).unwrap();
    let build = |args: &[&str]| {
        let cmd = world.windrow("build").arg(&file).args(args);
        somebody(unsaid(cmd)).run().exits(1).one_error()
    };
    let Some(ran) = may_run(&world).then(|| build(&["--store", "own"])) else {
        return;
    };
    let ran = ran.says(home.display().to_string()).says("XDG_DATA_HOME");
    ran.never_says("'--store own'");
}

const SOMEBODY: [&str; 3] = ["--reuid=31234", "--regid=31234", "--clear-groups"];

fn somebody(cmd: Cmd) -> Cmd {
    cmd.through("/usr/bin/setpriv", &SOMEBODY)
}

/// Whether an ordinary user can run what is tested.
fn may_run(world: &World) -> bool {
    let may = somebody(world.windrow("--version")).run().status.success();
    if !may {
        skip("needs root, setpriv, and a build directory that every user can read");
    }
    may
}

#[test]
fn an_ordinary_user_has_a_store_of_his_own_beside_one_that_he_may_not_write() {
    need!(root);
    need!("setpriv");
    need_usual_place!();
    let world = World::new();
    if !may_run(&world) {
        return;
    }
    world.open_to_all();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    let run = |command: &str, args: &[&str], variable: (&str, &str)| {
        let cmd = unsaid(world.windrow(command)).args(args);
        somebody(cmd.env(variable.0, variable.1)).run()
    };
    let file = file.to_str().unwrap();
    let note = "you may not write '/nix/store'";
    let own = world.at("home/.local/share/windrow/store");
    let built = run("build", &[file], ("X", "")).exits(0).says(note);
    assert_eq!(built.stderr.matches("note:").count(), 1, "{built}");
    assert!(built.line().starts_with(own.to_str().unwrap()), "{built}");
    assert_eq!(text(built.line()), "x\n");
    let again = run("build", &[file], ("WINDROW_STORE", "own")).exits(0);
    assert_eq!(again.never_says(note).line(), built.line());
    run("build", &[file, "-q"], ("X", ""))
        .exits(0)
        .never_says(note);
    run("history", &["x"], ("X", "")).exits(0).says(note);
    let local = run("build", &[file, "--store", "local"], ("X", ""));
    local
        .exits(1)
        .one_error()
        .never_says(note)
        .says("--store own");
    // A path of the machine's store is looked for there.
    let there = "/nix/store/00000000000000000000000000000000-x.drv";
    run("build", &[there], ("X", "")).exits(1).never_says(note);
}

#[test]
fn who_named_a_store_that_can_not_be_opened_is_told() {
    let world = World::new();
    let build = |cmd: Cmd| cmd.arg("x.json").run().exits(1).one_error();
    let variable = |name: &str| build(world.windrow("build").env(name, "daemon"));
    variable("NIX_REMOTE").says("environment variable NIX_REMOTE names");
    let ran = variable("WINDROW_STORE").says("environment variable WINDROW_STORE names");
    ran.never_says("NIX_REMOTE");
    let typed = build(world.windrow("build").args(["--store", "daemon"]));
    typed.never_says("names that store");
    world.conf("store = daemon\n");
    let ran = build(world.windrow("build")).says("the setting 'store' names");
    ran.never_says("NIX_REMOTE");
    let ran = world.windrow("nix-store").args(["-q", "--hash", "/x"]);
    ran.run().exits(1).says("the setting 'store' names");
}

#[test]
fn a_log_that_is_not_there() {
    let world = World::new();
    let ran = world.windrow("log").arg("nothing").run();
    let ran = ran.exits(1).one_error().says("cannot use 'nothing'");
    ran.never_says("build");
    world.graph("windrow.json", &graph_of([("x", sh("echo > $out"))]));
    let ran = world.windrow("log").arg("#x").run().exits(1).one_error();
    let ran = ran.says("'#x'");
    ran.never_says(&world.store().display().to_string());
    let out = world.windrow("build").ok().line();
    std::os::unix::fs::symlink(&out, world.file("link")).unwrap();
    world.windrow("log").arg("./link").ok();
    std::fs::remove_dir_all(world.at("log")).unwrap();
    let ran = world
        .windrow("log")
        .arg("./link")
        .run()
        .exits(1)
        .one_error();
    ran.says("'./link'").never_says(".drv");
}

#[test]
fn serving_is_said_to_be_missing() {
    let world = World::new();
    let ran = world
        .windrow("nix-store")
        .args(["--serve", "--write"])
        .run();
    let ran = ran.exits(1).says("--serve is not supported");
    ran.never_says("no operation").says("serve-cache");
}

#[test]
fn unknown_settings_are_an_error_a_warning_or_a_warning_with_a_line() {
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let option = ["--option", "max-jbos", "3"];
    let why = "unknown setting 'max-jbos'";
    let ran = world.windrow("build").arg(&file).args(option).run();
    let ran = ran.exits(1).one_error().says(why);
    ran.says("did you mean 'max-jobs'?").prints_nothing();
    let out = world.windrow("build").arg(&file).ok().line();
    let ran = world.windrow("nix-store").args(["-q", "--hash", &out]);
    ran.args(option).ok().says(format!("warning: {why}"));
    world.conf("max-jbos = 3\n");
    let ran = world.windrow("build").arg(&file).ok();
    let conf = world.at("conf/nix.conf");
    let lines = text(&conf).lines().count();
    ran.says(format!("warning: {}:{lines}: {why}", conf.display()));
}

#[test]
fn nothing_to_build_is_not_said_before_an_error() {
    let world = World::new();
    world.graph("windrow.json", &graph_of([("x", sh("echo > $out"))]));
    world.windrow("build").ok();
    let idle = "nothing to build: everything asked for is valid";
    world.windrow("build").ok().says(idle);
    world.write("there", "");
    for link in ["--add-root", "--out-link"] {
        // What is no link is not replaced by one.
        let ran = world.windrow("build").args([link, "there"]).run();
        ran.exits(1).one_error().never_says(idle);
    }
    let windrow = env!("CARGO_BIN_EXE_windrow");
    let line = format!("{windrow} build > /dev/full");
    let ran = world.program("sh").args(["-c", &line]).run().exits(1);
    ran.one_error().never_says(idle);
}

#[test]
fn one_thing_is_told_of_in_the_singular() {
    let world = World::new();
    let graph = graph_of([("low", sh("exit 1")), ("top", sh("cat @{low} > $out"))]);
    let file = world.graph("g.json", &graph);
    let ran = world.windrow("build").arg(&file).run().exits(100);
    ran.says("1 dependency couldn't be built");
    let slow = world.graph("slow.json", &graph_of([("slow", sh("sleep 100"))]));
    let build = |args: &[&str]| world.windrow("build").arg(&slow).args(args).run();
    let ran = build(&["--timeout", "1"]).exits(101);
    ran.says("timed out after 1 second").never_says("1 seconds");
    let ran = build(&["--max-silent-time", "1"]).exits(101);
    ran.says("1 second of silence");
    let plan = world.windrow("plan").arg(&slow).ok();
    plan.says("1 derivation would be built\n");
}

#[test]
fn help_for_nix_store_tells_its_operations() {
    let world = World::new();
    let help = world.windrow("help").arg("nix-store").ok().out();
    for word in ["Usage: nix-store OPERATION", "--realise", "--gc"] {
        assert!(help.contains(word), "{help}");
    }
    assert_eq!(help, world.windrow("nix-store").arg("--help").ok().out());
}

#[test]
fn graphs_of_derivations_are_task_graphs() {
    let world = World::new();
    let two = serde_json::json!({"outputs": ["out", "dev"]});
    let mut graph = graph_of([
        ("a", sh_with("echo > $out; echo > $dev", two)),
        ("b", sh("cat @{a} @{a^dev} > $out")),
        ("c", sh("cat @{a} @{missing} > $out")),
    ]);
    graph["sources"] = serde_json::json!({"missing": "missing.c"});
    world.graph("windrow.json", &graph);
    let count = |what: &str| -> Vec<String> {
        let ran: Ran = world.windrow("graph").arg(what).ok();
        let numbers = ran.lines().into_iter().take(2);
        let number = |line: String| line.split_whitespace().last().map(str::to_owned);
        numbers.filter_map(number).collect()
    };
    assert_eq!(count("windrow.json"), ["3", "2"]);
    assert_eq!(count("#b"), ["2", "1"]);
    world
        .windrow("simulate")
        .args(["windrow.json", "-j", "2"])
        .ok();
    world.windrow("build").arg("#b").ok();
    let by_history = ["#b", "--durations", "history"];
    world.windrow("simulate").args(by_history).ok();
    for (what, why) in [
        ("#d", "no derivation 'd'"),
        ("#missing", "'missing' is a source"),
    ] {
        let ran = world.windrow("graph").arg(what).run().exits(1).one_error();
        ran.says(format!("'{what}'")).says(why);
    }
    world.write("bad.json", "{\"derivations\": {\"x\": {}}}");
    let ran = world.windrow("graph").arg("bad.json").run().exits(1);
    ran.one_error().says("bad.json:1:").says("builder");
    world.is_clean();
}
