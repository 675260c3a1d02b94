//! Copies into stores on this machine, from caches and from other stores.

use std::fs;
use std::time::Duration;

use windrow_net::testing::{Behaviour, Server};

use super::Scene;
use crate::harness::{BinaryCache, Cmd, need, wait_until};

/// `windrow copy --from` that URL, with the key of the scene trusted.
fn from(scene: &Scene, url: &str) -> Cmd {
    let copy = scene.world.windrow("copy").args(["--from", url]);
    copy.args(["--option", "trusted-public-keys", &scene.key.public])
}

#[test]
fn paths_come_from_a_cache_if_their_signatures_are_good() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let how = |key| ("xz", key);
    let signed =
        BinaryCache::written_by_nix(&scene.world, "signed", how(Some(&scene.key)), &[&scene.b]);
    let bare = BinaryCache::written_by_nix(&scene.world, "bare", how(None), &[&scene.b]);
    scene.forget("built");
    let ran = from(&scene, &bare.url())
        .arg(&scene.b)
        .run()
        .exits(1)
        .no_panic();
    ran.says("it is not signed").says("--no-check-sigs");
    assert!(!scene.world.is_valid(&scene.a));
    from(&scene, &signed.url())
        .arg(&scene.b)
        .ok()
        .says("copied 2 paths from");
    let ran = from(&scene, &signed.url()).arg(&scene.b).ok();
    ran.says("nothing to copy");
    scene.world.is_clean();
    scene.world.verifies();
    scene.forget("signed");
    let lax = from(&scene, &bare.url())
        .arg("--no-check-sigs")
        .arg(&scene.b);
    lax.ok().says("copied 2 paths from");
    scene.world.verifies();
    // Only these caches are asked.
    scene.forget("bare");
    let other = from(&scene, &bare.url()).args(["--option", "substituters", &signed.url()]);
    other.arg(&scene.b).run().exits(1).says("it is not signed");
}

#[test]
fn a_derivation_stands_for_its_outputs_and_is_not_built() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let url = scene.signed("cache", "");
    scene
        .world
        .windrow("copy")
        .args(["--to", &url])
        .arg(&scene.b)
        .ok();
    let derivations = scene
        .world
        .windrow("copy")
        .args(["--derivation", "--to", &url]);
    derivations.arg(&scene.drv).ok();
    scene.forget("built");
    let cache = BinaryCache {
        dir: scene.world.file("cache"),
    };
    let ran = from(&scene, &cache.url()).arg(&scene.drv).ok();
    ran.says("copied 2 paths from").never_says("building");
    assert!(scene.world.is_valid(&scene.b) && scene.world.is_valid(&scene.drv));
    scene.world.verifies();
    scene.forget("outputs");
    from(&scene, &cache.url())
        .args(["--derivation", &scene.drv])
        .ok();
    assert!(scene.world.is_valid(&scene.drv) && !scene.world.is_valid(&scene.b));
    // What its outputs are is known now, but they are not to be had.
    cache.forget(&scene.b);
    let ran = from(&scene, &cache.url()).arg(&scene.drv).run().exits(1);
    ran.says(format!("does not have '{}'", scene.b))
        .never_says("building");
    scene.world.is_clean();
    scene.world.verifies();
}

#[test]
fn without_what_it_refers_to_a_path_is_taken_only_if_that_is_there() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let how = ("none", Some(&scene.key));
    let cache = BinaryCache::written_by_nix(&scene.world, "cache", how, &[&scene.b]);
    scene.forget("built");
    let only = |path: &str| from(&scene, &cache.url()).args(["--no-recursive", path]);
    only(&scene.b).run().exits(1).one_error().says(&scene.a);
    assert!(!scene.world.is_valid(&scene.a) && !scene.world.is_valid(&scene.b));
    only(&scene.a).ok();
    only(&scene.b).ok();
    scene.world.verifies();
}

#[test]
fn stores_on_this_machine_are_copied_to_and_from() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let other = scene.world.at("other dir");
    let root = other.display().to_string();
    let to = || {
        scene
            .world
            .windrow("copy")
            .args(["--to", &root])
            .arg(&scene.b)
    };
    let ran = to().run().exits(1).no_panic();
    ran.says("it is not signed").says("--no-check-sigs");
    to().arg("--no-check-sigs").ok().says("copied 2 paths from");
    to().arg("--no-check-sigs").ok().says("nothing to copy");
    let name = scene.b.rsplit('/').next().unwrap().to_owned();
    let copied = other.join("nix/store").join(name);
    assert_eq!(
        fs::read_to_string(copied.join("bin/x")).unwrap().trim(),
        scene.a
    );
    let verify = scene
        .world
        .program("nix-store")
        .args(["--verify", "--check-contents"]);
    let verify = verify.args(["--store", &root]).ok();
    verify.never_says("error").never_says("modified");
    // Back again, and on into a cache at once.
    scene.forget("built");
    let back = scene
        .world
        .windrow("copy")
        .args(["--from", &root, "--no-check-sigs"]);
    back.arg(&scene.b).ok().says("copied 2 paths from");
    scene.world.is_clean();
    scene.world.verifies();
    let url = scene.signed("cache", "");
    let on = scene
        .world
        .windrow("copy")
        .args(["--from", &root, "--to", &url]);
    on.arg(&scene.b).ok().says("copied 2 paths");
    let third = scene.world.at("third").display().to_string();
    let out = scene.world.windrow("copy").args(["--to", &third]);
    let cache = format!("file://{}", scene.world.file("cache").display());
    let out =
        out.args(["--from", &cache])
            .args(["--option", "trusted-public-keys", &scene.key.public]);
    out.arg(&scene.b).ok().says("copied 2 paths from");
}

#[test]
fn two_caches_are_copied_by_way_of_a_store_only() {
    let scene = crate::harness::World::new();
    let copy = scene
        .windrow("copy")
        .args(["--from", "file:///a", "--to", "file:///b"]);
    let ran = copy.arg("/nix/store/x").run().exits(1).one_error();
    ran.says("neither is a store on this machine")
        .says("--from");
    let copy = scene.windrow("copy").args(["--to", "ftp://h"]);
    copy.arg("x").run().exits(1).one_error().says("'ftp'");
    let copy = scene.windrow("copy").arg("x");
    copy.run().exits(1).says("--to");
}

#[test]
fn a_store_that_is_trusted_need_not_have_signed() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let other = scene.world.at("other").display().to_string();
    let to = scene.world.windrow("copy").args(["--to", &other]);
    to.arg("--no-check-sigs").arg(&scene.b).ok();
    let third = scene.world.at("third").display().to_string();
    let copy = |from: &str| {
        let copy = scene.world.windrow("copy").args(["--from", from]);
        copy.args(["--to", &third]).arg(&scene.b)
    };
    copy(&other).run().exits(1).says("it is not signed");
    copy(&format!("{other}?trusted=true"))
        .ok()
        .never_says("warning");
    let name = scene.b.rsplit('/').next().unwrap();
    assert!(fs::exists(scene.world.at("third/nix/store").join(name)).unwrap());
}

#[test]
fn a_derivation_is_kept_while_its_outputs_are_fetched() {
    need!("nix", "nix-store", "sqlite3");
    let scene = Scene::new();
    let url = scene.signed("cache", "");
    let to = scene.world.windrow("copy").args(["--to", &url]);
    to.arg(&scene.b).ok();
    let to = scene.world.windrow("copy").args(["--derivation", "--to"]);
    to.arg(&url).arg(&scene.drv).ok();
    scene.forget("built");
    let server = Server::start(&scene.world.file("cache"));
    let hash = &scene.b.rsplit('/').next().unwrap()[..32];
    let narinfo = format!("/{hash}.narinfo");
    server.behave(&narinfo, Behaviour::Latency(Duration::from_secs(2)));
    let running = from(&scene, &server.url()).arg(&scene.drv).start();
    wait_until("the outputs are asked for", || server.count(&narinfo) > 0);
    scene.world.ours(["--gc"]).ok();
    assert!(scene.world.is_valid(&scene.drv));
    running.wait().exits(0);
    assert!(scene.world.is_valid(&scene.b));
    scene.world.verifies();
}
