//! `windrow simulate --noise … --belief …`: what happens, and what policies believe.

use serde_json::Value;

use crate::harness::World;

/// A long task that its file thinks to be short, and two short ones that it thinks to be long.
const MISJUDGED: &str = r#"{"tasks":[
    {"name":"short-1","work":2,"kind":"b","estimate":9},
    {"name":"short-2","work":2,"kind":"b","estimate":9},
    {"name":"long","work":4,"kind":"a","estimate":1}]}"#;

fn results(world: &World, graph: &str, args: &[&str]) -> Vec<Value> {
    let ran = world
        .windrow("simulate")
        .arg(graph)
        .arg("--json")
        .args(args)
        .ok();
    let lines = ran.lines();
    let results = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    results.collect()
}

#[test]
fn policies_go_by_what_they_believe() {
    let world = World::new();
    let graph = world.write("g.json", MISJUDGED);
    let graph = graph.to_str().unwrap();
    let makespan = |args: &[&str]| {
        let all = [&["-j", "2", "--policy", "longest-first"], args].concat();
        results(&world, graph, &all)[0]["makespan"].clone()
    };
    // Whoever knows begins with the long one.
    for (args, seconds) in [
        (&[][..], 4),
        (&["--belief", "exact"], 4),
        (&["--belief", "measured"], 4),
        (&["--belief", "kind-mean"], 4),
        (&["--belief", "file"], 6),
        (&["--belief", "blind"], 6),
        (&["--belief", "noise:uniform:0"], 4),
    ] {
        assert_eq!(makespan(args), seconds * 1_000_000, "{args:?}");
    }
    let machines = world.write("m.toml", "[[machine]]\nname = \"m\"\ncount = 2\n");
    for (belief, wanted) in [("exact", 4.0), ("file", 6.0)] {
        let machines = machines.to_str().unwrap();
        let args = [
            "--machines",
            machines,
            "--policy",
            "heft",
            "--belief",
            belief,
        ];
        let result = &results(&world, graph, &args)[0];
        assert_eq!(result["makespan"], wanted, "{result}");
        assert_eq!(result["belief"], belief);
    }
}

#[test]
fn noise_is_drawn_from_the_seed() {
    let world = World::new();
    let graph = "layered:n=400,width=40,degree=2,time=constant:10s";
    let run = |args: &[&str]| {
        let all = [&["-j", "8", "--compare", "fifo,random,critical-path"], args].concat();
        results(&world, graph, &all)
    };
    let noisy = ["--noise", "lognormal:0.3", "--seed", "3"];
    let (plain, once, again) = (run(&[]), run(&noisy), run(&noisy));
    let other = run(&["--noise", "lognormal:0.3", "--seed", "4"]);
    for (nth, plain) in plain.iter().enumerate() {
        assert_eq!(plain.get("noise"), None);
        assert_eq!(once[nth]["noise"], "lognormal:0.3");
        assert_eq!(once[nth]["makespan"], again[nth]["makespan"]);
        assert_ne!(once[nth]["makespan"], other[nth]["makespan"]);
        assert_ne!(once[nth]["makespan"], plain["makespan"]);
        // What happens does not depend on the policy.
        assert_eq!(once[nth]["lowerBound"], once[0]["lowerBound"]);
        let (bound, all) = (&once[nth]["lowerBound"], plain["lowerBound"].as_f64());
        let ratio = bound.as_f64().unwrap() / all.unwrap();
        assert!((0.9..1.2).contains(&ratio), "{ratio}");
    }
}

#[test]
fn beliefs_come_from_the_history_too() {
    let world = World::new();
    let graph = world.write("g.json", MISJUDGED);
    let history = |world: &World| {
        let ran = world.windrow("simulate").arg(&graph);
        ran.args(["--belief", "history"]).run()
    };
    history(&world)
        .exits(1)
        .one_error()
        .no_panic()
        .says("history");
}

#[test]
fn mistakes_about_noise_and_beliefs_are_named() {
    let world = World::new();
    let refused = |args: &[&str], status: i32, says: &str| {
        let ran = world.windrow("simulate").arg("chain:n=3").args(args).run();
        ran.exits(status).one_error().no_panic().says(says);
    };
    refused(
        &["--noise", "gamma:1"],
        1,
        "`lognormal:0.3`, `normal:0.1` or `uniform:0.2`",
    );
    refused(
        &["--noise", "normal:2"],
        1,
        "`normal` takes a number from 0 to 1",
    );
    refused(&["--belief", "guess"], 1, "kind-mean");
    refused(&["--belief", "file"], 1, "no task has an estimate");
    refused(
        &["--noise", "normal:0.1", "--cache", "hit=1"],
        1,
        "cannot be used with",
    );
}
