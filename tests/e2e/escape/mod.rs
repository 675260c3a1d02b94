//! Builders that try to break out. Each attempt is made twice: in the sandbox, where it must fail
//! or be harmless, and with the protection taken away, where it must work, so that it is known to
//! be a real one.

mod builtin;
mod collector;
mod directories;
mod files;
mod handed_out;
mod input;
mod kernel;
mod killed;
mod network;
mod outputs;

use std::path::Path;

use serde_json::Value;

use crate::harness::{Caller, World, for_each_caller, graph_of, need, sh, text};

/// A sandbox with the machine's own programs, for attempts that busybox is too small for.
pub(super) const ROOMY: &str =
    "sandbox = true\nsandbox-fallback = false\nsandbox-paths = /usr /bin? /lib? /lib64? /lib32?\n";

/// Settings without the protection.
pub(super) const OPEN: [&str; 3] = ["--option", "sandbox", "false"];

/// Runs a test in such a world for each caller.
pub(super) fn attempts(test: impl Fn(&World, Caller)) {
    for_each_caller(|world, caller| {
        world.conf(ROOMY);
        test(world, caller);
    });
}

/// Builds a graph with one target in a fresh name, and gives the text of its output.
#[track_caller]
pub(super) fn built(world: &World, caller: Caller, options: &[&str], derivation: Value) -> String {
    let name = format!("x{}", options.len());
    let file = world.graph("g.json", &graph_of([(name.as_str(), derivation)]));
    let cmd = world.windrow("build").arg(file).args(options);
    text(caller.runs(cmd).ok().path())
}

/// A script that says "broken" if a command works and "held" if not.
pub(super) fn tried(command: &str) -> Value {
    sh(&format!(
        "if {command}; then echo broken; else echo held; fi > $out 2>/dev/null"
    ))
}

/// Expects an attempt to fail in the sandbox and to work outside.
#[track_caller]
pub(super) fn holds(world: &World, caller: Caller, command: &str) {
    let inside = built(world, caller, &[], tried(command));
    assert_eq!(inside, "held\n", "in the sandbox, as {caller:?}: {command}");
    let outside = built(world, caller, &OPEN, tried(command));
    assert_eq!(outside, "broken\n", "without it, as {caller:?}: {command}");
}

/// The command in perl, which every Debian has.
pub(super) fn perl(code: &str) -> String {
    format!("perl -MSocket -e '{code}'")
}

#[test]
fn filling_what_is_shared_does_no_harm() {
    need!("perl");
    attempts(|world, caller| {
        let limit = ["--option", "max-build-log-size", "100000"];
        // It ends by itself, so that it is a success where nothing limits it.
        let file = world.graph(
            "log.json",
            &graph_of([("log", sh("yes | head -c 30000000; echo > $out"))]),
        );
        let build = || caller.runs(world.windrow("build").arg(&file));
        build().args(limit).run().exits(1).says("log");
        build().ok();

        let shm = "head -c 1000000 /dev/zero > /dev/shm/fill";
        let inside = built(
            world,
            caller,
            &["--option", "sandbox-dev-shm-size", "64k"],
            tried(shm),
        );
        assert_eq!(inside, "held\n");
        assert!(!Path::new("/dev/shm/fill").exists());
        let large = ["--option", "sandbox-dev-shm-size", "8m", "-q"];
        assert_eq!(built(world, caller, &large, tried(shm)), "broken\n");

        let bomb = "my $n = 0; while ($n < 1500) { my $p = fork; last unless defined $p; if (!$p) { sleep 30; exit } $n++ } print $n;";
        let script = format!("{} > $out", perl(bomb));
        let processes = |count: &str| -> u32 {
            let options = ["--option", "sandbox-max-processes", count, "-q", "-q"];
            built(
                world,
                caller,
                &options[..if count == "0" { 5 } else { 4 }],
                sh(&script),
            )
            .parse()
            .unwrap()
        };
        let limited = processes("400");
        world.is_clean();
        if limited == 1500 {
            return crate::harness::skip(
                "this kernel can't limit the processes of a namespace (Linux 6.14)",
            );
        }
        assert!(limited < 400, "{limited} processes");
        assert_eq!(processes("0"), 1500, "the attempt is no real one");
        world.is_clean();
    });
}

#[test]
fn trees_made_to_stay_go_with_the_build() {
    need!("perl");
    attempts(|world, caller| {
        let deep = "for (1..3000) { mkdir \"d\"; chdir \"d\" or last } open(F,\">f\"); chmod 0, \"f\"; chmod 0, \".\";";
        let script = format!(
            "mkdir a b; (cd a; {deep}); chmod 000 a; ln -s / b/root; mkfifo b/fifo; chmod 500 b
             (cd /tmp; {deep}); mkdir $NIX_STORE/more; (cd $NIX_STORE/more; {deep}); chmod 0 $NIX_STORE/more; echo > $out",
            deep = perl(deep)
        );
        built(world, caller, &[], sh(&script));
        world.is_clean();
        let left: Vec<_> = world.store_entries();
        let left: Vec<_> = left
            .iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with('.') || name.contains(".chroot") || name == "more"
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = text("/proc/self/mountinfo");
        assert!(!mounts.contains(world.at("").to_str().unwrap()), "{mounts}");
        // An output may be as deep.
        let output = format!(
            "mkdir $out; cd $out; {}",
            perl(&deep.replace("chmod 0, \"f\"; chmod 0, \".\";", ""))
        );
        let file = world.graph("deep.json", &graph_of([("deep", sh(&output))]));
        caller.runs(world.windrow("build").arg(file)).ok();
        world.is_clean();
    });
}

#[test]
fn builders_of_root_can_not_change_the_kernels_settings() {
    need!(root);
    attempts(|world, caller| {
        if caller != Caller::Self_ {
            return;
        }
        // Written back as it is, so that the attempt that works does no harm.
        let write = "(cat /proc/sys/kernel/core_pattern > saved && cat saved > /proc/sys/kernel/core_pattern)";
        holds(world, caller, write);
    });
}
