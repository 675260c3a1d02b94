//! `windrow simulate`, traces, and policies in real builds. What schedules must obey is tested
//! beside the engine; here it is what a user types and sees.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{World, graph_of, sh};
use crate::task_graph::LAYERED;

#[test]
fn policies_are_compared_for_several_numbers_of_slots() {
    let world = World::new();
    let run = || {
        let command = world
            .windrow("simulate")
            .arg(LAYERED)
            .args(["--jobs", "2,8", "--json"]);
        command
            .args(["--compare", "fifo,critical-path,random"])
            .ok()
    };
    let results: Vec<Value> = run()
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(results.len(), 6);
    for result in &results {
        assert_eq!(result["succeeded"], 1000);
        assert!(
            result["makespan"].as_u64() >= result["lowerBound"].as_u64(),
            "{result}"
        );
        assert!(result["utilisation"].as_f64().unwrap() <= 1.0);
    }
    let again: Vec<Value> = run()
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (one, other) in results.iter().zip(&again) {
        assert_eq!(
            (&one["makespan"], &one["wait"], &one["utilisationOverTime"]),
            (
                &other["makespan"],
                &other["wait"],
                &other["utilisationOverTime"]
            )
        );
    }
    let table = world
        .windrow("simulate")
        .arg(LAYERED)
        .args(["-j", "4"])
        .ok();
    assert!(table.lines()[1].starts_with("fifo "), "{table}");
}

/// The spans of a trace.
fn spans(file: &Path) -> Vec<Value> {
    let mut events: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let names = events.extract_if(.., |event| event["ph"] == "M").count();
    assert!(names > 0, "a trace names its process and its slots");
    events
}

#[test]
fn a_trace_that_cannot_be_written_is_told_before_the_simulation() {
    let world = World::new();
    let command = world.windrow("simulate").arg("chain:n=3");
    let ran = command.args(["--trace", "no/such/directory/t.json"]).run();
    assert!(ran.stdout.is_empty(), "{ran}");
    ran.exits(1).one_error().says("no/such/directory");
}

#[test]
fn a_trace_has_every_run() {
    let world = World::new();
    let file = world.file("trace.json");
    let command = world
        .windrow("simulate")
        .arg("tree:n=31,degree=2,time=constant:1s");
    command.args(["-j", "3", "--trace"]).arg(&file).ok();
    let events = spans(&file);
    assert_eq!(events.len(), 31);
    for event in &events {
        assert_eq!(event["ph"], "X");
        assert!(event["tid"].as_u64().unwrap() < 3);
        assert_eq!(event["dur"], 1_000_000);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    let world = World::new();
    let trace = |seed: &str, name: &str| {
        let file = world.file(name);
        let command = world
            .windrow("simulate")
            .arg(LAYERED)
            .args(["-j", "7", "-k"]);
        let command = command.args(["--policy", "random", "--fail-probability", "0.02"]);
        let command = command.args(["--durations", "exponential:3s", "--seed", seed]);
        command.arg("--trace").arg(&file).ok();
        std::fs::read(&file).unwrap()
    };
    let first = trace("5", "one");
    assert!(
        first == trace("5", "two"),
        "the same seed gave another trace"
    );
    assert!(
        first != trace("6", "three"),
        "another seed gave the same trace"
    );
}

#[test]
fn a_simulation_says_when_slots_were_busy_and_how_long_tasks_waited() {
    let world = World::new();
    // One task of a second, then 99 that share two slots.
    let command = world
        .windrow("simulate")
        .arg("fan:n=101,degree=99,time=constant:1s");
    let ran = command.args(["-j", "2", "--json", "--outputs"]).ok();
    let result: Value = serde_json::from_str(&ran.line()).unwrap();
    let makespan = result["makespan"].as_u64().unwrap();
    let series = &result["utilisationOverTime"];
    let width = series["width"].as_u64().unwrap();
    let shares = series["shares"].as_array().unwrap();
    assert!(
        shares.len() <= 256 && shares.len() as u64 == makespan.div_ceil(width),
        "{series}"
    );
    assert_eq!(
        (&shares[0], &shares[shares.len() / 2]),
        (&json!(0.5), &json!(1.0))
    );
    let wait = &result["wait"];
    assert_eq!(wait["max"], 49_000_000, "{wait}");
    assert_eq!(wait["p50"], 24_000_000, "{wait}");
    assert!(wait["p90"].as_u64() <= wait["p99"].as_u64(), "{wait}");
    assert!(result["memoryPerGoal"].as_u64().unwrap() > 0, "{result}");
    assert!(result["outputsKept"].as_u64().unwrap() >= 99, "{result}");

    let command = world
        .windrow("simulate")
        .arg("chain:n=100,time=constant:1s");
    let alone = command.args(["-j", "2"]).ok();
    for part in [
        "▄▄▄▄",
        "waiting for a slot",
        "half at most 0.000000 s",
        "goals a second",
    ] {
        assert!(alone.out().contains(part), "{alone}");
    }
}

#[test]
fn a_real_build_has_the_same_kind_of_trace() {
    let world = World::new();
    let graph = graph_of([
        ("a-1", sh("sleep 0.2; echo > $out")),
        ("b-1", sh("sleep 0.2; echo > $out")),
        ("c-1", sh("cat @{a-1} @{b-1} > $out")),
        ("d-1", sh("cat @{c-1}; exit 1")),
    ]);
    let file = world.graph("g.json", &graph);
    let trace = world.file("trace.json");
    let command = world.windrow("build").arg(&file).args(["-j2", "--trace"]);
    command.arg(&trace).run().exits(100);
    let events = spans(&trace);
    let named = |name: &str| events.iter().find(|event| event["name"] == name).unwrap();
    assert_eq!(events.len(), 4);
    let figure = |name: &str, key: &str| named(name)[key].as_u64().unwrap();
    assert!(figure("a-1", "dur") >= 200_000, "{events:?}");
    assert_ne!(
        figure("a-1", "tid"),
        figure("b-1", "tid"),
        "they ran side by side"
    );
    assert!(
        events
            .iter()
            .all(|event| event["tid"].as_u64().unwrap() < 2),
        "{events:?}"
    );
    for first in ["a-1", "b-1"] {
        assert!(
            figure(first, "ts") + figure(first, "dur") <= figure("c-1", "ts"),
            "{events:?}"
        );
    }
    assert_eq!(named("d-1")["args"]["succeeded"], false);
    assert_eq!(named("c-1")["args"]["succeeded"], true);
    assert!(
        named("a-1")["args"]["derivation"]
            .as_str()
            .unwrap()
            .ends_with("-a-1.drv")
    );
    let nowhere = world
        .windrow("build")
        .arg(&file)
        .args(["--trace", "no/such/directory"]);
    nowhere.run().exits(1).one_error().says("no/such/directory");
}

#[test]
fn few_outputs_are_kept_depth_first_by_memory() {
    let world = World::new();
    let kept = |policy: &str, jobs: &str| {
        let command = world
            .windrow("simulate")
            .arg("in-tree:n=511,degree=2,time=uniform:1..10s,seed=3");
        let command = command.args(["--json", "--outputs", "-j", jobs, "--policy", policy]);
        let result: Value = serde_json::from_str(&command.ok().line()).unwrap();
        result["outputsKept"].as_u64().unwrap()
    };
    // A binary tree of nine levels needs one output a level, and one more where two meet.
    assert_eq!(kept("depth-first-by-memory", "1"), 10);
    assert!(kept("fifo", "1") >= 256);
    assert!(kept("depth-first-by-memory", "4") <= 40);
}

#[test]
fn a_real_build_goes_depth_first_by_memory() {
    // a to d are ready at first; x needs a and c, y needs b and d. The first pair is joined before
    // the second is whole: the goal that starts while c or a is registered is the only one between.
    let world = World::new();
    let log = world.file("log");
    let step = |name: &str, needs: &[&str]| {
        let cat: String = needs
            .iter()
            .map(|need| format!("cat @{{{need}}}\n"))
            .collect();
        sh(&format!(
            "echo {name} >> {}\n{cat}sleep 0.3; echo > $out",
            log.display()
        ))
    };
    let graph = graph_of([
        ("a", step("a", &[])),
        ("b", step("b", &[])),
        ("c", step("c", &[])),
        ("d", step("d", &[])),
        ("x", step("x", &["a", "c"])),
        ("y", step("y", &["b", "d"])),
        ("z", step("z", &["x", "y"])),
    ]);
    let order = |graph: &Value, policy: &str| {
        let file = world.graph("g.json", graph);
        let command = world
            .windrow("build")
            .arg(file)
            .args(["-j1", "--policy", policy]);
        command.ok();
        let order = crate::harness::text(&log).replace('\n', "");
        std::fs::remove_file(&log).unwrap();
        order
    };
    let depth_first = order(&graph, "depth-first-by-memory");
    let first = depth_first.find(['x', 'y']).unwrap();
    assert!(first <= 3, "{depth_first}");
}

#[test]
fn failures_on_request_stop_what_needs_them() {
    let world = World::new();
    let result = |more: &[&str]| -> Value {
        let command = world
            .windrow("simulate")
            .arg("chain:n=10")
            .args(["--json", "--fail", "n4"]);
        serde_json::from_str(&command.args(more).ok().line()).unwrap()
    };
    assert_eq!(result(&["-k"])["succeeded"], 4);
    assert_eq!(result(&["-k"])["failed"], 6);
    assert_eq!(result(&[])["succeeded"], 4);
    let command = world
        .windrow("simulate")
        .arg("chain:n=10")
        .args(["--fail", "nope"]);
    command.run().exits(1).one_error().says("'nope'");
    let command = world
        .windrow("simulate")
        .arg(LAYERED)
        .args(["-k", "--json"]);
    let drawn = command.args(["--fail-probability", "0.1"]).ok();
    let drawn: Value = serde_json::from_str(&drawn.line()).unwrap();
    assert!(drawn["failed"].as_u64().unwrap() > 50, "{drawn}");
}

#[test]
fn a_real_build_gives_the_same_results_whatever_the_policy() {
    let mut results = Vec::new();
    for policy in [
        "fifo",
        "random",
        "shortest-first",
        "longest-first",
        "critical-path",
        "most-dependents",
        "depth-first-by-memory",
    ] {
        let world = World::new();
        let graph = graph_of([
            ("a", sh("echo a > $out")),
            ("b", sh("echo b > $out")),
            ("c", sh("cat @{a} @{b} > $out")),
            ("d", sh("cat @{b} > $out")),
            ("e", sh("cat @{c} @{d} > $out")),
        ]);
        let file = world.graph("g.json", &graph);
        let ran = world
            .windrow("build")
            .arg(file)
            .args(["-j2", "--policy", policy])
            .ok();
        results.push(std::fs::read_to_string(ran.path()).unwrap());
        world.is_clean();
    }
    assert!(
        results.iter().all(|text| text == "a\nb\nb\n"),
        "{results:?}"
    );
}

#[test]
fn columns_of_long_times_stay_apart() {
    let world = World::new();
    let long = ["chain:n=40,degree=1,time=constant:1000000000s", "-j", "1"];
    let policies = ["--compare", "fifo,depth-first-by-memory"];
    let ran = world.windrow("simulate").args(long).args(policies).ok();
    let lines = ran.lines();
    assert_eq!(lines.len(), 3, "{ran}");
    for line in &lines[1..] {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "1", "{ran}");
        assert_eq!(
            words[2..6],
            ["40000000000.000000", "s", "40000000000.000000", "s"],
            "{ran}"
        );
        assert_eq!(words[words.len() - 2..], ["40", "0"], "{ran}");
        assert_eq!(
            words.iter().filter(|word| **word == "s").count(),
            4,
            "{ran}"
        );
    }
}

#[test]
fn outputs_come_from_simulated_caches() {
    let world = World::new();
    let simulate = |args: &[&str]| {
        let cmd = world
            .windrow("simulate")
            .arg("chain:n=10,time=constant:100s");
        cmd.args(args.iter().copied())
    };
    let json = |args: &[&str]| -> Value {
        let ran = simulate(args).arg("--json").ok();
        serde_json::from_str(&ran.line()).unwrap()
    };
    let fetched = json(&["--cache", "latency=50ms,bandwidth=1MB/s,connections=1"]);
    assert_eq!(fetched["makespan"], 11_000_000, "{fetched}");
    assert_eq!(
        (&fetched["fetched"], &fetched["succeeded"]),
        (&json!(10), &json!(0))
    );
    assert_eq!(fetched["downloadedBytes"], 10_000_000, "{fetched}");
    let sized = ["--cache", "latency=0s", "--sizes", "constant:5MB"];
    let alone = json(&[&sized[..], &["--references", "0"]].concat());
    assert_eq!(
        (&alone["fetched"], &alone["makespan"]),
        (&json!(1), &json!(500_000))
    );
    let built = json(&["--cache", "hit=0,latency=0s", "--cache", "dead"]);
    assert_eq!(
        (&built["fetched"], &built["succeeded"]),
        (&json!(0), &json!(10))
    );
    let slow = ["--cache", "bandwidth=1kB/s", "--sizes", "constant:50GB"];
    let preferred = json(&[&slow[..], &["--references", "0", "--prefer-build", "auto"]].concat());
    assert_eq!(preferred["succeeded"], 10, "{preferred}");
    let table = simulate(&["--cache", "errors=0.5", "--compare", "fifo,critical-path"]).ok();
    assert_eq!(table.lines().len(), 3, "{table}");
    assert!(table.lines()[0].ends_with("downloaded"), "{table}");
}

#[test]
fn a_trace_has_the_downloads_of_each_simulated_cache() {
    let world = World::new();
    let trace = |name: &str| {
        let file = world.file(name);
        let cmd = world.windrow("simulate").arg(LAYERED);
        let cmd = cmd.args([
            "--cache",
            "hit=0.5,errors=0.01",
            "--cache",
            "hit=0.5,priority=1",
        ]);
        let cmd = cmd.args(["--sizes", "lognormal:1MB/1", "--json", "--trace"]);
        let ran = cmd.arg(&file).ok();
        (file, serde_json::from_str::<Value>(&ran.line()).unwrap())
    };
    let (file, result) = trace("trace.json");
    let events = spans(&file);
    let of = |process: u64| {
        let events = events.iter().filter(|event| event["pid"] == process);
        let good = events.filter(|event| event["cname"] == "good");
        good.count() as u64
    };
    assert_eq!(Some(of(1)), result["succeeded"].as_u64(), "{result}");
    assert_eq!(Some(of(2) + of(3)), result["fetched"].as_u64(), "{result}");
    assert!(of(2) > of(3) && of(3) > 100, "{result}");
    let (again, _) = trace("again.json");
    assert!(std::fs::read(file).unwrap() == std::fs::read(again).unwrap());
}

#[test]
fn caches_that_make_no_sense_are_refused() {
    let world = World::new();
    for (args, what) in [
        (["--cache", "hit=0.5"], "--durations"),
        (["--cache", "speed=1"], "speed=1"),
        (["--sizes", "constant:1MB"], "--cache"),
    ] {
        let ran = world.windrow("simulate").arg("chain:n=3").args(args).run();
        assert!(ran.stdout.is_empty(), "{ran}");
        ran.exits(1).says(what);
    }
}
