//! Stores that a real Nix serves, through ssh or a daemon's socket: what is fetched from them, and
//! what happens when one can't be reached.

use std::fs;
use std::path::Path;

use super::Scene;
use crate::harness::{BinaryCache, Cmd, OtherMachine, need, need_newer, wait_until};

/// A scene, and another machine that has "b", signed if that is wanted.
#[track_caller]
fn scene(is_signed: bool) -> (Scene, OtherMachine) {
    let (scene, ()) = Scene::new(|world, key, path| {
        if is_signed {
            let sign = world.program("nix").args(["store", "sign", "--recursive"]);
            let sign = sign.arg("--key-file").arg(&key.secret);
            sign.arg(path).ok();
        }
    });
    let there = OtherMachine::with_store(&scene.world, "built");
    (scene, there)
}

impl OtherMachine {
    /// `windrow build` of "b" with these caches.
    fn build(&self, scene: &Scene, urls: &[&str]) -> Cmd {
        self.reached_by(scene.build(urls))
    }
}

/// Both protocols, and the program that speaks each.
const KINDS: [(&str, &str); 2] = [
    ("ssh", "nix-store --serve"),
    ("ssh-ng", "nix-daemon --stdio"),
];

#[test]
fn outputs_come_through_ssh_by_either_protocol() {
    need!("nix", "nix-store", "nix-daemon", "sqlite3");
    let (scene, there) = scene(true);
    for (kind, program) in KINDS {
        let url = there.url(kind, "&compress=true");
        let ran = there.build(&scene, &[&url]).ok();
        assert_eq!(ran.line(), scene.b);
        ran.says("2 paths fetched").never_says("warning");
        assert!(scene.runs().is_empty(), "nothing is built");
        let query = "select sigs like 'test.example-1:%' from ValidPaths where path like '%-_'";
        assert_eq!(scene.world.sql(query), ["1", "1"], "{kind}");
        let logins = there.logins();
        // One connection is all that there is, unless the URL says otherwise.
        assert_eq!(logins.len(), 1, "{logins:?}");
        let expected = format!("-- builder@there.invalid {program} --store 'local?store=");
        assert!(logins[0].contains(&expected), "{logins:?}");
        assert!(logins[0].contains("-C -p2222"), "{logins:?}");
        scene.is_well();
        fs::remove_file(scene.world.file("logins")).unwrap();
        scene.start_over(kind);
    }
}

#[test]
fn outputs_come_from_a_newer_nix_too() {
    need!("nix", "nix-store", "sqlite3");
    let (nix_store, nix_daemon) = (need_newer!("nix-store"), need_newer!("nix-daemon"));
    let (scene, there) = scene(true);
    for (kind, program) in [("ssh", nix_store), ("ssh-ng", nix_daemon)] {
        let url = there.url(kind, &format!("&remote-program={program}"));
        let ran = there.build(&scene, &[&url]).ok();
        ran.says("2 paths fetched").never_says("warning");
        assert!(scene.runs().is_empty(), "nothing is built");
        scene.is_well();
        scene.start_over(kind);
    }
}

#[test]
fn outputs_come_from_a_daemon_on_this_machine() {
    need!("nix", "nix-store", "nix-daemon", "sqlite3");
    let (scene, there) = scene(true);
    let socket = scene.world.file("socket");
    let daemon = scene.world.program("nix-daemon");
    let daemon = daemon.env("NIX_DAEMON_SOCKET_PATH", &socket);
    let daemon = daemon.env("NIX_REMOTE", &there.store).start();
    wait_until("the daemon listens", || socket.exists());
    let named = format!("unix://{}", socket.display());
    for (url, variable) in [(named.as_str(), Path::new("")), ("daemon", &socket)] {
        let build = scene.build(&[url]);
        let ran = build.env("NIX_DAEMON_SOCKET_PATH", variable).ok();
        ran.says("2 paths fetched").never_says("warning");
        assert!(scene.runs().is_empty(), "nothing is built");
        scene.start_over(&url[..4]);
    }
    daemon.signal("TERM");
    daemon.wait();
    let ran = scene.build(&[&named]).ok();
    ran.says("no daemon answers at").says("2 derivations built");
    scene.is_well();
}

#[test]
fn what_nobody_has_signed_is_not_taken_from_another_machine() {
    need!("nix", "nix-store", "nix-daemon", "sqlite3");
    let (scene, there) = scene(false);
    for (kind, _) in KINDS {
        let ran = there.build(&scene, &[&there.url(kind, "")]).ok();
        ran.says("it is not signed");
        assert_eq!(scene.runs(), ["a", "b"]);
        scene.is_well();
        scene.start_over(kind);
        let trusted = there.url(kind, "&trusted=true&max-connections=3");
        there
            .build(&scene, &[&trusted])
            .ok()
            .says("2 paths fetched");
        assert!(scene.runs().is_empty());
        scene.is_well();
        scene.start_over(&format!("{kind}-trusted"));
    }
}

#[test]
fn what_has_changed_on_another_machine_is_not_taken() {
    need!("nix", "nix-store", "nix-daemon", "sqlite3");
    let (scene, there) = scene(true);
    let lying = scene
        .world
        .at("built.store")
        .join(scene.b.rsplit('/').next().unwrap());
    let text = fs::read_to_string(&lying).unwrap();
    for (kind, _) in KINDS {
        // Of the same size, larger, and smaller.
        for changed in [text.to_uppercase(), format!("{text}{text}"), "x".to_owned()] {
            fs::remove_file(&lying).unwrap();
            fs::write(&lying, &changed).unwrap();
            let ran = there.build(&scene, &[&there.url(kind, "")]).ok();
            let ran = ran.says(format!("fetching path '{}'", scene.b)).no_panic();
            ran.says("1 path fetched").says("1 derivation built");
            assert_eq!(scene.runs(), ["b"]);
            scene.is_well();
            scene.start_over(&format!("{kind}-{}", changed.len()));
        }
    }
}

#[test]
fn a_machine_that_can_not_be_reached_is_told_of_and_nothing_else() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    let is_left_out = "is left out for 60 seconds: cannot use 'ssh";
    let greeting = "does not greet as Nix does, but with 'Welcome, friend, to this machine'";
    for (number, (script, says)) in [
        (
            "echo \"ssh: connect to host there.invalid port 2222: refused\" >&2; exit 255",
            [
                is_left_out,
                "(exit status: 255): ssh: connect to host there.invalid",
            ],
        ),
        (
            "echo 'sh: 1: nix-store: not found' >&2; exit 127",
            [
                is_left_out,
                "(exit status: 127): sh: 1: nix-store: not found",
            ],
        ),
        (
            "echo Welcome, friend, to this machine; exec cat > /dev/null",
            [is_left_out, greeting],
        ),
        ("exec sleep 300", ["is left out for 60 seconds", "second"]),
    ]
    .into_iter()
    .enumerate()
    {
        let there = OtherMachine::failing(&scene.world, script);
        for (kind, _) in KINDS {
            let url = there.url(kind, "");
            let build = there.build(&scene, &[&url]);
            let ran = build
                .args(["--option", "stalled-download-timeout", "1"])
                .ok();
            says.iter().fold(ran.no_panic(), |ran, text| ran.says(text));
            assert_eq!(scene.runs(), ["a", "b"]);
            scene.is_well();
            scene.start_over(&format!("{kind}-{number}"));
            // Beside one that works it delays nothing.
            let ran = there.build(&scene, &[&url, &cache.url()]).ok();
            ran.says("2 paths fetched");
            assert!(scene.runs().is_empty());
            scene.is_well();
            scene.start_over(&format!("{kind}-{number}-both"));
        }
    }
}

#[test]
fn without_an_ssh_there_is_one_warning() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::with_cache("xz");
    let build = scene.build(&["ssh://h.invalid", &cache.url()]);
    let ran = build.env("PATH", scene.world.file("nothing")).ok();
    ran.says("binary cache 'ssh://h.invalid' is not used: ")
        .says("cannot start 'ssh'")
        .says("2 paths fetched");
    scene.is_well();
}

#[test]
fn a_plan_tells_what_another_machine_would_send() {
    need!("nix", "nix-store", "nix-daemon", "sqlite3");
    let (scene, there) = scene(true);
    for (kind, _) in KINDS {
        let plan = scene.asking("plan", &[&there.url(kind, "")]);
        let ran = there.reached_by(plan.arg(&scene.drv)).ok();
        ran.says("these 2 paths would be fetched (0.00 MiB download")
            .says(&scene.a)
            .says(&scene.b);
        scene.is_well();
    }
}

#[test]
fn a_cache_and_another_machine_share_the_work() {
    need!("nix", "nix-store", "sqlite3");
    let (scene, cache) = Scene::new(|world, key, path| {
        let sign = world.program("nix").args(["store", "sign", "--recursive"]);
        sign.arg("--key-file").arg(&key.secret).arg(path).ok();
        BinaryCache::written_by_nix(world, "cache", ("xz", Some(key)), &[path])
    });
    let there = OtherMachine::with_store(&scene.world, "built");
    cache.forget(&scene.a);
    cache.damage(&scene.b);
    let url = there.url("ssh", "&priority=50");
    let ran = there.build(&scene, &[&cache.url(), &url]).ok();
    ran.says("2 paths fetched")
        .says(cache.archive(&scene.b).to_str().unwrap());
    assert!(scene.runs().is_empty());
    scene.is_well();
}
