//! `windrow graph`: what it says of graphs in every format, and of mistakes in them.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{World, graph_of, need, sh};

pub(crate) const LAYERED: &str = "layered:n=1000,width=50,degree=3,time=uniform:1..10s,seed=7";

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
fn a_directory_without_derivations_is_no_graph() {
    let world = World::new();
    let directory = world.file("empty");
    std::fs::create_dir(&directory).unwrap();
    let ran = world.windrow("graph").arg(&directory).run();
    ran.exits(1).one_error().says("no .drv file");
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
        "neither a ninja file nor a graph in JSON nor an STG file",
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
    huge.exits(1)
        .one_error()
        .says("too large")
        .says("ulimit -v");
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

/// Expects a large graph to be read or to be refused beforehand, however little memory there is
/// beside what the program itself takes, 60 MB of addresses; and some to be too little.
#[track_caller]
fn is_refused_with_little_memory(world: &World, file: &Path) {
    let mut refused = 0;
    for kib in (80..240).step_by(20).map(|mib| mib * 1024) {
        let limit = format!("ulimit -v {kib}; exec \"$@\"");
        // Else each thread may reserve 64 MB of addresses, or not, as they come to be there.
        let ran = world
            .windrow("graph")
            .env("MALLOC_ARENA_MAX", "1")
            .arg(file);
        let ran = ran.through("/bin/sh", &["-c", &limit, "sh"]).run();
        if !ran.status.success() {
            ran.exits(1).one_error().says("too large");
            refused += 1;
        }
    }
    assert!(refused > 0, "{} takes next to nothing", file.display());
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
        is_refused_with_little_memory(&world, &file);
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
fn task_names_are_bytes() {
    let world = World::new();
    let text = b"rule r\n  command = x\nbuild caf\xe9.o: r\nbuild caf\xe8.o: r caf\xe9.o\n";
    let file = world.write("build.ninja", text);
    assert_eq!(stats(&world, file.to_str().unwrap())["edges"], 1);
    let to = |format: &str| {
        let cmd = world.windrow("graph").arg(&file).args(["--to", format]);
        cmd.ok().stdout
    };
    let contains = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|it| it == part);
    assert!(contains(&to("ninja"), b"build caf\xe8.o: task caf\xe9.o\n"));
    assert!(contains(&to("wfformat"), br#""caf\\xe9.o""#));
    assert!(contains(&to("dot"), br#""caf\\xe8.o"#));
    let log = b"# ninja log v5\n0\t1000\t0\tcaf\xe9.o\tf\n0\t2000\t0\tcaf\xe8.o\tf\n";
    let log = world.write(".ninja_log", log);
    let ran = world
        .windrow("graph")
        .arg(&file)
        .arg("--durations")
        .arg(log)
        .ok();
    assert!(ran.out().contains("total work     3.000000 s"), "{ran}");
    use std::os::unix::ffi::OsStrExt as _;
    for name in [&b"caf\xe9.o"[..], br"caf\xe9.o"] {
        let fail = ["--json", "-j", "1", "--fail"];
        let cmd = world.windrow("simulate").arg(&file).args(fail);
        let ran = cmd.arg(std::ffi::OsStr::from_bytes(name)).ok();
        let result: Value = serde_json::from_str(&ran.line()).unwrap();
        assert_eq!(result["failed"], 2, "{ran}");
    }
    let twice = [&text[..], b"build caf\xe8.o: r\n"].concat();
    let twice = world.write("twice.ninja", twice);
    let ran = world.windrow("graph").arg(twice).run().exits(1).one_error();
    ran.says(r"`caf\xe8.o` is already the output of another build statement");
}

#[test]
fn files_beside_a_ninja_file_are_read() {
    let world = World::new();
    let write = |name: &str, text: &str| world.write(name, text);
    let file = write(
        "build.ninja",
        "rule r\n  command = x\nbuild a: r || dd\n  dyndep = dd\nbuild b: r\nbuild c: r x\ninclude i0\n",
    );
    for number in 0..3_000 {
        write(&format!("i{number}"), &format!("include i{}\n", number + 1));
    }
    write("i3000", "build last: r c\n");
    let graph = || world.windrow("graph").arg(&file);
    let ran = graph().run().exits(1).one_error();
    ran.says("cannot read the dyndep file `dd`");
    write("dd", "ninja_dyndep_version = 1\nbuild a | x: dyndep | b\n");
    let ran = graph().ok();
    assert!(ran.out().contains("depth          4\n"), "{ran}");
    for (name, text, wanted) in [
        (
            "m.ninja",
            "\u{feff}rule r\n  command = x\n",
            "m.ninja:1:1: the file begins with a byte order mark",
        ),
        (
            "m.json",
            "\u{feff}{}",
            "m.json:1:1: the file begins with a byte order mark",
        ),
        (
            "d.ninja",
            "rule r\n  command = x\nbuild a a: r\n",
            "d.ninja:3:7: `a` stands twice",
        ),
        (
            "h.stg",
            "1\n0 0 0\n1 5.5 1 0\n2 0 1 1\n",
            "has the duration 5.5, but processing times are whole",
        ),
    ] {
        let ran = world.windrow("graph").arg(write(name, text)).run().exits(1);
        ran.one_error().says(wanted);
    }
}

#[test]
fn statistics_say_what_a_graph_is_like() {
    let world = World::new();
    let file = world.file("build.ninja");
    let text = "rule r\n command = x\nbuild a.o: r\nbuild b.o: r a.o\nbuild app: r a.o b.o\n";
    std::fs::write(&file, text).unwrap();
    let ran = world.windrow("graph").arg(&file).arg("--stats").ok();
    assert_eq!(
        ran.lines()[6..],
        [
            "predecessors   mean 1.00, median 1, p90 2, max 2; none for 1",
            "successors     mean 1.00, median 1, p90 2, max 2; none for 1",
            "redundant      1 edges that others imply",
            "levels",
            "  0                                           1 tasks",
            "  1                                           1 tasks",
            "  2                                           1 tasks",
            "work by kind",
            "  *.o                                         2          2 tasks",
            "  app                                         1          1 tasks",
            "critical path, from its first task on",
            "  a.o                                         1",
            "  b.o                                         1",
            "  app                                         1",
        ]
    );
    let ran = world
        .windrow("graph")
        .arg(&file)
        .args(["--stats", "--json"])
        .ok();
    let stats: Value = serde_json::from_str(&ran.line()).unwrap();
    assert_eq!(stats["nodes"], 3);
    let details = &stats["details"];
    assert_eq!(details["redundantEdges"], 1);
    assert_eq!(details["widths"], json!([1, 1, 1]));
    assert_eq!(
        details["criticalPath"][2],
        json!({"name": "app", "duration": 1})
    );
    assert_eq!(
        details["kinds"][0],
        json!({"kind": "*.o", "tasks": 2, "work": 2})
    );
}

#[test]
fn a_graph_that_cannot_be_written_leaves_the_file_as_it_was() {
    let world = World::new();
    let (from, file) = (world.file("x.json"), world.file("build.ninja"));
    std::fs::write(&file, "precious").unwrap();
    // No ninja file has such a name.
    let text = r#"{"schemaVersion":"1.4","workflow":{"tasks":[{"name":"a"},{"name":"b|c"}]}}"#;
    std::fs::write(&from, text).unwrap();
    let command = world.windrow("graph").arg(&from);
    let command = command.args(["--to", "ninja", "--output"]).arg(&file);
    command.run().exits(1).one_error().says("b|c");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let beside = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let beside = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left = beside
        .filter(|name| name.contains("build.ninja"))
        .collect::<Vec<_>>();
    assert_eq!(left, ["build.ninja"]);
}
