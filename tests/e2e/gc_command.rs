//! `windrow gc`: what goes by last use, what is noted of that by builds, and what is said of what
//! stays. Times are set in the databases, so that nothing depends on the clock.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;
use windrow::{Engine, Request, Store};

use crate::harness::{Ran, World, graph_of, need, runs_until_go, sh, sh_with, wait_until};

/// Seconds in a day.
const DAY: i64 = 24 * 60 * 60;

impl World {
    /// What a query of windrow's own database prints.
    #[track_caller]
    fn own_sql(&self, query: &str) -> Vec<String> {
        let file = self.database().with_file_name("windrow.sqlite");
        let query = self.program("sqlite3").arg(file).arg(query);
        query.ok().lines()
    }

    /// Has everything been registered, and used, 100 days ago.
    #[track_caller]
    fn age(&self) {
        let ago = |column: &str| format!("{column} = strftime('%s', 'now') - {}", 100 * DAY);
        self.sql(&format!(
            "update ValidPaths set {}",
            ago("registrationTime")
        ));
        let own = self.database().with_file_name("windrow.sqlite");
        if own.exists() {
            self.own_sql(&format!("update Uses set {}", ago("time")));
        }
    }

    /// Has paths been used that number of days ago.
    #[track_caller]
    fn used(&self, path: impl AsRef<Path>, days_ago: i64) {
        let path = path.as_ref().display();
        let time = format!("strftime('%s', 'now') - {}", days_ago * DAY);
        self.own_sql(&format!(
            "insert or replace into Uses values ('{path}', {time})"
        ));
    }

    #[track_caller]
    fn gc(&self, args: &[&str]) -> Ran {
        self.windrow("gc").args(args).ok()
    }

    /// The last parts of the names of all valid paths.
    #[track_caller]
    fn names(&self) -> BTreeSet<String> {
        let paths = self.sql("select path from ValidPaths");
        paths.iter().map(|path| name(path)).collect()
    }
}

/// The name in a store path.
fn name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap();
    base.split_once('-').unwrap().1.to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A graph of derivations, each of which writes as many bytes, after the outputs that it needs.
fn sized(derivations: &[(&str, usize, &[&str])]) -> serde_json::Value {
    let script = |bytes: &usize, needs: &[&str]| {
        let needs: String = needs.iter().map(|it| format!("echo @{{{it}}};")).collect();
        sh(&format!("{{ {needs} head -c {bytes} /dev/zero; }} > $out"))
    };
    let all = derivations.iter();
    graph_of(all.map(|(name, bytes, needs)| (*name, script(bytes, needs))))
}

/// Builds a derivation of a graph.
#[track_caller]
fn build(world: &World, target: &str) -> String {
    world
        .windrow("build")
        .arg(format!("g.json#{target}"))
        .ok()
        .line()
}

#[test]
fn what_was_used_lately_stays_and_the_rest_goes() {
    need!("sqlite3");
    let world = World::new();
    world.graph(
        "g.json",
        &sized(&[
            ("lib", 10, &[]),
            ("old", 10, &["lib"]),
            ("new", 10, &["lib"]),
        ]),
    );
    let old = build(&world, "old");
    let new = build(&world, "new");
    world.age();
    fs::write(world.store().join("litter"), "").unwrap();
    // It is valid, so that nothing is built; that it was asked for is noted.
    build(&world, "new");
    let before = world.store_entries();
    let dry = world.gc(&["--older-than", "30d", "--dry-run"]);
    let listed: BTreeSet<String> = dry.lines().into_iter().collect();
    assert!(listed.contains(&old) && !listed.contains(&new), "{dry}");
    dry.says("3 store paths would be deleted").says("as NARs");
    assert_eq!(world.store_entries(), before, "nothing has changed");
    let ran = world.gc(&["--older-than", "30d"]);
    ran.says("deleting").says("3 store paths deleted");
    assert_eq!(world.names(), set(&["lib", "lib.drv", "new", "new.drv"]));
    assert!(!world.store().join("litter").exists());
    let uses = world.own_sql("select path from Uses");
    assert!(uses.iter().all(|path| world.is_valid(path)), "{uses:?}");
    world
        .gc(&["--older-than", "30d"])
        .says("used more recently than");
    world.age();
    world.gc(&["--older-than", "101d"]).says("nothing can go");
    world
        .gc(&["--older-than", "99d"])
        .says("0 store paths left");
    assert!(
        world.store_entries().is_empty(),
        "{:?}",
        world.store_entries()
    );
    world.stays_valid();
}

#[test]
fn a_size_is_reached_by_what_was_not_used_for_longest() {
    need!("sqlite3");
    let world = World::new();
    let names: Vec<String> = (0..6).map(|n| format!("x{n}")).collect();
    let derivations = names.iter().map(|name| (name.as_str(), 1 << 20, &[][..]));
    world.graph("g.json", &sized(&derivations.collect::<Vec<_>>()));
    let outs: Vec<String> = names.iter().map(|name| build(&world, name)).collect();
    world.age();
    for (out, days_ago) in outs.iter().zip([3, 60, 1, 50, 2, 40]) {
        world.used(out, days_ago);
    }
    let left = || -> Vec<usize> { (0..6).filter(|&n| world.is_valid(&outs[n])).collect() };
    world.gc(&["--max-size", "1G"]).says("not larger than that");
    assert_eq!(left().len(), 6);
    world.gc(&["--max-size", "4500K"]);
    assert_eq!(left(), [0, 2, 4, 5]);
    // Both: the one that is old goes, and nothing else although the store is larger.
    let ran = world.gc(&["--max-size", "1", "--older-than", "30d"]);
    ran.says("stays larger than that")
        .says("used more recently");
    assert_eq!(left(), [0, 2, 4]);
    let size = world.sql("select sum(narSize) from ValidPaths").remove(0);
    let enough = |less: i64| (size.parse::<i64>().unwrap() - less).to_string();
    world.gc(&["--max-size", &enough(0), "--older-than", "2d"]);
    assert_eq!(left(), [0, 2, 4]);
    // More than a derivation has, less than an output.
    world.gc(&["--max-size", &enough(10_000), "--older-than", "2d"]);
    assert_eq!(left(), [2, 4], "no more than must");
    world.stays_valid();
    world.gc(&["--max-size", "0"]);
    assert!(world.names().is_empty());
    world.stays_valid();
}

#[test]
fn roots_keep_whatever_their_age_and_what_they_led_to_is_used_until_then() {
    need!("sqlite3");
    let world = World::new();
    world.graph(
        "g.json",
        &sized(&[("lib", 1000, &[]), ("top", 10, &["lib"])]),
    );
    let top = build(&world, "top");
    let link = world.file("result");
    world.windrow("build").args([&*top, "-o", "result"]).ok();
    world.age();
    let ran = world.gc(&["--older-than", "30d", "--max-size", "100"]);
    ran.says("stays larger than that: roots keep 4 store paths")
        .says("--print-roots");
    assert_eq!(world.names().len(), 4);
    fs::remove_file(link).unwrap();
    world
        .gc(&["--older-than", "30d"])
        .says("used more recently");
    assert_eq!(world.names().len(), 4);
    world.used(&top, 31);
    world
        .gc(&["--older-than", "30d"])
        .says("4 store paths deleted");
    world.stays_valid();
}

#[test]
fn what_builds_needed_is_noted_in_few_rows() {
    need!("sqlite3");
    let world = World::new();
    let graph = sized(&[
        ("tool", 10, &[]),
        ("other", 10, &[]),
        ("top", 10, &["tool"]),
    ]);
    world.graph("g.json", &graph);
    let [tool, other] = ["tool", "other"].map(|name| build(&world, name));
    world.age();
    world.own_sql("delete from Uses");
    let top = build(&world, "top");
    let noted: BTreeSet<String> = world
        .own_sql("select path from Uses")
        .iter()
        .map(|path| name(path))
        .collect();
    // What was made is known by its registration.
    assert_eq!(noted, set(&["tool", "top.drv"]));
    world
        .gc(&["--older-than", "30d"])
        .says("2 store paths deleted");
    assert!(world.is_valid(tool) && world.is_valid(top) && !world.is_valid(other));
    world.stays_valid();
}

#[test]
fn what_keep_outputs_does_is_said_where_it_matters() {
    need!("sqlite3");
    let world = World::new();
    // The compiler is needed to build, and nothing refers to it afterwards.
    let graph = graph_of([
        ("cc", sh("echo > $out")),
        (
            "program",
            sh_with("cat $cc > $out", json!({"env": {"cc": "@{cc}"}})),
        ),
    ]);
    world.graph("g.json", &graph);
    world
        .windrow("build")
        .args(["g.json#program", "-o", "result"])
        .ok();
    let ran = world.gc(&["--dry-run"]);
    ran.says("1 store path would be deleted")
        .says("'--keep-outputs' keeps them");
    let ran = world.gc(&["--keep-outputs"]);
    ran.says("nothing can go")
        .says("'--no-keep-outputs' lets them go");
    world.conf("keep-outputs = true\n");
    world.gc(&[]).says("keep-outputs is set");
    assert_eq!(world.names().len(), 4);
    let ran = world.gc(&["--no-keep-outputs"]);
    ran.says("1 store path deleted")
        .says("have to be fetched or built again");
    assert_eq!(world.names(), set(&["cc.drv", "program", "program.drv"]));
    world
        .gc(&["--no-keep-derivations"])
        .says("2 store paths deleted");
    world.stays_valid();
}

#[test]
fn a_build_that_goes_on_keeps_what_it_works_on() {
    need!("sqlite3");
    let world = World::new();
    let mut held = runs_until_go(&world);
    held["env"] = json!({"lib": "@{lib}"});
    let graph = graph_of([
        ("lib", sh("echo > $out")),
        ("top", held),
        ("dead", sh("echo > $out")),
    ]);
    world.graph("g.json", &graph);
    let [lib, dead] = ["lib", "dead"].map(|name| build(&world, name));
    world.age();
    let running = world.windrow("build").arg("g.json#top").start();
    world.wait_for("runs");
    for args in [&["--older-than", "30d"][..], &["--max-size", "0"], &[]] {
        world.gc(args);
        assert!(world.is_valid(&lib) && !world.is_valid(&dead));
    }
    world.write("go", "");
    let top = running.wait().exits(0).line();
    assert!(world.is_valid(&lib) && world.is_valid(top));
    world.stays_valid();
}

#[test]
fn what_can_not_be_noted_stops_no_build() {
    need!("sqlite3");
    let world = World::new();
    world.graph("g.json", &sized(&[("x", 10, &[])]));
    let own = world.database().with_file_name("windrow.sqlite");
    fs::create_dir_all(&own).unwrap();
    let out = build(&world, "x");
    build(&world, "x");
    let build = world.windrow("build").args([&*out, "-v"]);
    build.ok().says("was not recorded").says("windrow.sqlite");
    // With a limit, more would go than is meant to; without one, nothing depends on it.
    let limited = world.windrow("gc").args(["--older-than", "1d"]).run();
    limited.exits(1).one_error().says("windrow.sqlite");
    assert!(world.is_valid(&out));
    world.gc(&[]);
    assert!(!world.is_valid(&out));
}

#[test]
fn mistakes_get_one_message_that_names_forms_that_do() {
    let world = World::new();
    for (args, says) in [
        (["--older-than", "30"], "30d"),
        (["--older-than", "soon"], "12h"),
        (["--older-than", "-1d"], "2w"),
        (["--max-size", "20X"], "20G"),
        (["--max-size", "-5"], "500M"),
        (["--max-size", "99999999999T"], "that large"),
    ] {
        let ran = world.windrow("gc").args(args).run();
        ran.exits(1)
            .no_panic()
            .says(args[0])
            .says(says)
            .prints_nothing();
    }
    let ran = world.windrow("gc").arg("x.drv").run();
    ran.exits(1).no_panic().says("x.drv");
    let read_only = format!(
        "local?root={}&read-only=true",
        world.at("elsewhere").display()
    );
    let ran = world.windrow("gc").args(["--store", &read_only]).run();
    ran.exits(1).one_error().says("read-only");
    let ran = world.windrow("gc").args(["--store", "daemon"]).run();
    ran.exits(1).one_error().says("daemon");
    let old = world.gc(&[
        "--older-than",
        "18446744073709551615w",
        "--max-size",
        "18446744073709551615",
    ]);
    old.says("0 store paths deleted");
}

/// An engine that lives on notes uses when a request ends, also of what it has looked at before.
#[test]
fn an_engine_notes_what_each_request_asks_for() {
    need!("sqlite3");
    let world = World::new();
    let engine = Engine::builder(Store::In(world.at("nix")))
        .option("sandbox", "false")
        .option("build-users-group", "");
    let engine = engine.build().unwrap();
    let own = world.at("nix/state/db/windrow.sqlite");
    // There is no table yet when this is asked first.
    let query = |query: &str| {
        let sqlite = world.program("sqlite3").arg(&own).arg(query);
        sqlite.run().lines()
    };
    let ask = || {
        let graph = graph_of([("x", sh("echo > $out"))]).to_string();
        let request = engine.submit(Request::new().graph(graph)).unwrap();
        assert!(request.wait().unwrap().is_success());
    };
    ask();
    // The output is known by its registration.
    let all = "select count(*) from Uses";
    wait_until("the derivation is noted", || {
        own.exists() && query(all) == ["1"]
    });
    query("update Uses set time = 1");
    ask();
    let new = "select count(*) from Uses where time > 1";
    wait_until("both are noted", || query(new) == ["2"]);
}
