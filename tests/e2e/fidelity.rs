//! A real build and the simulation of the same derivations: the same order in the same slots,
//! wherever no clock decides.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{World, graph_of, sh};

/// Who ran where, in the order of their starts; names without hashes.
fn placements(trace: &Path) -> Vec<(String, u64)> {
    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let mut runs: Vec<(u64, String, u64)> = events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            let name = event["name"].as_str().unwrap();
            let name = name.strip_suffix(".drv").map_or(name, |name| &name[33..]);
            let figure = |key: &str| event[key].as_u64().unwrap();
            (figure("ts"), name.to_owned(), figure("tid"))
        })
        .collect();
    runs.sort();
    runs.into_iter()
        .map(|(_, name, slot)| (name, slot))
        .collect()
}

/// Builds and simulates the graph's one target; both must place everything alike.
fn agree(world: &World, graph: &Value, jobs: &str, policy: &str, durations: &str) {
    let drv = world.add(graph);
    let (built, simulated) = (world.file("built.json"), world.file("simulated.json"));
    let command = world
        .windrow("build")
        .arg(&drv)
        .args(["-j", jobs, "--policy", policy]);
    command.arg("--trace").arg(&built).ok();
    // Durations go by names, which hold hashes here.
    let mut lines = String::new();
    for entry in world.store_entries() {
        let file = entry.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = file.strip_suffix(".drv").map(|name| &name[33..]) else {
            continue;
        };
        let line = durations
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let seconds = line.map_or("1", |line| line.split(' ').next().unwrap());
        lines.push_str(&format!("{seconds} {file}\n"));
    }
    let times = world.write("times", lines);
    let command = world
        .windrow("simulate")
        .arg(&drv)
        .args(["-j", jobs, "--policy", policy]);
    let command = command.arg("--durations").arg(times).arg("--trace");
    command.arg(&simulated).ok();
    assert_eq!(placements(&built), placements(&simulated), "{policy}");
}

#[test]
fn on_one_slot_the_order_is_the_same() {
    // Whoever could be next while an output is registered is next in the simulation as well: all is
    // ready at first, except the last, which needs all.
    for policy in [
        "fifo",
        "random",
        "critical-path",
        "most-dependents",
        "depth-first-by-memory",
    ] {
        let world = World::new();
        let names: Vec<String> = (0..12).map(|index| format!("n{index:02}")).collect();
        let needs: String = names
            .iter()
            .map(|name| format!("cat @{{{name}}}\n"))
            .collect();
        let mut graph = graph_of(names.iter().map(|name| (name.as_str(), sh("echo > $out"))));
        graph["derivations"]["last"] = sh(&format!("{needs}echo > $out"));
        agree(&world, &graph, "1", policy, "");
    }
}

#[test]
fn on_two_slots_the_places_are_the_same() {
    let world = World::new();
    let marks = world.file("marks");
    std::fs::create_dir(&marks).unwrap();
    // A long one lasts until a short one beside it has begun to end, and then a little.
    let long = |until: &str, needs: &str| {
        let mark = marks.join(until);
        sh(&format!(
            "{needs}while [ ! -e {} ]; do sleep 0.05; done; sleep 0.5; echo > $out",
            mark.display()
        ))
    };
    let short = |name: &str, needs: &str| {
        sh(&format!(
            "{needs}echo > $out; : > {}",
            marks.join(name).display()
        ))
    };
    let graph = graph_of([
        ("a-long", long("c-short", "")),
        ("b-short", short("b-short", "")),
        ("c-short", short("c-short", "cat @{b-short}\n")),
        ("d-join", short("d-join", "cat @{a-long} @{c-short}\n")),
        ("e-long", long("h-short", "cat @{d-join}\n")),
        ("f-short", short("f-short", "cat @{d-join}\n")),
        ("g-short", short("g-short", "cat @{d-join}\n")),
        ("h-short", short("h-short", "cat @{f-short} @{g-short}\n")),
        ("z-last", short("z-last", "cat @{e-long} @{h-short}\n")),
    ]);
    agree(&world, &graph, "2", "fifo", "9 a-long\n9 e-long\n");
    assert_eq!(json!(placements(&world.file("built.json")).len()), 9);
}
