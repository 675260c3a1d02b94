//! Roots, liveness, collection and deletion, beside Nix's and together with builds.

use std::os::unix::fs::symlink;

use super::filled;
use crate::harness::{World, graph_of, need, sh, wait_until};

/// The lines of a run that don't name processes: those of others come and go.
fn stable(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|line| !line.contains("/proc/") && !line.contains("{temp:"))
        .collect()
}

/// Makes roots of every kind, one that dangles, a lock and an entry that is no store path. Returns
/// the lock.
fn add_odd_roots<'p>(world: &World, some: impl Fn(&str) -> &'p String) -> String {
    symlink(some("-link"), world.state().join("gcroots/direct")).unwrap();
    symlink(
        world.file("nothing"),
        world.state().join("gcroots/auto/dangling"),
    )
    .unwrap();
    symlink(some("-sha1"), world.state().join("profiles/profile-1-link")).unwrap();
    symlink("profile-1-link", world.state().join("profiles/profile")).unwrap();
    std::fs::write(
        world
            .state()
            .join("gcroots")
            .join(some("-empty").rsplit('/').next().unwrap()),
        "",
    )
    .unwrap();
    let lock = format!("{}.lock", some("-big"));
    std::fs::write(&lock, "").unwrap();
    std::fs::create_dir(
        world
            .store()
            .join("8rhh74q2l84v5z1fa0n941xhbpgw3ncf-unknown"),
    )
    .unwrap();
    lock
}

#[test]
fn roots_and_liveness_are_told_alike() {
    need!(nix);
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    let paths = world
        .theirs(["-qR", "--include-outputs", &drv])
        .ok()
        .lines();
    let some = |suffix: &str| paths.iter().find(|path| path.ends_with(suffix)).unwrap();
    world.alike(&["--gc", "--print-roots"]);
    world.alike(&["--gc", "--print-live"]);
    world.alike(&["--gc", "--print-dead"]);
    world
        .theirs([
            "-r",
            some("-multi.drv"),
            "--add-root",
            "result",
            "--indirect",
        ])
        .ok();
    let lock = add_odd_roots(&world, some);
    for flags in [
        &[][..],
        &["--option", "keep-outputs", "true"],
        &["--option", "gc-keep-outputs", "true"],
        &["--option", "keep-derivations", "false"],
        &["--keep-outputs", "--no-keep-derivations"],
        &["--keep-outputs", "--keep-derivations"],
    ] {
        for what in ["--print-roots", "--print-live", "--print-dead"] {
            let ran = world.alike(&[&["--gc", what], flags].concat());
            assert!(ran.lines().len() > 3, "{ran}");
        }
        for path in &paths {
            // Nix prints these in no particular order.
            let query = [&["-q", "--roots", path.as_str()], flags].concat();
            let mut theirs = stable(world.theirs(&query).ok().lines());
            let mut ours = stable(world.ours(&query).ok().lines());
            theirs.sort();
            ours.sort();
            assert_eq!(ours, theirs);
        }
    }
    assert!(
        world
            .state()
            .join("gcroots/auto/dangling")
            .symlink_metadata()
            .is_err()
    );
    assert!(std::path::Path::new(&lock).exists());
    world.alike(&["-q", "--roots", "-u", &drv]);
    world.alike(&["--gc", "--print-nothing"]).exits(1);
    world.alike(&["--gc", "x"]).exits(1);
    assert!(world.is_valid(&out));
}

/// Copies store and state to directories whose names begin with `to`.
fn copy_store(world: &World, from: &str, to: &str) {
    for dir in ["store", "state"] {
        let dirs = [from, to].map(|prefix| world.at(format!("{prefix}{dir}")));
        world.program("cp").arg("-a").args(dirs).ok();
    }
}

/// What a collection or deletion prints, its exit status, and what is left: the database's text and
/// the store's entries.
fn collected(world: &World, args: &[&str], ours: bool) -> (String, Option<i32>, Vec<String>) {
    let ran = if ours {
        world.ours(args).run().no_panic()
    } else {
        world.theirs(args).run()
    };
    let mut left = world.theirs(["--dump-db"]).ok().lines();
    let entries = world.store_entries().into_iter();
    let names = entries.map(|path| path.display().to_string());
    left.extend(names.filter(|name| !name.ends_with(".lock")));
    world.verifies();
    (ran.out(), ran.status.code(), left)
}

#[test]
fn the_same_is_collected() {
    need!("nix-store", "nix-instantiate", "nix-hash", "cp");
    let (world, drv) = filled();
    let paths = world
        .theirs(["-qR", "--include-outputs", &drv])
        .ok()
        .lines();
    let some = |suffix: &str| paths.iter().find(|path| path.ends_with(suffix)).unwrap();
    world
        .theirs([
            "-r",
            some("-multi.drv"),
            "--add-root",
            "result",
            "--indirect",
        ])
        .ok();
    std::fs::write(format!("{}.lock", some("-big")), "").unwrap();
    std::fs::create_dir(world.store().join("litter")).unwrap();
    copy_store(&world, "", "kept.");
    let dead = some("-small3").clone();
    let drv_of = world.theirs(["-qd", &dead]).ok().line();
    let absent = world
        .store()
        .join("8rhh74q2l84v5z1fa0n941xhbpgw3ncf-absent");
    let absent = absent.display().to_string();
    for args in [
        &["--gc"][..],
        &["--gc", "--option", "keep-outputs", "true"],
        &["--gc", "--no-keep-derivations"],
        &["--gc", "--max-freed", "0"],
        &["--delete", &dead],
        &["--delete", "--ignore-liveness", &dead],
        &[
            "--delete",
            "--no-keep-derivations",
            some("-top"),
            some("-small3"),
        ],
        &["--delete", some("-top"), some("-small3")],
        &["--delete", some("-tree")],
        &["--delete", "--ignore-liveness", some("-tree")],
        &["--delete", some("-top"), some("-tree")],
        &["--delete", &drv_of],
        &["--delete", &absent],
        &["--delete", "/etc/passwd"],
        &["--delete"],
    ] {
        let mut results = Vec::new();
        for ours in [false, true] {
            results.push(collected(&world, args, ours));
            for dir in ["store", "state"] {
                let writable = world.program("chmod").args(["-R", "u+w"]);
                writable.arg(world.at(dir)).ok();
                std::fs::remove_dir_all(world.at(dir)).unwrap();
            }
            copy_store(&world, "kept.", "");
        }
        assert!(
            results[0] == results[1],
            "{args:?}:\n{:?}\n{:?}",
            results[0],
            results[1]
        );
    }
}

#[test]
fn what_programs_use_is_kept() {
    need!("nix-store", "sleep");
    let world = World::new();
    let add = |name: &str| {
        let file = world.write(&format!("{name}/file"), name);
        world
            .ours(["--add".as_ref(), file.parent().unwrap().as_os_str()])
            .ok()
            .line()
    };
    let (environment, open, directory, unused) = (
        add("environment"),
        add("open"),
        add("directory"),
        add("unused"),
    );
    let script = format!("cd {directory}; exec 0<{open}/file; exec sleep 60");
    let sleeper = world
        .program("/bin/sh")
        .args(["-c", &script])
        .env("SOME", format!("x:{environment}/bin"))
        .start();
    wait_until("the program has opened its files", || {
        let roots = world.ours(["--gc", "--print-roots"]).ok().out();
        roots.contains(&environment) && roots.contains(&open) && roots.contains(&directory)
    });
    let theirs = world.theirs(["--gc", "--print-roots"]).ok().lines();
    let ours = world.ours(["--gc", "--print-roots"]).ok().lines();
    assert_eq!(ours, theirs);
    let ran = world.ours(["--gc"]).ok();
    assert!(ran.out().starts_with("1 store paths deleted"), "{ran}");
    assert!(world.is_valid(&environment) && world.is_valid(&open) && world.is_valid(&directory));
    assert!(!world.is_valid(&unused));
    sleeper.signal("KILL");
    sleeper.wait();
    wait_until("nothing uses them", || {
        world.ours(["--gc", "--print-roots"]).ok().out().is_empty()
    });
    world.ours(["--gc"]).ok();
    assert!(
        world.store_entries().is_empty(),
        "{:?}",
        world.store_entries()
    );
}

#[test]
fn a_build_goes_on_while_garbage_is_collected() {
    need!(nix);
    for nix_builds in [false, true] {
        let world = World::new();
        let steps = 12;
        let script = |n: usize| {
            let needs = if n == 0 {
                String::new()
            } else {
                format!("cat @{{s{}}};", n - 1)
            };
            sh(&format!(
                "{{ {needs} echo {n}; }} > $out; echo >> {}; sleep 0.05",
                world.file("runs").display()
            ))
        };
        let names: Vec<String> = (0..steps).map(|n| format!("s{n}")).collect();
        let graph = graph_of(
            names
                .iter()
                .enumerate()
                .map(|(n, name)| (name.as_str(), script(n))),
        );
        let mut graph = graph;
        graph["targets"] = serde_json::json!([format!("s{}", steps - 1)]);
        let drv = world.add(&graph);
        let build = if nix_builds {
            world.theirs(["-r", &drv]).start()
        } else {
            world.windrow("build").arg(&drv).start()
        };
        world.wait_for("runs");
        let mut collections = 0;
        let mut build = build;
        while build.is_running() {
            world.ours(["--gc", "--no-keep-derivations"]).ok();
            collections += 1;
        }
        let out = build.wait().exits(0).line();
        assert!(
            collections > 1,
            "there was time for {collections} collections only"
        );
        world.verifies();
        assert!(world.is_valid(&out) || !std::path::Path::new(&out).exists());
    }
}

#[test]
fn a_collection_that_was_killed_is_gone_on_with() {
    need!(nix);
    let world = World::new();
    for number in 0..400 {
        world.write(&format!("files/{number}/a/b"), format!("{number}"));
    }
    let dirs: Vec<_> = (0..400)
        .map(|number| world.file(&format!("files/{number}")))
        .collect();
    world
        .ours(["--add"].iter().map(std::path::PathBuf::from).chain(dirs))
        .ok();
    for _ in 0..20 {
        let gc = world.ours(["--gc"]).start();
        let before = world.store_entries().len();
        wait_until("something is deleted", || {
            world.store_entries().len() < before || before == 0
        });
        gc.signal("KILL");
        gc.wait();
        world.verifies();
    }
    world.ours(["--gc"]).ok();
    assert!(
        world.store_entries().is_empty(),
        "{:?}",
        world.store_entries()
    );
    world.verifies();
}

#[test]
fn builds_free_space_where_settings_ask_for_it() {
    need!(nix);
    let world = World::new();
    let garbage = world.write("garbage", "nobody needs this");
    let garbage = world
        .ours(["--add".as_ref(), garbage.as_os_str()])
        .ok()
        .line();
    let free = world.write("free", "1000000");
    world.conf("min-free = 1000\nmax-free = 2000\nmin-free-check-interval = 1\n");
    let script = |name: &str| {
        sh(&format!(
            "echo >> {}; sleep 3; echo {name} > $out",
            world.file(name).display()
        ))
    };
    let drv = world.add_one("x", script("x"));
    let build = |drv: &str| {
        world
            .windrow("build")
            .arg(drv)
            .env("_NIX_TEST_FREE_SPACE_FILE", &free)
    };
    build(&drv).ok().never_says("auto-GC");
    assert!(world.is_valid(&garbage));
    let drv = world.add_one("y", script("y"));
    let running = build(&drv).start();
    world.wait_for("y");
    std::fs::write(&free, "500").unwrap();
    let ran = running
        .wait()
        .exits(0)
        .says("running auto-GC to free 1500 bytes");
    assert!(!world.is_valid(&garbage));
    assert!(world.is_valid(ran.line()));
    world.verifies();
    world.is_clean();
}

#[test]
fn a_damaged_database_loses_nothing() {
    need!("nix-store", "nix-instantiate", "nix-hash", "sqlite3");
    let (world, drv) = filled();
    let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
    symlink(&out, world.state().join("gcroots/out")).unwrap();
    world.sql("pragma wal_checkpoint(truncate)");
    let sound = std::fs::read(world.database()).unwrap();
    let entries = world.store_entries();
    let mut refused = 0;
    for page in 1..sound.len() / 4096 {
        let mut damaged = sound.clone();
        damaged[page * 4096..][..4000].fill(0xa5);
        for args in [
            &["--gc"][..],
            &["--verify"],
            &["-qR", &out],
            &["--dump-db"],
            &["--gc", "--print-dead"],
        ] {
            for log in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(world.state().join(format!("db/db.sqlite{log}")));
            }
            std::fs::write(world.database(), &damaged).unwrap();
            let ran = world.ours(args).run().no_panic();
            if !ran.status.success() {
                ran.exits(1).one_error().says("damaged");
                refused += 1;
            }
            assert_eq!(world.store_entries(), entries, "page {page}, {args:?}");
        }
    }
    assert!(refused > 10, "{refused}");
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(world.state().join(format!("db/db.sqlite{log}")));
    }
    std::fs::write(world.database(), &sound).unwrap();
    world.verifies();
}

#[test]
fn leftovers_of_dead_builds_go() {
    need!(nix);
    let world = World::new();
    let script = |name: &str| {
        sh(&format!(
            "mkdir $out; echo half > $out/x; echo >> {}; exec sleep 100",
            world.file(name).display()
        ))
    };
    for nix_builds in [false, true] {
        let name = if nix_builds { "nix" } else { "windrow" };
        let drv = world.add_one(name, script(name));
        let build = if nix_builds {
            world.theirs(["-r", &drv]).start()
        } else {
            world.windrow("build").arg(&drv).start()
        };
        world.wait_for(name);
        let before = world.store_entries();
        assert!(before.len() >= 3, "{before:?}");
        // Nothing of a living build goes.
        world.ours(["--gc"]).ok();
        assert_eq!(world.store_entries(), before);
        build.signal("KILL");
        build.wait();
        world.ours(["--gc"]).ok();
        assert!(
            world.store_entries().is_empty(),
            "{:?}",
            world.store_entries()
        );
        assert!(
            world
                .state()
                .join("temproots")
                .read_dir()
                .unwrap()
                .next()
                .is_none()
        );
    }
}

/// windrow nix-store with a terminal as its standard output and error.
fn at_a_terminal(world: &World, line: &str) -> crate::harness::Cmd {
    let line = format!(
        "stty cols 100 rows 30; exec {} nix-store {line}",
        env!("CARGO_BIN_EXE_windrow")
    );
    let script =
        world
            .program("script")
            .args(["--quiet", "--flush", "--return", "--command", &line]);
    script.arg(world.file("seen")).env("TERM", "xterm")
}

#[test]
fn a_terminal_sees_how_far_it_is_and_reads_through_a_pager() {
    need!("nix-store", "nix-instantiate", "nix-hash", "script", "stty");
    let (world, drv) = filled();
    let ran = at_a_terminal(&world, "--verify --check-contents").ok();
    assert!(
        ran.out().contains("/39 paths") || ran.out().contains(" paths, "),
        "{ran}"
    );
    let ran = at_a_terminal(&world, "--gc --print-dead | cat").ok();
    assert!(!ran.out().contains(" paths, "), "{ran}");
    let pages = |pager: &str| {
        at_a_terminal(&world, &format!("-qR {drv}"))
            .env("NIX_PAGER", pager)
            .ok()
            .out()
    };
    let plain = pages("");
    assert!(plain.contains("-top.drv"), "{plain}");
    assert_eq!(pages("cat"), plain);
    let paged = pages("sed 's/^/| /'");
    assert!(paged.lines().all(|line| line.starts_with("| /")), "{paged}");
    let ran = at_a_terminal(&world, "--gc").ok();
    assert!(ran.out().contains(" paths, "), "{ran}");
    assert!(ran.out().contains("store paths deleted"), "{ran}");
}
