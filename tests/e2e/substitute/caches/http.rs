//! Caches behind HTTP, on a server in this process that misbehaves as it is told: whatever it does,
//! what can come from elsewhere or be built is there in the end.

use std::fs;
use std::time::Duration;

use windrow_net::testing::{Behaviour, Server};

use super::Scene;
use crate::harness::{BinaryCache, Cmd, need, wait_until};

/// A scene with one cache that Nix wrote, and a server for it.
#[track_caller]
pub(super) fn served(compression: &str) -> (Scene, BinaryCache, Server) {
    let (scene, cache) = Scene::with_cache(compression);
    let server = Server::start(&cache.dir);
    (scene, cache, server)
}

/// Tries once, and waits for nobody.
pub(super) fn impatient(cmd: Cmd) -> Cmd {
    cmd.args(["--option", "download-attempts", "1"]).args([
        "--option",
        "stalled-download-timeout",
        "1",
    ])
}

/// Where a path's narinfo and archive are on a server.
fn places(cache: &BinaryCache, path: &str) -> (String, String) {
    let narinfo = cache.narinfo(path);
    let narinfo = narinfo.file_name().unwrap().to_str().unwrap();
    (
        format!("/{narinfo}"),
        format!("/{}", cache.field(path, "URL")),
    )
}

#[test]
fn everything_is_asked_for_once_and_remembered() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("xz");
    let ran = scene.build(&[&server.url()]).ok();
    ran.says("2 paths fetched").never_says("warning");
    assert_eq!(server.count("/nix-cache-info"), 1);
    for path in [&scene.a, &scene.b] {
        let (narinfo, archive) = places(&cache, path);
        assert_eq!((server.count(&narinfo), server.count(&archive)), (1, 1));
    }
    scene.is_well();
    scene.world.set_aside("first");
    scene
        .world
        .windrow("add")
        .arg(scene.world.file("graph.json"))
        .ok();
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    for path in [&scene.a, &scene.b] {
        let (narinfo, archive) = places(&cache, path);
        assert_eq!((server.count(&narinfo), server.count(&archive)), (1, 2));
    }
    assert!(scene.runs().is_empty());
    scene.is_well();
}

#[test]
fn what_caches_said_is_shared_with_nix() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, _, server) = served("xz");
    scene.build(&[&server.url()]).ok();
    let narinfos = || server.count("*.narinfo");
    assert_eq!(narinfos(), 2);
    scene.world.set_aside("ours");
    let nix = scene
        .world
        .program("nix-store")
        .args(["--realise", &scene.b]);
    let nix = nix.args(["--option", "substitute", "true"]);
    let nix = nix.args(["--option", "substituters", &server.url()]);
    nix.args(["--option", "trusted-public-keys", &scene.key.public])
        .ok();
    assert_eq!(narinfos(), 2, "Nix has not asked");
    // And the other way round.
    scene.start_over("nix");
    let nix = scene
        .world
        .program("nix")
        .args(["path-info", "--recursive", "--store"]);
    nix.arg(server.url()).arg(&scene.b).ok();
    let asked = narinfos();
    assert!(asked > 2);
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    assert_eq!(narinfos(), asked, "windrow has not asked");
    scene.is_well();
}

#[test]
fn an_archive_that_is_gone_is_asked_for_once_more_and_then_built() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("xz");
    // It is remembered what the cache has.
    let plan = scene.asking("plan", &[&server.url()]).arg(&scene.drv);
    plan.ok().says("2 paths would be fetched");
    let (archive, moved) = (cache.archive(&scene.b), cache.dir.join("nar/moved.nar.xz"));
    let old = cache.field(&scene.b, "URL");
    fs::rename(&archive, &moved).unwrap();
    cache.change(&scene.b, &old, "nar/moved.nar.xz");
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    assert!(scene.runs().is_empty());
    scene.is_well();
    scene.world.set_aside("first");
    scene
        .world
        .windrow("add")
        .arg(scene.world.file("graph.json"))
        .ok();
    fs::remove_file(moved).unwrap();
    let ran = scene.build(&[&server.url()]).ok();
    ran.says("moved.nar.xz").says("1 derivation built");
    assert_eq!(scene.runs(), ["b"]);
    scene.is_well();
}

/// Expects all to be fetched where one of two caches does `what`.
#[track_caller]
fn comes_from_another(scene: &Scene, caches: [&Server; 2], what: &str) {
    let [bad, good] = caches.map(Server::url);
    let both = impatient(scene.build(&[&bad, &good])).ok().no_panic();
    assert!(both.stderr.contains("2 paths fetched"), "{what}\n{both}");
    assert!(scene.runs().is_empty(), "{what}\n{both}");
    scene.is_well();
}

#[test]
fn whatever_a_server_does_with_questions_it_is_built_or_comes_from_another() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("xz");
    let good = Server::start(&cache.dir);
    for (nth, behaviour) in [
        Behaviour::Status(500),
        Behaviour::Status(401),
        Behaviour::RetryAfter(429, "3600".to_owned()),
        Behaviour::Reset(10),
        Behaviour::Short(40),
        Behaviour::Html,
        Behaviour::Endless,
        Behaviour::Redirect(302, "/nix-cache-info".to_owned()),
        Behaviour::Hang,
    ]
    .into_iter()
    .enumerate()
    {
        for pattern in ["*.narinfo", "*"] {
            server.behave_well();
            server.behave(pattern, behaviour.clone());
            let what = format!("{behaviour:?} for {pattern}");
            let alone = impatient(scene.build(&[&server.url()])).ok().no_panic();
            assert!(
                alone.stderr.contains("warning: binary cache"),
                "{what}\n{alone}"
            );
            assert_eq!(scene.runs(), ["a", "b"], "{what}\n{alone}");
            scene.is_well();
            scene.start_over(&format!("alone-{nth}-{}", pattern.len()));
            comes_from_another(&scene, [&server, &good], &what);
            scene.start_over(&format!("both-{nth}-{}", pattern.len()));
        }
    }
}

#[test]
fn whatever_a_server_does_with_archives_it_is_built_or_comes_from_another() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("none");
    let good = Server::start(&cache.dir);
    for (nth, behaviour) in [
        Behaviour::Status(404),
        Behaviour::Status(503),
        Behaviour::Reset(50),
        Behaviour::Short(50),
        Behaviour::Long(50),
        Behaviour::Wrong,
        Behaviour::Html,
        Behaviour::Endless,
        Behaviour::Stall(20),
    ]
    .into_iter()
    .enumerate()
    {
        server.behave_well();
        server.behave("/nar/*", behaviour.clone());
        let alone = impatient(scene.build(&[&server.url()])).ok().no_panic();
        assert_eq!(scene.runs(), ["a", "b"], "{behaviour:?}\n{alone}");
        scene.world.is_clean();
        scene.world.stays_valid();
        scene.start_over(&format!("alone-{nth}"));
        comes_from_another(&scene, [&server, &good], &format!("{behaviour:?}"));
        scene.start_over(&format!("both-{nth}"));
    }
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("none");
    let (_, archive) = places(&cache, &scene.a);
    let ranges = |server: &Server| -> Vec<String> {
        let seen = server
            .requests()
            .into_iter()
            .filter(|seen| seen.path == archive);
        let ranges = seen.map(|seen| seen.header("range").unwrap_or("all").to_owned());
        ranges.collect()
    };
    // In the same run.
    server.behave_times(1, &archive, Behaviour::Reset(50));
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    assert_eq!(ranges(&server), ["all", "bytes=50-"]);
    scene.is_well();
    scene.start_over("first");
    // In the next run, and from another cache that announces the same file.
    server.behave_times(1, &archive, Behaviour::Reset(60));
    let path = |url: &str| impatient(scene.asking("build", &[url])).arg(&scene.a);
    path(&server.url()).run().exits(1);
    let other = Server::start(&cache.dir);
    path(&other.url()).ok().says("1 path fetched");
    assert_eq!(ranges(&other), ["bytes=60-"]);
    scene.is_well();
}

#[test]
fn a_part_from_a_bad_cache_spoils_nothing_for_a_good_one() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, [bad, good]) = Scene::new(|world, key, path| {
        ["bad", "good"]
            .map(|name| BinaryCache::written_by_nix(world, name, ("none", Some(key)), &[path]))
    });
    let (_, archive) = places(&bad, &scene.a);
    let length = bad.field(&scene.a, "FileSize").parse::<u64>().unwrap();
    bad.damage(&scene.a);
    let servers = [&bad, &good].map(|cache| Server::start(&cache.dir));
    servers[0].behave(&archive, Behaviour::Reset(length - 1));
    let urls = servers.each_ref().map(Server::url);
    let ran = impatient(scene.build(&[&urls[0], &urls[1]])).ok();
    let ran = ran.says("2 paths fetched").never_says("hash mismatch");
    assert_eq!(servers[1].count(&archive), 2, "the rest, and then all");
    assert_eq!(ran.stderr.matches("failed").count(), 1, "{ran}");
    assert!(scene.runs().is_empty());
    scene.is_well();
}

#[test]
fn archives_come_in_no_order_of_references() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("xz");
    let (_, low) = places(&cache, &scene.a);
    let (_, high) = places(&cache, &scene.b);
    // What "b" refers to never comes, and is built.
    server.behave(&low, Behaviour::Stall(5));
    let ran = impatient(scene.build(&[&server.url()])).ok();
    ran.says("1 derivation built, 1 path fetched");
    assert_eq!(server.count(&high), 1, "it was sent nevertheless, and once");
    assert_eq!(scene.runs(), ["a"]);
    scene.world.is_clean();
    scene.world.stays_valid();
}

#[test]
fn a_cache_may_be_slow_and_lack_something() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("xz");
    cache.forget(&scene.a);
    server.behave("*", Behaviour::Latency(Duration::from_millis(200)));
    scene.build(&[&server.url()]).ok().says("1 path fetched");
    assert_eq!(scene.runs(), ["a"]);
    scene.is_well();
}

/// Gives the store the history of the builds that the scene began with, under these names, as if
/// each had taken so long.
#[track_caller]
fn remember_builds(scene: &Scene, prefix: &str, micros: u64) {
    let place = "state/db/windrow.sqlite";
    let file = scene.world.at(place);
    let built = scene.world.at(format!("built.{place}"));
    let sqlite = || scene.world.program("sqlite3");
    let backup = format!(".backup '{}'", file.display());
    sqlite().arg(built).arg(backup).ok();
    let update = format!("update Derivations set name = '{prefix}' || name, estimate = {micros}");
    sqlite().arg(file).arg(update).ok();
}

#[test]
fn what_is_built_much_sooner_than_fetched_is_built_if_that_is_wanted() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, _, server) = served("xz");
    let asking = |command: &str, how: &str| {
        let cmd = scene.asking(command, &[&server.url()]);
        cmd.args(["--option", "prefer-build", how])
    };
    let build = |how: &str| asking("build", how).arg(&scene.drv);
    // More than is supposed of a cache that nothing is known of, with or without the other build.
    let tenth = 100_000;
    remember_builds(&scene, "", tenth);
    build("auto").ok().says("2 paths fetched");
    scene.is_well();
    server.behave("*", Behaviour::Latency(Duration::from_secs(1)));
    for (name, how, prefix) in [("never", "never", ""), ("others", "auto", "other-")] {
        scene.start_over(&format!("before-{name}"));
        remember_builds(&scene, prefix, tenth);
        build(how).ok().says("2 paths fetched");
        scene.is_well();
    }
    scene.start_over("before-plan");
    remember_builds(&scene, "", tenth);
    let plan = asking("plan", "auto").arg(&scene.drv).ok();
    plan.says("2 derivations would be built")
        .never_says("fetched");
    scene.start_over("before-auto");
    remember_builds(&scene, "", tenth);
    let ran = build("auto").arg("-v").ok();
    ran.says("rather than fetching").never_says("fetched");
    assert_eq!(scene.runs(), ["a", "b"]);
    scene.world.is_clean();
    scene.world.stays_valid();
    // A path by itself can't be built.
    scene.start_over("before-path");
    remember_builds(&scene, "", tenth);
    asking("build", "auto")
        .arg(&scene.b)
        .ok()
        .says("2 paths fetched");
    scene.is_well();
}

#[test]
fn caches_may_want_a_login_and_speak_tls() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    for http2 in [false, true] {
        let server = Server::start_tls(&cache.dir, http2);
        let login = Behaviour::Login("user".to_owned(), "secret".to_owned());
        server.behave("*", login);
        let trusting = |cmd: Cmd| {
            let file = server.ca_file().display().to_string();
            cmd.args(["--option", "ssl-cert-file", &file])
        };
        let ran = trusting(impatient(scene.build(&[&server.url()]))).ok();
        ran.says("401").never_says("secret");
        assert_eq!(scene.runs(), ["a", "b"]);
        scene.start_over(&format!("denied-{http2}"));
        let netrc = "machine 127.0.0.1 login user password secret\n";
        let netrc = scene.world.write("netrc", netrc).display().to_string();
        let known =
            trusting(scene.build(&[&server.url()])).args(["--option", "netrc-file", &netrc]);
        known.ok().says("2 paths fetched").never_says("secret");
        assert!(scene.runs().is_empty());
        scene.is_well();
        scene.start_over(&format!("known-{http2}"));
        let unknown = impatient(scene.build(&[&server.url()])).ok();
        unknown.says("certificate");
        assert_eq!(scene.runs(), ["a", "b"]);
        scene.start_over(&format!("unknown-{http2}"));
    }
}

#[test]
fn a_signal_ends_a_download_that_stands_still_and_what_there_is_of_it_stays() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("none");
    let (_, archive) = places(&cache, &scene.a);
    server.behave(&archive, Behaviour::Stall(50));
    let running = scene.build(&[&server.url()]).start();
    let downloads = scene.world.state().join("windrow-downloads");
    let sizes = || {
        let entries = fs::read_dir(&downloads).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
        sizes.collect::<Vec<_>>()
    };
    wait_until("a part is there", || sizes().contains(&50));
    running.signal("INT");
    running.wait().exits(130).no_panic();
    assert!(sizes().contains(&50));
    scene.world.is_clean();
    server.behave_well();
    server.forget();
    scene.build(&[&server.url()]).ok().says("2 paths fetched");
    let seen = server
        .requests()
        .into_iter()
        .find(|seen| seen.path == archive);
    assert_eq!(seen.unwrap().header("range"), Some("bytes=50-"));
    scene.is_well();
}

#[test]
fn two_windrows_take_a_path_from_a_cache() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, _, server) = served("xz");
    server.behave("/nar/*", Behaviour::Latency(Duration::from_millis(50)));
    let both = [0, 1].map(|_| scene.build(&[&server.url()]).start());
    for running in both {
        assert_eq!(running.wait().exits(0).no_panic().line(), scene.b);
    }
    assert!(scene.runs().is_empty());
    scene.is_well();
}

#[test]
fn what_was_asked_for_a_plan_is_not_asked_again() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache, server) = served("xz");
    cache.forget(&scene.b);
    server.behave("*.narinfo", Behaviour::Latency(Duration::from_millis(1)));
    let realise = scene.asking("nix-store", &[&server.url()]);
    let ran = realise.args(["--realise", &scene.drv]).ok();
    assert_eq!(ran.line(), scene.b);
    ran.says("this path will be fetched")
        .says("this derivation will be built");
    assert_eq!(scene.runs(), ["b"]);
    for path in [&scene.a, &scene.b] {
        let narinfo = cache.narinfo(path);
        let name = narinfo.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(server.count(&format!("/{name}")), 1, "{path}");
    }
    assert_eq!(server.count("/nix-cache-info"), 1);
    scene.is_well();
}

#[test]
fn a_cache_that_is_down_is_told_of_once_though_something_was_planned() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, _, server) = served("xz");
    let down = "http://127.0.0.1:9";
    let realise = scene.asking("nix-store", &[down, &server.url()]);
    let ran = impatient(realise).args(["--realise", &scene.drv]).ok();
    let ran = ran.says("these 2 paths will be fetched");
    let warnings = ran.stderr.lines().filter(|line| line.contains(down));
    assert_eq!(warnings.count(), 1, "{ran}");
    scene.is_well();
}
