//! What `windrow build` builds: which derivations, which outputs, how often, how many at once, and
//! what it prints. How builds fail is in failure.rs; what builders see is in builder_env.rs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::json;

use crate::harness::{World, graph_of, need, sh, sh_with, sorted_lines, step, text};

#[test]
fn a_graph_of_one_derivation() {
    let world = World::new();
    let graph = world.graph("g.json", &graph_of([("hello", sh("echo hello > $out"))]));
    let ran = world.windrow("build").arg(graph).ok().no_panic();
    let out = ran.path();
    assert!(
        out.starts_with(world.store()) && out.to_str().unwrap().ends_with("-hello"),
        "{ran}"
    );
    assert_eq!(text(&out), "hello\n");
    let metadata = fs::metadata(&out).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o444, 1));
    assert!(world.is_valid(&out));
    world.is_clean();
    world.stays_valid();
}

#[test]
fn outputs_become_canonical() {
    let world = World::new();
    // Else the filter keeps the builder from making set-user-id files, and none would have to go.
    world.conf("filter-syscalls = false\n");
    let script =
        "mkdir -p $out/d; echo x > $out/d/f; chmod 640 $out/d/f; echo y > $out/x; chmod 6751 $out/x
                  ln -s f $out/d/l; touch -d @1000000000 $out/d/f $out/d; chmod 700 $out";
    let graph = world.graph("g.json", &graph_of([("tree", sh(script))]));
    let out = world.windrow("build").arg(graph).ok().path();
    for (name, mode) in [("", 0o555), ("d", 0o555), ("d/f", 0o444), ("x", 0o555)] {
        let metadata = fs::symlink_metadata(out.join(name)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "the mode of '{name}'");
        assert_eq!(metadata.mtime(), 1, "the time of '{name}'");
    }
    assert_eq!(fs::symlink_metadata(out.join("d/l")).unwrap().mtime(), 1);
    assert_eq!(fs::read_link(out.join("d/l")).unwrap().to_str(), Some("f"));
    world.stays_valid();
}

#[test]
fn a_drv_and_its_outputs_as_they_are_wanted() {
    let world = World::new();
    let log = world.file("runs");
    let script = format!(
        "echo ran >> {}; for o in out dev lib; do eval echo $o '>' \\$$o; done",
        log.display()
    );
    let drv = world.add_one(
        "multi",
        sh_with(&script, json!({"outputs": ["out", "dev", "lib"]})),
    );
    let built = |what: String| {
        let ran = world.windrow("build").arg(what).ok();
        ran.lines()
            .into_iter()
            .map(|path| text(path).trim().to_owned())
            .collect::<Vec<_>>()
    };
    let set = |names: Vec<String>| {
        names
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(built(format!("{drv}^dev")), ["dev"]);
    assert_eq!(set(built(format!("{drv}!out,dev"))), ["dev", "out"]);
    assert_eq!(set(built(format!("{drv}^*"))), ["dev", "lib", "out"]);
    assert_eq!(set(built(drv)), ["dev", "lib", "out"]);
    assert_eq!(sorted_lines(log), ["ran"], "one build makes all outputs");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn only_missing_outputs_that_are_wanted_cause_a_build() {
    need!(nix);
    let world = World::new();
    let log = world.file("runs");
    let script = format!(
        "echo ran >> {}; echo out > $out; echo dev > $dev",
        log.display()
    );
    let drv = world.add_one(
        "multi",
        sh_with(&script, json!({"outputs": ["out", "dev"]})),
    );
    let dev = world.windrow("build").arg(format!("{drv}^dev")).ok().line();
    let out = world.windrow("build").arg(format!("{drv}^out")).ok().path();
    world.program("nix-store").args(["--delete", &dev]).ok();
    world.windrow("build").arg(format!("{drv}^out")).ok();
    assert_eq!(sorted_lines(&log), ["ran"], "what is wanted is valid");
    let inode = fs::metadata(&out).unwrap().ino();
    assert_eq!(
        world.windrow("build").arg(format!("{drv}^dev")).ok().line(),
        dev
    );
    assert_eq!(sorted_lines(&log), ["ran", "ran"]);
    assert_eq!(text(&dev), "dev\n");
    assert_eq!(
        fs::metadata(&out).unwrap().ino(),
        inode,
        "a valid output is left alone"
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn the_graph_prints_the_outputs_of_its_targets() {
    let world = World::new();
    let mut graph = graph_of([
        (
            "a",
            sh_with(
                "echo a > $out; echo d > $dev",
                json!({"outputs": ["out", "dev"]}),
            ),
        ),
        ("b", sh("cat @{a} > $out; echo b >> $out")),
    ]);
    graph["targets"] = json!(["b", "a^dev"]);
    let file = world.graph("g.json", &graph);
    let ran = world.windrow("build").arg(file).ok();
    let found: BTreeSet<String> = ran.lines().iter().map(text).collect();
    assert_eq!(
        found,
        BTreeSet::from(["a\nb\n".to_owned(), "d\n".to_owned()]),
        "{ran}"
    );
}

#[test]
fn a_diamond_is_built_once_and_in_order() {
    let world = World::new();
    let log = world.file("runs");
    let graph = graph_of([
        ("top", step("top", &log, &["left", "right"])),
        ("left", step("left", &log, &["base"])),
        ("right", step("right", &log, &["base"])),
        ("base", step("base", &log, &[])),
    ]);
    let file = world.graph("g.json", &graph);
    let out = world
        .windrow("build")
        .arg(&file)
        .args(["-j", "4"])
        .ok()
        .path();
    assert_eq!(text(&out), "top\nleft\nbase\nright\nbase\n");
    assert_eq!(sorted_lines(&log), ["base", "left", "right", "top"]);
    let order = text(&log);
    assert!(
        order.starts_with("base\n") && order.ends_with("top\n"),
        "{order}"
    );

    let again = world.windrow("build").arg(&file).ok();
    assert_eq!(again.path(), out);
    assert_eq!(sorted_lines(&log).len(), 4, "built again: {}", text(&log));
    world.is_clean();
    world.stays_valid();
}

#[test]
fn one_goal_however_often_it_is_named() {
    let world = World::new();
    let log = world.file("runs");
    let script = format!(
        "echo ran >> {}; sleep 0.1; echo out > $out; echo dev > $dev",
        log.display()
    );
    let drv = world.add_one(
        "multi",
        sh_with(&script, json!({"outputs": ["out", "dev"]})),
    );
    let whats = [
        format!("{drv}^dev"),
        drv.clone(),
        format!("{drv}!out"),
        drv.clone(),
    ];
    let ran = world.windrow("build").args(&whats).args(["-j", "4"]).ok();
    assert_eq!(sorted_lines(&log), ["ran"], "{ran}");
    let printed: BTreeSet<String> = ran.lines().iter().map(text).collect();
    assert_eq!(
        printed,
        BTreeSet::from(["dev\n".to_owned(), "out\n".to_owned()]),
        "{ran}"
    );
}

#[test]
fn wide_and_deep_graphs() {
    let world = World::new();
    let log = world.file("runs");
    let names: Vec<String> = (0..60).map(|i| format!("n{i}")).collect();
    let node = |i: usize| {
        let needs: Vec<&str> = [10, 13, 17]
            .iter()
            .filter_map(|back| Some(names[i.checked_sub(*back)?].as_str()))
            .collect();
        (names[i].as_str(), step(&names[i], &log, &needs))
    };
    let file = world.graph("g.json", &graph_of((0..60).map(node)));
    world.windrow("build").arg(&file).args(["-j", "3"]).ok();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(sorted_lines(&log), expected);
    world.is_clean();
    world.stays_valid();
}

/// A builder that waits until `count` builders of its kind run.
fn meeting(world: &World, name: &str, count: usize) -> serde_json::Value {
    let dir = world.file("met");
    let dir = dir.display();
    sh(&format!(
        "mkdir -p {dir}; : > {dir}/{name}; i=0
         while [ $(ls {dir} | wc -l) -lt {count} ]; do i=$((i+1)); [ $i -lt 400 ] || exit 7; sleep 0.05; done
         echo {name} > $out"
    ))
}

#[test]
fn builds_run_side_by_side() {
    let world = World::new();
    let names = ["a", "b", "c"];
    let graph = graph_of(names.map(|name| (name, meeting(&world, name, 3))));
    let file = world.graph("g.json", &graph);
    assert_eq!(
        world
            .windrow("build")
            .arg(file)
            .args(["--max-jobs", "3"])
            .ok()
            .lines()
            .len(),
        3
    );
}

#[test]
fn no_more_builds_than_max_jobs() {
    let world = World::new();
    for jobs in [1, 2] {
        // Each takes one of `jobs` places, which are directories, and fails when there is none.
        let places = world.file(&format!("places{jobs}"));
        fs::create_dir(&places).unwrap();
        let take: Vec<String> = (0..jobs)
            .map(|i| {
                format!(
                    "{{ mkdir {p}/{i} 2>&- && mine={p}/{i}; }}",
                    p = places.display()
                )
            })
            .collect();
        let script = format!(
            "{} || exit 9; sleep 0.05; rmdir $mine; echo $$ > $out",
            take.join(" || ")
        );
        let names: Vec<String> = (0..8).map(|i| format!("j{jobs}n{i}")).collect();
        let file = world.graph(
            "g.json",
            &graph_of(names.iter().map(|name| (name.as_str(), sh(&script)))),
        );
        let ran = world
            .windrow("build")
            .arg(file)
            .arg(format!("-j{jobs}"))
            .ok();
        assert_eq!(ran.lines().len(), names.len(), "{ran}");
    }
}

#[test]
fn a_store_path_that_is_valid_is_printed() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    let out = world.windrow("build").arg(&drv).ok().line();
    let ran = world.windrow("build").arg(&out).ok();
    assert_eq!(ran.line(), out);
    let absent = world
        .store()
        .join("00000000000000000000000000000000-absent");
    world
        .windrow("build")
        .arg(&absent)
        .run()
        .exits(1)
        .one_error()
        .says(absent.to_str().unwrap());
    world.is_clean();
}

#[test]
fn symlinks_are_followed_to_the_store() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    symlink(&drv, world.file("to-drv")).unwrap();
    symlink("to-drv", world.file("to-link")).unwrap();
    let out = world.windrow("build").arg("to-link").ok().line();
    assert_eq!(text(&out), "x\n");
    symlink(&out, world.file("result")).unwrap();
    assert_eq!(world.windrow("build").arg("./result").ok().line(), out);
}

#[test]
fn a_list_on_standard_input() {
    let world = World::new();
    let graph = graph_of([("a", sh("echo a > $out")), ("b", sh("echo b > $out"))]);
    let file = world.graph("g.json", &graph);
    let drvs = world.windrow("add").arg(file).ok().lines();
    assert_eq!(drvs.len(), 2);
    let list = format!("{}\n{}!out\n", drvs[0], drvs[1]);
    let outs = world.windrow("build").arg("-").stdin(list).ok().lines();
    assert_eq!(
        outs.iter().map(text).collect::<BTreeSet<_>>(),
        BTreeSet::from(["a\n".into(), "b\n".into()])
    );
}

#[test]
fn a_failed_build_starts_afresh_the_next_time() {
    let world = World::new();
    let script = format!(
        "[ -e $out ] && exit 8; mkdir $out; echo half > $out/half; [ -e {} ] || exit 4; echo all > $out/all",
        world.file("go").display()
    );
    let drv = world.add_one("x", sh(&script));
    world
        .windrow("build")
        .arg(&drv)
        .run()
        .exits(100)
        .prints_nothing()
        .says("exit code 4");
    world.write("go", "");
    let out = world.windrow("build").arg(&drv).ok().path();
    assert_eq!(text(out.join("all")), "all\n");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_lies_at_an_output_path_without_being_valid_is_replaced() {
    let world = World::new();
    let drv = world.add_one(
        "x",
        sh("[ -e $out ] && exit 8; mkdir $out; echo new > $out/f"),
    );
    let shown = world.windrow("show").arg(&drv).ok().out();
    let start = shown.find(world.store().to_str().unwrap()).expect("a path");
    assert!(start > 0);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let out = json.as_object().unwrap().values().next().unwrap()["outputs"]["out"]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::create_dir_all(format!("{out}/old")).unwrap();
    assert_eq!(world.windrow("build").arg(&drv).ok().line(), out);
    assert!(!fs::exists(format!("{out}/old")).unwrap());
    world.stays_valid();
}

#[test]
fn a_builder_may_be_what_another_derivation_made() {
    let world = World::new();
    let tool = sh(
        "mkdir $out; printf '#!/bin/sh\necho made by $0 > $out\n' > $out/run; chmod 755 $out/run",
    );
    let graph = graph_of([("tool", tool), ("made", json!({"builder": "@{tool}/run"}))]);
    let file = world.graph("g.json", &graph);
    let out = world.windrow("build").arg(file).ok().path();
    assert!(text(out).ends_with("-tool/run\n"));
    world.stays_valid();
}

#[test]
fn two_derivations_for_one_fixed_output_build_it_once() {
    let world = World::new();
    let log = world.file("runs");
    let fixed = |word: &str| {
        sh_with(
            &format!(
                "echo {word} >> {}; sleep 0.2; printf hello > $out",
                log.display()
            ),
            json!({"name": "src", "outputHashAlgo": "sha256", "outputHashMode": "flat",
                   "outputHash": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}),
        )
    };
    let file = world.graph(
        "g.json",
        &graph_of([("one", fixed("one")), ("two", fixed("two"))]),
    );
    let ran = world.windrow("build").arg(file).arg("-j2").ok();
    assert!(
        ran.lines().iter().all(|path| text(path) == "hello"),
        "{ran}"
    );
    assert_eq!(
        sorted_lines(log).len(),
        1,
        "one of the two is enough\n{ran}"
    );
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_chain_of_five_thousand() {
    let world = World::new();
    let names: Vec<String> = (0..5000).map(|i| format!("n{i}")).collect();
    let node = |i: usize| {
        let needs: Vec<String> = names[..i]
            .last()
            .map(|name| format!("@{{{name}}}"))
            .into_iter()
            .collect();
        (
            names[i].as_str(),
            json!({"builder": "/bin/sh", "args": needs}),
        )
    };
    let file = world.graph("g.json", &graph_of((0..5000).map(node)));
    let plan = world.windrow("plan").arg(&file).ok().lines();
    assert_eq!(plan.len(), 5000);
    assert!(
        plan[0].ends_with("-n0.drv") && plan[4999].ends_with("-n4999.drv"),
        "{:?}",
        plan.last()
    );
    let ran = world.windrow("build").arg(file).run().exits(1).no_panic();
    ran.says("-n0.drv' failed to produce output path")
        .says("-n4999.drv': 1 dependency couldn't be built");
    world.is_clean();
}
