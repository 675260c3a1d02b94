//! What is sent in which order, and what is not sent again.

use std::fs;

use windrow_components::store_path::StoreDir;
use windrow_net::lookup::{Known, Lookup, Ttl};
use windrow_net::testing::Behaviour;

use crate::common::Scene;

#[test]
fn a_cache_hears_of_a_path_when_all_that_it_refers_to_is_there() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let outcome = scene.copy(&scene.url(""), &[&paths[2]]).unwrap();
    assert_eq!((outcome.copied, outcome.there), (3, 0));
    assert!(outcome.ended_by.is_none() && outcome.left.is_empty());
    assert_eq!(
        scene.told("begun"),
        ["middle", "high", "low"],
        "the largest first"
    );
    assert_eq!(scene.told("copied"), ["low", "middle", "high"]);
    let uploads = scene.uploads();
    let at = |name: &str| uploads.iter().position(|it| it == name).unwrap();
    assert_eq!(at("/nix-cache-info"), 0);
    let mut before = 0;
    for path in &paths {
        let (narinfo, archive) = scene.places(path);
        assert!(at(&archive) < at(&narinfo), "{uploads:?}");
        assert!(before < at(&narinfo), "{uploads:?}");
        before = at(&narinfo);
    }
    let said = fs::read_to_string(scene.at("cache/nix-cache-info")).unwrap();
    assert_eq!(said, "StoreDir: /nix/store\n");
    let sent: u64 = paths
        .iter()
        .map(|it| scene.narinfo(it).unwrap().file_size.unwrap())
        .sum();
    assert_eq!(outcome.sent, sent);
}

#[test]
fn an_order_holds_though_answers_come_late() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let hash = &paths[0]["/nix/store/".len()..][..32];
    // The head, the answer whether it is there, and what is asked for afterwards.
    let late = Behaviour::Latency(std::time::Duration::from_millis(300));
    scene.server.behave(&format!("/{hash}.narinfo"), late);
    scene.copy(&scene.url(""), &[&paths[2]]).unwrap();
    assert_eq!(scene.told("copied"), ["low", "middle", "high"]);
}

#[test]
fn what_is_there_is_not_sent_again_and_what_was_deleted_is() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    let url = scene.url("");
    scene.copy(&url, &[&paths[2]]).unwrap();
    let (narinfo, archive) = scene.places(&paths[1]);
    scene.server.forget();
    let outcome = scene.copy(&url, &[&paths[2]]).unwrap();
    assert_eq!((outcome.copied, outcome.there, outcome.sent), (0, 3, 0));
    assert!(scene.uploads().is_empty());
    // The file of answers says that it is there.
    fs::remove_file(scene.at("cache").join(&narinfo[1..])).unwrap();
    scene.server.forget();
    let outcome = scene.copy(&url, &[&paths[2]]).unwrap();
    assert_eq!((outcome.copied, outcome.there, outcome.sent), (1, 2, 0));
    assert_eq!(
        scene.uploads(),
        std::slice::from_ref(&narinfo),
        "its archive is there still"
    );
    for name in [&narinfo, &archive] {
        fs::remove_file(scene.at("cache").join(&name[1..])).unwrap();
    }
    scene.server.forget();
    let outcome = scene.copy(&url, &[&paths[2]]).unwrap();
    assert_eq!((outcome.copied, outcome.there), (1, 2));
    assert_eq!(scene.uploads(), [archive, narinfo]);
}

#[test]
fn the_file_of_answers_is_told() {
    let mut scene = Scene::new();
    let paths = scene.chain();
    scene.copy(&scene.url(""), &[&paths[0]]).unwrap();
    let part = |path: &str| path["/nix/store/".len()..][..32].to_owned();
    let mut lookup = Lookup::open(
        &scene.at("lookup"),
        &StoreDir::new("/nix/store"),
        Ttl::default(),
    );
    let row = lookup.cache(&scene.server.url()).unwrap();
    let known = lookup.narinfo(&row, &part(&paths[0]));
    let info = scene.narinfo(&paths[0]).unwrap();
    assert_eq!(known, Known::Present(Box::new(info)));
    // Somebody has asked in vain before the path was put there.
    lookup.put(&row, &[(&part(&paths[0]), None)]);
    assert_eq!(lookup.narinfo(&row, &part(&paths[0])), Known::Absent);
    scene.copy(&scene.url(""), &[&paths[0]]).unwrap();
    assert_eq!(lookup.narinfo(&row, &part(&paths[0])), Known::Unknown);
    // Nix keeps nothing of directories there.
    let url = format!("file://{}", scene.at("other").display());
    scene.copy(&url, &[&paths[0]]).unwrap();
    assert!(lookup.cache(&url).is_none());
}

#[test]
fn many_are_asked_for_and_sent_at_a_time() {
    let mut scene = Scene::new();
    let paths: Vec<String> = (0..60)
        .map(|n| scene.add(&format!("p{n}"), 10, &[]))
        .collect();
    let roots: Vec<&str> = paths.iter().map(String::as_str).collect();
    let late = Behaviour::Latency(std::time::Duration::from_millis(20));
    scene.server.behave("*", late);
    let outcome = scene.copy(&scene.url(""), &roots).unwrap();
    assert_eq!(outcome.copied, 60);
    assert!(scene.server.busiest() > 5, "{}", scene.server.busiest());
    assert!(scene.server.busiest() <= 25);
}

#[test]
fn an_archive_that_is_there_in_part_is_replaced() {
    for by_file in [false, true] {
        let mut scene = Scene::new();
        let path = scene.add("x", 5000, &[]);
        let url = match by_file {
            true => format!("file://{}?compression=none", scene.at("cache").display()),
            false => scene.url(""),
        };
        scene.copy(&url, &[&path]).unwrap();
        let (narinfo, archive) = scene.places(&path);
        let at = |name: &str| scene.at("cache").join(&name[1..]);
        let whole = fs::read(at(&archive)).unwrap();
        for length in [0, 5000] {
            fs::remove_file(at(&narinfo)).unwrap();
            fs::write(at(&archive), &whole[..length]).unwrap();
            let outcome = scene.copy(&url, &[&path]).unwrap();
            assert_eq!(outcome.sent, whole.len() as u64);
            assert!(fs::read(at(&archive)).unwrap() == whole, "{length}");
        }
        // All of it need not be sent again.
        fs::remove_file(at(&narinfo)).unwrap();
        assert_eq!(scene.copy(&url, &[&path]).unwrap().sent, 0);
        assert_eq!(fs::read_dir(scene.at("cache/nar")).unwrap().count(), 1);
    }
}
