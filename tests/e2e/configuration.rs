//! windrow.toml and what else gives settings their values, which of them wins; how many builders
//! run if nobody says; links to results; what a plan tells.

use std::fs;
use std::path::Path;

use crate::harness::{Cmd, World, graph_of, sh, sh_with, text};

/// A graph whose derivation tells how many cores it may use.
fn cores() -> serde_json::Value {
    graph_of([("x", sh("echo $NIX_BUILD_CORES > $out"))])
}

fn toml(world: &World, system: &str, user: &str) {
    let dir = world.at("home/.config/windrow");
    fs::create_dir_all(&dir).unwrap();
    fs::write(world.at("conf/windrow.toml"), system).unwrap();
    fs::write(dir.join("windrow.toml"), user).unwrap();
}

#[test]
fn the_later_of_the_sources_of_a_setting_wins() {
    let world = World::new();
    let file = world.graph("g.json", &cores());
    let built = |more: &dyn Fn(Cmd) -> Cmd| {
        let out = more(world.windrow("build").arg(&file)).ok().line();
        let cores = text(&out).trim().to_owned();
        world.windrow("nix-store").args(["--delete", &out]).ok();
        cores
    };
    let plain = |cmd: Cmd| cmd;
    world.conf("cores = 11\n");
    assert_eq!(built(&plain), "11");
    toml(&world, "cores = 12\n", "");
    assert_eq!(built(&plain), "12");
    toml(&world, "cores = 12\n", "build-cores = 13\n");
    assert_eq!(built(&plain), "13");
    let by_variable = |cmd: Cmd| cmd.env("NIX_CONFIG", "cores = 14");
    assert_eq!(built(&by_variable), "14");
    let by_option = |cmd: Cmd| by_variable(cmd).args(["--option", "cores", "15"]);
    assert_eq!(built(&by_option), "15");
    let by_flag = |cmd: Cmd| by_option(cmd).args(["--cores", "16"]);
    assert_eq!(built(&by_flag), "16");
    let elsewhere = |cmd: Cmd| cmd.env("XDG_CONFIG_HOME", world.at("nowhere"));
    assert_eq!(built(&elsewhere), "12");
}

#[test]
fn what_is_wrong_with_windrow_toml_is_told_with_its_line() {
    let world = World::new();
    let file = world.graph("g.json", &cores());
    let path = world.at("conf/windrow.toml").display().to_string();
    let build = |system: &str| {
        toml(&world, system, "");
        world.windrow("build").arg(&file).run()
    };
    let list = "# more\ncores = 3\nsubstituters = []\nextra-platforms = [\"i686-linux\"]\n";
    build(list).exits(0).never_says("warning");
    let ran = build("cores = 3\n\nmax-jbos = 4\n").exits(0);
    ran.says(format!(
        "warning: {path}:3: unknown setting 'max-jbos'; did you mean 'max-jobs'?"
    ));
    let ran = build("\nrepeat = 2\n").exits(0);
    ran.says(format!("{path}:2: the setting 'repeat' has no effect"));
    for (text, why) in [
        ("cores = 3\ncores = 4\n", "this is not TOML"),
        ("max-jobs: 3\n", "1: this is not TOML"),
        (
            "\ncores = \"many\"\n",
            "2: invalid value 'many' for setting 'cores'",
        ),
        (
            "cores = 1.5\n",
            "1: 'cores' has a value that no setting has",
        ),
        ("policy = \"best\"\n", "there is no policy 'best'"),
    ] {
        let ran = build(text).exits(1).one_error().prints_nothing();
        ran.says(why);
    }
}

#[test]
fn the_store_of_the_variable_is_used_unless_another_one_is_typed() {
    let world = World::new();
    let file = world.graph("g.json", &cores());
    let path = |name: &str| world.at(name).display().to_string();
    let build = |typed: Option<&str>| {
        let cmd = world.windrow("build").arg(&file);
        let cmd = cmd.env("WINDROW_STORE", path("by-variable"));
        let cmd = cmd.args(typed.map(|name| format!("--store={}", path(name))));
        cmd.args(["--dry-run"]).ok()
    };
    toml(&world, &format!("store = \"{}\"\n", path("by-file")), "");
    let add = |cmd: Cmd| cmd.arg(&file).ok();
    add(world.windrow("add"));
    assert!(world.at("by-file/nix").is_dir());
    add(world
        .windrow("add")
        .env("WINDROW_STORE", path("by-variable")));
    assert!(world.at("by-variable/nix").is_dir());
    build(Some("typed"));
    assert!(!world.at("typed").exists(), "a dry run writes nothing");
    let typed = world.windrow("add").args(["--store", &path("typed")]);
    add(typed.env("WINDROW_STORE", path("nowhere")));
    assert!(world.at("typed/nix").is_dir() && !world.at("nowhere").exists());
    assert!(!world.store().exists());
}

/// Two derivations each of which waits for the other one.
fn together(world: &World) -> serde_json::Value {
    let meet = |own: &str, other: &str| {
        let (own, other) = (world.file(own), world.file(other));
        let (own, other) = (own.display(), other.display());
        sh(&format!(
            ": > {own}; until [ -e {other} ]; do sleep 0.05; done; echo > $out"
        ))
    };
    graph_of([("a", meet("at-a", "at-b")), ("b", meet("at-b", "at-a"))])
}

/// Two derivations that fail if they run at a time.
fn alone(world: &World, round: u32) -> serde_json::Value {
    let lock = world.file("lock");
    let lock = lock.display();
    let script = format!("mkdir {lock} || exit 1; sleep 0.3; rmdir {lock}; echo {round} > $out");
    graph_of([("c", sh(&script)), ("d", sh(&script))])
}

#[test]
fn as_many_builders_run_as_there_are_processors_unless_somebody_says() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let world = World::new();
    // All that the world says but the number of jobs.
    let conf = "sandbox = false\nbuild-users-group =\nsubstitute = false\nsubstituters =\n";
    let conf_file = world.at("conf/nix.conf");
    fs::write(&conf_file, conf).unwrap();
    let meeting = world.graph("together.json", &together(&world));
    let plan = world.windrow("plan").arg(&meeting).ok();
    assert_eq!(plan.lines().len(), 2);
    let build = |file: &Path, args: &[&str]| world.windrow("build").arg(file).args(args).ok();
    if processors > 1 {
        build(&meeting, &[]);
        world.set_aside("first");
    }
    build(&meeting, &["--jobs", "2"]);
    let mut round = 0;
    let mut next = || {
        round += 1;
        world.graph("alone.json", &alone(&world, round))
    };
    for one in [&["-j1"][..], &["--jobs", "1"], &["--max-jobs=1"]] {
        build(&next(), one);
    }
    // nix-store keeps the default of Nix.
    let drvs = world.windrow("add").arg(next()).ok().lines();
    assert_eq!(drvs.len(), 2);
    world.windrow("nix-store").arg("-r").args(&drvs).ok();
    fs::write(&conf_file, format!("{conf}max-jobs = 1\n")).unwrap();
    build(&next(), &[]);
    world.is_clean();
}

#[test]
fn results_are_linked_to_only_if_that_is_asked_for() {
    let world = World::new();
    let two = serde_json::json!({"outputs": ["out", "dev"]});
    let script = "echo out > $out; echo dev > $dev";
    let graph = graph_of([("x", sh_with(script, two)), ("y", sh("echo y > $out"))]);
    world.graph("windrow.json", &graph);
    let plain = world.windrow("build").args(["#x^*", "#y"]).ok().lines();
    assert!(!world.file("result").exists());
    let linked = world.windrow("build").args(["#x^*", "#y", "-o", "res"]);
    assert_eq!(linked.ok().lines(), plain);
    for (link, path) in [("res-dev", 0), ("res", 1), ("res-2", 2)] {
        let target = fs::read_link(world.file(link)).unwrap();
        assert_eq!(target.display().to_string(), plain[path]);
    }
    let roots = world.windrow("nix-store").args(["--gc", "--print-roots"]);
    let roots = roots.ok().out();
    assert!(roots.contains("res-2"), "{roots}");
    let both = ["-o", "a", "--add-root", "b"];
    world.windrow("build").args(both).run().exits(1);
}

#[test]
fn a_plan_tells_times_by_the_history() {
    let world = World::new();
    let graph = |round: &str| {
        let script = |next: &str| sh(&format!("echo {round}; {next} echo > $out"));
        graph_of([
            ("low", script("")),
            ("mid", script("cat @{low};")),
            ("side", script("")),
            ("top", script("cat @{mid} @{side};")),
        ])
    };
    world.graph("windrow.json", &graph("1"));
    let plan = world.windrow("plan").ok();
    let plan = plan.says("4 derivations would be built, at most 3 one after the other");
    let first = plan.never_says("by the history").lines();
    assert_eq!(world.windrow("build").arg("--dry-run").ok().lines(), first);
    world.windrow("build").ok();
    world.graph("windrow.json", &graph("2"));
    let plan = world.windrow("plan").args(["-j", "2"]).ok();
    assert_eq!(plan.lines().len(), 4);
    let plan = plan
        .says("by the history that takes ")
        .says(", 2 at a time (");
    plan.never_says("counted as the median");
    let dry = world.windrow("build").args(["--dry-run", "-j", "2"]).ok();
    let plan = world.windrow("plan").args(["-j", "2"]).ok();
    assert_eq!((dry.out(), &dry.stderr), (plan.out(), &plan.stderr));
    let mut more = graph("3");
    more["derivations"]["new"] = sh("cat @{top} > $out");
    world.graph("windrow.json", &more);
    let plan = world.windrow("plan").ok();
    plan.says("one at a time")
        .says("; 1 of 5 counted as the median");
}
