//! What is fetched, from whom, in which order and beside what; and what is told of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Scene, asking, names};
use crate::harness::{
    Cache, Known, World, graph_of, have, need, sh, sh_with, sorted_lines, step, text,
};

#[test]
fn outputs_are_fetched_with_what_they_refer_to_and_nothing_is_built() {
    need!("sqlite3");
    let scene = Scene::pair();
    let program = scene.cache.program(&scene.world);
    let ran = scene.build(&[&program]).ok();
    assert!(scene.runs().is_empty(), "{ran}");
    assert_eq!(
        names(&scene.cache.fetched()),
        ["a", "b"],
        "references come first"
    );
    assert_eq!(ran.line(), scene.path("b"));
    assert_eq!(scene.cache.starts(), 1);
    let rows =
        "select path, hash, narSize, deriver from ValidPaths where path like '%-_' order by path";
    let refs = "select count(*) from Refs join ValidPaths on referrer = id where path like '%-b'";
    let now = (scene.world.sql(rows), scene.world.sql(refs));
    assert_eq!(
        scene
            .world
            .sql("select count(*) from ValidPaths where ultimate = 1"),
        ["0"]
    );
    scene.is_well();
    scene.world.set_aside("fetched");
    scene.world.bring_back("built");
    assert_eq!(now, (scene.world.sql(rows), scene.world.sql(refs)));
    // Once more: all is there.
    scene.world.set_aside("built");
    scene.world.bring_back("fetched");
    scene.build(&[&program]).ok();
    assert_eq!((scene.cache.starts(), scene.cache.fetched().len()), (1, 2));
}

#[test]
fn programs_come_from_the_settings_too() {
    need!("sqlite3");
    let scene = Scene::pair();
    let program = scene.cache.program(&scene.world);
    scene.world.conf(&format!(
        "substitute = true\nsubstituter-programs = {}\n",
        program.display()
    ));
    scene
        .world
        .windrow("build")
        .arg(&scene.drv)
        .env("NIX_SUBSTITUTERS", "")
        .ok();
    assert_eq!(scene.runs(), ["a", "b"], "an empty variable means none");
    scene.world.set_aside("first");
    scene.world.bring_back("built");
    scene.world.set_aside("built");
    fs::remove_file(scene.world.file("runs")).unwrap();
    let again = scene
        .world
        .windrow("build")
        .arg(scene.world.file("graph.json"));
    again.ok();
    assert!(scene.runs().is_empty());
}

#[test]
fn a_fetch_that_went_well_is_told_to_those_who_ask_for_much() {
    need!("sqlite3");
    for (flags, told) in [("-v", false), ("-vv", true)] {
        let scene = Scene::pair();
        let program = scene.cache.program(&scene.world);
        let ran = scene.build(&[&program]).arg(flags).ok();
        let text = format!("substitution of path '{}' succeeded", scene.path("b"));
        if told {
            ran.says(text);
        } else {
            ran.never_says(&text);
        }
    }
}

#[test]
fn the_first_that_has_it_is_taken() {
    need!("sqlite3");
    let scene = Scene::pair();
    let empty = Cache::new(&scene.world, "empty");
    let second = Cache::of(&scene.world, "second", "%.drv");
    let programs = [&empty, &scene.cache, &second].map(|cache| cache.program(&scene.world));
    scene.build(&programs.each_ref().map(|p| p.as_path())).ok();
    // All are asked at once.
    assert_eq!(
        (empty.starts(), scene.cache.starts(), second.starts()),
        (1, 1, 1)
    );
    assert!(empty.questions() > 0 && empty.fetched().is_empty());
    assert_eq!(scene.cache.fetched().len(), 2);
    assert!(second.fetched().is_empty());
    scene.is_well();
}

#[test]
fn without_build_slots_paths_are_still_fetched() {
    need!("sqlite3");
    let scene = Scene::pair();
    let program = scene.cache.program(&scene.world);
    scene.build(&[&program]).arg("-j0").ok();
    assert_eq!(scene.cache.fetched().len(), 2);
    let scene = Scene::pair();
    scene.cache.forget(&scene.path("b"));
    let program = scene.cache.program(&scene.world);
    let ran = scene.build(&[&program]).arg("-j0").run().exits(1);
    ran.says("--max-jobs");
    assert_eq!(names(&scene.cache.fetched()), ["a"]);
    scene.world.is_clean();
}

#[test]
fn fetches_have_slots_of_their_own() {
    need!("sqlite3");
    let names: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    let scene = Scene::new(|world| {
        let log = world.file("runs");
        let needs: Vec<&str> = names.iter().map(String::as_str).collect();
        let low = names
            .iter()
            .map(|name| (name.as_str(), step(name, &log, &[])));
        graph_of(low.chain([("t", step("t", &log, &needs))]))
    });
    scene.cache.forget(&scene.path("t"));
    for (jobs, slots, most) in [("-j1", "1", 1), ("-j0", "3", 3), ("-j3", "0", 1)] {
        // Each notes how many run with it.
        let program = scene.cache.program_with(
            &scene.world,
            "",
            "mkdir -p now; : > now/$b; ls now | wc -l >> together; sleep 0.05; rm now/$b",
        );
        let bounded = scene.build(&[&program]).arg(jobs);
        let bounded = bounded.args(["--option", "max-substitution-jobs", slots]);
        let ran = bounded.run();
        let together = text(scene.world.file("cache/together"));
        let together: Vec<u32> = together
            .lines()
            .map(|line| line.trim().parse().unwrap())
            .collect();
        assert!(
            together.iter().all(|&count| count <= most),
            "{jobs}: {together:?}\n{ran}"
        );
        assert_eq!(together.len(), 6);
        fs::remove_file(scene.world.file("cache/together")).unwrap();
        scene.world.set_aside(jobs);
        scene
            .world
            .windrow("add")
            .arg(scene.world.file("graph.json"))
            .ok();
    }
}

#[test]
fn a_thousand_paths_are_one_process_and_a_few_questions() {
    let world = World::new();
    let cache = Cache::new(&world, "cache");
    let contents = world.write("contents", "x");
    let path = |n: usize| format!("{}/{n:0>32}-p", world.store().display());
    for n in 0..1000 {
        // Each refers to one of those before.
        let references = if n % 10 == 0 {
            vec![]
        } else {
            vec![path(n - 1)]
        };
        let known = Known {
            deriver: String::new(),
            references,
            nar_size: 0,
            hash: String::new(),
        };
        cache.describe(&path(n), &known);
    }
    // One file for all of them is quicker to make.
    let fetch = format!("echo; cp {} $3; echo; exit", contents.display());
    let program = cache.program_with(&world, "", &fetch);
    let list: Vec<String> = (0..1000).map(path).collect();
    let ran = asking(&world, &[&program])
        .args(["-j8", "-"])
        .stdin(list.join("\n"))
        .ok();
    assert_eq!(ran.lines(), list);
    assert_eq!(cache.fetched().len(), 1000);
    assert_eq!(cache.starts(), 1);
    assert!(cache.questions() <= 20, "{} questions", cache.questions());
    ran.says("1000 paths fetched");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn missing_derivations_and_sources_are_fetched() {
    need!("sqlite3");
    let world = World::new();
    let source = world.write("source", "source\n");
    let log = world.file("runs");
    let top = sh(&format!(
        "echo top >> {}; cat @{{low}} @{{src}} > $out",
        log.display()
    ));
    let mut graph = graph_of([("low", step("low", &log, &[])), ("top", top)]);
    graph["sources"] = json!({"src": source});
    let drv = world.add(&graph);
    let cache = Cache::of(&world, "cache", "%");
    world.set_aside("added");
    let program = cache.program(&world);
    let ran = asking(&world, &[&program]).arg(&drv).ok();
    assert_eq!(sorted_lines(&log), ["low", "top"], "{ran}");
    assert_eq!(cache.fetched().len(), 3);
    let outputs = "select count(*) from DerivationOutputs";
    assert_eq!(world.sql(outputs), ["2"], "as if they had been added here");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_path_of_its_own_is_fetched_or_named() {
    need!("sqlite3");
    let scene = Scene::pair();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let program = scene.cache.program(&scene.world);
    let ran = scene.asking(&[&program]).arg(&b).ok();
    assert_eq!(ran.line(), b);
    assert!(scene.world.is_valid(&a) && scene.world.is_valid(&b));
    let nowhere = format!(
        "{}/{}-nowhere",
        scene.world.store().display(),
        "0".repeat(32)
    );
    let ran = scene.asking(&[&program]).arg(&nowhere).run().exits(1);
    ran.says(format!(
        "'{nowhere}' is not in the store, and no substituter has it"
    ));

    let scene = Scene::pair();
    let b = scene.path("b");
    scene.cache.forget(&scene.path("a"));
    let program = scene.cache.program(&scene.world);
    let ran = scene.asking(&[&program]).arg(&b).run().exits(1);
    ran.says(format!(
        "cannot substitute '{b}': no substituter has all that it refers to"
    ));
    scene.is_well();
}

#[test]
fn two_windrows_fetch_a_path_once() {
    need!("sqlite3");
    let scene = Scene::pair();
    let program = scene.cache.program_with(&scene.world, "", "sleep 0.3");
    let (one, other) = (
        scene.build(&[&program]).start(),
        scene.build(&[&program]).start(),
    );
    let (one, other) = (one.wait().exits(0), other.wait().exits(0));
    assert_eq!(one.lines(), other.lines());
    let mut fetched = scene.cache.fetched();
    fetched.sort();
    assert_eq!(fetched.len(), 2, "{fetched:?}\n{one}{other}");
    scene.is_well();
}

#[test]
fn what_lies_in_the_way_is_replaced() {
    need!("sqlite3");
    let scene = Scene::pair();
    let a = scene.path("a");
    fs::create_dir_all(format!("{a}/deep/down")).unwrap();
    fs::write(scene.path("b"), "half a download").unwrap();
    let program = scene.cache.program(&scene.world);
    scene.build(&[&program]).ok();
    assert!(Path::new(&a).is_file());
    scene.is_well();
}

#[test]
fn trace_lines_are_those_of_nix_1_8() {
    need!("sqlite3");
    let scene = Scene::pair();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let bad = scene
        .cache
        .program_with(&scene.world, "", "case $b in *-b) echo; exit 3;; esac");
    let ran = scene
        .build(&[&bad])
        .args(["--fallback", "--print-build-trace"])
        .ok();
    let trace: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("@ "))
        .collect();
    let program = bad.display();
    let expected = [
        format!("@ substituter-started {a} {program}"),
        format!("@ substituter-succeeded {a}"),
        format!("@ substituter-started {b} {program}"),
        format!("@ substituter-failed {b} 768 fetching path '{b}' failed with exit code 3"),
        format!("@ build-started {} - x86_64-linux ", scene.drv),
        format!("@ build-succeeded {} -", scene.drv),
    ];
    assert_eq!(trace.len(), expected.len(), "{ran}");
    for (line, expected) in trace.iter().zip(expected) {
        assert!(line.starts_with(&expected), "{line}\n{expected}");
    }
}

#[test]
fn derivations_may_refuse_substitutes() {
    need!("sqlite3");
    let refusing = |env: Value| {
        Scene::new(move |world| {
            let script = format!("echo x >> {}; echo > $out", world.file("runs").display());
            graph_of([("x", sh_with(&script, json!({ "env": env })))])
        })
    };
    for env in [
        json!({"allowSubstitutes": ""}),
        json!({"preferLocalBuild": "1"}),
    ] {
        let scene = refusing(env);
        let program = scene.cache.program(&scene.world);
        scene.build(&[&program]).ok();
        assert_eq!(scene.runs(), ["x"]);
        assert_eq!(scene.cache.starts(), 0);
    }
    let scene = refusing(json!({"allowSubstitutes": ""}));
    let program = scene.cache.program(&scene.world);
    scene
        .build(&[&program])
        .args(["--option", "always-allow-substitutes", "true"])
        .ok();
    assert!(scene.runs().is_empty());
    let scene = refusing(json!({}));
    let program = scene.cache.program(&scene.world);
    scene
        .build(&[&program])
        .args(["--option", "substitute", "false"])
        .ok();
    assert_eq!(scene.runs(), ["x"]);
    assert_eq!(scene.cache.starts(), 0);
}

#[test]
fn helpers_are_told_the_settings_and_the_store() {
    need!("sqlite3");
    let scene = Scene::pair();
    let program = scene.cache.program_with(
        &scene.world,
        "env > query-env",
        "env > fetch-env; ls -l /proc/self/fd > fds",
    );
    scene
        .build(&[&program])
        .args(["--option", "max-silent-time", "77"])
        .ok();
    for file in ["query-env", "fetch-env"] {
        let env = text(scene.world.file(&format!("cache/{file}")));
        assert!(
            env.contains(&format!(
                "NIX_STORE_DIR={}\n",
                scene.world.store().display()
            )),
            "{env}"
        );
        assert!(
            env.contains("\nmax-silent-time=77\n") && env.contains("\nbuild-max-silent-time=77\n"),
            "{env}"
        );
    }
    let fds = text(scene.world.file("cache/fds"));
    assert!(fds.contains("0 -> /dev/null"), "{fds}");
    if have(&["nix-store"]) {
        scene.world.verifies();
    }
}

#[test]
fn a_plan_tells_what_would_be_fetched_and_how_much() {
    need!("sqlite3");
    let scene = Scene::pair();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let known = |references: &[&String], mib: u64| Known {
        deriver: String::new(),
        references: references.iter().map(|path| (*path).clone()).collect(),
        nar_size: mib << 20,
        hash: String::new(),
    };
    scene.cache.describe(&a, &known(&[], 4));
    scene.cache.describe(&b, &known(&[&a, &b], 2));
    let program = scene.cache.program(&scene.world);
    let plan = || {
        let plan = scene.world.windrow("plan").arg(&scene.drv);
        let plan = plan.args(["--option", "substitute", "true"]);
        plan.env("NIX_SUBSTITUTERS", &program).ok()
    };
    let ran = plan().prints_nothing();
    ran.says("these 2 paths would be fetched (3.00 MiB download, 6.00 MiB unpacked):")
        .says(format!("\n  {a}\n"))
        .says(format!("\n  {b}\n"))
        .says("nothing would be built");
    scene.cache.forget(&b);
    let ran = plan();
    assert_eq!(ran.line(), scene.drv);
    ran.says("this path would be fetched (2.00 MiB download, 4.00 MiB unpacked):");
    assert!(scene.cache.fetched().is_empty());
    assert!(!Path::new(&a).exists());
}

#[test]
fn corrupt_paths_are_replaced_by_substitutes() {
    use std::os::unix::fs::PermissionsExt as _;
    need!("sqlite3");
    let scene = Scene::pair();
    let program = scene.cache.program(&scene.world);
    scene.build(&[&program]).ok();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let good = text(&a);
    let spoil = |path: &str| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, "spoilt").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    };
    // By the derivation whose output it is, and by what that refers to.
    spoil(&a);
    scene.build(&[&program]).arg("--repair").ok();
    assert_eq!(text(&a), good);
    spoil(&b);
    scene.build(&[&program]).arg("--repair").ok();
    assert_eq!(names(&scene.cache.fetched()), ["a", "b", "a", "b"]);
    // By itself.
    spoil(&a);
    scene
        .asking(&[&program])
        .args([a.as_str(), "--repair"])
        .ok();
    assert_eq!(text(&a), good);
    assert_eq!(scene.cache.fetched().len(), 5);
    assert!(scene.runs().is_empty());
    scene.is_well();
    // What can't be fetched is built, with what is there left alone until then.
    spoil(&a);
    let bad = scene.cache.program_with(&scene.world, "", "echo; exit 3");
    scene.build(&[&bad]).args(["--repair", "--fallback"]).ok();
    assert_eq!(text(&a), good);
    assert_eq!(scene.runs(), ["a"]);
    scene.is_well();
}
