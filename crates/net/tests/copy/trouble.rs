//! Caches that take nothing, or not always, and paths that can't be copied.

use std::fs;
use std::time::Duration;

use windrow_net::copy::CopyError;
use windrow_net::testing::Behaviour;
use windrow_sys::interrupt::{self, Stop};

use crate::common::Scene;

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    for trouble in [
        Behaviour::Status(500),
        Behaviour::RetryAfter(429, "0".to_owned()),
        Behaviour::Refuse(0),
        Behaviour::Refuse(100_000),
    ] {
        let mut scene = Scene::new();
        let paths = scene.chain();
        for pattern in ["/nix-cache-info", "/nar/*", "*.narinfo"] {
            scene.server.behave_times(2, pattern, trouble.clone());
        }
        let outcome = scene.copy(&scene.url(""), &[&paths[2]]).unwrap();
        assert_eq!(outcome.copied, 3, "{trouble:?}");
        for path in &paths {
            let (_, archive) = scene.places(path);
            let archive = fs::metadata(scene.at("cache").join(&archive[1..])).unwrap();
            let info = scene.narinfo(path).unwrap();
            assert_eq!(Some(archive.len()), info.file_size);
        }
    }
}

#[test]
fn a_cache_that_takes_nothing_is_told_of_once() {
    for (status, says) in [
        (403, "name another one in the netrc file"),
        (401, "name one in the netrc file"),
        (405, "copy into its directory, as file:///DIR"),
    ] {
        let mut scene = Scene::new();
        let paths = scene.chain();
        let refusal = Behaviour::Status(status);
        let told = |error: &CopyError| {
            let text = error.to_string();
            assert!(
                text.contains(&status.to_string()) && text.contains(says),
                "{text}"
            );
            assert!(
                text.starts_with(&format!("cannot upload '{}/", scene.server.url())),
                "{text}"
            );
        };
        scene
            .server
            .behave_times(1, "/nix-cache-info", Behaviour::Latency(Duration::ZERO));
        let login = |it: &Behaviour| *it != Behaviour::Status(401);
        // Whoever wants a login wants it for reading, too.
        scene.server.behave("/nix-cache-info", refusal.clone());
        scene
            .server
            .behave_times(1, "/nix-cache-info", Behaviour::Status(404));
        told(&scene.copy(&scene.url(""), &[&paths[2]]).unwrap_err());
        fs::write(scene.at("cache/nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
        scene.server.behave_well();
        scene.server.behave("/nar/*", refusal.clone());
        if login(&refusal) {
            // Looking for archives is allowed, and 403 says that there is none.
            let outcome = scene.copy(&scene.url(""), &[&paths[2]]).unwrap();
            if status == 403 {
                told(outcome.ended_by.as_ref().unwrap());
            }
            assert_eq!(outcome.left, sorted(&paths));
            assert!(scene.told("failed").is_empty() && scene.told("copied").is_empty());
        }
    }
}

fn sorted(paths: &[String]) -> Vec<String> {
    let mut paths = paths.to_vec();
    paths.sort();
    paths
}

#[test]
fn what_refers_to_a_path_that_fails_is_not_copied_and_the_rest_is() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let other = scene.add("other", 100, &[&paths[0]]);
    let part = &paths[1]["/nix/store/".len()..][..32];
    // The question whether it is there has an answer.
    scene
        .server
        .behave(&format!("/{part}.narinfo"), Behaviour::Status(507));
    scene
        .server
        .behave_times(1, &format!("/{part}.narinfo"), Behaviour::Status(404));
    let outcome = scene.copy(&scene.url(""), &[&paths[2], &other]).unwrap();
    assert!(outcome.ended_by.is_none());
    assert_eq!(outcome.left, sorted(&paths[1..]));
    assert_eq!(outcome.copied, 2);
    let failed = scene.told("failed");
    assert_eq!(failed.len(), 1);
    assert!(failed[0].starts_with("middle: cannot upload") && failed[0].contains("507"));
    assert!(scene.narinfo(&paths[2]).is_none() && scene.narinfo(&other).is_some());
}

#[test]
fn a_cache_that_fails_again_and_again_is_given_up() {
    let mut scene = Scene::new();
    let paths: Vec<String> = (0..40)
        .map(|n| scene.add(&format!("p{n}"), 10, &[]))
        .collect();
    let roots: Vec<&str> = paths.iter().map(String::as_str).collect();
    fs::write(scene.at("cache/nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    scene.server.behave("/nar/*", Behaviour::Status(500));
    let outcome = scene.copy(&scene.url(""), &roots).unwrap();
    assert!(outcome.ended_by.unwrap().to_string().contains("500"));
    assert_eq!((scene.told("failed").len(), outcome.left.len()), (2, 40));
}

#[test]
fn a_path_that_is_not_what_it_was_is_not_copied() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let file = scene.real(&paths[0]);
    fs::remove_file(&file).unwrap();
    fs::write(file, "something else").unwrap();
    let outcome = scene.copy(&scene.url(""), &[&paths[2]]).unwrap();
    assert_eq!(outcome.left, sorted(&paths));
    let failed = scene.told("failed");
    assert!(
        failed.len() == 1 && failed[0].contains("was modified"),
        "{failed:?}"
    );
    assert!(paths.iter().all(|path| scene.narinfo(path).is_none()));
}

#[test]
fn an_interrupted_copy_is_taken_up_again() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let url = scene.url("");
    // One archive arrives; what comes afterwards does not.
    scene.server.behave("/nar/*", Behaviour::Hang);
    scene
        .server
        .behave_times(2, "/nar/*", Behaviour::Latency(Duration::ZERO));
    let stop = Stop::default();
    let setter = stop.clone();
    let outcome = std::thread::scope(|scope| {
        let server = &scene.server;
        scope.spawn(move || {
            let put = || {
                server
                    .requests()
                    .iter()
                    .filter(|it| it.method == "PUT")
                    .count()
            };
            while put() < 2 || server.count("/nar/*") < 3 {
                std::thread::yield_now();
            }
            setter.set();
        });
        let _entered = stop.enter();
        scene.copy(&url, &[&paths[2]]).unwrap()
    });
    assert_eq!(outcome.left, sorted(&paths));
    assert!(interrupt::is_cause_of(&outcome.ended_by.unwrap()));
    let arrived = fs::read_dir(scene.at("cache/nar")).map_or(0, Iterator::count);
    scene.server.behave_well();
    scene.server.forget();
    let outcome = scene.copy(&url, &[&paths[2]]).unwrap();
    assert_eq!(outcome.copied, 3);
    let uploads = scene.uploads();
    let archives = uploads.iter().filter(|it| it.starts_with("/nar/")).count();
    assert_eq!(archives, 3 - arrived, "what had arrived is not sent again");
}

#[test]
fn what_can_t_be_a_cache_is_refused_before_anything_is_sent() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let refused = |url: &str| {
        let error = scene.copy(url, &[&paths[2]]).unwrap_err().to_string();
        assert!(scene.uploads().is_empty());
        error
    };
    let info = scene.at("cache/nix-cache-info");
    fs::write(&info, "StoreDir: /elsewhere\n").unwrap();
    assert!(refused(&scene.url("")).contains("'/elsewhere', and this one is '/nix/store'"));
    fs::write(&info, "<html>").unwrap();
    assert!(refused(&scene.url("")).contains("it is a web page"));
    let level = format!(
        "{}?compression=zstd&compression-level=99",
        scene.server.url()
    );
    assert!(refused(&level).contains("zstd has levels from -7 to 22"));
    let key = scene.url(&format!("&secret-key={}", scene.at("none").display()));
    assert!(refused(&key).contains("none'"));
}

#[test]
fn what_a_cache_does_not_take_does_not_end_the_rest() {
    for status in [400, 409, 413, 414, 422] {
        let mut scene = Scene::new();
        let large = (0..5).map(|n| scene.add(&format!("large{n}"), 9000 + n, &[]));
        let large: Vec<String> = large.collect();
        let small = scene.add("small", 10, &[]);
        let url = scene.url("");
        let mut all: Vec<&str> = large.iter().map(String::as_str).collect();
        all.push(&small);
        scene.copy(&url, &all).unwrap();
        let archives: Vec<String> = large.iter().map(|it| scene.places(it).1).collect();
        fs::remove_dir_all(scene.at("cache")).unwrap();
        for archive in &archives {
            scene.server.behave(archive, Behaviour::Status(status));
            // It is not there.
            scene
                .server
                .behave_times(1, archive, Behaviour::Status(404));
        }
        let outcome = scene.copy(&url, &all).unwrap();
        assert!(outcome.ended_by.is_none(), "{status}");
        assert_eq!((outcome.copied, outcome.left), (1, sorted(&large)));
        assert_eq!(scene.told("failed").len(), 5);
    }
}

#[test]
fn an_interrupt_is_no_failure_of_a_cache_that_is_opened() {
    let mut scene = Scene::new();
    let path = scene.add("x", 10, &[]);
    scene.server.behave("/nix-cache-info", Behaviour::Hang);
    let stop = Stop::default();
    let setter = stop.clone();
    let error = std::thread::scope(|scope| {
        let server = &scene.server;
        scope.spawn(move || {
            while server.count("/nix-cache-info") == 0 {
                std::thread::yield_now();
            }
            setter.set();
        });
        let _entered = stop.enter();
        scene.copy(&scene.url(""), &[&path]).unwrap_err()
    });
    assert!(interrupt::is_cause_of(&error), "{error}");
}
