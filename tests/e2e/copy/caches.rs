//! Copies into binary caches.

use std::fs;

use windrow_net::testing::Server;

use super::{Scene, copy_in_bounds, files};
use crate::harness::{BinaryCache, need, need_newer};

#[test]
fn a_cache_is_what_nix_makes_of_the_same_paths() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    for (nth, (more, count)) in [
        ("&compression=none&write-nar-listing=true", 7),
        ("&compression=none&index-debug-info=true", 6),
        ("&compression=xz", 5),
        ("", 5),
    ]
    .into_iter()
    .enumerate()
    {
        let (ours, theirs) = (format!("ours-{nth}"), format!("theirs-{nth}"));
        let copy = scene
            .world
            .windrow("copy")
            .args(["--to", &scene.signed(&ours, more)]);
        let ran = copy.arg(&scene.b).ok().prints_nothing();
        ran.says("copied 2 paths").never_says("warning");
        let copy = scene.world.program("nix").args(["copy", "--to"]);
        copy.arg(scene.signed(&theirs, more)).arg(&scene.b).ok();
        let theirs = files(&scene.world.file(&theirs));
        assert_eq!(theirs.len(), count);
        assert!(files(&scene.world.file(&ours)) == theirs, "{more}");
    }
}

#[test]
fn nix_takes_what_was_copied_by_file_and_by_http() {
    need!("nix", "nix-store", "sqlite3");
    for compression in ["none", "xz", "bzip2", "gzip", "zstd", "br", "lz4", "lzip"] {
        let scene = Scene::new();
        let url = scene.signed("cache", &format!("&compression={compression}"));
        scene
            .world
            .windrow("copy")
            .args(["--to", &url])
            .arg(&scene.b)
            .ok();
        scene.forget("built");
        scene.fetched_by(
            "nix",
            &format!("file://{}", scene.world.file("cache").display()),
        );
        scene.forget("by-file");
        let server = Server::start(&scene.world.file("cache"));
        scene.fetched_by("nix", &server.url());
    }
}

#[test]
fn a_newer_nix_takes_it_too_and_a_listing_says_the_same() {
    need!("nix-store", "sqlite3");
    let nix = need_newer!("nix");
    let scene = Scene::new();
    let more = "&compression=zstd&write-nar-listing=true";
    let copy = scene
        .world
        .windrow("copy")
        .args(["--to", &scene.signed("ours", more)]);
    copy.arg(&scene.b).ok();
    let copy = scene.world.program(&nix).args(["copy", "--to"]);
    copy.arg(scene.signed("theirs", more)).arg(&scene.b).ok();
    let listing = |name: &str| {
        let files = files(&scene.world.file(name));
        let listings = files.into_iter().filter(|(name, _)| name.ends_with(".ls"));
        let parsed = listings.map(|(name, text)| {
            (
                name,
                serde_json::from_slice::<serde_json::Value>(&text).expect("JSON"),
            )
        });
        parsed.collect::<Vec<_>>()
    };
    assert_eq!(listing("ours").len(), 2);
    assert_eq!(listing("ours"), listing("theirs"));
    scene.forget("built");
    let server = Server::start(&scene.world.file("ours"));
    scene.fetched_by(&nix, &server.url());
}

#[test]
fn caches_behind_http_and_buckets_are_written() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let dir = scene.world.file("served");
    fs::create_dir(&dir).unwrap();
    let server = Server::start(&dir);
    let key = scene.key.secret.display();
    let http = format!("{}/some/where?secret-key={key}", server.url());
    let s3 = format!(
        "s3://bucket/prefix?endpoint={}&secret-key={key}",
        server.url()
    );
    for (to, below) in [(http, "some/where"), (s3, "bucket/prefix")] {
        let copy = || {
            let copy = scene
                .world
                .windrow("copy")
                .args(["--to", &to])
                .arg(&scene.b);
            let copy = copy.env("AWS_ACCESS_KEY_ID", "key");
            copy.env("AWS_SECRET_ACCESS_KEY", "secret")
        };
        copy().ok().says("copied 2 paths");
        server.forget();
        copy().ok().says("nothing to copy: all 2 paths are in");
        assert!(server.requests().iter().all(|seen| seen.method != "PUT"));
        scene.forget("built");
        scene.fetched_by("nix", &format!("{}/{below}", server.url()));
        scene.world.set_aside("fetched");
        scene.world.bring_back("built");
        fs::rename(
            scene.world.at("fetched.store"),
            scene.world.at(below.replace('/', "-")),
        )
        .unwrap();
        for dir in ["state", "log"] {
            let _ = fs::remove_dir_all(scene.world.at(format!("fetched.{dir}")));
        }
    }
    // What nobody has signed for the cache is as it was built.
    let signed = BinaryCache {
        dir: dir.join("some/where"),
    };
    assert!(signed.field(&scene.b, "Sig").starts_with("test.example-1:"));
}

#[test]
fn what_is_named_is_what_is_copied() {
    need!("nix-store", "sqlite3");
    let scene = Scene::new();
    let narinfos = |name: &str, args: &[&str]| {
        let url = format!("file://{}", scene.world.file(name).display());
        scene
            .world
            .windrow("copy")
            .args(["--to", &url])
            .args(args)
            .ok();
        let files = files(&scene.world.file(name));
        files
            .keys()
            .filter(|name| name.ends_with(".narinfo"))
            .count()
    };
    // Outputs with what they refer to: "b" and "a".
    assert_eq!(narinfos("outputs", &[&scene.drv]), 2);
    assert_eq!(narinfos("output", &[&format!("{}^out", scene.drv)]), 2);
    let inside = format!("{}/bin/x", scene.b);
    assert_eq!(narinfos("inside", &[&inside]), 2);
    let link = scene.world.file("result").display().to_string();
    std::os::unix::fs::symlink(&scene.b, &link).unwrap();
    assert_eq!(narinfos("link", &[&link]), 2);
    assert_eq!(narinfos("one", &["--no-recursive", &scene.a]), 1);
    // Both derivations.
    assert_eq!(narinfos("derivation", &["--derivation", &scene.drv]), 2);
    assert_eq!(narinfos("both", &["--derivation", &scene.drv, &scene.a]), 3);
    // A graph is added, and built if it has not been.
    let more = crate::harness::graph_of([("c", crate::harness::sh("echo c > $out"))]);
    let graph = scene.world.graph("more.json", &more).display().to_string();
    assert_eq!(narinfos("graph", &[&graph]), 1);
    scene.world.is_clean();
    scene.world.stays_valid();
}

#[test]
fn large_archives_are_never_in_memory() {
    need!("sqlite3");
    let scene = Scene::new();
    let path = scene.large(300);
    let dir = scene.world.file("served");
    fs::create_dir(&dir).unwrap();
    let server = Server::start(&dir);
    let cache = format!("file://{}", scene.world.file("cache").display());
    for to in [
        format!("{cache}?compression=none"),
        format!("{}?compression=zstd", server.url()),
    ] {
        let copy = scene.world.windrow("copy").args(["--to", &to]).arg(&path);
        copy_in_bounds(copy).says("copied 1 path");
    }
}
