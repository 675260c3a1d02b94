//! What can go wrong with substituters: in what they say, in what they deliver, and in that they do
//! nothing at all.

use std::fs;
use std::path::Path;

use super::{Scene, asking, names};
use crate::harness::{Cache, Cmd, Known, World, graph_of, need, sh, step, text};

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
        .says("it said nothing for 1 second");
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
            .says("timed out after 1 second");
        scene.is_well();
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
        .says("1 dependency couldn't be built");
    assert_eq!(scene.runs(), ["b"]);
    scene.is_well();
}
