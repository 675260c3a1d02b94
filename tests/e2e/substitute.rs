//! Paths from substituters instead of builders: what is fetched, in which order, and everything that can go wrong.
//! The substituters are shell scripts that serve a folder.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    Cache, Cmd, Known, World, graph_of, have, need, sh, sh_with, sorted_lines, step, text,
};

/// A world in which a graph was built once and then forgotten but for its derivations; a cache has all outputs.
struct Scene {
    world: World,
    drv: String,
    cache: Cache,
}

impl Scene {
    #[track_caller]
    fn new(graph: impl FnOnce(&World) -> Value) -> Self {
        let world = World::new();
        let graph = graph(&world);
        let drv = world.add(&graph);
        world.windrow("build").arg(&drv).ok();
        let cache = Cache::of(&world, "cache", "%-_");
        world.set_aside("built");
        assert_eq!(world.add(&graph), drv);
        let _ = fs::remove_file(world.file("runs"));
        Self { world, drv, cache }
    }

    /// Two derivations, "b" with what "a" says in its output and a reference to it.
    #[track_caller]
    fn pair() -> Self {
        Self::new(|world| {
            let log = world.file("runs");
            let mut b = step("b", &log, &["a"]);
            let script = format!("{}\necho @{{a}} >> $out", b["args"][1].as_str().unwrap());
            b["args"][1] = script.into();
            graph_of([("a", step("a", &log, &[])), ("b", b)])
        })
    }

    /// `windrow build` of the one target with these substituters.
    fn build(&self, programs: &[&Path]) -> Cmd {
        self.asking(programs).arg(&self.drv)
    }

    fn asking(&self, programs: &[&Path]) -> Cmd {
        asking(&self.world, programs)
    }

    /// The paths in the cache, by name.
    fn path(&self, name: &str) -> String {
        let entries = fs::read_dir(self.world.file("cache/info")).expect("a cache");
        let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let base = names
            .find(|base| base[32..] == format!("-{name}"))
            .expect("a path of that name");
        self.world.store().join(base).display().to_string()
    }

    fn runs(&self) -> Vec<String> {
        sorted_lines(self.world.file("runs"))
    }

    /// Expects all to be well: nothing left, and a store that Nix finds in order.
    #[track_caller]
    fn is_well(&self) {
        self.world.is_clean();
        self.world.stays_valid();
    }
}

/// `windrow build` with these substituters.
fn asking(world: &World, programs: &[&Path]) -> Cmd {
    let list: Vec<String> = programs
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    world
        .windrow("build")
        .env("NIX_SUBSTITUTERS", list.join(":"))
        .args(["--option", "substitute", "true"])
}

/// Base names as the caches note them.
fn names(fetched: &[String]) -> Vec<&str> {
    fetched.iter().map(|base| &base[33..]).collect()
}

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
fn a_binary_cache_is_not_asked_and_nothing_stops() {
    let world = World::new();
    world.conf("substitute = true\nsubstituters = https://cache.nixos.org https://other.example\n");
    let drv = world.add_one("x", sh("echo x > $out"));
    let ran = world.windrow("build").arg(&drv).ok();
    let ran = ran.says("names https://other.example, which windrow can't fetch from");
    ran.says("substituter-programs").never_says("error");
}

#[test]
fn the_first_that_has_it_is_taken() {
    need!("sqlite3");
    let scene = Scene::pair();
    let empty = Cache::new(&scene.world, "empty");
    let second = Cache::of(&scene.world, "second", "%.drv");
    let programs = [&empty, &scene.cache, &second].map(|cache| cache.program(&scene.world));
    scene.build(&programs.each_ref().map(|p| p.as_path())).ok();
    assert_eq!(
        (empty.starts(), scene.cache.starts(), second.starts()),
        (1, 1, 0)
    );
    assert!(empty.questions() > 0 && empty.fetched().is_empty());
    assert_eq!(scene.cache.fetched().len(), 2);
    scene.is_well();
}

#[test]
fn every_form_of_hash_is_checked() {
    need!("sqlite3", "nix-hash");
    let scene = Scene::pair();
    let path = scene.path("a");
    let program = scene.cache.program(&scene.world);
    let contents = scene.world.file(&format!(
        "cache/nar/{}",
        &path[path.rfind('/').unwrap() + 1..]
    ));
    for (algo, form) in [
        ("sha256", Some("--base32")),
        ("sha256", None),
        ("sha1", None),
        ("md5", Some("--base32")),
        ("sha512", Some("--base32")),
    ] {
        let hash = scene.world.program("nix-hash").args(["--type", algo]);
        let hash = form.iter().fold(hash, Cmd::arg).arg(&contents).ok().line();
        for (hash, good) in [(hash.clone(), true), (flipped(&hash), false)] {
            fs::write(scene.cache.hash_file(&path), format!("{algo}:{hash}\n")).unwrap();
            let ran = scene.asking(&[&program]).arg(&path).run();
            if good {
                ran.exits(0);
                scene.world.set_aside("fetched");
                fs::remove_dir_all(scene.world.at("fetched.store")).unwrap();
                fs::remove_dir_all(scene.world.at("fetched.state")).unwrap();
            } else {
                ran.exits(1)
                    .says(format!("hash mismatch in downloaded path '{path}'"));
                assert!(!Path::new(&path).exists(), "what is wrong does not stay");
            }
        }
    }
}

/// A hash with another last digit that is a digit in every base.
fn flipped(hash: &str) -> String {
    let digit = if hash.ends_with('1') { '0' } else { '1' };
    // The last digit of base 32 is the lowest one, so every value is possible.
    format!("{}{digit}", &hash[..hash.len() - 1])
}

#[test]
fn an_empty_hash_is_not_checked_and_nonsense_is_refused() {
    need!("sqlite3");
    let scene = Scene::pair();
    let path = scene.path("a");
    let program = scene.cache.program(&scene.world);
    for hash in ["nonsense", "sha256:xyz", "whirlpool:00", "00"] {
        fs::write(scene.cache.hash_file(&path), format!("{hash}\n")).unwrap();
        scene
            .asking(&[&program])
            .arg(&path)
            .run()
            .exits(1)
            .says(format!("bad hash '{hash}'"));
    }
    fs::write(scene.cache.hash_file(&path), "\n").unwrap();
    scene.asking(&[&program]).arg(&path).ok();
    scene.is_well();
}

/// What a substituter may do wrong when it fetches, and what is said of it.
const FAULTS: [(&str, &str); 6] = [
    (
        "echo no network >&2; echo; exit 3",
        "failed with exit code 3",
    ),
    ("echo; kill -9 $$", "failed due to signal 9"),
    ("echo; echo; exit 0", "did not produce path"),
    (
        "echo x > $3; exit 0",
        "ended without a line that says the hash",
    ),
    ("echo; mkfifo $3; echo; exit 0", "unsupported"),
    (
        "echo; echo wrong > $3; cat hash/$b; exit 0",
        "hash mismatch in downloaded path",
    ),
];

#[test]
fn a_failed_fetch_is_fatal_unless_there_is_another_substituter_or_fallback() {
    need!("sqlite3");
    for (fault, says) in FAULTS {
        let scene = Scene::pair();
        let bad = scene.cache.program_with(&scene.world, "", fault);
        let ran = scene.build(&[&bad]).run().exits(1).no_panic();
        ran.says(says)
            .says("some substitutes for the outputs of derivation")
            .says("try '--fallback'");
        assert!(scene.runs().is_empty());
        scene.is_well();

        let good = Cache::of(&scene.world, "none", "");
        fs::remove_dir_all(scene.world.file("none")).unwrap();
        drop(good);
        let second = scene.world.script(
            "second",
            &text(scene.cache.program(&scene.world)).replace("fetched", "second"),
        );
        let bad = scene.cache.program_with(&scene.world, "", fault);
        scene.build(&[&bad, &second]).ok().says(says);
        assert!(scene.runs().is_empty());
        scene.is_well();

        let scene = Scene::pair();
        let bad = scene.cache.program_with(&scene.world, "", fault);
        scene.build(&[&bad]).arg("--fallback").ok().says(says);
        assert_eq!(scene.runs(), ["a", "b"]);
        scene.is_well();
    }
}

#[test]
fn the_end_of_its_log_is_shown_when_a_fetch_fails() {
    need!("sqlite3");
    let scene = Scene::pair();
    let bad = scene.cache.program_with(
        &scene.world,
        "echo about to >&2",
        "echo no network >&2; echo; exit 3",
    );
    let ran = scene.build(&[&bad]).run().exits(1);
    ran.says("cache.sh: about to").says("> no network");
    let scene = Scene::pair();
    let good = scene
        .cache
        .program_with(&scene.world, "", "echo fetching $b >&2");
    let a = scene.path("a");
    let base = Path::new(&a).file_name().unwrap().to_str().unwrap();
    scene
        .build(&[&good])
        .arg("-L")
        .ok()
        .says(format!("a> fetching {base}"));
}

#[test]
fn what_a_query_may_do_wrong() {
    need!("sqlite3");
    for (query, says) in [
        ("exit 1", "died unexpectedly: it failed with exit code 1"),
        (
            "echo; read x; exit 7",
            "died unexpectedly: it failed with exit code 7",
        ),
        ("echo; read x; kill -9 $$", "signal 9"),
        ("echo hello", "'hello' where an empty line was expected"),
        (
            "echo; read v p q; echo $p; echo; echo many",
            "'many' where the number of references",
        ),
        (
            "echo; read v p q; echo $p; echo; echo 1; echo /elsewhere/x; echo 0; echo 0; echo",
            "/elsewhere/x",
        ),
        (
            "echo; read v p q; echo /elsewhere/x; echo; echo 0; echo 0; echo 0; echo",
            "which it was not asked for",
        ),
    ] {
        let scene = Scene::pair();
        let bad = scene.cache.program_with(&scene.world, query, "");
        scene
            .build(&[&bad])
            .ok()
            .says(says)
            .says("cache.sh")
            .no_panic();
        assert_eq!(
            scene.runs(),
            ["a", "b"],
            "what can't be asked has nothing: {query}"
        );
        scene.is_well();
    }
    let scene = Scene::pair();
    scene
        .build(&[Path::new("/no/such/substituter")])
        .ok()
        .says("No such file");
    assert_eq!(scene.runs(), ["a", "b"]);
}

#[test]
fn one_that_ends_well_at_once_does_not_want_to_be_asked() {
    need!("sqlite3");
    let scene = Scene::pair();
    let shy = scene.cache.program_with(&scene.world, "exit 0", "");
    scene
        .build(&[&shy])
        .ok()
        .never_says("error")
        .never_says("cache.sh");
    assert_eq!(scene.cache.starts(), 1);
    assert_eq!(scene.runs(), ["a", "b"]);
}

#[test]
fn one_that_dies_once_is_asked_again() {
    need!("sqlite3");
    let scene = Scene::pair();
    let weak = scene.cache.program_with(
        &scene.world,
        "[ -e once ] || { : > once; echo; read x; exit 9; }",
        "",
    );
    scene.build(&[&weak]).ok().says("it is started again");
    assert!(scene.runs().is_empty());
    assert_eq!(scene.cache.starts(), 2);
    scene.is_well();
}

#[test]
fn one_that_says_nothing_holds_nobody_up_for_ever() {
    need!("sqlite3");
    let scene = Scene::pair();
    let mute = scene.cache.program_with(&scene.world, "sleep 1000", "");
    let patience = ["--option", "stalled-download-timeout", "1"];
    scene
        .build(&[&mute])
        .args(patience)
        .ok()
        .says("it said nothing for 1 seconds");
    assert_eq!(scene.runs(), ["a", "b"]);
    scene.is_well();
}

#[test]
fn an_interruption_ends_substituters_that_say_nothing() {
    need!("sqlite3");
    for (query, fetch) in [(": > asked; sleep 1000", ""), ("", ": > asked; sleep 1000")] {
        let scene = Scene::pair();
        let mute = scene.cache.program_with(&scene.world, query, fetch);
        let running = scene.build(&[&mute]).start();
        scene.world.wait_for("cache/asked");
        running.signal("INT");
        running.wait().exits(130);
        scene.world.is_clean();
    }
}

#[test]
fn a_fetch_that_takes_too_long_is_ended() {
    need!("sqlite3");
    for limit in ["--max-silent-time", "--timeout"] {
        let scene = Scene::pair();
        let slow = scene.cache.program_with(&scene.world, "", "sleep 1000");
        let ran = scene
            .build(&[&slow])
            .args([limit, "1", "--print-build-trace"])
            .run()
            .exits(1);
        let a = scene.path("a");
        ran.says(format!("@ substituter-failed {a} timeout"))
            .says("timed out after 1 seconds");
        scene.is_well();
    }
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
fn fetches_take_build_slots() {
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
    for (jobs, most) in [("-j1", 1), ("-j3", 3), ("-j0", 1)] {
        // Each notes how many run with it.
        let program = scene.cache.program_with(
            &scene.world,
            "",
            "mkdir -p now; : > now/$b; ls now | wc -l >> together; sleep 0.05; rm now/$b",
        );
        let ran = scene.build(&[&program]).arg(jobs).run();
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
fn what_a_substitute_lacks_is_built_and_then_it_is_fetched() {
    need!("sqlite3");
    let scene = Scene::pair();
    scene.cache.forget(&scene.path("a"));
    let program = scene.cache.program(&scene.world);
    scene.build(&[&program]).ok();
    assert_eq!(scene.runs(), ["a"], "the reference is built");
    assert_eq!(
        names(&scene.cache.fetched()),
        ["b"],
        "and the path itself is fetched"
    );
    scene.is_well();
}

#[test]
fn what_a_substitute_lacks_for_ever_is_asked_for_once_more_and_then_it_is_built() {
    need!("sqlite3");
    let scene = Scene::pair();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let nowhere = format!(
        "{}/{}-nowhere",
        scene.world.store().display(),
        "0".repeat(32)
    );
    let deriver = scene.drv.clone();
    let known = Known {
        deriver,
        references: vec![a, nowhere],
        nar_size: 100,
        hash: String::new(),
    };
    scene.cache.describe(&b, &known);
    let program = scene.cache.program(&scene.world);
    scene.build(&[&program]).ok();
    assert_eq!(names(&scene.cache.fetched()), ["a"]);
    assert_eq!(scene.runs(), ["b"]);
    scene.is_well();
}

#[test]
fn references_that_lead_in_a_circle_are_a_clear_failure() {
    let world = World::new();
    let cache = Cache::new(&world, "cache");
    let paths = ["1", "2", "3"].map(|n| format!("{}/{}-c", world.store().display(), n.repeat(32)));
    let contents = world.write("contents", "x");
    for (path, next) in [(0, 1), (1, 2), (2, 1)] {
        let known = Known {
            deriver: String::new(),
            references: vec![paths[next].clone(), paths[path].clone()],
            nar_size: 0,
            hash: String::new(),
        };
        cache.add(&paths[path], &contents, &known);
    }
    let program = cache.program(&world);
    let ran = asking(&world, &[&program]).arg(&paths[0]).run().exits(1);
    ran.says("references lead back to it")
        .no_panic()
        .never_says("stuck");
    world.is_clean();
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
fn a_derivation_that_is_not_what_its_path_says_is_refused() {
    need!("sqlite3");
    let world = World::new();
    let drv = world.add_one("x", sh("echo x > $out"));
    let cache = Cache::of(&world, "cache", "%");
    let other = text(&drv).replace("echo x", "echo y");
    world.set_aside("added");
    let contents = world.file(&format!(
        "cache/nar/{}",
        Path::new(&drv).file_name().unwrap().to_str().unwrap()
    ));
    fs::remove_file(&contents).unwrap();
    fs::write(&contents, other).unwrap();
    fs::write(cache.hash_file(&drv), "\n").unwrap();
    let program = cache.program(&world);
    let ran = asking(&world, &[&program]).arg(&drv).run().exits(1);
    ran.says("contents and references of it have the path")
        .says("cannot build missing derivation");
    world.is_clean();
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
        "'{b}' can't be substituted, for no substituter has all that it refers to"
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
fn trace_lines_are_those_of_the_seed() {
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
fn keep_going_builds_what_does_not_depend_on_a_failed_substitute() {
    need!("sqlite3");
    let scene = Scene::new(|world| {
        let log = world.file("runs");
        graph_of([
            ("a", step("a", &log, &[])),
            ("b", step("b", &log, &[])),
            ("c", step("c", &log, &["a", "b"])),
        ])
    });
    scene.cache.forget(&scene.path("b"));
    scene.cache.forget(&scene.path("c"));
    let bad = scene.cache.program_with(&scene.world, "", "echo; exit 3");
    let ran = scene.build(&[&bad]).arg("-k").run().exits(1);
    ran.says("some substitutes")
        .says("1 dependencies couldn't be built");
    assert_eq!(scene.runs(), ["b"]);
    scene.is_well();
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
