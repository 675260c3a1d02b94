//! Binary caches and stores of other machines, by `--store`: what is told of them, what is
//! realised of them, and what can't be done there.

use std::fs;

use windrow_net::testing::{Behaviour, Server};

use super::filled;
use crate::harness::{BinaryCache, OtherMachine, World, need};
use crate::stores::files_below;

/// A store of all kinds of paths, and a cache that Nix wrote, which has all of it with derivations;
/// the top derivation, and its output.
#[track_caller]
fn cached() -> (World, BinaryCache, String, String) {
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let all = world
        .theirs(["-qR", "--include-outputs", &drv])
        .ok()
        .lines();
    let built: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|it| !it.ends_with(".drv"))
        .collect();
    let cache = BinaryCache::written_by_nix(&world, "cache", ("xz", None), &built);
    let copy = world
        .program("nix")
        .args(["copy", "--derivation", "--no-check-sigs", "--to"]);
    copy.arg(cache.url()).arg(&drv).ok();
    (world, cache, drv, out)
}

/// A path that is nowhere.
fn absent(path: &str) -> String {
    let (dir, base) = path.rsplit_once('/').unwrap();
    let hash: String = base[..32].chars().rev().collect();
    format!("{dir}/{hash}{}", &base[32..])
}

/// What Nix 2.8 knows to ask of a store.
const QUERIES: [&[&str]; 22] = [
    &["-q"],
    &["-qR"],
    &["-qR", "--include-outputs"],
    &["-qR", "--use-output"],
    &["-q", "--references"],
    &["-q", "--references", "-u"],
    &["-q", "--referrers"],
    &["-q", "--referrers-closure"],
    &["-q", "--deriver"],
    &["-q", "--hash"],
    &["-q", "--hash", "--use-output"],
    &["-q", "--size"],
    &["-q", "--tree"],
    &["-q", "--graph"],
    &["-q", "--graph", "-u"],
    &["-q", "--graphml"],
    &["-q", "--resolve"],
    &["-q", "--roots"],
    &["-q", "--binding", "name"],
    &["-q", "--binding", "none"],
    &["--check-validity"],
    &["--check-validity", "--print-invalid"],
];

#[test]
fn every_query_of_a_cache_prints_what_nix_store_prints() {
    need!("nix", "nix-store");
    let (world, cache, drv, out) = cached();
    let url = cache.url();
    let paths = world
        .theirs(["-qR", "--include-outputs", &drv])
        .ok()
        .lines();
    let absent = absent(&out);
    for query in QUERIES {
        let alike = |paths: &[&str]| {
            world.alike(&[query, paths, &["--store", &url]].concat());
        };
        alike(&[&drv]);
        alike(&[&out]);
        alike(&[&drv, &out, &paths[3], &paths[0]]);
        // Nix begins trees and graphs before it finds that a path is not there.
        if !query
            .iter()
            .any(|flag| ["--tree", "--graph", "--graphml"].contains(flag))
        {
            alike(&[&absent]);
            alike(&[&out, &absent]);
        }
    }
    // There is something of that hash part, but of another name.
    let misnamed = format!("{out}-2");
    for query in ["--deriver", "--hash", "--references", "-R"] {
        world
            .alike(&["-q", query, &out, &misnamed, "--store", &url])
            .says(&misnamed);
    }
    for path in &paths {
        for query in ["-R", "--references", "--tree", "--hash"] {
            world.alike(&["-q", query, path, "--store", &url]);
        }
    }
    // What a cache lacks of a closure is named.
    let (lost, _) = paths
        .iter()
        .map(|path| (path, path.ends_with(".drv")))
        .find(|it| !it.1)
        .unwrap();
    cache.forget(lost);
    let ran = world.alike(&["-qR", "--include-outputs", &drv, "--store", &url]);
    assert!(
        ran.status.code() == Some(0) || ran.stderr.contains(lost),
        "{ran}"
    );
    world.is_clean();
}

#[test]
fn a_cache_behind_http_is_asked_for_each_path_once_and_all_is_remembered() {
    need!("nix", "nix-store");
    let (world, cache, drv, out) = cached();
    let server = Server::start(&cache.dir);
    let url = server.url();
    let local = world.ours(["-qR", "--include-outputs", &drv]).ok().out();
    let query = |args: &[&str]| world.ours(args).args(["--store", &url]);
    let ran = query(&["-qR", "--include-outputs", &drv]).ok();
    assert_eq!(ran.out(), local);
    ran.never_says("warning");
    assert_eq!(server.count("*.narinfo"), local.lines().count());
    assert_eq!(server.count("/nix-cache-info"), 1);
    let drvs = local.lines().filter(|path| path.ends_with(".drv")).count();
    assert_eq!(server.count("/nar/*"), drvs);
    server.forget();
    for args in [
        ["-q", "--tree"],
        ["-q", "--graphml"],
        ["-q", "--hash"],
        ["-qR", "-u"],
    ] {
        world.alike(&[&args[..], &[&out, "--store", &url]].concat());
    }
    assert_eq!(
        server.count("*.narinfo"),
        0,
        "Nix and windrow remember the same"
    );
    let text = query(&["--print-env", &drv]).ok().out();
    assert_eq!(text, world.ours(["--print-env", &drv]).ok().out());
    // The store may be that of the configuration, or of the environment.
    let named = world.ours(["-qR", &out]).env("NIX_REMOTE", &url).ok().out();
    assert_eq!(named, world.ours(["-qR", &out]).ok().out());
}

#[test]
fn what_a_cache_has_is_realised_there_and_nothing_else() {
    need!("nix", "nix-store");
    let (world, cache, drv, out) = cached();
    let url = cache.url();
    let absent = absent(&out);
    let alike = |args: &[&str]| world.alike(&[&["-r"], args, &["--store", &url]].concat());
    alike(&[&out]);
    alike(&[&drv]);
    alike(&[&drv, &out, "--no-output"]);
    alike(&[&format!("{drv}!out"), &out]);
    alike(&[&format!("{drv}!none")]);
    alike(&[&out, "--dry-run"]);
    alike(&[&absent, &out, "--ignore-unknown"]);
    alike(&[&absent, "--dry-run"]).says(&absent);
    let ran = alike(&[&out, &absent]).one_error();
    ran.says(format!("'{absent}' is not in the store '{url}'"))
        .says("nothing is made there");
    world.alike(&["-q", "-f", "--references", &out, "--store", &url]);
    let forced = world.alike(&["-q", "-f", "--references", &absent, "--store", &url]);
    forced.says(format!("'{absent}' is not in the store"));
    cache.forget(&out);
    let ran = alike(&[&drv]).one_error();
    ran.says(format!("'{out}' is not in the store '{url}'"));
    let ours = |args: &[&str]| {
        world
            .ours(args)
            .args(["--store", &url])
            .run()
            .exits(1)
            .one_error()
    };
    ours(&["-r", &drv, "--check"]).says("nothing is built or repaired");
    let link = world.file("link");
    ours(&["-r", &drv, "--add-root", link.to_str().unwrap()]).says("--add-root keeps what lies in");
    assert!(!link.is_symlink());
}

#[test]
fn what_a_cache_can_not_tell_or_do_ends_with_one_error() {
    need!("nix", "nix-store");
    let (world, cache, drv, out) = cached();
    let url = cache.url();
    world.set_aside("filled");
    let before = files_below(&cache.dir);
    for (args, message) in [
        (&["-q", "--referrers", &*out][..], "what refers to a path"),
        (
            &["-q", "--referrers-closure", &out],
            "what refers to a path",
        ),
        (&["-q", "--roots", &out], "what refers to a path"),
        (&["-q", "--valid-derivers", &out], "which derivations have"),
        (&["--gc"], "that can't be done in the store"),
        (
            &["--gc", "--print-roots"],
            "that can't be done in the store",
        ),
        (&["--delete", &out], "that can't be done in the store"),
        (
            &["--add", "/etc/hostname"],
            "that can't be done in the store",
        ),
        (&["--import"], "that can't be done in the store"),
        (&["--export", &out], "that can't be done in the store"),
        (&["--dump-db"], "that can't be done in the store"),
        (&["--init"], "that can't be done in the store"),
        (&["--verify"], "that can't be done in the store"),
        (&["--verify-path", &out], "that can't be done in the store"),
        (&["--optimise"], "that can't be done in the store"),
        (&["--read-log", &drv], "that can't be done in the store"),
        (&["--query-failed-paths"], "that can't be done in the store"),
    ] {
        let ran = world.ours(args).args(["--store", &url]).run().exits(1);
        ran.one_error().says(message).says(&url).prints_nothing();
    }
    assert_eq!(files_below(&cache.dir), before);
    assert!(!world.state().exists(), "no store is made on this machine");
    // What needs no store.
    let dumped = world.file("public");
    fs::write(&dumped, "text").unwrap();
    let dump = world.ours(["--dump", dumped.to_str().unwrap(), "--store", &url]);
    assert!(
        dump.ok()
            .stdout
            .starts_with(b"\r\0\0\0\0\0\0\0nix-archive-1")
    );
}

#[test]
fn a_store_that_can_not_be_asked_is_named_once() {
    need!("nix", "nix-store");
    let (world, cache, drv, out) = cached();
    let server = Server::start(&cache.dir);
    let url = server.url();
    let ask = |url: &str, args: &[&str]| {
        let impatient = ["--option", "download-attempts", "1", "--store", url];
        let ran = world.ours(args).args(impatient).run().exits(1);
        ran.one_error().prints_nothing()
    };
    let hash = ["-q", "--hash", &*out];
    let nowhere = format!("file://{}", world.file("nowhere").display());
    ask(&nowhere, &hash)
        .says(&nowhere)
        .says("there is no directory");
    ask("http://127.0.0.1:9", &hash).says("cannot ask the store 'http://127.0.0.1:9'");
    ask("http://", &hash).says("is not the URL of a store");
    ask("nix://x", &hash).says("stores of the kind 'nix' are not supported");
    ask("daemon", &hash).says("not through a daemon");
    for (pattern, behaviour, message) in [
        (
            "/nix-cache-info",
            Behaviour::Status(404),
            "no binary cache is there",
        ),
        ("/nix-cache-info", Behaviour::Status(500), "500"),
        ("*.narinfo", Behaviour::Status(503), "503"),
        ("*.narinfo", Behaviour::Status(401), "401"),
        ("*.narinfo", Behaviour::Status(404), "is not valid"),
    ] {
        server.behave(pattern, behaviour);
        ask(&url, &hash).says(message);
        server.behave_well();
    }
    // The text of a derivation is what its narinfo says, or is not believed.
    cache.damage(&drv);
    let binding = ["-q", "--binding", "name", &*drv];
    for url in [&*url, &cache.url()] {
        ask(url, &binding).says("cannot read").says(&drv).says(url);
    }
    fs::remove_file(cache.archive(&drv)).unwrap();
    ask(&cache.url(), &binding).says("its archive is not there");
    fs::write(cache.narinfo(&out), "<html>").unwrap();
    ask(&cache.url(), &hash).says("can't be");
    let info = cache.dir.join("nix-cache-info");
    fs::write(info, "StoreDir: /other/store\n").unwrap();
    ask(&cache.url(), &hash).says("it has paths of the store '/other/store'");
    world.is_clean();
}

#[test]
fn a_store_on_another_machine_is_asked_as_well() {
    need!("nix", "nix-store", "nix-daemon");
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let queries: [&[&str]; 6] = [
        &["-qR"],
        &["-q", "--references"],
        &["-q", "--hash"],
        &["-q", "--size"],
        &["-q", "--deriver"],
        &["-q", "--graphml"],
    ];
    let ask = |query: &[&str]| world.ours(query).args([&drv, &out]);
    let known: Vec<String> = queries.iter().map(|query| ask(query).ok().out()).collect();
    world.set_aside("filled");
    let there = OtherMachine::with_store(&world, "filled");
    for kind in ["ssh", "ssh-ng"] {
        let url = there.url(kind, "");
        for (query, known) in queries.iter().zip(&known) {
            let ran = there.reached_by(ask(query).args(["--store", &url])).ok();
            assert_eq!(ran.out(), *known, "{kind} {query:?}");
        }
        let realised = world.ours(["-r", &out, "--store", &url]);
        assert_eq!(there.reached_by(realised).ok().line(), out);
        let text = world.ours(["-q", "--binding", "name", &drv, "--store", &url]);
        let ran = there.reached_by(text).run().exits(1).one_error();
        ran.says("from others no derivation is read");
    }
}
