//! `windrow simulate` with tasks that come later, matter more, or are tried again.

use serde_json::{Value, json};

use crate::harness::World;

/// Two jobs, the second of two tasks: it comes while the first one has the slot.
const JOBS: &str = r#"{"tasks":[
    {"name":"long","work":10},
    {"name":"quick","work":1,"arrival":2},
    {"name":"after","work":1,"after":["quick"],"priority":5},
    {"name":"late","work":2,"arrival":4,"priority":9}]}"#;

#[test]
fn jobs_that_come_later_are_told_of() {
    let world = World::new();
    let graph = world.write("g.json", JOBS);
    let machines = world.write("m.toml", "[[machine]]\nname = \"m\"\n");
    let run = |args: &[&str]| {
        let ran = world
            .windrow("simulate")
            .arg(&graph)
            .args(args)
            .arg("--json")
            .ok();
        serde_json::from_str::<Value>(&ran.line()).unwrap()
    };
    // From 10 s on: quick until 11 s, late (ready since 4 s) until 13 s, after until 14 s.
    let flow = json!({
        "jobs": 3, "mean": (10.0 + 12.0 + 9.0) / 3.0, "max": 12.0, "maxSlowdown": 6.0,
        "meanSlowdown": (1.0 + 6.0 + 4.5) / 3.0,
    });
    assert_eq!(run(&["-j1"])["flow"], flow);
    let on_machines = run(&["--machines", machines.to_str().unwrap()]);
    assert_eq!(on_machines["flow"], flow);
    let by_priority = run(&["-j1", "--policy", "priority"]);
    // The late one goes before the quick one.
    assert_eq!(by_priority["flow"]["max"], 12.0);
    assert_eq!(by_priority["flow"]["mean"], (10.0 + 12.0 + 8.0) / 3.0);
    let details = world.windrow("simulate").arg(&graph).arg("-j1").ok().out();
    assert!(
        details.contains("of 3 jobs 10.333333 s in the mean, 12.000000 s at most"),
        "{details}"
    );
    let refused = world
        .windrow("simulate")
        .arg(&graph)
        .args(["--cache", "hit=1"])
        .run();
    refused
        .exits(1)
        .one_error()
        .says("caches know nothing of tasks that come later");
    let refused = world
        .windrow("simulate")
        .args(["chain:n=2", "--policy", "priority"])
        .run();
    refused
        .exits(1)
        .one_error()
        .says("the policy priority: nothing has a priority");
}

#[test]
fn failed_tasks_are_tried_again() {
    let world = World::new();
    let run = |args: &[&str]| {
        let command =
            world
                .windrow("simulate")
                .args(["layered:n=300,width=30,degree=2", "-k", "--json"]);
        let ran = command.args(["--fail-probability", "0.2"]).args(args).run();
        serde_json::from_str::<Value>(&ran.line()).unwrap()
    };
    let (never, often) = (run(&[]), run(&["--retries", "20"]));
    assert!(
        never["failed"].as_u64().unwrap() > 50 && never.get("retried").is_none(),
        "{never}"
    );
    assert_eq!(often["failed"], 0);
    let retried = often["retried"].as_u64().unwrap();
    assert!((40..130).contains(&retried), "{retried}");
    let command = world
        .windrow("simulate")
        .args(["chain:n=2,time=constant:1s", "--json"]);
    let ran = command.args(["--fail", "n0", "--retries", "2"]).run();
    let result: Value = serde_json::from_str(&ran.line()).unwrap();
    assert_eq!(
        (&result["makespan"], &result["retried"]),
        (&json!(3_000_000), &json!(2))
    );
}
