//! `windrow graph` and `windrow simulate`, and policies in real builds.
//! What schedules must obey is tested beside the engine; here it is what a user types and sees.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{World, graph_of, need, sh};

const LAYERED: &str = "layered:n=1000,width=50,degree=3,time=uniform:1..10s,seed=7";

fn stats(world: &World, graph: &str) -> Value {
    let ran = world.windrow("graph").arg(graph).arg("--json").ok();
    serde_json::from_str(&ran.line()).unwrap()
}

#[test]
fn a_graph_is_described() {
    let world = World::new();
    let ran = world
        .windrow("graph")
        .arg("chain:n=10,degree=1,time=constant:2s")
        .ok();
    assert_eq!(
        ran.lines(),
        [
            "nodes          10",
            "edges          9",
            "depth          10",
            "width          1",
            "total work     20.000000 s",
            "critical path  20.000000 s",
        ]
    );
}

#[test]
fn a_graph_keeps_its_shape_in_every_format() {
    let world = World::new();
    let original = stats(&world, LAYERED);
    assert_eq!(original["nodes"], 1000);
    for (format, file) in [("ninja", "build.ninja"), ("wfformat", "x.json")] {
        let file = world.file(file);
        let command = world
            .windrow("graph")
            .arg(LAYERED)
            .args(["--to", format, "--output"]);
        command.arg(&file).ok();
        let read = stats(&world, file.to_str().unwrap());
        for key in ["nodes", "edges", "depth", "width"] {
            assert_eq!(read[key], original[key], "{key} of {format}");
        }
        if format == "wfformat" {
            assert_eq!(read, original, "WfFormat has durations too");
        }
    }
    let dot = world
        .windrow("graph")
        .arg("chain:n=2")
        .args(["--to", "dot"])
        .ok();
    assert!(dot.out().starts_with("digraph"), "{dot}");
}

#[test]
fn a_directory_of_derivations_is_a_graph() {
    let world = World::new();
    let graph = graph_of([("a", sh("echo > $out")), ("b", sh("cat @{a} > $out"))]);
    world.add(&graph);
    let read = stats(&world, world.store().to_str().unwrap());
    assert_eq!(
        (&read["nodes"], &read["edges"], &read["depth"]),
        (&json!(2), &json!(1), &json!(2))
    );
}

#[test]
fn the_nixpkgs_corpus_is_a_graph() {
    need!("tar", "xz");
    let archive =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/nixpkgs-drvs.tar.xz");
    if !archive.exists() {
        return crate::harness::skip("needs ../shared/corpus");
    }
    let world = World::new();
    world
        .program("tar")
        .arg("-xJf")
        .arg(&archive)
        .arg("-C")
        .arg(world.file(""))
        .ok();
    let directory = world.file("nixpkgs-drvs");
    assert_eq!(stats(&world, directory.to_str().unwrap())["nodes"], 3529);
}

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
fn a_directory_without_derivations_is_no_graph() {
    let world = World::new();
    let directory = world.file("empty");
    std::fs::create_dir(&directory).unwrap();
    let ran = world.windrow("graph").arg(&directory).run();
    ran.exits(1).one_error().says("no .drv file");
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

/// Expects a graph file to be refused with a message that says this.
#[track_caller]
fn refuses(world: &World, name: &str, text: &str, says: &str) {
    let file = world.write(name, text);
    let ran = world.windrow("simulate").arg(file).run();
    ran.exits(1).one_error().no_panic().says(says);
}

#[test]
fn mistakes_in_graphs_are_named() {
    let world = World::new();
    let refused = |name: &str, text: &str, says: &str| refuses(&world, name, text, says);
    let cycle = "rule r\n command = x\nbuild a: r b\nbuild b: r c\nbuild c: r a\nbuild d: r a\n";
    let around = "each task needs the next: a -> b -> c -> a";
    refused("cycle.ninja", cycle, around);
    refused("syntax.ninja", "build a b c\n", "syntax.ninja:1");
    refused(
        "cut.ninja",
        "rule r\n command = x\nbuild a: r b",
        "cut.ninja:3",
    );
    refused(
        "cycle.stg",
        "2\n0 0 0\n1 3 1 2\n2 3 1 1\n3 0 1 2\n",
        "1 -> 2 -> 1",
    );
    refused("cut.stg", "5\n0 0 0\n1 3", "cut.stg:3");
    refused(
        "dangling.stg",
        "1\n0 0 0\n1 3 1 7\n2 0 1 1\n",
        "task `1` names `7`",
    );
    refused(
        "negative.stg",
        "1\n0 0 0\n1 -3 1 0\n2 0 1 1\n",
        "negative duration -3",
    );
    refused(
        "absurd.stg",
        "1\n0 0 0\n1 99999999999999999999 1 0\n2 0 1 1\n",
        "beyond reason",
    );
    refused(
        "nothing",
        "hello\n",
        "neither a ninja file nor WfFormat JSON nor an STG file",
    );
}

#[test]
fn mistakes_in_workflows_are_named() {
    let world = World::new();
    let refused = |name: &str, text: &str, says: &str| refuses(&world, name, text, says);
    refused("cut.json", "{\"workflow\": {\"tasks\": [", "cut.json:1");
    let workflow =
        |tasks: &str| format!(r#"{{"schemaVersion": "1.4", "workflow": {{"tasks": [{tasks}]}}}}"#);
    let task = |name: &str, time: &str, parent: &str| {
        format!(
            r#"{{"name": "{name}", "runtimeInSeconds": {time}, "parents": [{parent}], "children": []}}"#
        )
    };
    let both = format!("{}, {}", task("a", "1", "\"b\""), task("b", "1", "\"a\""));
    refused("cycle.json", &workflow(&both), "a -> b -> a");
    refused(
        "dangling.json",
        &workflow(&task("a", "1", "\"b\"")),
        "task `a` names `b`",
    );
    refused(
        "negative.json",
        &workflow(&task("a", "-1", "")),
        "negative duration -1",
    );
    refused(
        "absurd.json",
        &workflow(&task("a", "1e300", "")),
        "beyond reason",
    );
    refused("other.json", "{\"workflow\": {}}", "other.json");
}

#[test]
fn graphs_that_cannot_be_had_and_options_out_of_range_are_named() {
    let world = World::new();
    let absent = world.windrow("graph").arg("absent.ninja").run();
    absent.exits(1).one_error().says("absent.ninja");
    let huge = world.windrow("graph").arg("random:n=4000000000").run();
    huge.exits(1).one_error().says("too large").says("bytes");
    let unfit = world.windrow("graph").arg("spiral:n=3").run();
    unfit.exits(1).one_error().says("spiral");
    for (option, value) in [
        ("--jobs", "0"),
        ("--policy", "best"),
        ("--fail-probability", "2"),
    ] {
        let ran = world
            .windrow("simulate")
            .arg("chain:n=3")
            .args([option, value])
            .run();
        ran.exits(1).no_panic().says(value);
    }
}

#[test]
fn what_does_not_fit_into_memory_is_refused_beforehand() {
    let world = World::new();
    let limited = |subcommand: &str, graph: &str| {
        let ran = world.windrow(subcommand).arg(graph);
        ran.through("/bin/sh", &["-c", "ulimit -v 400000; exec \"$@\"", "sh"])
    };
    // 400 MB are enough for this graph, but not for its simulation, and not for one ten times as
    // large.
    limited("graph", "chain:n=2000000,degree=1").ok();
    let ran = limited("simulate", "chain:n=2000000,degree=1").run();
    ran.exits(1)
        .one_error()
        .says("2000000 tasks and 1999999 edges need about")
        .says("may be used");
    let ran = limited("graph", "chain:n=15000000,degree=1").run();
    ran.exits(1)
        .one_error()
        .says("need about")
        .says("may be used");
    // Nor is a file read that would only then turn out to be too large.
    let layers = "layered:n=300000,width=1000,degree=4";
    for (format, name) in [("wfformat", "large.json"), ("ninja", "large.ninja")] {
        let file = world.file(name);
        let write = world
            .windrow("graph")
            .arg(layers)
            .args(["--to", format, "-o"]);
        write.arg(&file).ok();
        for kib in (40..200).step_by(20).map(|mib| mib * 1024) {
            let limit = format!("ulimit -v {kib}; exec \"$@\"");
            let ran = world.windrow("graph").arg(&file);
            let ran = ran.through("/bin/sh", &["-c", &limit, "sh"]).run();
            if !ran.status.success() {
                ran.exits(1).one_error().says("too large");
            }
        }
    }
    let file = world.file("huge.json");
    std::fs::File::create(&file)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let ran = world.windrow("graph").arg(&file).run();
    ran.exits(1).one_error().says("huge.json").says("too large");
    let including = world.file("build.ninja");
    for included in ["huge.json", "/dev/zero"] {
        std::fs::write(&including, format!("include {included}\n")).unwrap();
        let limited = limited("graph", including.to_str().unwrap()).run();
        limited
            .exits(1)
            .one_error()
            .says(included)
            .says("too large");
    }
    limited("graph", "/dev/zero")
        .run()
        .exits(1)
        .one_error()
        .says("too large");
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
