//! The build hook: builds that another program does. The hooks are shell scripts.

mod trouble;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Cmd, World, graph_of, need, sh, sh_with, sorted_lines, step, text};

/// A hook: it notes what it is asked, answers as `decide` says, and builds as `work` says.
///
/// In `decide` the shell has `$willing $system $drv $features`, in `work` also `$inputs` and
/// `$outputs`. The functions `accept`, `decline` and `postpone` answer; `build` makes each missing
/// output a file with one line.
fn hook(world: &World, name: &str, decide: &str, work: &str) -> PathBuf {
    let dir = world.at("files");
    let text = format!(
        r#"cd {dir}
echo "start $*" >> {name}.asked
accept() {{ echo '# accept' >&2; taken=1; }}
decline() {{ echo '# decline' >&2; }}
postpone() {{ echo '# postpone' >&2; }}
build() {{ for o in $outputs; do echo "by the hook" > $o; done; }}
taken=
while [ -z "$taken" ] && read -r willing system drv features; do
    echo "$willing $system ${{drv##*-}} $features" >> {name}.asked
    {decide}
done
[ -n "$taken" ] || exit 0
read -r inputs
read -r outputs
read -r more && echo "more: $more" >> {name}.asked
{work}"#,
        dir = dir.display()
    );
    world.script(&format!("{name}.sh"), &text)
}

fn with_hook(world: &World, hook: &Path) -> Cmd {
    world.windrow("build").env("NIX_BUILD_HOOK", hook)
}

/// A derivation that notes that it was built here.
fn here(world: &World, name: &str) -> Value {
    sh(&format!(
        "echo {name} >> {}; echo here > $out",
        world.file("runs").display()
    ))
}

/// A world with "b" on top of "a", and the .drv of "b".
fn pair() -> (World, String) {
    let world = World::new();
    let log = world.file("runs");
    let graph = graph_of([("a", here(&world, "a")), ("b", step("b", &log, &["a"]))]);
    let drv = world.add(&graph);
    (world, drv)
}

fn single() -> (World, String) {
    let world = World::new();
    let drv = world.add_one("x", here(&world, "x"));
    (world, drv)
}

fn runs(world: &World) -> Vec<String> {
    sorted_lines(world.file("runs"))
}

fn asked(world: &World) -> Vec<String> {
    let text = text(world.file("hook.asked"));
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn is_well(world: &World) {
    world.is_clean();
    world.stays_valid();
}

#[test]
fn nix_store_offers_no_build_when_told_so() {
    let (world, drv) = single();
    let hook = hook(&world, "hook", "accept", "build");
    let mut realise = world.ours(["-r", "--no-build-hook", &drv]);
    realise = realise.env("NIX_BUILD_HOOK", &hook);
    realise.ok().never_says("no effect");
    assert!(!world.file("hook.asked").exists());
    assert_eq!(runs(&world), ["x"]);
    is_well(&world);
}

#[test]
fn a_hook_that_accepts_does_the_build() {
    let world = World::new();
    let more = json!({"outputs": ["out", "dev"], "env": {"requiredSystemFeatures": "kvm  big"}});
    let drv = world.add(&graph_of([
        ("low", sh("echo low > $out")),
        ("x", sh_with("cat @{low} > $out; echo > $dev", more)),
    ]));
    let hook = hook(
        &world,
        "hook",
        "case $drv in *-x.drv) accept;; *) decline;; esac",
        "echo for people >&2; printf 'log line\\nlast' >&4; echo \"$inputs\" > inputs; build",
    );
    let limits = [
        "--option",
        "max-silent-time",
        "7",
        "--option",
        "timeout",
        "9",
    ];
    let ran = with_hook(&world, &hook)
        .arg(&drv)
        .args(limits)
        .arg("-L")
        .ok();
    let asked = asked(&world);
    assert_eq!(asked[0], "start x86_64-linux 7 0 9");
    assert_eq!(asked[1], "1 x86_64-linux low.drv ");
    assert_eq!(asked[2], "1 x86_64-linux x.drv kvm,big");
    assert_eq!(asked.len(), 3, "one process for all offers: {asked:?}");
    for path in ran.lines() {
        assert_eq!(text(&path), "by the hook\n");
    }
    let ran = ran.says("hook.sh: for people").says("x> log line");
    ran.says("x> last");
    let inputs = text(world.file("inputs"));
    let inputs: Vec<&str> = inputs.split_whitespace().collect();
    assert_eq!(inputs.len(), 3, "{inputs:?}");
    assert!(inputs.contains(&drv.as_str()), "the derivation goes along");
    for end in ["-low.drv", "-low"] {
        assert!(inputs.iter().any(|path| path.ends_with(end)), "{inputs:?}");
    }
    let log = world.windrow("log").arg(&drv).ok();
    assert_eq!(log.out(), "log line\nlast");
    is_well(&world);
}

#[test]
fn a_hook_may_come_from_the_settings() {
    let (world, drv) = single();
    let hook = hook(&world, "hook", "accept", "build");
    world.conf(&format!("build-hook-program = {}\n", hook.display()));
    world.windrow("build").arg(&drv).ok();
    assert!(runs(&world).is_empty());
}

#[test]
fn a_hook_of_nix_2_is_not_called_and_that_is_said() {
    let (world, drv) = single();
    let hook = hook(&world, "hook", "accept", "build");
    world.conf(&format!("build-hook = {}\n", hook.display()));
    let ran = world.windrow("build").arg(&drv).ok();
    ran.says("speaks the protocol of Nix 2");
    assert_eq!(runs(&world), ["x"]);
}

#[test]
fn a_hook_that_registers_itself_is_believed() {
    need!("nix-store");
    let (world, drv) = single();
    let work = "for o in $outputs; do echo registered > $o; \
                printf '%s\\n\\n0\\n' $o | nix-store --register-validity 2>reg; done";
    let hook = hook(&world, "hook", "accept", work);
    let ran = with_hook(&world, &hook).arg(&drv).ok();
    assert_eq!(text(ran.path()), "registered\n");
    assert!(runs(&world).is_empty());
    is_well(&world);
}

#[test]
fn a_declined_build_is_done_here() {
    let (world, drv) = pair();
    let decline = hook(&world, "hook", "decline", "exit 9");
    with_hook(&world, &decline)
        .arg(&drv)
        .ok()
        .never_says("error");
    assert_eq!(runs(&world), ["a", "b"]);
    assert_eq!(asked(&world).len(), 3, "one process, two offers");

    let (world, drv) = pair();
    let never = hook(&world, "hook", "echo '# decline-permanently' >&2", "");
    with_hook(&world, &never).arg(&drv).ok();
    assert_eq!(runs(&world), ["a", "b"]);
    assert_eq!(asked(&world).len(), 2, "asked no more");
    is_well(&world);
}

#[test]
fn a_postponed_build_is_offered_again() {
    let once = "if [ -e once ]; then accept; else : > once; postpone; fi";
    let (world, drv) = single();
    let later = hook(&world, "hook", once, "build");
    let interval = |seconds| ["--option", "build-poll-interval", seconds];
    with_hook(&world, &later).arg(&drv).args(interval("1")).ok();
    assert!(runs(&world).is_empty());
    assert_eq!(asked(&world).len(), 3);

    // Sooner than after that time when something has ended.
    let world = World::new();
    let until = world.file("once").display().to_string();
    let other_script = format!("until [ -e {until} ]; do sleep 0.05; done; echo > $out");
    let graph = graph_of([("other", sh(&other_script)), ("x", here(&world, "x"))]);
    let file = world.graph("g.json", &graph);
    let decide = format!("case $drv in *-other.drv|*-third.drv) decline;; *) {once};; esac");
    let later = hook(&world, "hook", &decide, "build");
    with_hook(&world, &later)
        .arg(&file)
        .args(interval("1000"))
        .ok();
    assert!(runs(&world).is_empty());
    is_well(&world);

    // Also when that was while the hook was thinking.
    std::fs::remove_file(world.file("once")).unwrap();
    let slowly = decide.replace("postpone;", "sleep 0.5; postpone;");
    assert_ne!(slowly, decide);
    let thinking = hook(&world, "thinking", &slowly, "build");
    let graph = graph_of([("third", sh(&other_script)), ("y", here(&world, "y"))]);
    let file = world.graph("h.json", &graph);
    with_hook(&world, &thinking)
        .arg(&file)
        .args(interval("1000"))
        .ok();
    is_well(&world);
}

#[test]
fn a_postponed_build_holds_no_lock() {
    let (world, drv) = single();
    let later = hook(&world, "hook", "postpone; : > postponed", "");
    let waiting = with_hook(&world, &later)
        .arg(&drv)
        .args(["--option", "build-poll-interval", "1"])
        .start();
    world.wait_for("postponed");
    // Somebody else builds it in the meantime.
    world.windrow("build").arg(&drv).ok();
    waiting.wait().exits(0);
    assert_eq!(runs(&world), ["x"]);
    is_well(&world);
}

#[test]
fn hooks_take_no_slot_and_run_side_by_side() {
    for jobs in ["-j0", "-j1"] {
        let world = World::new();
        let names: Vec<String> = (0..4).map(|n| format!("n{n}")).collect();
        let graph = graph_of(names.iter().map(|name| (name.as_str(), here(&world, name))));
        let file = world.graph("g.json", &graph);
        // Each waits until all four are under way.
        let work = ": > at-${drv##*-}; i=0; while [ $(ls | grep -c ^at-) -lt 4 ]; do \
                    i=$((i+1)); [ $i -lt 500 ] || exit 9; sleep 0.02; done; echo from $drv >&4; build";
        let hook = hook(&world, "hook", "accept", work);
        let ran = with_hook(&world, &hook).arg(&file).args([jobs, "-L"]).ok();
        for name in &names {
            assert!(ran.stderr.contains(&format!("{name}> from ")), "{ran}");
        }
        assert!(runs(&world).is_empty());
        let starts = asked(&world);
        let starts = starts.iter().filter(|line| line.starts_with("start"));
        assert_eq!(starts.count(), 4);
        is_well(&world);
    }
}

#[test]
fn the_hook_is_told_whether_there_is_a_slot() {
    let world = World::new();
    let (go, log) = (world.file("go"), world.file("runs"));
    let (go, log) = (go.display(), log.display());
    let script = format!("until [ -e {go} ]; do sleep 0.05; done; echo a >> {log}; echo > $out");
    let graph = graph_of([("a", sh(&script)), ("b", here(&world, "b"))]);
    let file = world.graph("g.json", &graph);
    // The answer is there before the slot is free.
    let hook = hook(
        &world,
        "hook",
        "decline; [ $willing = 1 ] || { sleep 0.3; : > go; }",
        "",
    );
    with_hook(&world, &hook).arg(&file).arg("-j1").ok();
    let asked = asked(&world);
    let willing: Vec<&str> = asked[1..].iter().map(|line| &line[..1]).collect();
    assert_eq!(willing, ["1", "0", "1"], "{asked:?}");
    assert_eq!(runs(&world), ["a", "b"]);
}

#[test]
fn what_prefers_to_be_built_here_is_not_offered() {
    let world = World::new();
    let script = format!("echo x >> {}; echo > $out", world.file("runs").display());
    let env = json!({"env": {"preferLocalBuild": "1"}});
    let drv = world.add_one("x", sh_with(&script, env));
    let hook = hook(&world, "hook", "accept", "build");
    with_hook(&world, &hook).arg(&drv).ok();
    assert_eq!(runs(&world), ["x"]);
    assert!(!world.file("hook.asked").exists(), "it is not even started");
}

#[test]
fn a_foreign_platform_is_the_hooks_affair() {
    let world = World::new();
    let foreign = || sh_with("echo here > $out", json!({"system": "riscv64-linux"}));
    let drv = world.add_one("x", foreign());
    let decide = "case $system in riscv64-linux) accept;; *) decline;; esac";
    let yes = hook(&world, "hook", decide, "build");
    let ran = with_hook(&world, &yes).arg(&drv).ok();
    assert_eq!(text(ran.path()), "by the hook\n");
    let drv = world.add_one("y", foreign());
    let no = hook(&world, "no", "decline", "");
    let ran = with_hook(&world, &no).arg(&drv).run().exits(1);
    ran.says("a 'riscv64-linux' is required to build");
}

#[test]
fn what_a_hook_is_used_for_is_told_to_those_who_ask_for_more() {
    for (flags, told) in [(&[][..], false), (&["-v"], true)] {
        let (world, drv) = single();
        let hook = hook(&world, "hook", "accept", "build");
        let ran = with_hook(&world, &hook).arg(&drv).args(flags).ok();
        if told {
            ran.says("using hook to build path(s) '");
        } else {
            ran.never_says("using hook");
        }
    }
}

#[test]
fn the_log_limit_holds_for_hooks_and_the_time_limits_do_not() {
    let (world, drv) = single();
    let slow = hook(&world, "hook", "accept", "sleep 2.5; build");
    let limits = ["--max-silent-time", "1", "--timeout", "1"];
    with_hook(&world, &slow).arg(&drv).args(limits).ok();

    let (world, drv) = single();
    let work = "while echo much >&4; do :; done; sleep 1000";
    let talker = hook(&world, "hook", "accept", work);
    let limit = ["--option", "max-build-log-size", "10000"];
    let ran = with_hook(&world, &talker).arg(&drv).args(limit).run();
    ran.exits(1).says("more than 10000 bytes");
    is_well(&world);
}

#[test]
fn what_is_repaired_or_checked_is_not_offered() {
    let (world, drv) = single();
    let hook = hook(&world, "hook", "accept", "build");
    world.windrow("build").arg(&drv).ok();
    for mode in ["--repair", "--check"] {
        with_hook(&world, &hook).args([drv.as_str(), mode]).ok();
        assert!(!world.file("hook.asked").exists(), "{mode}");
    }
    is_well(&world);
}

#[test]
fn hook_and_substituters_work_side_by_side() {
    let (world, drv) = pair();
    let hook = hook(&world, "hook", "accept", "build");
    let nothing = world.script("nothing", "echo; while read x; do echo; done");
    let both = || {
        with_hook(&world, &hook)
            .env("NIX_SUBSTITUTERS", &nothing)
            .args(["--option", "substitute", "true", drv.as_str()])
    };
    both().ok();
    assert!(runs(&world).is_empty());
    both().arg("--repair").ok();
    is_well(&world);
}
