//! Caches that fail, runs that are killed, and others that do the same at the same time.

use std::fs;
use std::path::PathBuf;

use windrow::{Engine, Request, Store};
use windrow_net::testing::{Behaviour, Server};

use super::{Scene, cache, wait_for_file};
use crate::harness::{BinaryCache, Cmd, Ran, Running, graph_of, need, sh, wait_until};

/// Waits until as many threads push as that: one that could not has told why by then.
#[track_caller]
fn until_pushers(running: &Running, count: usize) {
    let tasks = format!("/proc/{}/task", running.id());
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    wait_until(&format!("{count} threads push"), || {
        let tasks = fs::read_dir(&tasks).expect("a process");
        let names = tasks.filter_map(|task| name(task.ok()?).ok());
        names.filter(|name| name.trim() == "pusher").count() == count
    });
}

/// Has all be built while a cache is broken, which is told.
#[track_caller]
pub(super) fn build_in_vain(scene: &Scene) -> Ran {
    let running = scene.build_to_last();
    until_pushers(&running, 0);
    scene.go();
    running.wait().exits(0).says("warning: cannot push to")
}

/// A cache in a directory that could not be made while something was built for it, and can be now.
#[track_caller]
fn queued(scene: &Scene) -> BinaryCache {
    let cache = cache(&scene.world, "cache");
    // A file where the directory is to be.
    fs::write(&cache.dir, "").unwrap();
    scene.push_to(&[&cache.url()]);
    build_in_vain(scene);
    fs::remove_file(&cache.dir).unwrap();
    cache
}

fn push(scene: &Scene) -> Cmd {
    scene.world.windrow("push")
}

#[test]
fn a_dead_cache_is_told_of_once_and_gets_all_later() {
    need!("sqlite3");
    let scene = Scene::new();
    let served = cache(&scene.world, "served");
    fs::create_dir(&served.dir).unwrap();
    let server = Server::start(&served.dir);
    server.behave("*", Behaviour::Status(503));
    let alive = cache(&scene.world, "alive");
    scene.push_to(&[&server.url(), &alive.url()]);
    let running = scene.build_to_last();
    // The other one is not held up.
    wait_for_file(&alive.narinfo(&scene.path("b")));
    until_pushers(&running, 1);
    scene.go();
    let ran = running.wait().exits(0).no_panic();
    let warned = format!("warning: cannot push to '{}'", server.url());
    let ran = ran.says(&warned).says("wait for 'windrow push'");
    assert_eq!(ran.stderr.matches("warning").count(), 1, "{ran}");
    let ran = push(&scene).run().exits(1).one_error();
    ran.says("503")
        .says("3 paths were not pushed")
        .says(server.url());
    assert_eq!(scene.waiting().len(), 3);
    server.behave_well();
    push(&scene).ok().says("copied 3 paths");
    assert!(scene.waiting().is_empty());
    assert!(served.narinfo(&scene.path("last")).exists());
    scene.world.is_clean();
}

#[test]
fn a_run_that_is_killed_loses_nothing_that_was_registered() {
    need!("sqlite3");
    let scene = Scene::new();
    let served = cache(&scene.world, "served");
    fs::create_dir(&served.dir).unwrap();
    let server = Server::start(&served.dir);
    server.behave("*", Behaviour::Hang);
    scene.push_to(&[&server.url()]);
    let running = scene.build_to_last();
    running.signal("KILL");
    running.wait();
    let (a, b) = (scene.path("a"), scene.path("b"));
    let waiting = scene.waiting();
    for path in [&a, &b] {
        assert!(scene.world.is_valid(path));
        assert!(waiting.contains(&format!("{path} {}", server.url())));
    }
    assert_eq!(waiting.len(), 2);
    server.behave_well();
    push(&scene).ok().says("copied 2 paths");
    assert!(scene.waiting().is_empty());
}

#[test]
fn a_run_does_not_wait_for_a_cache_that_hangs() {
    need!("sqlite3");
    let scene = Scene::new();
    let served = cache(&scene.world, "served");
    fs::create_dir(&served.dir).unwrap();
    let server = Server::start(&served.dir);
    server.behave("/nar/*", Behaviour::Hang);
    scene.push_to(&[&server.url()]);
    let running = scene.build_to_last();
    wait_until("an archive is on its way", || server.count("/nar/*") > 0);
    scene.go();
    let ran = running.wait().exits(0).never_says("warning");
    ran.says("3 paths wait for 'windrow push'");
    scene.world.is_clean();
    server.behave_well();
    push(&scene).ok().says("copied 3 paths");
}

#[test]
fn two_at_once_send_everything_once() {
    need!("sqlite3");
    let scene = Scene::new();
    let served = cache(&scene.world, "served");
    fs::create_dir(&served.dir).unwrap();
    let server = Server::start(&served.dir);
    server.behave("*", Behaviour::Status(503));
    scene.push_to(&[&server.url()]);
    build_in_vain(&scene);
    server.behave_well();
    server.behave_times(1, "/nix-cache-info", Behaviour::Hang);
    server.forget();
    let first = push(&scene).start();
    wait_until("the first one asks", || !server.requests().is_empty());
    // It waits for the lock; a build that pushes goes on.
    let second = push(&scene).start();
    let more = graph_of([("more", sh("echo more > $out"))]);
    let more = scene.world.graph("more.json", &more);
    let built = scene.world.windrow("build").arg(more).ok();
    built.says("4 paths wait").never_says("warning");
    assert_eq!(server.requests().len(), 1, "nobody else asked");
    // A dead one holds nothing.
    first.signal("KILL");
    first.wait();
    second.wait().exits(0).says("copied 4 paths");
    assert!(scene.waiting().is_empty());
    let puts = server.requests().into_iter();
    let puts = puts.filter(|seen| seen.method == "PUT" && seen.path.starts_with("/nar/"));
    assert_eq!(puts.count(), 4);
    scene.world.is_clean();
}

#[test]
fn a_collected_path_is_told_of_and_does_not_wait_any_more() {
    need!("sqlite3");
    let scene = Scene::new();
    queued(&scene);
    let last = scene.path("last");
    let delete = scene.world.windrow("nix-store").arg("--delete");
    delete.arg(&last).ok();
    let ran = push(&scene).ok().says("copied 2 paths");
    ran.says(format!("'{last}' is not in the store any more"));
    assert!(scene.waiting().is_empty());
    scene.world.is_clean();
}

#[test]
fn a_path_that_was_changed_waits_and_the_rest_is_pushed() {
    need!("sqlite3");
    let scene = Scene::new();
    let served = queued(&scene);
    let b = scene.path("b");
    fs::set_permissions(&b, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&b, "other").unwrap();
    let ran = push(&scene).run().exits(1).no_panic();
    ran.says(format!("error: cannot copy '{b}'"))
        .says("copied 2 paths")
        .says("1 path was not pushed");
    assert_eq!(scene.waiting(), [format!("{b} {}", served.url())]);
}

#[test]
fn what_can_not_be_pushed_to_is_warned_of() {
    let scene = Scene::new();
    scene.go();
    scene.push_to(&["/other/store", "ftp://h"]);
    let ran = scene.build().ok();
    ran.says("cannot push to '/other/store'").says("'ftp'");
    push(&scene)
        .args(["--to", "/other"])
        .run()
        .exits(1)
        .one_error();
}

/// A hook that registers what it should build, and then does this.
fn registering_hook(scene: &Scene, then: &str) -> PathBuf {
    let hook = format!(
        "read -r what; echo '# accept' >&2; read -r inputs; read -r outputs; \
         for o in $outputs; do echo registered > $o; \
         printf '%s\\n\\n0\\n' $o | nix-store --register-validity 2>&1; done; {then}"
    );
    scene.world.script("hook", &hook)
}

#[test]
fn what_a_hook_registered_before_the_run_was_killed_is_pushed() {
    need!("nix-store");
    let scene = Scene::new();
    scene.push_to(&["http://127.0.0.1:9"]);
    let file = scene.world.file("registered");
    let then = format!("echo > {}; sleep 300", file.display());
    let hook = registering_hook(&scene, &then);
    let x = graph_of([("x", sh("exit 3"))]);
    let x = scene.world.graph("x.json", &x);
    let build = scene.world.windrow("build").arg(x);
    let running = build.env("NIX_BUILD_HOOK", hook).start();
    wait_for_file(&file);
    running.signal("KILL");
    running.wait();
    let path = scene.path("x");
    assert!(scene.world.is_valid(&path));
    assert_eq!(scene.waiting(), [format!("{path} http://127.0.0.1:9")]);
}

#[test]
fn what_a_hook_did_not_register_does_not_wait() {
    let scene = Scene::new();
    scene.push_to(&["http://127.0.0.1:9"]);
    let file = scene.world.file("told");
    let accept = "read -r what; echo '# accept' >&2; read -r inputs; read -r outputs";
    let x = graph_of([("x", sh("exit 3"))]);
    let x = scene.world.graph("x.json", &x);
    let build = |then: &str| {
        let hook = scene.world.script("hook", &format!("{accept}; {then}"));
        let build = scene.world.windrow("build").arg(&x);
        build.env("NIX_BUILD_HOOK", hook)
    };
    build("exit 1").run().exits(1).never_says("wait");
    assert!(scene.waiting().is_empty());
    let running = build(&format!("echo > {}; sleep 300", file.display())).start();
    wait_for_file(&file);
    running.signal("INT");
    running.wait().never_says("wait").no_panic();
    assert!(scene.waiting().is_empty());
}

#[test]
fn what_a_hook_built_and_registered_is_pushed() {
    need!("nix-store");
    let scene = Scene::new();
    scene.go();
    scene.push_to(&["http://127.0.0.1:9"]);
    let hook = registering_hook(&scene, "exit 0");
    let x = graph_of([("x", sh("exit 3"))]);
    let x = scene.world.graph("x.json", &x);
    let build = scene.world.windrow("build").arg(x);
    let path = build.env("NIX_BUILD_HOOK", hook).ok().line();
    assert_eq!(scene.waiting(), [format!("{path} http://127.0.0.1:9")]);
}

/// A program that embeds the engine pushes as the command line does.
#[test]
fn an_engine_pushes_what_it_builds() {
    let scene = Scene::new();
    let pushed = cache(&scene.world, "cache");
    let engine = Engine::builder(Store::In(scene.world.at("nix")))
        .option("sandbox", "false")
        .option("build-users-group", "")
        .option("upload-caches", pushed.url());
    let engine = engine.build().unwrap();
    let graph = graph_of([("x", sh("echo x > $out"))]).to_string();
    let outcome = engine.submit(Request::new().graph(graph)).unwrap();
    let outcome = outcome.wait().unwrap();
    let path = outcome.outputs().next().expect("an output").to_owned();
    wait_for_file(&pushed.narinfo(&path));
}

/// An engine lives long: a cache that was away for a while gets what was built meanwhile.
#[test]
fn an_engine_goes_on_pushing_to_a_cache_that_failed() {
    let scene = Scene::new();
    let pushed = cache(&scene.world, "cache");
    fs::create_dir(&pushed.dir).unwrap();
    let server = Server::start(&pushed.dir);
    server.behave("*", Behaviour::Status(503));
    let engine = Engine::builder(Store::In(scene.world.at("nix")))
        .option("sandbox", "false")
        .option("build-users-group", "")
        .option("download-attempts", "1")
        .option("upload-caches", server.url());
    let engine = engine.build().unwrap();
    let build = |name: &str| {
        let graph = graph_of([(name, sh(&format!("echo {name} > $out")))]).to_string();
        let outcome = engine.submit(Request::new().graph(graph)).unwrap();
        let outcome = outcome.wait().unwrap();
        outcome.outputs().next().expect("an output").to_owned()
    };
    let first = build("first");
    wait_until("the cache has failed", || {
        server.count("/nix-cache-info") > 0
    });
    server.behave_well();
    let (mut number, narinfo) = (0, pushed.narinfo(&first));
    wait_until("it is pushed with what is built later", || {
        number += 1;
        build(&format!("later-{number}"));
        std::thread::sleep(std::time::Duration::from_millis(100));
        narinfo.exists()
    });
}

#[test]
fn paths_that_are_gone_do_not_take_a_descriptor_each() {
    need!("bash", "sqlite3");
    let scene = Scene::new();
    let served = cache(&scene.world, "cache");
    // A file where the directory is to be.
    fs::write(&served.dir, "").unwrap();
    scene.push_to(&[&served.url()]);
    build_in_vain(&scene);
    fs::remove_file(&served.dir).unwrap();
    let gone = "insert into Uploads select cache, replace(path, '-last', '-' || value) from Uploads, \
                generate_series(1, 500) where path like '%-last'";
    let file = scene.world.state().join("db/windrow.sqlite");
    scene.world.program("sqlite3").arg(file).arg(gone).ok();
    assert_eq!(scene.waiting().len(), 503);
    let limited = "ulimit -n 150 || exit 9; exec \"$@\"";
    let ran = push(&scene)
        .through("/bin/bash", &["-c", limited, "sh"])
        .ok();
    ran.says("copied 3 paths").says("and 490 more");
    assert!(scene.waiting().is_empty());
    scene.world.is_clean();
}
