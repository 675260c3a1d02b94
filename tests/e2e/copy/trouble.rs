//! Copies that fail, as their users see it.

use std::fs;

use windrow_net::testing::{Behaviour, Server};

use super::{Scene, files};
use crate::harness::{Cmd, need, wait_until};

/// A scene, and a server for a directory that becomes a cache.
fn served() -> (Scene, Server) {
    let scene = Scene::new();
    let dir = scene.world.file("served");
    fs::create_dir(&dir).unwrap();
    let server = Server::start(&dir);
    (scene, server)
}

fn copy(scene: &Scene, server: &Server) -> Cmd {
    let copy = scene.world.windrow("copy").args(["--to", &server.url()]);
    copy.arg(&scene.b)
}

#[test]
fn a_refusal_is_told_once_with_what_to_do_and_what_is_left() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    server.behave_times(1, "/nix-cache-info", Behaviour::Status(404));
    server.behave("/nix-cache-info", Behaviour::Status(403));
    let ran = copy(&scene, &server).run().exits(1).one_error();
    ran.says("403").says("netrc");
    server.behave_well();
    copy(&scene, &server)
        .arg("--no-recursive")
        .run()
        .exits(1)
        .says("it refers to");
    server.behave("/nar/*", Behaviour::Status(403));
    let ran = copy(&scene, &server).run().exits(1).one_error();
    ran.says("403 Forbidden")
        .says(format!("2 paths were not copied to '{}'", server.url()))
        .says(&scene.a)
        .says(&scene.b);
    assert!(
        files(&scene.world.file("served"))
            .keys()
            .all(|name| !name.ends_with(".narinfo"))
    );
    scene.world.is_clean();
}

#[test]
fn what_fails_once_is_told_of_and_copied() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    server.behave_times(1, "/nar/*", Behaviour::Status(500));
    server.behave_times(1, "*.narinfo", Behaviour::Refuse(10));
    let ran = copy(&scene, &server).ok();
    ran.says("copied 2 paths").says("500").says("trying again");
}

#[test]
fn a_path_that_was_changed_is_named_and_the_rest_is_copied() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    let file = format!("{}/more", scene.b);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&file, "other").unwrap();
    let ran = copy(&scene, &server).run().exits(1).no_panic();
    ran.says(format!(
        "error: cannot copy '{}': path '{}' was modified",
        scene.b, scene.b
    ))
    .says("1 path was not copied")
    .says("copied 1 path");
}

#[test]
fn a_signal_ends_a_copy_and_the_next_one_goes_on() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    server.behave("*.narinfo", Behaviour::Hang);
    // The questions are answered, and what the cache is told of "a" is not.
    server.behave_times(2, "*.narinfo", Behaviour::Status(404));
    let running = copy(&scene, &server).start();
    wait_until("the last file is on its way", || {
        let requests = server.requests();
        let told = requests
            .iter()
            .filter(|seen| seen.path.ends_with(".narinfo"));
        told.count() >= 3
    });
    running.signal("INT");
    running.wait().exits(130).no_panic();
    scene.world.is_clean();
    server.behave_well();
    server.forget();
    copy(&scene, &server).ok().says("copied 2 paths");
    let puts = server
        .requests()
        .into_iter()
        .filter(|seen| seen.method == "PUT");
    let archives = puts.filter(|seen| seen.path.starts_with("/nar/")).count();
    assert_eq!(archives, 0, "they were there");
}

#[test]
fn a_signal_is_no_failure_of_what_is_packed_or_of_the_cache() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    let large = scene.large(60);
    let copy = || {
        let copy = scene.world.windrow("copy").args(["--to", &server.url()]);
        copy.arg(&large).start()
    };
    let running = copy();
    let files = format!("/proc/{}/fd", running.id());
    wait_until("an archive is being packed", || {
        let files = fs::read_dir(&files).into_iter().flatten().flatten();
        let mut opened = files.filter_map(|file| fs::read_link(file.path()).ok());
        opened.any(|path| path.ends_with(large.rsplit('/').next().unwrap()))
    });
    running.signal("INT");
    let ran = running.wait().exits(130).no_panic();
    ran.never_says("cannot copy").never_says("error: cannot");
    server.behave("/nix-cache-info", Behaviour::Hang);
    server.forget();
    let running = copy();
    wait_until("the cache is asked what it is", || {
        server.count("/nix-cache-info") > 0
    });
    running.signal("INT");
    let ran = running.wait().exits(130).no_panic();
    ran.never_says("nobody wants it");
    scene.world.is_clean();
}

#[test]
fn what_has_no_effect_is_warned_of() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    let copy = |args: &[&str]| scene.world.windrow("copy").args(args).arg(&scene.b);
    let to = format!("{}?trusted=true&priority=1", server.url());
    let ran = copy(&["--to", &to, "--no-check-sigs"]).ok();
    ran.says("parameters without effect: 'priority', 'trusted'")
        .says("--no-check-sigs has no effect");
    let other = scene.world.at("other").display().to_string();
    let to = format!("{other}?compression=zstd");
    let ran = copy(&["--to", &to, "--no-check-sigs"]).ok();
    ran.says("parameters without effect: 'compression'")
        .never_says("--no-check-sigs");
    let from = format!("{other}?read-only=true");
    let ran = copy(&["--from", &from]).ok();
    ran.never_says("warning").says("nothing to copy");
}

#[test]
fn what_is_told_beside_a_copy_is_in_the_format_that_is_wanted() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    server.behave_times(1, "/nar/*", Behaviour::Status(500));
    let json = ["--log-format", "internal-json"];
    let is_json = |ran: crate::harness::Ran| {
        let lines = ran.stderr.lines();
        let plain: Vec<&str> = lines.filter(|line| !line.starts_with("@nix {")).collect();
        assert!(plain.is_empty(), "{plain:?}");
    };
    let ran = copy(&scene, &server).args(json).ok().says("trying again");
    is_json(ran);
    let from = scene.world.windrow("copy").args(["--from", &server.url()]);
    let from = from.args(json).arg(&scene.b);
    is_json(from.ok().says("nothing to copy"));
}

#[test]
fn nothing_is_copied_if_nothing_is_named() {
    let (scene, server) = served();
    let url = server.url();
    let other = scene.world.at("other").display().to_string();
    for args in [["--to", &url], ["--from", &url], ["--to", &other]] {
        let copy = scene.world.windrow("copy").args(args).arg("-").stdin("\n");
        copy.ok().says("nothing to copy: nothing was named");
    }
}

#[test]
fn what_can_t_be_kept_from_collection_is_not_copied() {
    need!("nix-store", "sqlite3");
    let (scene, server) = served();
    let roots = scene.world.state().join("temproots");
    fs::remove_dir_all(&roots).unwrap();
    fs::write(&roots, "no directory").unwrap();
    let ran = copy(&scene, &server).run().exits(1).one_error();
    ran.says("temproots");
    assert!(files(&scene.world.file("served")).is_empty());
}
