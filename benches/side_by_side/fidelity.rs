//! How true a simulation is: a graph of sleeps, built and simulated, by its makespan.
//!
//!     cargo bench --bench side_by_side -- fidelity

use std::fmt::Write as _;

use serde_json::{Value, json};
use windrow::components::task_graph::{Limits, TaskGraph};
use windrow::formats::task_graph::Generator;
use windrow::systems::policy::Policy;
use windrow::systems::simulate::{Simulation, simulate};

use crate::common::{Scratch, measuring, printed, run};

const SLOTS: u32 = 16;

pub(crate) fn run_all() {
    let graph = if measuring() {
        "layered:n=300,width=30,degree=3,time=uniform:0.2..1.5s,seed=3"
    } else {
        "layered:n=12,width=4,degree=2,time=uniform:1..20ms,seed=3"
    };
    let generator: Generator = graph.parse().expect("a generator");
    let graph = generator.generate(Limits::default()).expect("a graph");
    let scratch = Scratch::new();
    // The first build leaves a history, by which the second ranks what it builds.
    for policy in [Policy::Fifo, Policy::CriticalPath] {
        let built = build(&scratch, &graph, &policy);
        let simulated =
            simulate(&graph, &Simulation::new(SLOTS, policy.clone())).expect("a simulation");
        let simulated = simulated.makespan as f64 / 1e6;
        let by_history = from_history(&scratch, &policy);
        println!(
            "{} sleeps, {SLOTS} slots, {:<14} built in {built:.3} s, simulated {simulated:.3} s, from the history \
             {by_history:.3} s",
            graph.len(),
            policy.name(),
        );
        println!(
            "  built / simulated {:.3}, built / simulated from the history {:.3}   (0.95 to 1.05)",
            built / simulated,
            built / by_history
        );
    }
}

/// The graph as windrow's JSON, each task a derivation that sleeps. `salt` makes it another graph
/// with the same names.
fn as_json(graph: &TaskGraph, salt: &str) -> Value {
    let mut derivations = serde_json::Map::new();
    for task in graph.tasks() {
        let mut script = format!("PATH=/usr/bin:/bin; # {salt}\n");
        for input in graph.predecessors(task) {
            let _ = writeln!(script, ": @{{{}}}", graph.name(*input));
        }
        let seconds = graph.duration(task) as f64 / 1e6;
        let _ = writeln!(script, "sleep {seconds:.6}\n: > $out");
        let drv = json!({"builder": "/bin/sh", "args": ["-c", script]});
        derivations.insert(graph.name(task).into_owned(), drv);
    }
    json!({ "derivations": derivations })
}

fn file(scratch: &Scratch, graph: &TaskGraph, policy: &Policy) -> std::path::PathBuf {
    let file = scratch.path().join(format!("{}.json", policy.name()));
    std::fs::write(&file, as_json(graph, policy.name()).to_string()).expect("a file");
    file
}

/// Builds it; from the first start to the last end, in seconds.
fn build(scratch: &Scratch, graph: &TaskGraph, policy: &Policy) -> f64 {
    let trace = scratch.path().join("trace.json");
    let mut command = scratch.command(env!("CARGO_BIN_EXE_windrow"));
    command.arg("build").arg(file(scratch, graph, policy));
    command.args([
        "-q",
        "-j",
        &SLOTS.to_string(),
        "--policy",
        policy.name(),
        "--trace",
    ]);
    run(command.arg(&trace));
    let events = std::fs::read(&trace).expect("a trace");
    let events: Vec<Value> = serde_json::from_slice(&events).expect("a trace");
    let spans = events.iter().filter(|event| event["ph"] == "X");
    let start = |event: &Value| event["ts"].as_u64().expect("a time");
    let end = |event: &Value| start(event) + event["dur"].as_u64().expect("a time");
    let first = spans.clone().map(start).min().expect("a span");
    let last = spans.map(end).max().expect("a span");
    (last - first) as f64 / 1e6
}

/// The same derivations, simulated with the durations that the history knows.
fn from_history(scratch: &Scratch, policy: &Policy) -> f64 {
    let directory = scratch.path().join(policy.name());
    std::fs::create_dir(&directory).expect("a directory");
    for entry in std::fs::read_dir(scratch.path().join("store")).expect("a store") {
        let file = entry.expect("an entry").path();
        let salt = format!("# {}\\n", policy.name());
        if file.extension().is_some_and(|end| end == "drv")
            && std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&salt))
        {
            std::fs::copy(&file, directory.join(file.file_name().expect("a name")))
                .expect("a copy");
        }
    }
    let mut command = scratch.command(env!("CARGO_BIN_EXE_windrow"));
    command.arg("simulate").arg(&directory);
    command.args(["--durations", "history", "--json", "-j", &SLOTS.to_string()]);
    let result = printed(command.args(["--policy", policy.name()]));
    let result: Value = serde_json::from_str(&result).expect("a result");
    result["makespan"].as_u64().expect("a time") as f64 / 1e6
}
