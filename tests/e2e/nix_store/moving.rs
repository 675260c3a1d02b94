//! Files and paths into the store and out of it: adding, archives, registrations and round
//! trips.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::filled;
use crate::harness::{World, need};

/// Runs the same with both, each on a store of its own, and compares what they print and what is
/// registered then.
#[track_caller]
fn same_effect(world: &World, args: &[&str], input: &[u8]) {
    let registered = || {
        let mut rows =
            world.sql("select path, hash, narSize, deriver, ultimate, sigs, ca from ValidPaths");
        rows.sort();
        rows
    };
    world.theirs(["--init"]).ok();
    let theirs = world.theirs(args).stdin(input).run();
    let nix = registered();
    world.set_aside("nix");
    world.theirs(["--init"]).ok();
    let ours = world.ours(args).stdin(input).run().no_panic();
    let windrow = registered();
    assert!(
        theirs.stdout == ours.stdout,
        "Nix\n{theirs}\nwindrow\n{ours}"
    );
    assert_eq!(
        theirs.status.code(),
        ours.status.code(),
        "Nix\n{theirs}\nwindrow\n{ours}"
    );
    assert_eq!(nix, windrow, "{args:?}");
    world.verifies();
    // What Nix leaves behind when it fails is no example.
    if ours.status.success() {
        let diff = world.program("diff").args(["-r", "--no-dereference"]);
        let diff = diff.args(["--exclude=.links", "--exclude=*.lock"]);
        diff.arg(world.store()).arg(world.at("nix.store")).ok();
    }
    for dir in ["store", "state", "nix.store", "nix.state"] {
        world
            .program("chmod")
            .args(["-R", "u+w"])
            .arg(world.at(dir))
            .run();
        std::fs::remove_dir_all(world.at(dir)).unwrap();
    }
}

#[test]
fn files_are_added_alike() {
    need!("nix-store", "sqlite3", "diff");
    let world = World::new();
    world.write("plain", "hello\n");
    world.write("dir/sub/file", "deep\n");
    std::fs::set_permissions(
        world.write("run", "#!"),
        std::fs::Permissions::from_mode(0o750),
    )
    .unwrap();
    symlink("../plain", world.file("dir/link")).unwrap();
    symlink("plain", world.file("link")).unwrap();
    for args in [
        &["--add", "plain", "dir", "./run", "link", "dir/"][..],
        &["-A", "plain", "nowhere", "dir"],
        &["--add-fixed", "sha256", "plain", "run"],
        &["--add-fixed", "md5", "plain"],
        &["--add-fixed", "sha1", "plain"],
        &["--add-fixed", "sha512", "plain"],
        &[
            "--add-fixed",
            "--recursive",
            "sha256",
            "plain",
            "dir",
            "link",
        ],
        &["--add-fixed", "--recursive", "sha1", "dir"],
        &["--add-fixed", "--recursive", "md5", "dir"],
        &["--add-fixed", "--recursive", "sha512", "dir"],
        &["--add-fixed", "sha256", "dir"],
    ] {
        same_effect(&world, args, b"");
    }
    for mode in [&[][..], &["--recursive"]] {
        for (algo, hash) in [
            ("md5", "b1946ac92492d2347c6235b4d2611184"),
            ("sha1", "f572d396fae9206628714fb2ce00f72e94f2258f"),
            (
                "sha256",
                "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            ),
            ("sha256", "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="),
        ] {
            world.alike(&[&["--print-fixed-path"], mode, &[algo, hash, "plain"]].concat());
        }
    }
}

#[test]
fn archives_are_the_same_bytes() {
    need!(nix);
    let (world, drv) = filled();
    let paths = world
        .theirs(["-qR", "--include-outputs", &drv])
        .ok()
        .lines();
    for path in &paths {
        let ran = world.alike(&["--dump", path]);
        let dest = world.file("restored");
        world
            .ours(["--restore".as_ref(), dest.as_os_str()])
            .stdin(ran.stdout.clone())
            .ok();
        let again = world.theirs(["--dump".as_ref(), dest.as_os_str()]).ok();
        assert!(again.stdout == ran.stdout, "{path}");
        let _ = std::fs::remove_dir_all(&dest).or_else(|_| std::fs::remove_file(&dest));
    }
    let archive = world.ours(["--dump", &paths[0]]).ok().stdout;
    let dest = world.file("cut");
    for length in [0, 8, 40, archive.len() - 1] {
        let ran = world
            .ours(["--restore".as_ref(), dest.as_os_str()])
            .stdin(&archive[..length])
            .run();
        ran.exits(1).one_error();
        let _ = std::fs::remove_dir_all(&dest).or_else(|_| std::fs::remove_file(&dest));
    }
    world.write("there", "kept");
    world
        .ours(["--restore", "there"])
        .stdin(archive)
        .run()
        .exits(1)
        .one_error();
    assert_eq!(crate::harness::text(world.file("there")), "kept");
}

#[test]
fn one_dumps_the_database_and_the_other_loads_it() {
    need!("nix-store", "nix-instantiate", "nix-hash", "sqlite3");
    let (world, drv) = filled();
    let dump = world.alike(&["--dump-db"]).stdout;
    world.alike(&["--dump-db", &drv]);
    let outputs = world.sql("select count(*) from DerivationOutputs");
    for ours_loads in [true, false] {
        std::fs::remove_dir_all(world.state()).unwrap();
        let load = if ours_loads {
            world.ours(["--load-db"])
        } else {
            world.theirs(["--load-db"])
        };
        load.stdin(dump.clone()).ok().prints_nothing();
        assert!(world.alike(&["--dump-db"]).stdout == dump);
        assert_eq!(world.sql("select count(*) from DerivationOutputs"), outputs);
        world.verifies();
    }
    for input in [
        "x",
        "x\n",
        "\n",
        &String::from_utf8_lossy(&dump[..dump.len() - 3]),
    ] {
        let ran = world.ours(["--load-db"]).stdin(input).run().exits(1);
        ran.one_error();
        assert!(world.alike(&["--dump-db"]).stdout == dump);
    }
}

#[test]
fn paths_are_registered_alike() {
    need!("nix-store", "sqlite3");
    let world = World::new();
    let path = |name: &str| {
        format!(
            "{}/8rhh74q2l84v5z1fa0n941xhbpgw3n{name}",
            world.store().display()
        )
    };
    let (a, b) = (path("ca-a"), path("cb-b"));
    let make = || {
        std::fs::create_dir_all(format!("{b}/bin")).unwrap();
        std::fs::write(&a, "a").unwrap();
        std::fs::write(format!("{b}/bin/x"), &a).unwrap();
    };
    let text = format!("{a}\n\n0\n{b}\n{a}.drv\n2\n{a}\n{b}\n");
    let rows = || {
        world.sql("select path, hash, narSize, deriver, ultimate, ca from ValidPaths order by path")
    };
    let mut found = Vec::new();
    for ours in [false, true] {
        let call = |args: &[&str]| {
            if ours {
                world.ours(args)
            } else {
                world.theirs(args)
            }
        };
        call(&["--init"]).ok();
        make();
        call(&["--register-validity"])
            .stdin(text.clone())
            .ok()
            .prints_nothing();
        let first = rows();
        // What is valid stays as it is, unless asked otherwise.
        std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&a, "other").unwrap();
        call(&["--register-validity"]).stdin(text.clone()).ok();
        assert_eq!(rows(), first);
        call(&["--register-validity", "--reregister"])
            .stdin(text.clone())
            .ok();
        found.push((first, rows(), world.sql("select count(*) from Refs")));
        world.verifies();
        let given = call(&["--dump-db"]).ok().stdout;
        call(&["--register-validity", "--hash-given", "--reregister"])
            .stdin(given)
            .ok();
        let missing = format!("{a}\n\n1\n{}\n", path("cc-c"));
        call(&["--register-validity", "--reregister"])
            .stdin(missing)
            .run()
            .exits(1);
        let nowhere = format!("{}\n\n0\n", path("cc-c"));
        call(&["--register-validity"]).stdin(nowhere).run().exits(1);
        let outside = "/etc/passwd\n\n0\n";
        call(&["--register-validity"]).stdin(outside).run().exits(1);
        assert_eq!(rows().len(), 2);
        world.set_aside(if ours { "windrow" } else { "nix" });
    }
    assert_eq!(found[0], found[1]);
}

#[test]
fn what_disappeared_is_forgotten() {
    need!("nix-store", "nix-instantiate", "nix-hash", "sqlite3");
    let mut left = Vec::new();
    for ours in [false, true] {
        let (world, drv) = filled();
        let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
        let used = world.theirs(["-q", "--references", &out]).ok().lines();
        // The top path has no referrers; what it refers to has others.
        std::fs::remove_file(&out).unwrap();
        let flat = used.iter().find(|path| path.ends_with("-flat"));
        std::fs::remove_file(flat.unwrap()).unwrap();
        let verify = |args: &[&str]| {
            if ours {
                world.ours(args)
            } else {
                world.theirs(args)
            }
        };
        let ran = verify(&["--verify"]).run().exits(1);
        let ran = ran
            .says("disappeared, removing from database")
            .says("but it still has valid referrers!");
        let name = |line: &String| line.rsplit('-').next().unwrap().to_owned();
        let mut rows: Vec<String> = world
            .sql("select path from ValidPaths")
            .iter()
            .map(name)
            .collect();
        rows.sort();
        left.push(rows);
        ran.no_panic();
        verify(&["--verify"])
            .run()
            .exits(1)
            .never_says("removing from database");
    }
    assert_eq!(left[0], left[1]);
}

#[test]
fn equal_files_are_linked_alike() {
    use std::os::unix::fs::MetadataExt as _;
    need!(nix);
    let mut found = Vec::new();
    for ours in [false, true] {
        let (world, drv) = filled();
        let ran = if ours {
            world.ours(["--optimise"])
        } else {
            world.theirs(["--optimise"])
        };
        let ran = ran.ok();
        let said = ran
            .stderr
            .lines()
            .find(|line| line.contains("freed by hard-linking"))
            .unwrap()
            .to_owned();
        let links = std::fs::read_dir(world.store().join(".links")).unwrap();
        let mut links: Vec<_> = links
            .map(|entry| {
                (
                    entry.as_ref().unwrap().file_name(),
                    entry.unwrap().metadata().unwrap().nlink(),
                )
            })
            .collect();
        links.retain(|(_, count)| *count > 2);
        found.push((ran.out(), said, links.len()));
        world.verifies();
        world.alike(&["--optimise", "x"]).exits(1);
        let out = world.theirs(["-q", "--outputs", &drv]).ok().line();
        world.alike(&["--verify-path", &out]).exits(0);
    }
    assert_eq!(found[0], found[1]);
    let world = World::new();
    world.conf("auto-optimise-store = true\n");
    world.write("one", "same");
    world.write("two", "same");
    let paths = world.ours(["--add", "one", "two"]).ok().lines();
    let inode = |path: &String| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&paths[0]), inode(&paths[1]));
}

#[test]
fn archives_are_restored_only_under_a_name() {
    need!(nix);
    let world = World::new();
    let file = world.write("file", "text\n");
    world.write("dir/sub/file", "deep\n");
    let dump = |path: &std::path::Path| world.ours(["--dump"]).arg(path).ok().stdout;
    for (archive, is_file) in [(dump(&file), true), (dump(&world.file("dir")), false)] {
        for name in [
            "out/",
            "out/.",
            "./out//",
            "./out//./.",
            "new/out",
            "",
            ".",
            "/",
            "dir/.",
        ] {
            let restore = |cmd: crate::harness::Cmd| {
                let ran = cmd.stdin(archive.clone()).run();
                let made = world.file("out").symlink_metadata().is_ok();
                let _ = std::fs::remove_dir_all(world.file("out"));
                (ran, made)
            };
            let args = ["--restore", name];
            let (theirs, _) = restore(world.theirs(args));
            let (ours, made) = restore(world.ours(args));
            let ours = ours.exits(1).one_error();
            assert!(!made, "{name}\n{ours}");
            // Nix up to 2.34 takes a slash after the name of a directory.
            if is_file || !name.ends_with("/") || name == "/" {
                assert_eq!(theirs.status.code(), Some(1), "{theirs}");
            }
        }
        world.ours(["--restore", "out"]).stdin(archive).ok();
        let made = world.file("out");
        assert_eq!(made.is_dir(), !is_file);
        world.program("rm").arg("-r").arg(made).ok();
    }
}
