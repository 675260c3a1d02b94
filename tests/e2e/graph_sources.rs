//! Where task graphs and their durations come from: derivations of a store, files, distributions,
//! the history.

use serde_json::{Value, json};

use crate::harness::{Ran, World, graph_of, sh};

const CHAIN: &str = "rule r\n command = x\nbuild a: r\nbuild b: r a\nbuild c: r b\nbuild d: r a\n";

fn stats(ran: &Ran) -> Value {
    serde_json::from_str(&ran.line()).unwrap()
}

fn figures(ran: &Ran) -> [Value; 4] {
    let stats = stats(ran);
    ["nodes", "edges", "work", "criticalPath"].map(|key| stats[key].clone())
}

#[test]
fn a_derivation_with_all_it_needs_is_a_graph() {
    let world = World::new();
    let graph = graph_of([
        ("a", sh("echo > $out")),
        ("b", sh("cat @{a} > $out")),
        ("c", sh("cat @{a} > $out")),
        ("d", sh("cat @{b} @{c} > $out")),
    ]);
    let drv = world.add(&graph);
    world.add_one("unrelated", sh("echo > $out"));
    let expected = [4, 4, 4, 3].map(|figure| json!(figure));
    assert_eq!(
        figures(&world.windrow("graph").arg(&drv).arg("--json").ok()),
        expected
    );

    // The same from files elsewhere, from files whose inputs are in the store, and from a store
    // under a root.
    let copies = world.file("copies");
    std::fs::create_dir(&copies).unwrap();
    for entry in world.store_entries() {
        if entry.extension().is_some_and(|end| end == "drv") {
            std::fs::copy(&entry, copies.join(entry.file_name().unwrap())).unwrap();
        }
    }
    let copy = copies.join(drv.rsplit('/').next().unwrap());
    let alone = world.file("alone.drv");
    std::fs::copy(&copy, &alone).unwrap();
    for file in [&copy, &alone] {
        let ran = world.windrow("graph").arg(file).arg("--json").ok();
        assert_eq!(figures(&ran), expected);
    }
    let absent = world
        .windrow("graph")
        .arg(world.store().join("absent.drv"))
        .run();
    absent.exits(1).one_error().says("absent.drv");

    // An input that is nowhere is named, with who needs it.
    let mut leaf = std::fs::read_dir(&copies)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let leaf = leaf
        .find(|path| path.to_str().unwrap().ends_with("-a.drv"))
        .unwrap();
    std::fs::remove_file(&leaf).unwrap();
    std::fs::remove_file(world.store().join(leaf.file_name().unwrap())).unwrap();
    let dangling = world.windrow("graph").arg(&copy).run();
    dangling
        .exits(1)
        .one_error()
        .says("-a.drv")
        .says("which is no task");
    std::fs::write(&copy, "Derive([(\"out\"").unwrap();
    let cut = world.windrow("graph").arg(&copy).run();
    cut.exits(1).one_error().says("-d.drv");
}

#[test]
fn durations_come_from_a_file_or_a_distribution() {
    let world = World::new();
    let graph = world.write("build.ninja", CHAIN);
    let with = |from: &str| {
        let command = world.windrow("graph").arg(&graph).arg("--json");
        command.args(["--durations", from])
    };
    let lines = world.write("times", "2s a\n500ms b\n# the rest\n1 *\n");
    let ran = with(lines.to_str().unwrap()).ok();
    assert_eq!(
        figures(&ran),
        [4, 3, 4_500_000, 3_500_000].map(|figure| json!(figure))
    );
    let log = world.write(
        "log",
        "# ninja log v5\n0\t40\t0\ta\t0\n40\t50\t0\tb\t0\n50\t51\t0\tc\t0\n",
    );
    let ran = with(log.to_str().unwrap()).ok();
    assert_eq!(
        figures(&ran),
        [4, 3, 51_000, 51_000].map(|figure| json!(figure))
    );
    assert!(
        ran.stderr.contains("warning: 1 of 4 tasks are not in"),
        "{ran}"
    );
    let ran = with("constant:3s").ok();
    assert_eq!(
        figures(&ran),
        [4, 3, 12_000_000, 9_000_000].map(|figure| json!(figure))
    );
    let drawn = |seed: &str| stats(&with("uniform:1..9s").args(["--seed", seed]).ok());
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));

    let bad = world.write("bad", "2s a\n1s e\n");
    with(bad.to_str().unwrap())
        .run()
        .exits(1)
        .one_error()
        .says("bad:2: the graph has no task `e`");
    with("no-such-file")
        .run()
        .exits(1)
        .one_error()
        .says("no-such-file");
    with("gamma:1s").run().exits(1).one_error().says("gamma");
    let few = world.write("few", "2s a\n");
    with(few.to_str().unwrap())
        .run()
        .exits(1)
        .one_error()
        .says("3 of 4 tasks have no duration");
}

#[test]
fn durations_come_from_the_history() {
    let world = World::new();
    let graph = graph_of([
        ("a-1.0", sh("sleep 0.3; echo > $out")),
        ("b-1.0", sh("cat @{a-1.0} > $out")),
    ]);
    let drv = world.add(&graph);
    let with = |graph: &str| {
        let command = world.windrow("graph").arg(graph).arg("--json");
        command.args(["--durations", "history"])
    };
    with(&drv)
        .run()
        .exits(1)
        .one_error()
        .says("it has no successful build");
    world.windrow("build").arg(&drv).ok();
    let [_, _, work, path] = figures(&with(&drv).ok());
    assert_eq!(work, path, "a chain");
    assert!(work.as_u64().unwrap() > 300_000, "{work}");
    // Another version of one, and a graph of another kind with a task of the other's name.
    let newer = world.add(&graph_of([("a-1.1", sh("echo new > $out"))]));
    let [_, _, newer, _] = figures(&with(&newer).ok());
    assert!(newer.as_u64().unwrap() >= 300_000, "{newer}");
    let ninja = world.write("build.ninja", "rule r\n command = x\nbuild a-1.0: r\n");
    let [_, _, same, _] = figures(&with(ninja.to_str().unwrap()).ok());
    assert_eq!(same, newer);
}
