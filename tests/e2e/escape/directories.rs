//! The directories of builds: that no other engine takes them, that nothing of a build is in those
//! of the next, and that those of engines that were killed go.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::ROOMY;
use crate::harness::{
    Caller, World, busybox, for_each_caller, graph_of, need, sh, text, wait_until,
};

/// Settings with and without a sandbox, in which builders find the FIFOs of [`fifo`] at `/hand`, or
/// where they are.
fn in_both_modes(test: impl Fn(&World, Caller, &str)) {
    for_each_caller(|world, caller| {
        fs::create_dir_all(world.file("hand")).unwrap();
        let hand = world.file("hand").display().to_string();
        world.conf(&format!("{} /hand={hand}\n", ROOMY.trim_end()));
        test(world, caller, "/hand");
    });
    for_each_caller(|world, caller| {
        fs::create_dir_all(world.file("hand")).unwrap();
        world.conf("");
        test(world, caller, world.file("hand").to_str().unwrap());
    });
}

/// A FIFO that builders may read from.
fn fifo(world: &World, name: &str) {
    let path = world.file("hand").join(name);
    mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
}

/// Waits until a builder reads from the FIFO, which then waits for a word.
#[track_caller]
fn reader_of(world: &World, name: &str) -> fs::File {
    let path = world.file("hand").join(name);
    let mut writer = None;
    wait_until(&format!("a builder reads from {}", path.display()), || {
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        writer = options.open(&path).ok();
        writer.is_some()
    });
    writer.unwrap()
}

/// The same, and tells it the word.
#[track_caller]
fn tell(world: &World, name: &str, word: &str) {
    writeln!(reader_of(world, name), "{word}").unwrap();
}

/// The entry of the store whose name ends so.
fn in_store(world: &World, end: &str) -> Option<PathBuf> {
    let mut entries = world.store_entries().into_iter();
    entries.find(|path| path.to_string_lossy().ends_with(end))
}

/// What lies in the store of directories of runs.
fn runs_in_store(world: &World) -> Vec<PathBuf> {
    let mut entries = world.store_entries();
    entries.retain(|path| path.to_string_lossy().ends_with(".chroot"));
    entries
}

#[test]
fn an_engine_that_checks_what_another_has_built_shares_no_directory_with_it() {
    in_both_modes(|world, caller, hand| {
        for name in ["x1", "x2", "w1", "w2", "hold"] {
            fifo(world, name);
        }
        // Their directories are as they were made, unless they are told to leave something.
        let marked = |name: &str| {
            sh(&format!(
                "read word < {hand}/{name}1
                 [ $word = plain ] || {{ echo secret > marker; [ {hand} != /hand ] || echo secret > $NIX_STORE/marker; }}
                 read end < {hand}/{name}2
                 [ $word = plain ] || {{ [ \"$(cat marker)\" = secret ] && rm marker; }} || exit 7
                 [ \"$(ls -A)\" = '' ] && echo same > $out"
            ))
        };
        let look =
            "{ ls -A; [ $PWD != /build ] || ls -A $NIX_STORE /tmp; } | grep marker >> $out; true";
        let graph = graph_of([
            ("x", marked("x")),
            ("w", marked("w")),
            (
                "hold",
                sh(&format!(
                    ": @{{x}} @{{w}}; read end < {hand}/hold; echo > $out"
                )),
            ),
            ("y", sh(&format!("echo seen: @{{hold}} > $out; {look}"))),
            ("z", sh(&format!("echo seen: @{{hold}} > $out; {look}"))),
            ("all", sh("cat @{y} @{z} > $out")),
        ]);
        let file = world.graph("g.json", &graph);
        let graph = caller
            .runs(world.windrow("build").arg(&file).arg("-j2"))
            .start();
        for name in ["x1", "w1", "x2", "w2"] {
            tell(world, name, "plain");
        }
        // Both have ended, and their directories wait for the next.
        let out = |name: &str| in_store(world, &format!("-{name}"));
        wait_until("both are built", || {
            out("x").is_some() && out("w").is_some()
        });
        let mut hold = reader_of(world, "hold");
        let check = |name: &str| {
            let drv = in_store(world, &format!("-{name}.drv")).unwrap();
            let cmd = world.windrow("build").arg(drv).arg("--check");
            caller.runs(cmd).start()
        };
        let checks = [check("x"), check("w")];
        for name in ["x1", "w1"] {
            tell(world, name, "mark");
        }
        // Now their directories have the names that the graph's spare ones had.
        writeln!(hold, "go").unwrap();
        let seen = text(graph.wait().exits(0).path());
        assert!(!seen.contains("marker"), "as {caller:?}: {seen}");
        for name in ["x2", "w2"] {
            tell(world, name, "end");
        }
        for check in checks {
            check.wait().exits(0);
        }
        world.is_clean();
        assert!(runs_in_store(world).is_empty());
        world.stays_valid();
    });
}

#[test]
fn what_a_killed_run_left_goes_with_the_next_and_what_was_kept_stays() {
    in_both_modes(|world, caller, hand| {
        fifo(world, "hold");
        let failing = world.graph("f.json", &graph_of([("fails", sh("echo > left; exit 1"))]));
        let keep = world.windrow("build").arg(failing).arg("--keep-failed");
        caller.runs(keep).run().exits(100);
        let kept = world.temporary();
        assert_eq!(kept.len(), 1, "{kept:?}");
        let foreign = world.at("tmp/nix-build-foreign.drv-0");
        fs::create_dir(&foreign).unwrap();

        let hold = sh(&format!(
            ": @{{a}}; mkdir d; echo > d/f; chmod 500 d; read end < {hand}/hold; echo > $out"
        ));
        let graph = graph_of([("a", sh("echo > $out")), ("hold", hold)]);
        let file = world.graph("g.json", &graph);
        let cmd = world.windrow("build").arg(&file);
        let running = caller.runs(cmd).start();
        let hold = reader_of(world, "hold");
        running.signal("KILL");
        assert!(!running.wait().status.success());
        // The builder ends.
        drop(hold);
        assert!(world.temporary().len() > 2, "a killed run leaves something");
        let other = world.graph("o.json", &graph_of([("other", sh("echo > $out"))]));
        caller.runs(world.windrow("build").arg(other)).ok();
        let mut left = world.temporary();
        left.retain(|path| !kept.contains(path));
        assert_eq!(left, [foreign], "as {caller:?}");
        assert!(runs_in_store(world).is_empty());
        assert!(kept[0].join("left").exists() || kept[0].join("build/left").exists());
    });
}

#[test]
fn nothing_of_a_build_is_left_in_the_directories_of_the_next() {
    need!("chattr", "lsattr", "touch");
    in_both_modes(|world, caller, hand| {
        let also = if hand == "/hand" {
            "/tmp $NIX_STORE"
        } else {
            ""
        };
        // Whatever of it this file system can do.
        let leave = format!(
            "touch -d @1000 . {also}; chattr +d . 2>/dev/null; chattr -v 424242 . 2>/dev/null; : > $out"
        );
        let look = format!(
            ": @{{leave}}; {{ stat -c 'mtime %Y' . {also}; lsattr -d . | cut -d' ' -f1 | grep -o d; lsattr -dv . | grep -o 424242; }} > $out 2>/dev/null; true"
        );
        let graph = graph_of([("leave", sh(&leave)), ("look", sh(&look))]);
        let file = world.graph("g.json", &graph);
        let seen = text(caller.runs(world.windrow("build").arg(file)).ok().path());
        assert!(seen.starts_with("mtime "), "{seen}");
        let traces = ["mtime 1000", "d\n", "424242"];
        assert!(
            !traces
                .iter()
                .any(|trace| seen.lines().any(|line| line == trace.trim_end())),
            "as {caller:?}: {seen}"
        );
        world.is_clean();
    });
}

#[test]
fn a_mount_point_made_in_advance_is_not_used() {
    need!(root);
    need!("setpriv");
    for_each_caller(|world, caller| {
        // Somebody else makes it before the engine could, as soon as its number is known.
        fs::set_permissions(world.at("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        let line = "umask 0; for name in .windrow-template-$$ .windrow-run-$$; do
            setpriv --reuid=31235 --regid=31235 --clear-groups mkdir $TMPDIR/$name || exit 9; done; exec \"$@\"";
        let file = world.graph("g.json", &graph_of([("x", busybox("echo > $out"))]));
        let cmd = world.windrow("build").arg(file);
        let cmd = cmd.through("/bin/sh", &["-c", line, "sh"]);
        if caller == Caller::Self_ {
            caller.runs(cmd).ok();
            let left = world.temporary();
            assert_eq!(left.len(), 2, "{left:?}");
            assert!(
                left.iter()
                    .all(|path| path.metadata().unwrap().uid() == 31235)
            );
        }
    });
}
