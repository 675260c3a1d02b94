//! Collections beside a build: whatever is made, compared or fetched stays until it is registered,
//! for windrow's collector and for Nix's. Builders wait for a file, and whole engines are stopped,
//! so that nothing depends on the time.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{
    Cache, Caller, Cmd, HeldDatabase, SEALED, World, busybox_with, for_each_caller, graph_of, have,
    need, sh, sh_with, text, wait_until,
};

/// Expects that no collector takes anything away, and that both do collect.
#[track_caller]
fn nothing_goes(world: &World, caller: Caller) {
    let mut before = world.store_entries();
    // Nix takes the lock file of a path with a long name for no store path, even of its own builds.
    before.retain(|path| path.extension().is_none_or(|end| end != "lock"));
    for ours in [true, false] {
        if !ours && !have(&["nix-store"]) {
            continue;
        }
        let dead = world
            .store()
            .join("00000000000000000000000000000000-nobody-needs-this");
        fs::write(&dead, "").unwrap();
        let cmd = if ours {
            world.windrow("nix-store")
        } else {
            // It wants a name for whoever it runs as.
            world.program("nix-store").env("USER", "somebody")
        };
        caller.runs(cmd.arg("--gc")).ok();
        assert!(!dead.exists(), "the collection does collect");
        let after = world.store_entries();
        let gone: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
        assert!(gone.is_empty(), "collected by {caller:?}, {ours}: {gone:?}");
    }
}

/// Adds a derivation with two outputs, made by a script that stops between them until there is a
/// file "go".
#[track_caller]
fn two_outputs(world: &World, caller: Caller, name: &str, sandbox: bool) -> String {
    let go = world.file("go");
    let _ = fs::remove_file(&go);
    let script = format!(
        "mkdir $dev; echo dev > $dev/file; while [ ! -e {} ]; do sleep 0.05; done; echo out > $out",
        go.display()
    );
    let outputs = json!({"outputs": ["out", "dev"]});
    let drv = match sandbox {
        true => busybox_with(&script, outputs),
        false => sh_with(&script, outputs),
    };
    let file = world.graph("g.json", &graph_of([(name, drv)]));
    caller.runs(world.windrow("add").arg(file)).ok().line()
}

/// Builds its first output.
fn build_out(world: &World, caller: Caller, drv: &str) -> Cmd {
    caller.runs(world.windrow("build").arg(format!("{drv}!out")))
}

/// What the builders in sandboxes see as the store: each lies in a directory of its build, in that
/// of the run.
fn sandbox_stores(world: &World) -> Vec<PathBuf> {
    let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let builds = world.store_entries().into_iter().flat_map(below);
    let stores = builds.map(|build| build.path().join("store"));
    stores.filter(|store| store.is_dir()).collect()
}

/// Waits until the builder has made its second output, in its place or in a sandbox.
fn wait_for_dev(world: &World, name: &str) {
    let end = format!("-{name}-dev");
    let made = |dir: &Path| {
        let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.any(|entry| {
            entry.file_name().to_string_lossy().ends_with(&end)
                && entry.path().join("file").exists()
        })
    };
    wait_until("half of it is made", || {
        made(&world.store()) || sandbox_stores(world).iter().any(|store| made(store))
    });
}

/// Both outputs, by name.
fn outputs(world: &World, name: &str) -> Option<[PathBuf; 2]> {
    let entries = world.store_entries();
    let find = |end: String| {
        let found = entries
            .iter()
            .find(|it| it.to_string_lossy().ends_with(&end));
        found.cloned()
    };
    Some([find(format!("-{name}"))?, find(format!("-{name}-dev"))?])
}

/// Expects both outputs to be valid, and the second one to be there.
#[track_caller]
fn are_valid(world: &World, name: &str) {
    let [out, dev] = outputs(world, name).expect("both outputs");
    assert!(world.is_valid(&out) && world.is_valid(&dev));
    assert_eq!(text(dev.join("file")), "dev\n");
    world.is_clean();
    world.stays_valid();
}

/// Runs a test for each caller, without a sandbox and in one.
fn sandboxes(test: impl Fn(&World, Caller, bool, &str)) {
    for_each_caller(|world, caller| {
        world.conf("");
        test(world, caller, false, "open");
        caller.runs(world.windrow("nix-store").arg("--gc")).ok();
        world.conf(&format!(
            "{SEALED}extra-sandbox-paths = {}\n",
            world.at("files").display()
        ));
        test(world, caller, true, "closed");
    });
}

#[test]
fn outputs_that_nobody_asked_for_stay_while_they_are_made() {
    sandboxes(|world, caller, sandbox, name| {
        let drv = two_outputs(world, caller, name, sandbox);
        let build = build_out(world, caller, &drv).start();
        wait_for_dev(world, name);
        nothing_goes(world, caller);
        world.write("go", "");
        build.wait().exits(0);
        are_valid(world, name);
    });
}

#[test]
fn outputs_that_nobody_asked_for_stay_until_they_are_registered() {
    for_each_caller(|world, caller| {
        world.conf("");
        let drv = two_outputs(world, caller, "two", false);
        let build = build_out(world, caller, &drv).start();
        wait_for_dev(world, "two");
        build.signal("STOP");
        world.write("go", "");
        wait_until("the builder has made everything", || {
            let outputs = outputs(world, "two");
            outputs.is_some_and(|[out, _]| fs::read(out).is_ok_and(|out| out == b"out\n"))
        });
        nothing_goes(world, caller);
        build.signal("CONT");
        build.wait().exits(0);
        are_valid(world, "two");
    });
}

#[test]
fn outputs_stay_where_others_hold_up_their_registration() {
    need!("nix-store", "sqlite3");
    sandboxes(|world, caller, sandbox, name| {
        let drv = two_outputs(world, caller, name, sandbox);
        let build = build_out(world, caller, &drv).start();
        wait_for_dev(world, name);
        let held = HeldDatabase::new(world);
        world.write("go", "");
        wait_until("both outputs are in their places", || {
            outputs(world, name).is_some()
        });
        // Nix's collector writes nothing to the database if what it deletes is not in it.
        let collector = world.program("nix-store").env("USER", "somebody");
        caller.runs(collector.arg("--gc")).ok();
        let there = outputs(world, name);
        held.release();
        assert!(there.is_some(), "collected before they were registered");
        build.wait().exits(0);
        are_valid(world, name);
    });
}

#[test]
fn what_is_compared_stays_while_it_is_made_again() {
    sandboxes(|world, caller, sandbox, name| {
        let drv = two_outputs(world, caller, name, sandbox);
        world.write("go", "");
        build_out(world, caller, &drv).ok();
        fs::remove_file(world.file("go")).unwrap();
        let check = build_out(world, caller, &drv).arg("--check").start();
        wait_until("the second build is under way", || {
            // Under a scratch name, or in a sandbox.
            let entries = world.store_entries();
            let end = format!("-{name}-dev");
            let devs = entries
                .iter()
                .filter(|it| it.to_string_lossy().ends_with(&end));
            let begun =
                |store: &PathBuf| fs::read_dir(store).is_ok_and(|mut it| it.next().is_some());
            devs.count() > 1 || sandbox_stores(world).iter().any(begun)
        });
        nothing_goes(world, caller);
        world.write("go", "");
        check.wait().exits(0);
        are_valid(world, name);
    });
}

#[test]
fn a_build_with_the_longest_name_there_can_be_is_left_alone() {
    for_each_caller(|world, caller| {
        let name = "n".repeat(207);
        let go = world.file("go");
        world.conf(&format!(
            "{SEALED}extra-sandbox-paths = {}\n",
            world.at("files").display()
        ));
        let script = format!(
            "echo > $out; while [ ! -e {} ]; do sleep 0.05; done",
            go.display()
        );
        let graph = graph_of([(name.as_str(), busybox_with(&script, json!({})))]);
        let file = world.graph("g.json", &graph);
        let drv = caller.runs(world.windrow("add").arg(file)).ok().line();
        let build = || caller.runs(world.windrow("build").arg(&drv)).start();
        // The directory of a sandbox in which the builder has begun.
        let room = || {
            let begun =
                |store: &PathBuf| fs::read_dir(store).is_ok_and(|mut it| it.next().is_some());
            let mut stores = sandbox_stores(world).into_iter();
            stores
                .find(begun)
                .and_then(|store| fs::File::open(store).ok())
        };
        let number = |room: &Option<fs::File>| Some(room.as_ref()?.metadata().ok()?.ino());
        // What an engine that was killed left behind is moved away under a name that fits.
        let dead = build();
        wait_until("it is under way", || room().is_some());
        dead.signal("KILL");
        dead.wait();
        let left = world.temporary();
        // While it is open, nothing else can get its number.
        let old = room();
        let build = build();
        wait_until("another one is under way", || {
            let new = number(&room());
            new.is_some() && new != number(&old)
        });
        nothing_goes(world, caller);
        world.write("go", "");
        assert!(build.wait().exits(0).path().exists());
        world.is_clean_but_for(&left);
    });
}

#[test]
fn a_path_that_is_fetched_again_stays_while_it_is_fetched() {
    need!("sqlite3");
    let world = World::new();
    let drv = world.add_one("x", sh("echo good > $out"));
    let out = world.windrow("build").arg(&drv).ok().line();
    let wait = format!(
        ": > $3; : > {0}/half; while [ ! -e {0}/go ]; do sleep 0.05; done; rm $3",
        world.at("files").display()
    );
    let program = Cache::of(&world, "cache", "%-x").program_with(&world, "", &wait);
    // Else it would be built.
    let delete = ["nix-store", "--delete", "--no-keep-derivations", &drv];
    world.windrow(delete[0]).args(&delete[1..]).ok();
    let set_mode = |mode| fs::set_permissions(&out, fs::Permissions::from_mode(mode)).unwrap();
    for command in [&["build", "--repair"][..], &["nix-store", "--repair-path"]] {
        for name in ["half", "go"] {
            let _ = fs::remove_file(world.file(name));
        }
        set_mode(0o644);
        fs::write(&out, "bad!\n").unwrap();
        set_mode(0o444);
        let repair = world
            .windrow(command[0])
            .env("NIX_SUBSTITUTERS", &program)
            .args(["--option", "substitute", "true", command[1], &out])
            .start();
        world.wait_for("half");
        nothing_goes(&world, Caller::Self_);
        world.write("go", "");
        repair.wait().exits(0);
        assert_eq!(text(&out), "good\n");
        world.is_clean();
        world.stays_valid();
    }
}

#[test]
fn what_is_kept_for_convenience_does_not_hold_back_what_is_to_be_deleted() {
    let (out, drv) = (true, false);
    for setting in ["keep-derivations", "keep-outputs", "gc-keep-outputs"] {
        for rooted in [out, drv] {
            let world = World::new();
            let paths = {
                let drv = world.add_one("x", sh("echo > $out"));
                let out = world.windrow("build").arg(&drv).ok().line();
                [out, drv]
            };
            let (kept, deleted) = match rooted {
                true => (&paths[0], &paths[1]),
                false => (&paths[1], &paths[0]),
            };
            let root = world.state().join("gcroots/kept");
            std::os::unix::fs::symlink(kept, &root).unwrap();
            let store = |args: &[&str]| world.windrow("nix-store").args(args).run();
            let with = ["--option", setting, "true"];
            store(&[&["--delete", deleted], &with[..]].concat()).exits(0);
            assert!(!std::path::Path::new(deleted).exists(), "{setting}");
            let refused = store(&[&["--delete", kept], &with[..]].concat());
            refused.exits(1).says("since it is still alive");
            assert!(std::path::Path::new(kept).exists());
            world.stays_valid();
        }
    }
}
