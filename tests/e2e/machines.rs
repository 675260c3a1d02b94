//! `windrow simulate --machines`: tasks on machines with cores, memory and a network between them.

use serde_json::{Value, json};

use crate::harness::World;

const MACHINES: &str = r#"network = { model = "constant", bandwidth = "1MB/s" }

[[machine]]
name = "node"
count = 2
speed = 2
cores = 4
memory = "2GB"

[[machine]]
name = "store"
role = "storage"
"#;

/// `b` needs 3 MB of `a` and 1 MB that is there; what `b` makes nobody needs.
const GRAPH: &str = r#"{"tasks":[
    {"name":"a","work":8,"cores":[1,4],"memory":"1GB","outputs":["x"]},
    {"name":"b","work":4,"inputs":["x","source"],"outputs":["result"]}],
    "data":[{"name":"x","size":"3MB"},{"name":"source","size":"1MB"},{"name":"result","size":"2MB"}]}"#;

#[test]
fn tasks_run_on_machines_and_data_is_sent() {
    let world = World::new();
    let (graph, machines) = (
        world.write("g.json", GRAPH),
        world.write("m.toml", MACHINES),
    );
    let simulate = || {
        world
            .windrow("simulate")
            .arg(&graph)
            .arg("--machines")
            .arg(&machines)
    };
    let trace = world.file("t.json");
    let ran = simulate().arg("--json").arg("--trace").arg(&trace).ok();
    let result: Value = serde_json::from_str(&ran.lines()[0]).unwrap();
    // `a` takes 4 cores for 1 s, `b` stays where that is and waits for 1 MB from the store, the
    // result goes there.
    let wanted = json!({
        "machines": 3, "cores": 8, "unit": "s", "makespan": 1.0 + 1.0 + 2.0 + 2.0, "transfers": 2,
        "megabytesMoved": 3.0, "taskTime": 3.0, "coreTime": 6.0, "succeeded": 2, "failed": 0,
        "criticalPath": 3.0,
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(result[key], *value, "{key} of {result}");
    }
    let spans: Vec<Value> = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let named = |name: &str| {
        spans
            .iter()
            .find(|span| span["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&named("b")["ts"], &named("b")["dur"]),
        (&json!(2_000_000), &json!(2_000_000))
    );
    assert_eq!(named("a")["args"]["cores"], 4);
    let table = simulate()
        .args([
            "--compare",
            "fifo,heft:insertion=off,list:task=CompSize,cores=MaxCores",
        ])
        .ok();
    assert_eq!(table.lines().len(), 4, "{table}");
    assert!(
        table.lines()[2].starts_with("heft:insertion=off "),
        "{table}"
    );
    assert!(ran.stderr.is_empty() && table.stderr.is_empty(), "{ran}");
}

#[test]
fn what_tasks_need_is_warned_of_where_there_are_only_slots() {
    let world = World::new();
    let graph = world.write("g.json", GRAPH);
    let ran = world.windrow("simulate").arg(&graph).ok();
    ran.says("warning: 2 of 2 tasks ask for cores, memory, data or kinds of machines");
    let ran = world
        .windrow("simulate")
        .args(["chain:n=5", "--policy", "heft", "-j", "2"])
        .ok();
    assert!(
        ran.lines()[1].starts_with("heft ") && ran.stderr.is_empty(),
        "{ran}"
    );
}

#[test]
fn mistakes_about_machines_are_named() {
    let world = World::new();
    let graph = world.write("g.json", GRAPH);
    let small = world.write("m.toml", MACHINES.replace("2GB", "2MB"));
    let refused = |args: &[&str], status: i32, says: &str| {
        let ran = world.windrow("simulate").arg(&graph).args(args).run();
        ran.exits(status).one_error().no_panic().says(says);
    };
    let small = small.to_str().unwrap();
    refused(
        &["--machines", small],
        1,
        "`a` fits no machine: it needs 1 cores and 1000000000 bytes",
    );
    refused(&["--machines", "none.toml"], 1, "none.toml");
    let wrong = world.write("w.toml", "[[machine]]\nname = \"a\"\nspeed = 0\n");
    refused(
        &["--machines", wrong.to_str().unwrap()],
        1,
        "the speed of machine `a` should be above 0",
    );
    let ran = world
        .windrow("build")
        .args(["--policy", "heft", "x.drv"])
        .run();
    ran.no_panic()
        .says("it chooses machines, which only 'windrow simulate' has");
}

#[test]
fn decisions_may_be_slow() {
    let world = World::new();
    let makespan = |args: &[&str]| {
        let command = world
            .windrow("simulate")
            .args(["chain:n=4,time=constant:1s", "--json"]);
        let ran = command.args(args).ok();
        let result: Value = serde_json::from_str(&ran.lines()[0]).unwrap();
        result
    };
    // Each task is decided about when the one before has ended, at whole seconds.
    for (args, wanted) in [
        (&["--decision-time", "500ms"][..], 6.0),
        (&["--decision-interval", "1500ms"], 5.5),
        (&["--decision-interval", "3", "--decision-time", "0"], 10.0),
        (&["--decision-time", "1s", "--policy", "heft"], 5.0),
    ] {
        assert_eq!(makespan(args)["makespan"], wanted, "{args:?}");
    }
    let result = makespan(&["--decision-interval", "2s", "--decision-time", "250ms"]);
    assert_eq!(
        (&result["decisionInterval"], &result["decisionTime"]),
        (&json!(2.0), &json!(0.25))
    );
    for (args, says) in [
        (&["--decision-time", "1MB"][..], "no unit of time"),
        (
            &["--decision-interval", "1s", "--outputs"],
            "cannot be used with",
        ),
    ] {
        let ran = world.windrow("simulate").arg("chain:n=4").args(args).run();
        ran.exits(1).one_error().no_panic().says(says);
    }
}

#[test]
fn machines_fail_and_come_back() {
    let world = World::new();
    let machines = world.write(
        "m.toml",
        "[[machine]]\nname = \"m\"\nfailures = [{ at = \"2500ms\", for = \"5s\" }]\n",
    );
    let trace = world.file("t.json");
    let run = |policy: &str| {
        let command = world.windrow("simulate").arg("chain:n=3,time=constant:1s");
        let command = command.arg("--machines").arg(&machines);
        command.args(["--policy", policy])
    };
    for policy in ["fifo", "heft", "list"] {
        let ran = run(policy).arg("--json").arg("--trace").arg(&trace).ok();
        let result: Value = serde_json::from_str(&ran.lines()[0]).unwrap();
        // The third task runs from 2 s, and again from 7.5 s.
        for (key, wanted) in [
            ("makespan", json!(8.5)),
            ("machineFailures", json!(1)),
            ("lostTasks", json!(1)),
            ("lostTime", json!(0.5)),
            ("coreTime", json!(3.0)),
            ("succeeded", json!(3)),
        ] {
            assert_eq!(result[key], wanted, "{policy}: {key} of {result}");
        }
        let spans: Vec<Value> = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
        let lost = spans.iter().filter(|span| span["args"]["lost"] == true);
        assert_eq!(lost.count(), 1);
    }
    let table = run("fifo").ok().out();
    assert!(
        table.contains("failures of machines  1; 1 times a task was lost"),
        "{table}"
    );
    let by_chance = world.write(
        "c.toml",
        "[[machine]]\nname = \"m\"\ncount = 4\nmtbf = \"1m\"\nmttr = \"5s\"\n",
    );
    let makespan = |seed: &str| {
        let command = world
            .windrow("simulate")
            .arg("layered:n=200,width=20,degree=2,time=constant:10s");
        let command = command
            .arg("--machines")
            .arg(&by_chance)
            .args(["--json", "--seed", seed]);
        let result: Value = serde_json::from_str(&command.ok().lines()[0]).unwrap();
        assert!(result["lostTasks"].as_u64().unwrap() > 0, "{result}");
        result["makespan"].as_f64().unwrap()
    };
    assert_eq!(makespan("1"), makespan("1"));
    assert_ne!(makespan("1"), makespan("2"));
}
