//! Programs that settings name to be called for builds: `post-build-hook` and `diff-hook`. The
//! hooks are shell scripts; where a real Nix is at hand it calls the same ones.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::build_users;
use crate::harness::{Cmd, World, graph_of, need, sh, sh_with, sorted_lines, text, wait_until};

/// A hook of that setting, which nix.conf names.
fn hook(world: &World, setting: &str, script: &str) -> PathBuf {
    let script = format!("cd {}; {script}", world.at("files").display());
    let hook = world.script(&format!("{setting}.sh"), &script);
    world.conf(&format!("{setting} = {}\n", hook.display()));
    hook
}

/// Two outputs.
fn two() -> Value {
    sh_with(
        "echo $out > $out; echo > $dev",
        json!({"outputs": ["out", "dev"]}),
    )
}

fn build(world: &World, what: &str) -> Cmd {
    world.windrow("build").arg(what)
}

#[test]
fn the_post_build_hook_finds_what_was_built_now() {
    let world = World::new();
    let drv = world.add(&graph_of([
        ("low", sh("echo > $out")),
        ("x", {
            sh_with(
                ": @{low}; echo $out > $out; echo > $dev",
                json!({"outputs": ["out", "dev"]}),
            )
        }),
    ]));
    let script = "ls -d $OUT_PATHS >> seen; echo $DRV_PATH >> seen; pwd
        echo \"$NIX_CONFIG\" > config; echo told; echo warned >&2; printf unfinished";
    let hook = hook(&world, "post-build-hook", script);
    let ran = build(&world, &drv).args(["--option", "cores", "3"]).ok();
    let ran = ran.says(format!("running post-build-hook '{}'", hook.display()));
    let ran = ran
        .says("post-build-hook: told")
        .says("post-build-hook: warned");
    let ran = ran
        .says("post-build-hook: unfinished")
        .never_says("warning: ");
    let outputs = ran.lines();
    let seen = text(world.file("seen"));
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(seen[0].ends_with("-low") && seen[1].ends_with("-low.drv"));
    let mut sorted = outputs.clone();
    sorted.sort();
    assert_eq!(seen[2..4], sorted);
    assert_eq!(seen[4], drv);
    let config = text(world.file("config"));
    assert!(
        config.contains("cores = 3\n") && config.contains("post-build-hook = "),
        "{config}"
    );

    // Nothing is built, or one output only, or all once more.
    let calls = || {
        sorted_lines(world.file("seen"))
            .iter()
            .filter(|it| it.ends_with(".drv"))
            .count()
    };
    build(&world, &drv).ok();
    assert_eq!(calls(), 2);
    build(&world, &drv).arg("--check").ok();
    assert_eq!(calls(), 3);
    assert_eq!(text(world.file("seen")).lines().rev().take(3).count(), 3);
    let dev = outputs.iter().find(|path| path.ends_with("-dev")).unwrap();
    world.ours(["--delete", dev]).ok();
    std::fs::remove_file(world.file("seen")).unwrap();
    build(&world, &drv).ok();
    assert_eq!(text(world.file("seen")), format!("{dev}\n{drv}\n"));
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_nix_tells_the_post_build_hook_is_told() {
    need!("nix-store", "nix");
    let world = World::new();
    // Nix 2.8.0 names no outputs, of which later ones name all that were built.
    hook(
        &world,
        "post-build-hook",
        "echo \"$DRV_PATH $# $(pwd)\" >> seen; nix show-config > known 2>&1 || exit 4",
    );
    let drv = world.add_one("x", two());
    build(&world, &drv).ok();
    let known = text(world.file("known"));
    assert!(!known.contains("warning: unknown setting"), "{known}");
    assert!(known.contains("post-build-hook = "), "{known}");
    let ours = text(world.file("seen"));
    world.set_aside("ours");
    std::fs::remove_file(world.file("seen")).unwrap();
    let again = world.add_one("x", two());
    assert_eq!(again, drv);
    world.program("nix-store").args(["-r", &drv]).ok();
    assert_eq!(text(world.file("seen")), ours);
}

#[test]
fn a_hook_that_fails_fails_the_build_and_not_its_outputs() {
    let world = World::new();
    let log = world.file("runs");
    let file = world.graph(
        "g.json",
        &graph_of([
            (
                "other",
                sh(&format!("echo other >> {}; echo > $out", log.display())),
            ),
            (
                "x",
                sh(&format!("echo x >> {}; echo x > $out", log.display())),
            ),
            (
                "y",
                sh(&format!(
                    "cat @{{x}}; echo y >> {}; echo > $out",
                    log.display()
                )),
            ),
            ("all", sh("ls @{y} @{other} > $out")),
        ]),
    );
    let hook = hook(
        &world,
        "post-build-hook",
        "case $DRV_PATH in *-x.drv) exit 3;; esac",
    );
    let ran = build(&world, file.to_str().unwrap())
        .arg("-k")
        .run()
        .exits(1);
    let ran = ran.says(format!("the post-build-hook '{}'", hook.display()));
    ran.says("failed with exit code 3")
        .says("-x.drv'")
        .never_says("panic");
    assert_eq!(
        sorted_lines(&log),
        ["other", "x"],
        "what needs it is not built"
    );
    let outputs = world.store_entries();
    let x = outputs
        .iter()
        .find(|path| path.to_str().unwrap().ends_with("-x"));
    assert!(world.is_valid(x.unwrap()));
    world.is_clean();
    world.stays_valid();
    // It is not called for what is valid.
    build(&world, file.to_str().unwrap()).ok();
    assert_eq!(sorted_lines(&log), ["other", "x", "y"]);
}

#[test]
fn a_hook_that_is_not_there_is_named() {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    world.conf("post-build-hook = /no/such/hook\n");
    let ran = build(&world, &drv).run().exits(1).one_error();
    ran.says("/no/such/hook").says("No such file");
    world.is_clean();
    world.stays_valid();
}

/// Has a script wait until another calls.
fn wait(world: &World, name: &str) -> String {
    let file = world.file(name);
    format!(
        "while [ ! -e {} ]; do /bin/sleep 0.01; done",
        file.display()
    )
}

/// Calls it.
fn go(world: &World, name: &str) -> String {
    format!(": > {}", world.file(name).display())
}

#[test]
fn with_one_slot_hooks_run_one_at_a_time_while_builds_go_on() {
    let world = World::new();
    // The hook that is called first waits for the builders of all three, and the other two builds
    // are complete by then or soon after.
    let ran = world.file("ran");
    let each = ["a", "b", "c"].map(|name| {
        (
            name,
            sh(&format!("echo {name} >> {}; echo > $out", ran.display())),
        )
    });
    let top = ("all", sh("ls @{a} @{b} @{c} > $out"));
    let all = world.add(&graph_of(each.into_iter().chain([top])));
    let script =
        "echo + >> log; until [ $(wc -l < ran) = 3 ]; do /bin/sleep 0.01; done; echo - >> log";
    hook(&world, "post-build-hook", script);
    build(&world, &all).arg("-j1").ok();
    assert_eq!(text(world.file("log")), "+\n-\n".repeat(4));
    world.is_clean();
}

#[test]
fn as_many_hooks_run_as_there_are_slots() {
    let world = World::new();
    let each = ["a", "b", "c", "d"].map(|name| (name, sh("echo > $out")));
    // What depends on all four is built when none of their hooks runs any more.
    let log = world.file("log");
    let top = format!("cp {} $out; : @{{a}} @{{b}} @{{c}} @{{d}}", log.display());
    let all = world.add(&graph_of(each.into_iter().chain([("all", sh(&top))])));
    let of = |what: &str, paths: &[String]| world.ours(["-q", what]).args(paths).ok().lines();
    let outputs = of("--outputs", &of("--references", std::slice::from_ref(&all)));
    assert_eq!(outputs.len(), 4);
    // None ends before a second one was called, or before all four builds want it.
    let script = format!(
        "case $DRV_PATH in *-all.drv) exit;; esac
        echo + >> log
        until [ $(grep -c + log) -ge 2 ] && {} nix-store --check-validity {}; do /bin/sleep 0.01; done
        echo - >> log",
        env!("CARGO_BIN_EXE_windrow"),
        outputs.join(" "),
    );
    hook(&world, "post-build-hook", &script);
    let seen = text(build(&world, &all).arg("-j2").ok().line());
    let mut running = 0;
    let counts = seen.lines().map(|line| {
        running += if line == "+" { 1 } else { -1 };
        running
    });
    let counts: Vec<i32> = counts.collect();
    assert_eq!((counts.len(), counts[7]), (8, 0), "{seen}");
    assert_eq!(counts.iter().max(), Some(&2), "{seen}");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn what_depends_on_a_build_waits_for_its_hook_and_nothing_else_does() {
    let world = World::new();
    let (wait, go) = (
        |name: &str| wait(&world, name),
        |name: &str| go(&world, name),
    );
    // The hook for "a" waits for the builder of "y", whose input "x" has a hook of its own that
    // waits for that for "a"; the builder of "b" finds what the former leaves last.
    let b = format!("cat @{{a}} {}; echo > $out", world.file("left").display());
    let file = world.graph(
        "g.json",
        &graph_of([
            ("a", sh("echo > $out")),
            ("b", sh(&b)),
            ("x", sh("echo > $out")),
            (
                "y",
                sh(&format!("cat @{{x}}; {}; echo > $out", go("y-ran"))),
            ),
            ("all", sh("ls @{b} @{y} > $out")),
        ]),
    );
    let script = format!(
        "case $DRV_PATH in
            *-a.drv) {}; {}; echo > left;;
            *-x.drv) {};;
        esac",
        go("a-called"),
        wait("y-ran"),
        wait("a-called"),
    );
    hook(&world, "post-build-hook", &script);
    build(&world, file.to_str().unwrap()).arg("-j2").ok();
    world.is_clean();
    world.stays_valid();
}

#[test]
fn a_hook_that_fails_ends_other_hooks_and_builds() {
    let world = World::new();
    let (wait, go) = (
        |name: &str| wait(&world, name),
        |name: &str| go(&world, name),
    );
    let file = world.graph(
        "g.json",
        &graph_of([
            ("a", sh("echo > $out")),
            ("b", sh("echo > $out")),
            (
                "long",
                sh(&format!("{}; exec /bin/sleep 300", go("long-runs"))),
            ),
            (
                "after",
                sh(&format!("cat @{{b}}; {}; echo > $out", go("after-ran"))),
            ),
            ("all", sh("ls @{a} @{long} @{after} > $out")),
        ]),
    );
    let script = format!(
        "case $DRV_PATH in
            *-a.drv) {}; {}; exit 3;;
            *-b.drv) {}; exec /bin/sleep 300;;
        esac",
        wait("b-called"),
        wait("long-runs"),
        go("b-called"),
    );
    hook(&world, "post-build-hook", &script);
    let ran = build(&world, file.to_str().unwrap()).arg("-j3").run();
    let ran = ran.exits(1).says("failed with exit code 3");
    ran.says("-a.drv'").no_panic();
    assert!(!world.file("after-ran").exists());
    let outputs = world.store_entries();
    for name in ["-a", "-b"] {
        let is_it = |path: &&PathBuf| path.to_str().unwrap().ends_with(name);
        assert!(
            world.is_valid(outputs.iter().find(is_it).unwrap()),
            "{name}"
        );
    }
    world.is_clean();
    world.stays_valid();
}

/// A world whose hook sleeps, and the derivation that it is called for.
fn sleepy() -> (World, String) {
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    hook(
        &world,
        "post-build-hook",
        "/bin/sleep 300 & echo $! > pid; : > called; wait",
    );
    (world, drv)
}

#[test]
fn a_hook_ends_with_its_run() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let (world, drv) = sleepy();
        let running = build(&world, &drv).start();
        world.wait_for("called");
        running.signal(signal);
        running.wait().exits(status).no_panic();
        world.is_clean();
        world.stays_valid();
        let outputs = world.store_entries().into_iter();
        let outputs = outputs.filter(|path| path.to_str().unwrap().ends_with("-x"));
        assert!(outputs.clone().count() == 1 && outputs.clone().all(|path| world.is_valid(path)));
    }
}

#[test]
fn a_hook_dies_with_an_engine_that_is_killed() {
    let (world, drv) = sleepy();
    dies_with_its_engine(&world, build(&world, &drv));
}

/// Kills the engine once it has called its hook.
pub(crate) fn dies_with_its_engine(world: &World, build: Cmd) {
    let running = build.start();
    world.wait_for("called");
    running.signal("KILL");
    running.wait();
    wait_until("nothing is left of the hook", || {
        world.processes().is_empty()
    });
}

#[test]
fn a_hook_may_not_take_longer_than_a_build() {
    for limit in ["timeout", "max-silent-time"] {
        let (world, drv) = sleepy();
        let ran = build(&world, &drv).args(["--option", limit, "1"]).run();
        ran.exits(101)
            .one_error()
            .says("the post-build-hook")
            .says("timed out after 1 second");
        world.is_clean();
    }
    let (world, drv) = sleepy();
    hook(
        &world,
        "post-build-hook",
        "while :; do echo 0123456789; done",
    );
    let ran = build(&world, &drv)
        .args(["--option", "max-build-log-size", "10000"])
        .run();
    ran.exits(1)
        .says("was killed after writing more than 10000 bytes");
    world.is_clean();
}

/// A derivation one of whose outputs has another line each time.
fn changing(world: &World) -> String {
    let log = world.file("runs");
    let script = format!(
        "echo run >> {0}; cat {0} > $dev; echo same > $out; echo litter > litter",
        log.display()
    );
    world.add_one("x", sh_with(&script, json!({"outputs": ["out", "dev"]})))
}

const TELL: &str =
    "echo \"$# $1 $2 $3 $4 $(pwd)\" >> told; cat \"$1\" \"$2\"; [ \"$(cat rc)\" = 0 ]";

#[test]
fn the_diff_hook_is_told_what_differs_as_by_nix() {
    let world = World::new();
    let drv = changing(&world);
    let hook = hook(
        &world,
        "diff-hook",
        &TELL.replace("$(pwd)", "$PWD").replace("cd ", ""),
    );
    let dev = build(&world, &drv).ok().lines();
    let dev = dev
        .iter()
        .find(|path| path.ends_with("-dev"))
        .unwrap()
        .clone();
    world.write("rc", "0");
    build(&world, &drv)
        .arg("--check")
        .run()
        .exits(104)
        .never_says("diff-hook");
    assert!(!world.file("told").exists(), "it is not switched on");
    assert!(!PathBuf::from(format!("{dev}.check")).exists());

    let check = |rc: &str| {
        world.write("rc", rc);
        let check = build(&world, &drv).args(["--check", "--option", "run-diff-hook", "true"]);
        let ran = check.run().exits(104);
        ran.says("may not be deterministic")
            .says(format!("differs from '{dev}.check'"))
    };
    check("0")
        .says("diff-hook: run\ndiff-hook: run\n")
        .never_says("hook execution failed");
    let told = text(world.file("told"));
    let begin = format!("4 {dev} {dev}.check {drv} ");
    assert!(told.starts_with(&begin), "{told}");
    assert!(told.contains("/nix-build-x.drv-"), "{told}");
    let ran = check("1").says("error: diff hook execution failed");
    ran.says(hook.to_str().unwrap())
        .says("failed with exit code 1");
    world.is_clean();
    world.stays_valid();
    if !crate::harness::have(&["nix-store"]) {
        return;
    }
    let words = |line: &str| {
        line.split(' ')
            .take(4)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    std::fs::remove_file(world.file("told")).unwrap();
    let theirs = ["-r", "--check", &drv, "--option", "run-diff-hook", "true"];
    world.program("nix-store").args(theirs).run().exits(104);
    assert_eq!(words(&text(world.file("told"))), words(&told));
}

#[test]
fn the_diff_hook_ends_with_its_run_and_its_time() {
    for limits in [&[][..], &["--timeout", "1"]] {
        let world = World::new();
        let drv = changing(&world);
        build(&world, &drv).ok();
        hook(&world, "diff-hook", ": > called; exec /bin/sleep 300");
        let check = build(&world, &drv).args(["--check", "--option", "run-diff-hook", "true"]);
        let running = check.args(limits).start();
        world.wait_for("called");
        if limits.is_empty() {
            running.signal("INT");
            running.wait().exits(130);
        } else {
            let ran = running.wait().exits(104).says("timed out after 1 second");
            ran.says("may not be deterministic");
        }
        world.is_clean();
        world.stays_valid();
    }
}

#[test]
fn the_diff_hook_runs_as_the_build_user_who_leaves_nothing_running() {
    need!(root);
    need!("unshare", "mount");
    for sandbox in ["false", "true"] {
        let (world, first) = build_users::world(build_users::TWO);
        let hook = world.script(
            "diff.sh",
            "id -u; id -g; id -G; setsid sleep 300 & cmp \"$1\" \"$2\"; ls -d \"$4\"; echo looked $?",
        );
        let users = "build-users-group = windrow-test-users\nrun-diff-hook = true\n";
        let shown = "sandbox-paths = /bin /usr /lib /lib64? /etc/alternatives?";
        world.conf(&format!(
            "{users}{shown}\nsandbox = {sandbox}\ndiff-hook = {}\n",
            hook.display()
        ));
        let file = world.graph(
            "g.json",
            &graph_of([("x", sh("PATH=/bin:/usr/bin; date +%N > $out"))]),
        );
        let build = || build_users::with_users(&world, build(&world, file.to_str().unwrap()));
        build().ok();
        let ran = build().arg("--check").run().exits(104);
        let (uid, gid) = (first + 1, first);
        let ran = ran.says(format!(
            "diff-hook: {uid}\ndiff-hook: {gid}\ndiff-hook: {gid}\n"
        ));
        // Both outputs, but what a sandbox's builder left is nobody's to look at.
        assert!(ran.stderr.contains(" differ: "), "{ran}");
        let looked = ran.stderr.contains("diff-hook: looked 0\n");
        assert_eq!(looked, sandbox == "false", "{ran}");
        world.is_clean();
    }
}
