//! Policies from outside: files of priorities, and programs that are asked.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{World, graph_of, have, sh, text};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy.py")
}

/// A program of a policy, in shell: what it does with each question, whose numbers of ready tasks
/// it finds in `ids`.
fn shell(world: &World, name: &str, answer: &str) -> String {
    let script = format!(
        "while read -r line; do\n  case $line in *'\"type\":\"rank\"'*) ;; *) continue;; esac\n  \
         ids=$(printf '%s' \"$line\" | sed 's/.*\"ready\":\\[\\([0-9,]*\\)\\].*/\\1/; s/,/ /g')\n  {answer}\ndone\n"
    );
    world.script(name, &script).display().to_string()
}

/// Answers that the task with the largest number comes first.
const LAST_FIRST: &str =
    r#"all=; for id in $ids; do all="$all,\"$id\":-$id"; done; echo "{\"ranks\":{${all#,}}}""#;

/// When each task of three that do not depend on each other starts in the one slot.
fn starts(world: &World, policy: &str) -> Vec<(String, u64)> {
    let graph = world.write(
        "g.json",
        r#"{"tasks":[{"name":"a","work":1},{"name":"b","work":2},{"name":"c","work":4}]}"#,
    );
    let trace = world.file("t.json");
    let command = world.windrow("simulate").arg(graph);
    let command = command.args(["-j", "1", "--policy", policy]);
    command.arg("--trace").arg(&trace).ok();
    let spans: Vec<Value> = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let spans = spans.iter().filter(|span| span["ph"] == "X");
    let mut starts: Vec<(String, u64)> = spans
        .map(|span| {
            let name = span["name"].as_str().unwrap().to_owned();
            (name, span["ts"].as_u64().unwrap() / 1_000_000)
        })
        .collect();
    starts.sort_by_key(|&(_, start)| start);
    starts
}

fn order(world: &World, policy: &str) -> String {
    let starts = starts(world, policy);
    starts.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_file_has_priorities() {
    let world = World::new();
    world.write("r.csv", "task,priority\nc,-1\nb,2\na,1\n");
    assert_eq!(order(&world, "file:r.csv"), "bac");
    world.write("r.csv", "c,0\n");
    assert_eq!(order(&world, "file:r.csv"), "cab");
    for (ranks, says) in [
        ("a,x\nb,y\n", "r.csv:2: the priority `y` is no number"),
        ("d,1\n", "the graph has no task `d`"),
    ] {
        world.write("r.csv", ranks);
        let ran = world.windrow("simulate").arg("g.json");
        let ran = ran.args(["--policy", "file:r.csv"]).run();
        ran.no_panic().one_error().says(says);
    }
    let none = world.windrow("simulate").arg("g.json");
    none.args(["--policy", "file:none.csv"])
        .run()
        .one_error()
        .says("cannot read 'none.csv'");
}

#[test]
fn a_file_has_machines() {
    let world = World::new();
    world.write(
        "g.json",
        r#"{"tasks":[{"name":"a","work":1},{"name":"b","work":2},{"name":"c","work":4}]}"#,
    );
    world.write(
        "m.toml",
        "[[machine]]\nname = \"slow\"\n[[machine]]\nname = \"fast\"\nspeed = 4\n",
    );
    let run = |ranks: &str| {
        world.write("r.csv", ranks);
        let command = world
            .windrow("simulate")
            .args(["g.json", "--machines", "m.toml"]);
        command.args(["--json", "--policy", "file:r.csv"]).run()
    };
    let makespan = |ranks: &str| {
        let ran = run(ranks).exits(0);
        let result: Value = serde_json::from_str(&ran.line()).unwrap();
        result["makespan"].as_f64().unwrap()
    };
    assert_eq!(makespan("a,1,slow\nb,1,slow\nc,1,slow\n"), 7.0);
    assert_eq!(makespan("a,1,fast\nb,1,slow\nc,2,fast\n"), 2.0);
    // What has no machine goes where it ends first.
    assert_eq!(makespan("a,3,slow\nc,2\nb,1\n"), 1.5);
    run("a,1,quick\n")
        .exits(1)
        .one_error()
        .says("there is no machine `quick`");
    let ran = world
        .windrow("build")
        .args(["--policy", "file:r.csv", "x.drv"])
        .run();
    ran.no_panic().says("it chooses machines");
}

#[test]
fn a_program_ranks() {
    let world = World::new();
    let program = shell(&world, "last", LAST_FIRST);
    assert_eq!(order(&world, &format!("program:{program}")), "cba");
    let command = world
        .windrow("simulate")
        .arg("layered:n=40,width=4,degree=2");
    let policy = format!("fifo,program:{program},timeout=1m,random");
    let table = command.args(["-j2", "--compare", &policy]).ok();
    assert_eq!(table.lines().len(), 4, "{table}");
    let by_name = format!("program:sh {program}");
    assert_eq!(order(&world, &by_name), "cba");
}

#[test]
fn the_example_in_python_ranks_and_places() {
    if !have(&["python3"]) {
        return;
    }
    let policy = format!("program:{}", example().display());
    assert!(text(example()).lines().count() < 40);
    let world = World::new();
    assert_eq!(order(&world, &policy), "cba");
    world.write(
        "m.toml",
        "[[machine]]\nname = \"m\"\ncount = 3\ncores = 2\nmemory = \"1GB\"\n",
    );
    let run = |more: &[&str]| {
        let command = world
            .windrow("simulate")
            .arg("layered:n=200,width=20,degree=3,time=uniform:1..10s");
        let command = command.args(["--json", "--policy", &policy]).args(more);
        serde_json::from_str::<Value>(&command.ok().line()).unwrap()
    };
    for more in [
        &["-j", "6"][..],
        &["--machines", "m.toml"],
        &["--machines", "m.toml", "--decision-time", "100ms"],
    ] {
        let result = run(more);
        assert_eq!(
            (&result["succeeded"], &result["failed"]),
            (&200.into(), &0.into())
        );
        assert!(result["ratio"].as_f64().unwrap() < 1.5, "{result}");
    }
    // Where it is asked how does not matter to a schedule without ties.
    assert_eq!(run(&["-j", "6"])["makespan"], run(&["-j", "6"])["makespan"]);
}

#[test]
fn programs_that_fail_are_told_of() {
    let world = World::new();
    let run = |policy: &str| {
        let command = world.windrow("simulate").arg("chain:n=3,time=constant:1s");
        command.args(["--policy", policy]).run()
    };
    for (name, answer, says) in [
        (
            "dies",
            "echo oh dear >&2; exit 3",
            "it has ended before it was told to (exit status: 3)",
        ),
        (
            "garbage",
            "echo hello",
            "it has answered `hello`: expected value",
        ),
        (
            "unknown",
            r#"echo '{"ranks":{"77":1}}'"#,
            "there is no task 77",
        ),
        (
            "missing",
            r#"echo '{"ranks":{}}'"#,
            "the rank of task 0 is missing",
        ),
        ("other", r#"echo '{"order":[0]}'"#, "unknown field `order`"),
    ] {
        let program = shell(&world, name, answer);
        let ran = run(&format!("program:{program}"));
        ran.exits(1)
            .no_panic()
            .says(format!("the policy program:{program}: "))
            .says(says);
    }
    let late = shell(&world, "late", "sleep 600");
    let ran = run(&format!("program:{late},timeout=100ms"));
    ran.exits(1).says("it has not answered within 0.1 s");
    let silent = world.script("silent", "exec sleep 600");
    let ran = run(&format!("program:{},timeout=100ms", silent.display()));
    ran.exits(1).says("it has not answered within 0.1 s");
    run("program:no-such-policy-program")
        .exits(1)
        .one_error()
        .says("it can't be started");
    run("program:./none")
        .exits(1)
        .one_error()
        .says("cannot use the program './none'");
}

#[test]
fn programs_that_place_wrongly_or_nothing_are_told_of() {
    let world = World::new();
    world.write(
        "m.toml",
        "[[machine]]\nname = \"m\"\ncores = 2\n[[machine]]\nname = \"s\"\nrole = \"storage\"\n",
    );
    for (answer, says) in [
        (
            r#"{"place":[]}"#,
            "it leaves `n0` unplaced, though nothing runs",
        ),
        (
            r#"{"place":[{"task":1,"machine":0}]}"#,
            "the task 1 is not ready",
        ),
        (
            r#"{"place":[{"task":0,"machine":1}]}"#,
            "there is no machine 1 that computes",
        ),
        (
            r#"{"place":[{"task":0,"machine":7}]}"#,
            "there is no machine 7 that computes",
        ),
        (
            r#"{"place":[{"task":0,"machine":0,"cores":2}]}"#,
            "from 1 to 1 cores",
        ),
        (
            r#"{"place":[{"task":0,"machine":0},{"task":0,"machine":0}]}"#,
            "has been placed",
        ),
        (r#"{"ranks":{"0":1}}"#, "unknown field `ranks`"),
    ] {
        let script = format!(
            "while read -r line; do case $line in *'\"type\":\"place\"'*) echo '{answer}';; esac; done\n"
        );
        let program = world.script("wrong", &script);
        let command = world
            .windrow("simulate")
            .args(["chain:n=2", "--machines", "m.toml"]);
        let ran = command
            .args(["--policy", &format!("program:{}", program.display())])
            .run();
        ran.exits(1).no_panic().says(says);
    }
}

/// Four builds in one slot, whose order is in a log.
fn built_order(world: &World, policy: &str) -> (String, String) {
    let log = world.file("log");
    let names = ["a", "b", "c", "d"];
    let step = |name: &str| sh(&format!("echo {name} >> {}; echo > $out", log.display()));
    let all = names.map(|name| format!("@{{{name}}}")).join(" ");
    let last = sh(&format!("echo {all} > $out"));
    let steps = names.map(|name| (name, step(name)));
    let graph = graph_of(steps.into_iter().chain([("z", last)]));
    let file = world.graph("g.json", &graph);
    let ran = world.windrow("build").arg(file);
    let ran = ran.args(["-j1", "--policy", policy]).ok();
    (text(&log).replace('\n', ""), ran.to_string())
}

#[test]
fn real_builds_follow_files_and_programs() {
    let world = World::new();
    world.write("r.csv", "d,9\nc,8\nb,7\na,6\n");
    assert_eq!(built_order(&world, "file:r.csv").0, "dcba");
    let world = World::new();
    let program = shell(&world, "last", LAST_FIRST);
    let (order, _) = built_order(&world, &format!("program:{program}"));
    // Numbers are given in the order in which derivations are met.
    assert_eq!(order.len(), 4, "{order}");
    if have(&["python3"]) {
        let world = World::new();
        let policy = format!("program:{}", example().display());
        assert_eq!(built_order(&world, &policy).0.len(), 4);
    }
}

#[test]
fn real_builds_go_on_without_a_program_that_fails() {
    for (answer, says) in [
        ("exit 3", "it has ended before it was told to"),
        ("echo hello", "it has answered `hello`"),
        ("sleep 600", "it has not answered within 0.1 s"),
    ] {
        let world = World::new();
        let program = shell(&world, "bad", answer);
        let (order, said) = built_order(&world, &format!("program:{program},timeout=100ms"));
        assert_eq!(order.len(), 4);
        assert!(
            said.contains(says) && said.contains("what is ready first is built first"),
            "{said}"
        );
    }
}
