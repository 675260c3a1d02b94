//! Caches of a Nix newer than the machine's: what it writes, and what it remembers of caches.

use std::fs;
use std::path::PathBuf;

use windrow_net::testing::Server;

use super::Scene;
use crate::harness::{BinaryCache, need, need_newer};

/// A scene with one signed cache that the newer Nix wrote.
#[track_caller]
fn scene(nix: &str, compression: &str) -> (Scene, BinaryCache) {
    Scene::new(|world, key, path| {
        let how = (compression, Some(key));
        BinaryCache::written_by(nix, world, "cache", how, &[path])
    })
}

#[test]
fn what_a_newer_nix_writes_is_taken_with_its_signatures() {
    need!("nix-store", "sqlite3");
    let nix = need_newer!("nix");
    for compression in ["none", "xz", "zstd"] {
        let (scene, cache) = scene(&nix, compression);
        assert_eq!(cache.field(&scene.b, "Compression"), compression);
        let server = Server::start(&cache.dir);
        for (round, url) in [cache.url(), server.url()].iter().enumerate() {
            let ran = scene.build(&[url]).ok();
            ran.says("2 paths fetched").never_says("warning");
            assert!(scene.runs().is_empty(), "nothing is built");
            let sig = cache.field(&scene.b, "Sig");
            let query = format!("select sigs from ValidPaths where path = '{}'", scene.b);
            assert_eq!(scene.world.sql(&query), [sig]);
            scene.is_well();
            scene.start_over(&format!("round-{round}"));
        }
        let other = "other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        let ran = scene.asking("build", &[&cache.url()]).arg(&scene.drv);
        let ran = ran.args(["--option", "trusted-public-keys", other]).ok();
        ran.says("2 derivations built");
    }
}

#[test]
fn what_caches_said_is_shared_with_a_newer_nix() {
    need!("nix-store", "sqlite3");
    let (nix, nix_store) = (need_newer!("nix"), need_newer!("nix-store"));
    let (scene, cache) = scene(&nix, "xz");
    let server = Server::start(&cache.dir);
    let by_nix = || {
        let fetch = scene.world.program(&nix_store);
        let fetch = fetch.args(["--realise", &scene.b, "--option", "substitute", "true"]);
        let fetch = fetch.args(["--option", "substituters", &server.url()]);
        fetch
            .args(["--option", "trusted-public-keys", &scene.key.public])
            .ok();
    };
    let narinfos = || server.count("*.narinfo");
    by_nix();
    assert_eq!(narinfos(), 2);
    let start_over = |name: &str| {
        scene.world.set_aside(name);
        let graph = scene.world.file("graph.json");
        scene.world.windrow("add").arg(graph).ok();
    };
    start_over("first");
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    assert_eq!(narinfos(), 2, "windrow knows what Nix was told");
    let directory = scene.world.at("home/.cache/nix");
    let files = fs::read_dir(&directory).expect("what Nix remembers");
    let mut files = files.map(|file| file.unwrap().path());
    let is_database = |file: &PathBuf| file.extension().is_some_and(|it| it == "sqlite");
    let remembered = files.find(is_database).expect("a database");
    let forget = scene.world.program("sqlite3").arg(&remembered);
    forget.arg("delete from NARs").ok();
    start_over("second");
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    assert_eq!(narinfos(), 4);
    start_over("third");
    by_nix();
    assert_eq!(narinfos(), 4, "Nix knows what windrow was told");
    scene.is_well();
}
