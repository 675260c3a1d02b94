//! The program of `pre-build-hook`, which is called before a sandbox is set up and may have it show
//! more. Where a real Nix is at hand it calls the same one.

use serde_json::json;

use crate::called_hooks::dies_with_its_engine;
use crate::harness::{
    Cmd, SEALED, World, busybox, for_each_caller, graph_of, have, is_root, need, sh_with,
    sorted_lines, text,
};
use crate::sandbox::tool_with_a_reference;

/// Has nix.conf name a hook.
fn hook(world: &World, script: &str) {
    let script = format!("cd {}; {script}", world.at("files").display());
    let hook = world.script("pre-build-hook.sh", &script);
    world.conf(&format!("{SEALED}pre-build-hook = {}\n", hook.display()));
}

fn build(world: &World, script: &str) -> Cmd {
    let file = world.graph("g.json", &graph_of([("x", busybox(script))]));
    world.windrow("build").arg(file)
}

#[test]
fn a_sandbox_shows_what_the_hook_names_for_its_build_only() {
    for_each_caller(|world, caller| {
        world.write("shown/file", "text\n");
        let dir = world.file("shown");
        let dir = dir.display();
        let script = "cat /a/b/file /opt/file > $out; [ -e /tmp/c/file ] && [ -c /dev/other ]
            (echo > /a/b/new) 2>/dev/null && exit 3; (echo > /tmp/c/new) 2>/dev/null && exit 4; echo x > /dev/other";
        let graph = graph_of([
            (
                "y",
                busybox("[ ! -e /a ] && [ ! -e /opt ] && [ ! -e /dev/other ]; echo > $out"),
            ),
            ("x", busybox(&format!(": @{{y}}; {script}"))),
        ]);
        let told = world.file("told");
        hook(
            world,
            &format!(
                "echo \"$# $1 $2\" >> {}; echo warned >&2
                case $1 in *-y.drv) exit 0;; esac
                printf 'extra-sandbox-paths\\n/a/b={dir}\\n/opt/file={dir}/file\\n\\n'
                printf 'extra-chroot-dirs\\n/tmp/c={dir}\\n/dev/other=/dev/null\\n'",
                told.display()
            ),
        );
        let file = world.graph("g.json", &graph);
        let ran = caller.runs(world.windrow("build").arg(file)).ok();
        assert_eq!(text(ran.path()), "text\n".repeat(2));
        ran.says("pre-build-hook: warned")
            .never_says("extra-sandbox-paths");
        let told = text(&told);
        let lines: Vec<Vec<&str>> = told.lines().map(|it| it.split(' ').collect()).collect();
        assert_eq!(lines.len(), 2, "{told}");
        for line in lines {
            assert_eq!(line[0], "2");
            assert!(line[1].ends_with(".drv"), "{told}");
            assert_eq!(line[2], format!("{}.chroot", line[1]));
        }
        assert!(!world.file("shown/new").exists());
        world.is_clean();
        world.stays_valid();
    });
}

#[test]
fn a_path_of_the_store_that_the_hook_names_brings_what_it_refers_to() {
    for_each_caller(|world, caller| {
        let tool = tool_with_a_reference(world, caller);
        hook(
            world,
            &format!("echo extra-sandbox-paths; echo /tool={tool}; echo {tool}"),
        );
        let script = format!("cat $(cat /tool/path) $(cat {tool}/path) > $out");
        let ran = caller.runs(build(world, &script)).ok();
        assert_eq!(text(ran.path()), "dep\ndep\n");
        let gone = tool.replace("-tool", "-tooI");
        std::fs::write(&gone, "").unwrap();
        hook(
            world,
            &format!("echo extra-sandbox-paths; echo /tool={gone}"),
        );
        caller
            .runs(build(world, "echo > $out"))
            .run()
            .exits(1)
            .one_error()
            .says(&gone)
            .says("is not valid");
        std::fs::remove_file(gone).unwrap();
        world.is_clean();
    });
}

#[test]
fn only_builds_in_a_sandbox_call_it_and_each_once() {
    need!("busybox");
    let world = World::new();
    let graph = graph_of([
        ("a", busybox("echo > $out")),
        ("b", busybox("echo > $out")),
        (
            "open",
            sh_with(": > $out", json!({"env": {"__noChroot": "1"}})),
        ),
        ("all", busybox("ls @{a} @{b} @{open} > $out")),
    ]);
    let file = world.graph("g.json", &graph);
    hook(&world, "echo $1 >> told");
    let build = |mode: &str| {
        let cmd = world.windrow("build").arg(&file).arg("-j2");
        cmd.args(["--option", "sandbox", mode])
    };
    let calls = |name: &str| {
        let told = sorted_lines(world.file("told"));
        told.iter().filter(|it| it.ends_with(name)).count()
    };
    build("relaxed").ok();
    let each = || ["-a.drv", "-b.drv", "-all.drv", "-open.drv"].map(calls);
    assert_eq!(each(), [1, 1, 1, 0]);
    build("relaxed").ok();
    assert_eq!(each(), [1, 1, 1, 0], "nothing is built");
    build("relaxed").arg("--check").ok();
    assert_eq!(each(), [1, 1, 2, 0], "what is asked for is built once more");
    world.is_clean();
}

#[test]
fn a_hook_that_fails_or_says_something_else_fails_the_build() {
    need!("busybox");
    let world = World::new();
    for (script, why) in [
        ("exit 3", "failed with exit code 3"),
        ("kill -9 $$", "failed due to signal 9"),
        ("echo what", "unknown command \"what\""),
        (
            "echo extra-sandbox-paths; echo what",
            "'what' is not an absolute path",
        ),
        ("echo extra-sandbox-paths; echo /none", "'/none'"),
        ("echo extra-sandbox-paths; yes /x", "65536 bytes"),
    ] {
        hook(&world, script);
        let ran = build(&world, "echo > $out").args(["-k"]).run();
        let ran = ran.exits(1).one_error().no_panic();
        ran.says("the pre-build-hook").says("-x.drv'").says(why);
        world.is_clean();
    }
    world.conf(&format!("{SEALED}pre-build-hook = /no/such/hook\n"));
    let ran = build(&world, "echo > $out").run().exits(1).one_error();
    ran.says("/no/such/hook").says("No such file");
    world.conf(SEALED);
    // Nothing of that is remembered.
    build(&world, "echo > $out").ok();
    world.is_clean();
    world.stays_valid();
}

/// A hook that sleeps.
const SLEEPS: &str = "/bin/sleep 300 & : > called; wait";

#[test]
fn it_ends_with_its_run_and_dies_with_the_engine() {
    need!("busybox");
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let world = World::new();
        hook(&world, SLEEPS);
        let running = build(&world, "echo > $out").start();
        world.wait_for("called");
        running.signal(signal);
        running.wait().exits(status).no_panic();
        world.is_clean();
    }
    let world = World::new();
    hook(&world, SLEEPS);
    dies_with_its_engine(&world, build(&world, "echo > $out"));
}

#[test]
fn it_may_not_take_longer_than_a_build() {
    need!("busybox");
    for limit in ["timeout", "max-silent-time"] {
        let world = World::new();
        hook(&world, SLEEPS);
        let cmd = build(&world, "echo > $out").args(["--option", limit, "1"]);
        let ran = cmd.run().exits(101).one_error();
        ran.says("the pre-build-hook")
            .says("timed out after 1 second");
        world.is_clean();
    }
}

#[test]
fn others_go_on_while_it_runs_and_it_has_a_slot() {
    need!("busybox");
    let world = World::new();
    let graph = graph_of([
        ("a", busybox("echo > $out")),
        ("b", busybox("echo > $out")),
        ("all", busybox("ls @{a} @{b} > $out")),
    ]);
    // Those for "a" and "b" wait for each other, which only one of them could do with one slot.
    let script = "case $1 in *-all.drv) exit;; *-a.drv) me=a other=b;; *) me=b other=a;; esac
        : > $me; while [ ! -e $other ]; do /bin/sleep 0.01; done";
    hook(&world, script);
    let file = world.graph("g.json", &graph);
    world.windrow("build").arg(file).arg("-j2").ok();
    world.is_clean();

    let world = World::new();
    let script =
        "set -e; [ -z \"$(ls busy* 2>/dev/null)\" ]; : > busy$$; /bin/sleep 0.1; rm busy$$";
    hook(&world, script);
    let file = world.graph("g.json", &graph);
    world.windrow("build").arg(file).arg("-j1").ok();
    world.is_clean();
}

#[test]
fn nix_calls_it_in_the_same_way() {
    need!("nix-store", "busybox");
    if !is_root() || !have(&["unshare"]) {
        return;
    }
    let world = World::new();
    world.write("shown/file", "text\n");
    let dir = world.file("shown");
    let script = format!(
        "echo \"$# $1 $2\" >> told; printf 'extra-sandbox-paths\\n/a/b={}\\n\\n'",
        dir.display()
    );
    hook(&world, &script);
    let script = "cat /a/b/file > $out";
    let ours = build(&world, script).ok().line();
    let (ours, told) = (text(ours), text(world.file("told")));
    world.set_aside("ours");
    std::fs::remove_file(world.file("told")).unwrap();
    let file = world.graph("g.json", &graph_of([("x", busybox(script))]));
    let drv = world.windrow("add").arg(file).ok().line();
    let theirs = world.program("nix-store").args(["-r", &drv]).ok().line();
    assert_eq!(text(theirs), ours);
    assert_eq!(text(world.file("told")), told);
}

#[test]
fn a_shell_has_what_the_hook_shows() {
    need!("busybox");
    let world = World::new();
    let shown = world.write("shown", "by the hook\n");
    let hook = format!(
        "echo called with ${{1##*-}} >&2; echo extra-sandbox-paths; echo /shown={}; echo",
        shown.display()
    );
    let hook = world.script("hook", &hook);
    let conf = |hook: &std::path::Path| {
        world.conf(&format!("{SEALED}pre-build-hook = {}\n", hook.display()));
    };
    conf(&hook);
    let drv = world.add_one("x", busybox("echo > $out"));
    let shell = || {
        let line = ["--command", "read -r line < /shown; echo $line"];
        world.windrow("shell").arg(&drv).args(line)
    };
    let ran = shell().ok().says("pre-build-hook: called with x.drv");
    assert_eq!(ran.out(), "by the hook\n");
    conf(&world.script("bad", "exit 3"));
    shell()
        .run()
        .exits(1)
        .one_error()
        .says("failed with exit code 3");
    conf(&world.script("wrong", "echo nonsense"));
    shell().run().exits(1).one_error().says("unknown command");
    world.is_clean();
}
