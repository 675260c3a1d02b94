//! What builders took: recorded by every build, shown by `windrow history`, used by policies and by
//! task graphs.

use serde_json::{Value, json};

use crate::harness::{World, graph_of, is_root, sh, sh_with, sorted_lines, text};

fn history(world: &World, names: &[&str]) -> Vec<Value> {
    let ran = world.windrow("history").arg("--json").args(names).ok();
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    ran.lines().iter().map(parse).collect()
}

/// What ran in a process before does not hide what its builders take.
#[test]
fn a_peak_counts_although_the_process_was_larger_before_it_ran_windrow() {
    let world = World::new();
    let heavy = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x} > $out";
    let file = world.graph("g.json", &graph_of([("heavy", sh(heavy))]));
    // 200 MB in a variable, and then windrow in the same process.
    let script = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); exec \"$@\"";
    let wrapped = world.program("bash").args(["-c", script, "bash"]);
    let wrapped = wrapped.arg(env!("CARGO_BIN_EXE_windrow"));
    wrapped.arg("build").arg(&file).ok();
    let all = history(&world, &["heavy"]);
    let peak = all[0]["last"][0]["peakMemory"].as_u64().unwrap();
    assert!((30_000_000..200_000_000).contains(&peak), "{peak}");
}

#[test]
fn every_build_is_recorded() {
    let world = World::new();
    let none = world.windrow("history").ok();
    assert!(none.out().is_empty(), "{none}");
    // 60 MB in one variable of the shell, and time that passes without work.
    let heavy = "sleep 0.3; x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x} > $out";
    let graph = graph_of([
        ("heavy-1.0", sh(heavy)),
        ("light-1.0", sh("echo > $out")),
        ("bad-1.0", sh("exit 3")),
    ]);
    let file = world.graph("g.json", &graph);
    let build = world.windrow("build").arg(&file).args(["-k", "-j2"]);
    build.run().exits(100);

    let all = history(&world, &[]);
    let names: Vec<&str> = all.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bad-1.0", "heavy-1.0", "light-1.0"]);
    let (bad, heavy, light) = (&all[0], &all[1], &all[2]);
    assert_eq!(
        (&bad["last"][0]["succeeded"], &bad["estimate"]),
        (&json!(false), &Value::Null)
    );
    let figure = |of: &Value, key: &str| of["last"][0][key].as_u64().unwrap();
    assert!(figure(heavy, "wall") >= 300_000, "{heavy}");
    assert!(figure(heavy, "peakMemory") > 30_000_000, "{heavy}");
    let light_peak = light["last"][0]["peakMemory"].as_u64();
    assert!(light_peak.is_none_or(|peak| peak < 30_000_000), "{light}");
    assert!(figure(heavy, "cpu") > 0, "{heavy}");
    assert_eq!(heavy["estimate"], heavy["last"][0]["wall"]);
    assert!(figure(heavy, "ended") > 1_700_000_000, "{heavy}");

    // What is valid is not built again, and what failed is.
    world.windrow("build").arg(&file).arg("-k").run().exits(100);
    let counts: Vec<Value> = history(&world, &[])
        .iter()
        .map(|it| it["builds"].clone())
        .collect();
    assert_eq!(counts, [json!(2), json!(1), json!(1)]);
    world.is_clean();
}

#[test]
fn names_and_patterns_choose() {
    let world = World::new();
    let graph = graph_of(["a-1", "a-2", "b-1"].map(|name| (name, sh("echo > $out"))));
    let file = world.graph("g.json", &graph);
    world.windrow("build").arg(&file).ok();
    assert_eq!(history(&world, &["a-1"]).len(), 1);
    assert_eq!(history(&world, &["a-*", "b-1"]).len(), 3);
    let table = world.windrow("history").arg("a-*").ok();
    assert_eq!(table.lines().len(), 3, "{table}");
    assert!(table.lines()[1].starts_with("a-1 "), "{table}");
    let unknown = world.windrow("history").arg("c").run();
    unknown.exits(1).one_error().says("'c'").prints_nothing();
}

#[test]
fn a_history_that_can_not_be_written_breaks_no_build() {
    let world = World::new();
    let drv = world.add_one("a", sh("echo a > $out"));
    let file = world.state().join("db/windrow.sqlite");
    std::fs::create_dir(&file).unwrap();
    let ran = world.windrow("build").arg(&drv).arg("-v").ok();
    assert_eq!(text(ran.path()), "a\n");
    ran.says("not recorded").says("windrow.sqlite");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(
        &file,
        "this is no database, though it is long enough to be looked at",
    )
    .unwrap();
    let other = world.add_one("b", sh("echo b > $out"));
    world.windrow("build").arg(&other).ok();
    let shown = world.windrow("history").run().exits(1);
    shown.one_error().says("windrow.sqlite");
    // Estimates are not worth a failed build either.
    let third = world.add_one("c", sh("echo c > $out"));
    world
        .windrow("build")
        .arg(&third)
        .args(["--policy", "critical-path"])
        .ok();
}

#[test]
fn a_store_of_somebody_else_can_be_looked_at() {
    if !is_root() {
        return crate::harness::skip("needs root, to become somebody else");
    }
    if !crate::harness::have(&["setpriv"]) {
        return crate::harness::skip("needs setpriv");
    }
    let world = World::new();
    let drv = world.add_one("a-1", sh("echo a > $out"));
    world.windrow("build").arg(&drv).ok();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let ran = world.windrow("history").through("setpriv", &nobody).ok();
    assert_eq!(ran.lines().len(), 2, "{ran}");
}

#[test]
fn policies_go_by_what_builds_took() {
    // Two chains of the same shape: the history alone says that the second is the longer one.
    let graph = |log: &std::path::Path, round: &str| {
        let step = |name: &str, more: &str, pause: &str| {
            let script = format!(
                "echo {name} >> {}\n{more}sleep {pause}\necho {round} > $out",
                log.display()
            );
            sh_with(&script, json!({}))
        };
        graph_of([
            ("a-1", step("a-1", "", "0")),
            ("b-1", step("b-1", "", "0")),
            ("c-1", step("c-1", "cat @{a-1}\n", "0")),
            ("d-1", step("d-1", "cat @{b-1}\n", "0.4")),
        ])
    };
    let world = World::new();
    let log = world.file("log");
    world
        .windrow("build")
        .arg(world.graph("1.json", &graph(&log, "1")))
        .ok();
    assert_eq!(sorted_lines(&log), ["a-1", "b-1", "c-1", "d-1"]);
    std::fs::remove_file(&log).unwrap();
    let again = world.graph("2.json", &graph(&log, "2"));
    world
        .windrow("build")
        .arg(again)
        .args(["-j1", "--policy", "critical-path"])
        .ok();
    assert!(text(&log).starts_with("b-1\n"), "{}", text(&log));
}
