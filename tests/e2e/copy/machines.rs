//! Copies into stores that a real Nix serves, through ssh or a daemon's socket, and back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{Scene, copy_in_bounds};
use crate::harness::{Cmd, OtherMachine, graph_of, need, need_newer, sh, wait_until};

/// Both protocols, with the program of the machine's own Nix that speaks each.
const KINDS: [&str; 2] = ["ssh", "ssh-ng"];

impl Scene {
    /// Another machine with an empty store, which trusts the key.
    fn machine(&self, name: &str) -> OtherMachine {
        self.trust();
        OtherMachine::with_store(&self.world, name)
    }

    fn trust(&self) {
        let key = &self.key.public;
        self.world.conf(&format!("trusted-public-keys = {key}\n"));
    }

    /// The parameter with the key.
    fn signing(&self) -> String {
        format!("&secret-key={}", self.key.secret.display())
    }

    /// `windrow copy` of "b" to a store.
    fn copy_to(&self, there: &OtherMachine, url: &str) -> Cmd {
        let copy = self.world.windrow("copy").args(["--to", url]);
        there.reached_by(copy.arg(&self.b))
    }

    /// Copies "b" to another machine and back.
    #[track_caller]
    fn there_and_back(&self, name: &str, (kind, parameters): (&str, &str)) {
        let there = self.machine(name);
        let url = there.url(kind, parameters);
        let signed = format!("{url}{}", self.signing());
        let ran = self.copy_to(&there, &signed).ok().prints_nothing();
        ran.says("copied 2 paths").never_says("warning");
        assert!(there.has(&self.world, &self.a) && there.has(&self.world, &self.b));
        there.verifies(&self.world);
        self.copy_to(&there, &signed)
            .ok()
            .says("nothing to copy: all 2 paths are in");
        let logins = there.logins();
        assert_eq!(logins.len(), 2, "one connection is enough: {logins:?}");
        self.world.is_clean();
        self.forget(&format!("{name}-built"));
        let copy = self.world.windrow("copy").args(["--from", &url]);
        let copy = there.reached_by(copy.arg(&self.b));
        copy.ok().says("copied 2 paths from").never_says("warning");
        assert!(self.world.is_valid(&self.a) && self.world.is_valid(&self.b));
        self.world.is_clean();
        self.world.verifies();
    }
}

#[test]
fn paths_go_through_ssh_and_come_back_by_either_protocol() {
    need!("nix-store", "nix-daemon", "sqlite3");
    for kind in KINDS {
        Scene::new().there_and_back("there", (kind, "&compress=true"));
    }
}

#[test]
fn a_newer_nix_takes_paths_and_gives_them_back() {
    need!("nix-store", "sqlite3");
    let (nix_store, nix_daemon) = (need_newer!("nix-store"), need_newer!("nix-daemon"));
    for (kind, program) in [("ssh", nix_store), ("ssh-ng", nix_daemon)] {
        let parameters = format!("&remote-program={program}");
        Scene::new().there_and_back("there", (kind, &parameters));
    }
}

#[test]
fn derivations_go_with_all_that_they_are_built_from() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    for kind in KINDS {
        let there = scene.machine(kind);
        let copy = scene.world.windrow("copy").arg("--derivation");
        let copy = copy.args(["--to", &there.url(kind, ""), &scene.drv]);
        // They need no signature, for their paths say what is in them.
        there.reached_by(copy).ok().says("copied 2 paths");
        assert!(there.has(&scene.world, &scene.drv));
        assert!(!there.has(&scene.world, &scene.b));
        there.verifies(&scene.world);
    }
}

#[test]
fn a_daemon_takes_what_is_signed_and_says_why_it_does_not_take_the_rest() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    for (name, users) in [("trusting", "*"), ("wary", "nobody-at-all")] {
        let there = scene.machine(name);
        let socket = scene.world.file(name);
        let daemon = scene.world.program("nix-daemon");
        let daemon = daemon.env("NIX_DAEMON_SOCKET_PATH", &socket);
        let daemon = daemon.env("NIX_CONFIG", format!("trusted-users = {users}"));
        let daemon = daemon.env("NIX_REMOTE", &there.store).start();
        wait_until("the daemon listens", || socket.exists());
        let url = format!("unix://{}", socket.display());
        let ran = scene.copy_to(&there, &url).run().exits(1).one_error();
        ran.says("lacks a valid signature; sign it with a key")
            .says("--no-check-sigs")
            .says(format!("2 paths were not copied to '{url}'"));
        let unsigned = scene.copy_to(&there, &url).arg("--no-check-sigs").run();
        match name {
            "trusting" => unsigned.exits(0).says("copied 2 paths"),
            _ => unsigned.exits(1).one_error().says("signature"),
        };
        assert_eq!(there.has(&scene.world, &scene.b), name == "trusting");
        let signed = format!("{url}?secret-key={}", scene.key.secret.display());
        let copy = scene.copy_to(&there, &signed);
        copy.ok().says(match name {
            "trusting" => "nothing to copy",
            _ => "copied 2 paths",
        });
        // What `daemon` means is for the environment to say.
        let copy = scene.copy_to(&there, "daemon");
        let copy = copy.env("NIX_DAEMON_SOCKET_PATH", &socket);
        copy.ok().says("nothing to copy");
        there.verifies(&scene.world);
        daemon.signal("TERM");
        daemon.wait();
        let ran = scene.copy_to(&there, &url).run().exits(1).one_error();
        ran.says("no daemon answers at");
    }
}

#[test]
fn a_connection_that_is_cut_is_told_of_and_the_next_copy_goes_on() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    let graph = graph_of([
        ("small", sh("echo hello > $out")),
        (
            "large",
            sh("echo @{small} > $out; head -c 3000000 /dev/zero >> $out"),
        ),
    ]);
    let drv = scene.world.add(&graph);
    let large = scene.world.windrow("build").arg(&drv).ok().line();
    let text = fs::read(&large).unwrap();
    let end = text.iter().position(|&byte| byte == b'\n').unwrap();
    let small = str::from_utf8(&text[..end]).unwrap();
    for kind in KINDS {
        scene.trust();
        let there = OtherMachine::cut_after(&scene.world, kind, 1_000_000);
        let copy = |there: &OtherMachine| {
            let url = there.url(kind, &scene.signing());
            let copy = scene.world.windrow("copy").args(["--to", &url, &large]);
            there.reached_by(copy)
        };
        let ran = copy(&there).run().exits(1).one_error();
        ran.says(&large)
            .says("it has ended the connection")
            .says("by the same command");
        wait_until("the other machine has what came whole", || {
            there.has(&scene.world, small)
        });
        assert!(!there.has(&scene.world, &large));
        let there = scene.machine(kind);
        copy(&there)
            .ok()
            .says("copied 1 path ")
            .says("1 was there before");
        assert!(there.has(&scene.world, &large));
        there.verifies(&scene.world);
        scene.world.is_clean();
    }
}

#[test]
fn a_changed_path_is_named_and_the_rest_is_sent() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    let file = format!("{}/more", scene.b);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for (kind, more) in [("ssh", "other"), ("ssh-ng", "longer than it was")] {
        fs::write(&file, more).unwrap();
        let there = scene.machine(kind);
        let copy = scene.copy_to(&there, &there.url(kind, &scene.signing()));
        let ran = copy.run().exits(1).no_panic();
        let b = &scene.b;
        ran.says(format!("error: cannot copy '{b}': path '{b}' was modified"))
            .says("1 path was not copied")
            .says("copied 1 path");
        assert!(there.has(&scene.world, &scene.a) && !there.has(&scene.world, b));
        there.verifies(&scene.world);
    }
}

#[test]
fn one_path_is_sent_alone_if_the_other_store_has_what_it_refers_to() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    for kind in KINDS {
        let there = scene.machine(kind);
        let only = |path: &str| {
            let copy = scene.world.windrow("copy").arg("--no-recursive");
            let copy = copy.args(["--to", &there.url(kind, &scene.signing()), path]);
            there.reached_by(copy)
        };
        let ran = only(&scene.b).run().exits(1).no_panic();
        ran.says(format!("it refers to '{}', which is not there", scene.a));
        only(&scene.a).ok().says("copied 1 path");
        only(&scene.b).ok().says("copied 1 path");
        there.verifies(&scene.world);
    }
}

#[test]
fn a_large_path_is_never_in_memory() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    let path = scene.large(100);
    for kind in KINDS {
        let there = scene.machine(kind);
        let copy = scene.world.windrow("copy").arg("--to");
        let copy = copy.args([&there.url(kind, ""), &path]);
        copy_in_bounds(there.reached_by(copy)).says("copied 1 path");
        assert!(there.has(&scene.world, &path));
    }
}

#[test]
fn what_can_not_be_reached_is_one_message() {
    need!("nix-store", "sqlite3");
    let scene = Scene::new();
    let script = "echo \"ssh: connect to host there.invalid port 2222: refused\" >&2; exit 255";
    let there = OtherMachine::failing(&scene.world, script);
    for kind in KINDS {
        let url = there.url(kind, "");
        let ran = scene.copy_to(&there, &url).run().exits(1).one_error();
        ran.says(format!("cannot use '{kind}://there.invalid:2222?"))
            .says("(exit status: 255): ssh: connect to host there.invalid");
        let copy = scene.world.windrow("copy").args(["--from", &url]);
        let path = format!("{}/{}-x", scene.world.store().display(), "a".repeat(32));
        let copy = there.reached_by(copy.arg(path));
        copy.run().exits(1).no_panic().says("refused");
        let options = ["--option", "stalled-download-timeout", "1"];
        let silent = OtherMachine::failing(&scene.world, "exec sleep 300");
        let copy = scene.copy_to(&silent, &url).args(options);
        copy.run().exits(1).one_error().says("silent for too long");
        scene.world.is_clean();
        OtherMachine::failing(&scene.world, script);
    }
    let copy = scene.world.windrow("copy").arg(&scene.b);
    let copy = copy.args(["--to", "ssh://h.invalid"]);
    let copy = copy.env("PATH", scene.world.file("nothing"));
    copy.run().exits(1).one_error().says("cannot start 'ssh'");
}

#[test]
fn a_signal_ends_a_copy_to_another_machine() {
    need!("nix-store", "sqlite3");
    let scene = Scene::new();
    let there = OtherMachine::failing(&scene.world, "exec sleep 300");
    for kind in KINDS {
        let running = scene.copy_to(&there, &there.url(kind, "")).start();
        wait_until("somebody logs in", || scene.world.file("logins").exists());
        running.signal("INT");
        running.wait().exits(130).no_panic();
        scene.world.is_clean();
        fs::remove_file(scene.world.file("logins")).unwrap();
    }
}

#[test]
fn the_way_to_another_machine_ends_with_who_uses_it_however_that_ends() {
    need!("nix-store", "sqlite3");
    let scene = Scene::new();
    // It does not care for the end of what it is told.
    let there = OtherMachine::failing(&scene.world, "exec sleep 300");
    let path = format!("{}/{}-x", scene.world.store().display(), "a".repeat(32));
    for (kind, way, path) in [
        ("ssh", "--to", &scene.b),
        ("ssh-ng", "--to", &scene.b),
        ("ssh", "--from", &path),
    ] {
        let url = there.url(kind, "");
        let copy = scene.world.windrow("copy").args([way, &url, path]);
        let running = there.reached_by(copy).start();
        wait_until("somebody logs in", || scene.world.file("logins").exists());
        running.signal("KILL");
        running.wait().no_panic();
        wait_until("nothing is left", || scene.world.processes().is_empty());
        fs::remove_file(scene.world.file("logins")).unwrap();
    }
}

#[test]
fn a_store_elsewhere_on_this_machine_is_sent_from() {
    need!("nix-store", "nix-daemon", "sqlite3");
    let scene = Scene::new();
    scene.forget("built");
    let from = OtherMachine::with_store(&scene.world, "built").store;
    let there = scene.machine("there");
    let url = there.url("ssh-ng", &scene.signing());
    let copy = scene.world.windrow("copy").args(["--from", &from]);
    let copy = copy.args(["--to", &url]).arg(&scene.b);
    there.reached_by(copy).ok().says("copied 2 paths");
    assert!(there.has(&scene.world, &scene.b));
    there.verifies(&scene.world);
}
