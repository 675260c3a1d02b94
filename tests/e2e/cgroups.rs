//! A cgroup for each build (`use-cgroups`): nothing of a build gets away, all that it takes is
//! counted, it has limits; and what is said where there can be none. Each test has a cgroup of its
//! own, in which windrow makes those of its builds.

use std::fs;

use serde_json::Value;

use crate::harness::forbidden::with_mounts;
use crate::harness::{
    Caller, Cgroup, Cmd, Ran, World, busybox, cgroup2, for_each_caller, graph_of, need, sh, skip,
    text, wait_until,
};

/// The number of the user that [`Caller::Somebody`] is.
const SOMEBODY: u32 = 31_234;

/// A cgroup for this test, which is left where there can be none.
macro_rules! need_cgroup {
    () => {
        match Cgroup::new() {
            Ok(cgroup) => cgroup,
            Err(why) => return skip(why),
        }
    };
    ($($controller:literal),+) => {{
        let cgroup = need_cgroup!();
        $(if !cgroup.has($controller) {
            return skip(concat!("needs the controller ", $controller, " in cgroups of version 2"));
        })+
        cgroup
    }};
}

/// With cgroups or without.
fn option(cmd: Cmd, use_cgroups: bool) -> Cmd {
    cmd.args(["--option", "use-cgroups", &use_cgroups.to_string()])
}

/// A builder that leaves a process which has gone to a session of its own, and whose parent is
/// gone, and then goes on with `rest`.
fn leaves_a_daemon(world: &World, daemon: &str, rest: &str) -> Value {
    let pid = world.file("pid");
    let script = format!(
        "(setsid sh -c 'echo $$ > {0}; {daemon}' </dev/null >/dev/null 2>&1 &)
         while [ ! -s {0} ]; do sleep 0.01; done; {rest}",
        pid.display()
    );
    sh(&script)
}

/// Whether the daemon lives after all is over. It does no longer then.
fn lives(world: &World) -> bool {
    let pid = text(world.file("pid"));
    let cmdline = format!("/proc/{}/cmdline", pid.trim());
    let lives = fs::read(cmdline).is_ok_and(|words| words.starts_with(b"sleep\x00300"));
    let kill = format!("kill -9 {} 2>/dev/null || true", pid.trim());
    world.program("sh").args(["-c", &kill]).ok();
    fs::remove_file(world.file("pid")).unwrap();
    lives
}

/// Builds what leaves a daemon, with cgroups and without.
#[track_caller]
fn daemon_dies_with_its_cgroup_only(rest: &str, args: &[&str], check: impl Fn(Ran)) {
    let cgroup = match Cgroup::new() {
        Ok(cgroup) => cgroup,
        Err(why) => return skip(why),
    };
    for use_cgroups in [true, false] {
        let world = World::new();
        let drv = world.add_one("x", leaves_a_daemon(&world, "exec sleep 300", rest));
        let build = option(world.windrow("build").arg(&drv).args(args), use_cgroups);
        check(cgroup.runs(build).run());
        assert_eq!(lives(&world), !use_cgroups);
        world.is_clean();
        world.stays_valid();
        assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
    }
}

#[test]
fn a_daemon_dies_with_its_build() {
    need!("setsid");
    daemon_dies_with_its_cgroup_only("echo done > $out", &[], |ran| drop(ran.exits(0)));
    daemon_dies_with_its_cgroup_only("exit 4", &[], |ran| drop(ran.exits(100)));
}

#[test]
fn a_daemon_of_a_build_that_is_killed_dies_with_it() {
    need!("setsid");
    let most = ["--option", "max-build-log-size", "10"];
    let rest = "echo that is more than it may write; sleep 300";
    daemon_dies_with_its_cgroup_only(rest, &most, |ran| {
        drop(ran.exits(1).says("more than 10 bytes of log output"));
    });
}

#[test]
fn cgroups_that_a_builder_made_in_its_own_go_with_it() {
    need!("setsid");
    let cgroup = need_cgroup!();
    let world = World::new();
    let top = cgroup2().unwrap();
    let moves = format!(
        "d={}$(sed -n s/^0:://p /proc/self/cgroup); mkdir -p $d/a/b && echo $$ > $d/a/b/cgroup.procs && exec sleep 300",
        top.display()
    );
    // It is told only once it has moved.
    let script = moves.replace("&& exec", "&& echo $$ > $pid && exec");
    let script = format!(
        "pid={0}; export pid; (setsid sh -c '{script}' </dev/null >/dev/null 2>&1 &)
         while [ ! -s $pid ]; do sleep 0.01; done; echo done > $out",
        world.file("pid").display()
    );
    let drv = world.add_one("x", sh(&script));
    let build = option(world.windrow("build").arg(&drv), true);
    cgroup.runs(build).ok();
    assert!(!lives(&world));
    assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
    world.is_clean();
}

/// The cgroup that a builder saw itself in.
fn seen(path: &std::path::Path) -> String {
    let text = text(path);
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    own.expect("a cgroup of version 2").to_owned()
}

#[test]
fn builders_with_and_without_a_sandbox_are_in_cgroups() {
    for_each_caller(|world, caller| {
        let cgroup = match Cgroup::new() {
            Ok(cgroup) => cgroup,
            Err(why) => return skip(why),
        };
        if caller == Caller::Somebody {
            cgroup.give_to(SOMEBODY);
        }
        for sandbox in ["true", "false"] {
            let script = "cat /proc/self/cgroup > $out";
            let derivation = match sandbox {
                "true" => busybox(script),
                _ => sh(script),
            };
            let file = world.graph("g.json", &graph_of([(sandbox, derivation)]));
            let build = option(world.windrow("build").arg(&file), true);
            let build = build.args(["--option", "sandbox", sandbox]);
            let ran = cgroup.runs(caller.runs(build)).ok();
            let own = seen(&ran.path());
            assert!(own.contains("/windrow-run-"), "{caller:?} {sandbox}: {own}");
            assert!(!ran.stderr.contains("warning"), "{ran}");
            assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
        }
        world.is_clean();
        world.stays_valid();
    });
}

#[test]
fn each_build_of_a_chain_has_one_of_its_own() {
    let cgroup = need_cgroup!();
    let world = World::new();
    let step = |needs: &str| sh(&format!(": {needs}; cat /proc/self/cgroup > $out"));
    let graph = graph_of([
        ("a", step("")),
        ("b", step("@{a}")),
        ("c", step("@{b}")),
        ("d", step("@{c}")),
        (
            "e",
            sh(
                "for i in @{a} @{b} @{c} @{d} /proc/self/cgroup; do sed -n s/^0:://p $i; done > $out",
            ),
        ),
    ]);
    let file = world.graph("g.json", &graph);
    let build = option(world.windrow("build").arg(&file), true);
    let all = text(cgroup.runs(build).ok().path());
    let mut all: Vec<&str> = all.lines().collect();
    assert!(
        all.iter().all(|own| own.contains("/windrow-run-")),
        "{all:?}"
    );
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
    world.is_clean();
}

/// What was recorded of the last build of that name.
fn recorded(world: &World, name: &str, figure: &str) -> u64 {
    let ran = world.windrow("history").args(["--json", name]).ok();
    let history: Value = serde_json::from_str(&ran.line()).unwrap();
    history["last"][0][figure].as_u64().unwrap_or(0)
}

#[test]
fn the_time_of_processes_that_nobody_waited_for_counts() {
    need!("setsid");
    let cgroup = need_cgroup!();
    let mut cpu = Vec::new();
    for use_cgroups in [true, false] {
        let world = World::new();
        // The builder waits without doing anything itself.
        let done = world.file("done");
        world.program("mkfifo").arg(&done).ok();
        let done = done.display();
        let busy = format!(
            "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done; echo > {done}; exec sleep 300"
        );
        let rest = format!("read line < {done}; echo > $out");
        let graph = graph_of([("busy", leaves_a_daemon(&world, &busy, &rest))]);
        let file = world.graph("g.json", &graph);
        let build = option(world.windrow("build").arg(&file), use_cgroups);
        cgroup.runs(build).ok();
        cpu.push(recorded(&world, "busy", "cpu"));
        assert_eq!(lives(&world), !use_cgroups);
    }
    assert!(cpu[0] > 2 * cpu[1], "{cpu:?}");
}

#[test]
fn memory_is_counted_and_limited() {
    let cgroup = need_cgroup!("memory");
    let world = World::new();
    // In several processes at a time, so that no single one has all of it.
    let heavy = |name: &str| {
        let part = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 1; echo ${#x}";
        sh(&format!(
            ": {name}; for i in 1 2 3 4; do ({part}) > p$i & done; wait; cat p? > $out"
        ))
    };
    let build = |name: &str, most: &str| {
        let file = world.graph("g.json", &graph_of([(name, heavy(name))]));
        let build = option(world.windrow("build").arg(&file), true);
        let build = build.args(["--option", "cgroup-memory-max", most]);
        cgroup.runs(build).run()
    };
    build("heavy", "1G").exits(0);
    let peak = recorded(&world, "heavy", "peakMemory");
    assert!((80_000_000..1 << 30).contains(&peak), "{peak}");
    let ran = build("limited", "40M").exits(1).one_error();
    let ran = ran.says("more memory than the 41943040 bytes");
    let _ = ran.says("'cgroup-memory-max'");
    assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
    world.is_clean();
}

#[test]
fn processes_and_time_are_limited() {
    let cgroup = need_cgroup!("pids", "cpu");
    let world = World::new();
    let script =
        "d=$(sed -n s/^0:://p /proc/self/cgroup); cat $top$d/cpu.max $top$d/pids.max > $out
        for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait; [ $many ]";
    let top = cgroup2().unwrap();
    let script = format!("top={}; many=$MANY; {script}", top.display());
    let build = |many: &str| {
        let script = script.replace("$MANY", many);
        let file = world.graph("g.json", &graph_of([("x", sh(&script))]));
        let build = option(world.windrow("build").arg(&file), true);
        let build = build.args([
            "--option",
            "cgroup-pids-max",
            if many == "1" { "40" } else { "5" },
        ]);
        let build = build.args(["--option", "cgroup-cpu-max", "150"]);
        cgroup.runs(build).run()
    };
    let ran = build("1").exits(0);
    assert_eq!(text(ran.path()), "150000 100000\n40\n");
    let ran = build("").exits(1).one_error();
    let _ = ran
        .says("more processes than the 5")
        .says("'cgroup-pids-max'");
    world.is_clean();
}

#[test]
fn limits_that_there_can_not_be_are_told() {
    let cgroup = need_cgroup!();
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let limits = ["memory-max", "pids-max", "cpu-max"];
    let build = |use_cgroups: bool| {
        let build = option(world.windrow("build").arg(&file), use_cgroups);
        let set = limits.map(|limit| format!("cgroup-{limit}"));
        let build = set
            .iter()
            .fold(build, |cmd, name| cmd.args(["--option", name, "1G"]));
        cgroup.runs(build).run().exits(0)
    };
    let mut ran = build(false);
    for limit in limits {
        ran = ran.says(format!(
            "the setting 'cgroup-{limit}' has no effect without 'use-cgroups'"
        ));
    }
    let controllers = ["memory", "pids", "cpu"];
    let mut ran = build(true);
    for (limit, controller) in limits.iter().zip(controllers) {
        let told = format!("the setting 'cgroup-{limit}' has no effect");
        ran = match cgroup.has(controller) {
            true => ran.never_says(&told),
            false => ran.says(told).says(format!("controller '{controller}'")),
        };
    }
    world.is_clean();
}

#[test]
fn other_processes_in_the_cgroup_are_in_the_way_of_controllers() {
    let cgroup = need_cgroup!();
    // Any will do: what is asked is whether there may be one.
    if !cgroup.has("memory") {
        return skip("needs the controller memory in cgroups of version 2");
    }
    let world = World::new();
    let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let build = option(world.windrow("build").arg(&file), true);
    let build = build.args(["--option", "cgroup-memory-max", "1G"]);
    // The shell stays in it, unlike the one that becomes windrow.
    let build = build.through("/bin/sh", &["-c", "\"$@\"; exit $?", "sh"]);
    let ran = cgroup.runs(build).run().exits(0);
    let _ = ran
        .says("'cgroup-memory-max' has no effect")
        .says("Delegate=yes");
    assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
}

/// Starts a build that leaves a daemon and goes on, and kills windrow with what watches over it if
/// `guard` is to die as well.
fn killed(world: &World, cgroup: &Cgroup, guard: bool) {
    let drv = world.add_one("x", leaves_a_daemon(world, "exec sleep 300", "sleep 300"));
    let build = option(world.windrow("build").arg(&drv), true);
    let running = cgroup.runs(build).start();
    world.wait_for("pid");
    if guard {
        let is_guard = |pid: &&u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name == "builder-guard\n")
        };
        let processes = world.processes();
        for guard in processes.iter().filter(is_guard) {
            let pid = nix::unistd::Pid::from_raw(guard.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
    running.signal("KILL");
    running.wait();
}

#[test]
fn an_interrupted_run_leaves_no_cgroup() {
    need!("setsid");
    let cgroup = need_cgroup!();
    let world = World::new();
    let drv = world.add_one("x", leaves_a_daemon(&world, "exec sleep 300", "sleep 300"));
    let running = cgroup
        .runs(option(world.windrow("build").arg(&drv), true))
        .start();
    world.wait_for("pid");
    running.signal("INT");
    running.wait().exits(130);
    assert!(!lives(&world));
    assert!(cgroup.inside().is_empty(), "{:?}", cgroup.inside());
    world.is_clean();
}

#[test]
fn a_daemon_dies_with_a_killed_engine() {
    need!("setsid");
    let cgroup = need_cgroup!();
    let world = World::new();
    killed(&world, &cgroup, false);
    let pid = text(world.file("pid"));
    wait_until("the daemon is dead", || {
        !fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()))
            .is_ok_and(|words| words.starts_with("sleep"))
    });
}

#[test]
fn what_killed_runs_left_the_next_one_removes() {
    need!("setsid");
    let cgroup = need_cgroup!();
    let world = World::new();
    killed(&world, &cgroup, true);
    let is_run = |name: &String| name.starts_with("windrow-run-");
    assert!(cgroup.inside().iter().any(is_run), "{:?}", cgroup.inside());
    cgroup.take_controllers();
    // Not a run's, whatever its name begins with.
    let other = cgroup.path().join("windrow-run-1-0.service");
    fs::create_dir(&other).unwrap();
    let file = world.graph("g.json", &graph_of([("y", sh("echo > $out"))]));
    let build = option(world.windrow("build").arg(&file), true);
    cgroup.runs(build).ok();
    assert!(!lives(&world));
    assert_eq!(cgroup.inside(), ["windrow-run-1-0.service"]);
}

/// Builds where there can be no cgroups, and expects one warning that says all of that.
#[track_caller]
fn warns(world: &World, wrap: impl Fn(Cmd) -> Cmd, said: &[&str]) {
    let file = world.graph(
        "g.json",
        &graph_of([("x", sh("cat /proc/self/cgroup > $out"))]),
    );
    let build = option(world.windrow("build").arg(&file), true);
    let mut ran = wrap(build.args(["--option", "sandbox", "false"]))
        .run()
        .exits(0);
    assert_eq!(ran.stderr.matches("warning:").count(), 1, "{ran}");
    for text in said.iter().chain(&["'use-cgroups'", "without them"]) {
        ran = ran.says(text);
    }
    assert!(!text(ran.path()).contains("windrow-run-"), "{ran}");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn without_a_file_system_of_cgroups_there_is_a_warning() {
    need!(root);
    need!("unshare", "umount");
    let wrapper = with_mounts(
        "while umount -l -a -t cgroup2 && grep -q ' - cgroup2 ' /proc/self/mountinfo; do :; done",
    );
    let wrap = |cmd: Cmd| {
        let args: Vec<&str> = wrapper[1..].iter().map(String::as_str).collect();
        cmd.through(&wrapper[0], &args)
    };
    warns(
        &World::new(),
        wrap,
        &["no cgroup2 file system is mounted", "mount -t cgroup2"],
    );
}

#[test]
fn where_cgroups_are_read_only_there_is_a_warning() {
    need!("unshare", "mount");
    let cgroup = need_cgroup!();
    let top = cgroup2().unwrap();
    let wrapper = with_mounts(&format!("mount -o remount,bind,ro {}", top.display()));
    let wrap = |cmd: Cmd| {
        let args: Vec<&str> = wrapper[1..].iter().map(String::as_str).collect();
        cgroup.runs(cmd.through(&wrapper[0], &args))
    };
    warns(
        &World::new(),
        wrap,
        &["Read-only file system", "can be written"],
    );
}

#[test]
fn where_cgroups_are_somebody_elses_there_is_a_warning() {
    for_each_caller(|world, caller| {
        if caller != Caller::Somebody {
            return;
        }
        let cgroup = match Cgroup::new() {
            Ok(cgroup) => cgroup,
            Err(why) => return skip(why),
        };
        let wrap = |cmd| cgroup.runs(caller.runs(cmd));
        warns(world, wrap, &["Permission denied", "Delegate=yes"]);
    });
}
