//! Build users: who a builder is, that no user is used twice at a time, and that nothing of one
//! outlives its build. The users stand in files that only the tested windrow sees in the place of
//! /etc/passwd and /etc/group.

mod outputs;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::harness::{Cmd, SEALED, World, busybox, graph_of, need, sh, sh_with, text, wait_until};

/// A number that no other test has, nor a run of the tests beside this one: tests with the same
/// users would kill each other's builders, for their worlds have locks of their own. It is the
/// group's, and those that follow are its members'.
fn first_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    1_000_000 + std::process::id() % 30_000 * 1000 + NEXT.fetch_add(1, Ordering::SeqCst) * 10
}

/// A world with two build users, in which builders run without a sandbox, and the number of their
/// group.
pub(crate) fn world(members: &str) -> (World, u32) {
    let world = World::new();
    let first = first_id();
    world.conf("build-users-group = windrow-test-users\n");
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let users: String = (1..=3)
        .map(|n| format!("windrow-test-{n}:x:{}:{first}::/:/bin/false\n", first + n))
        .collect();
    world.write("passwd", passwd + &users);
    let group = fs::read_to_string("/etc/group").unwrap();
    world.write(
        "group",
        format!("{group}windrow-test-users:x:{first}:{members}\n"),
    );
    // Builders work below it as somebody else.
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(world.at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    (world, first)
}

/// Both of them.
pub(crate) const TWO: &str = "windrow-test-1,windrow-test-2";

/// The command where these users exist.
pub(crate) fn with_users(world: &World, cmd: Cmd) -> Cmd {
    let line = format!(
        "mount --bind {0}/passwd /etc/passwd && mount --bind {0}/group /etc/group && exec \"$@\"",
        world.at("files").display()
    );
    cmd.through(
        "/usr/bin/unshare",
        &["--mount", "/bin/sh", "-c", &line, "sh"],
    )
}

macro_rules! need_users {
    () => {
        need!(root);
        need!("unshare", "mount");
    };
}
use need_users;

#[test]
fn a_builder_is_a_build_user_and_its_output_becomes_roots() {
    need_users!();
    let (world, first) = world(TWO);
    let script = "mkdir $out; id -u > $out/id; id -g >> $out/id; id -G >> $out/id; stat -c %u:%a . >> $out/id
        cat $bigPath > $out/big; ln $out/big $out/again; chmod 755 $out/id; [ -w $bigPath ]";
    let env = json!({ "env": { "passAsFile": "big", "big": "text" } });
    let file = world.graph("g.json", &graph_of([("x", sh_with(script, env))]));
    let out = with_users(&world, world.windrow("build").arg(file))
        .ok()
        .path();
    let (uid, gid) = (first + 1, first);
    assert_eq!(
        text(out.join("id")),
        format!("{uid}\n{gid}\n{gid}\n{uid}:700\n")
    );
    for name in ["", "id", "big", "again"] {
        let metadata = out.join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{name}");
    }
    let store = world.store().metadata().unwrap();
    assert_eq!((store.gid(), store.mode() & 0o7777), (first, 0o1775));
    assert!(world.state().join(format!("userpool/{uid}")).exists());
    world.is_clean();
    // Nix does not know these users.
    world.conf("");
    world.stays_valid();
}

/// Expects no user to begin a build, "+ UID", before its last has ended, "- UID".
#[track_caller]
fn never_twice(log: &str) {
    let mut running: Vec<&str> = Vec::new();
    for line in log.lines() {
        let (what, user) = line.split_once(' ').unwrap();
        match what {
            "+" => {
                assert!(!running.contains(&user), "{user} twice\n{log}");
                running.push(user);
            }
            _ => running.retain(|known| *known != user),
        }
    }
}

#[test]
fn more_builds_than_users_wait_for_each_other() {
    need_users!();
    let (world, _) = world(TWO);
    let log = world.file("log");
    fs::write(&log, "").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let step = |n: usize| {
        let script = format!(
            "echo + $(id -u) >> {0}; sleep 0.1; echo - $(id -u) >> {0}; echo {n} > $out",
            log.display()
        );
        (format!("n{n}"), sh(&script))
    };
    let steps: Vec<_> = (0..7).map(step).collect();
    let graph = graph_of(steps.iter().map(|(name, drv)| (name.as_str(), drv.clone())));
    let file = world.graph("g.json", &graph);
    let ran = with_users(&world, world.windrow("build").arg(file).args(["-j", "5"])).ok();
    assert_eq!(ran.lines().len(), 7);
    never_twice(&text(&log));
    world.is_clean();
}

#[test]
fn a_user_that_another_engine_holds_is_left_alone() {
    need_users!();
    let (world, first) = world(TWO);
    let file = world.graph("g.json", &graph_of([("x", sh("id -u > $out"))]));
    let pool = world.state().join("userpool");
    fs::create_dir_all(&pool).unwrap();
    let hold = |uid: u32| {
        let file = File::create(pool.join(uid.to_string())).unwrap();
        file.try_lock().unwrap();
        file
    };
    let held = hold(first + 1);
    let build = || with_users(&world, world.windrow("build").arg(&file).arg("-v"));
    assert_eq!(text(build().ok().path()), format!("{}\n", first + 2));
    let second = hold(first + 2);
    let file = world.graph("h.json", &graph_of([("y", sh("id -u > $out"))]));
    let mut running = with_users(&world, world.windrow("build").arg(&file)).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(running.is_running());
    drop(second);
    let ran = running.wait().exits(0).says("windrow-test-users");
    assert_eq!(text(ran.path()), format!("{}\n", first + 2));
    drop(held);
    world.is_clean();
}

#[test]
fn nix_and_windrow_never_use_one_user_at_a_time() {
    need_users!();
    need!(nix);
    let (world, _) = world(TWO);
    let log = world.file("log");
    fs::write(&log, "").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    // The first of each waits for the other engine's, so that both are at work.
    let drvs = |who: &str, other: &str| {
        let step = |n: usize| {
            let script = format!(
                "echo + $(id -u) >> {log}; echo > {here}/{who}; chmod 666 {here}/{who}; i=0
                 while [ ! -e {here}/{other} ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
                 sleep 0.1; echo - $(id -u) >> {log}; [ $i -lt 300 ] || exit 1; echo {n} > $out",
                log = log.display(),
                here = world.at("tmp").display(),
            );
            (format!("{who}{n}"), sh(&script))
        };
        let steps: Vec<_> = (0..5).map(step).collect();
        let graph = graph_of(steps.iter().map(|(name, drv)| (name.as_str(), drv.clone())));
        let file = world.graph(&format!("{who}.json"), &graph);
        with_users(&world, world.windrow("add").arg(file))
            .ok()
            .lines()
    };
    let (ours, theirs) = (drvs("windrow", "nix"), drvs("nix", "windrow"));
    // Each begins with the first user that it finds free.
    let ours = world.windrow("build").args(ours).args(["-j", "1"]);
    let theirs = world.program("nix-store").arg("--realise").args(theirs);
    let ours = with_users(&world, ours).start();
    let theirs = with_users(&world, theirs.args(["-j", "1"])).start();
    ours.wait().exits(0);
    theirs.wait().exits(0);
    let log = text(&log);
    assert_eq!(log.lines().count(), 20, "{log}");
    never_twice(&log);
    fs::remove_file(world.at("tmp/nix")).unwrap();
    fs::remove_file(world.at("tmp/windrow")).unwrap();
    world.is_clean();
}

#[test]
fn what_a_builder_leaves_behind_dies_before_its_output_is_looked_at() {
    need_users!();
    let (world, _) = world(TWO);
    let script = "cp /bin/sleep ./windrow-daemon; echo good > $out
        setsid sh -c 'trap \"\" TERM HUP; while :; do (echo evil > '$out') 2>/dev/null; sleep 0.01; done' > /dev/null 2>&1 < /dev/null &
        setsid ./windrow-daemon 300 > /dev/null 2>&1 < /dev/null &
        sleep 0.1; echo good > $out";
    let file = world.graph("g.json", &graph_of([("x", sh(script))]));
    let out = with_users(&world, world.windrow("build").arg(&file))
        .ok()
        .path();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let contents = text(&out);
    // It may have died between emptying the file and writing to it.
    assert!(["good\n", "evil\n", ""].contains(&contents.as_str()));
    world.is_clean();
    // Whatever it was when it was hashed, it is that still.
    world.conf("");
    world.stays_valid();
    world.conf("build-users-group = windrow-test-users\n");
    let script = "setsid sleep 300 > /dev/null 2>&1 < /dev/null & exit 1";
    let file = world.graph("h.json", &graph_of([("y", sh(script))]));
    with_users(&world, world.windrow("build").arg(&file))
        .run()
        .exits(100);
    world.is_clean();
}

#[test]
fn build_users_in_a_sandbox_are_the_same_user_inside() {
    need_users!();
    need!("busybox");
    let (world, first) = world(TWO);
    world.conf(&format!("{SEALED}build-users-group = windrow-test-users\n"));
    let script = "mkdir $out; id -u > $out/id; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' >> $out/id
        stat -c %U:%a /build $NIX_STORE >> $out/id; grep Groups /proc/self/status >> $out/id";
    let file = world.graph("g.json", &graph_of([("x", busybox(script))]));
    let out = with_users(&world, world.windrow("build").arg(file))
        .ok()
        .path();
    let expected = format!(
        "1000\n 1000 {} 1\n 100 {first} 1\nnixbld:700\nnobody:1775\nGroups:\t \n",
        first + 1
    );
    assert_eq!(text(out.join("id")), expected);
    assert_eq!(out.join("id").metadata().unwrap().uid(), 0);
    world.is_clean();
    // Nix does not know these users.
    world.conf("");
    world.stays_valid();
}

#[test]
fn ids_can_be_allocated_instead() {
    need!(root);
    let world = World::new();
    let start = 900_000_000 + std::process::id() % 10_000 * 65_536;
    world.conf(&format!("auto-allocate-uids = true\nstart-id = {start}\n"));
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(world.at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(world.store()).unwrap();
    fs::set_permissions(world.store(), fs::Permissions::from_mode(0o1777)).unwrap();
    let file = world.graph(
        "g.json",
        &graph_of([("x", sh("id -u > $out; id -g >> $out"))]),
    );
    let out = world.windrow("build").arg(file).ok().path();
    assert_eq!(text(&out), format!("{start}\n{start}\n"));
    assert_eq!(out.metadata().unwrap().uid(), 0);
    assert!(world.state().join("userpool2/slot-0").exists());
    world.is_clean();
    // Nix does not know these users.
    world.conf("");
    world.stays_valid();
}

#[test]
fn a_group_that_is_of_no_use_is_named_with_the_setting() {
    need_users!();
    let refused = |members: &str, group: &str| {
        let (world, _) = world(members);
        world.conf(&format!("build-users-group = {group}\n"));
        let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
        with_users(&world, world.windrow("build").arg(file))
            .run()
            .exits(1)
            .one_error()
    };
    refused(TWO, "no-such-group")
        .says("no-such-group")
        .says("build-users-group");
    refused("", "windrow-test-users").says("has no members");
    refused("windrow-nobody", "windrow-test-users")
        .says("'windrow-nobody'")
        .says("does not exist");
    refused("root", "windrow-test-users").says("should not be a member");
}

#[test]
fn an_interrupted_run_leaves_nothing_of_its_users() {
    need_users!();
    let (world, _) = world(TWO);
    let script = format!(
        "setsid sleep 300 & touch {}; sleep 300",
        world.at("tmp/started").display()
    );
    let file = world.graph("g.json", &graph_of([("x", sh(&script))]));
    let running = with_users(&world, world.windrow("build").arg(file)).start();
    wait_until("the builder runs", || world.at("tmp/started").exists());
    running.signal("TERM");
    running.wait().exits(143);
    world.is_clean_but_for(&[world.at("tmp/started")]);
}

#[test]
fn a_derivation_that_can_not_be_built_gives_its_user_back() {
    need_users!();
    let (world, _) = world("windrow-test-1");
    for (n, env) in [
        json!({ "exportReferencesGraph": "odd" }),
        json!({ "allowedReferences": "/not/in/the/store" }),
        json!({ "requiredSystemFeatures": "wings" }),
    ]
    .into_iter()
    .enumerate()
    {
        let bad = sh_with("echo x > $out", json!({ "env": env }));
        let graph = graph_of([
            ("bad", bad),
            ("first", sh(&format!("echo {n} > $out"))),
            ("second", sh("cat @{first} > $out")),
        ]);
        let file = world.graph("g.json", &graph);
        // There is one user for all, and the bad one has its turn before the second at the latest.
        let build = world.windrow("build").args(["-k", "-j1"]).arg(&file);
        let ran = with_users(&world, build).run().exits(1);
        ran.says("-bad.drv'").says("2 derivations built, 1 failed");
        world.is_clean();
    }
}

/// The processes and threads of the engine in what strace has written of a run, and the flags of
/// each call that made one.
fn made_by_the_engine(trace: &str) -> Vec<String> {
    let mut engine: Vec<&str> = trace.split_whitespace().take(1).collect();
    // Whose new threads are yet to be told, for another line came between.
    let mut pending: Vec<&str> = Vec::new();
    let mut made = Vec::new();
    for line in trace.lines() {
        let Some((pid, call)) = line.split_once(' ') else {
            continue;
        };
        if !engine.contains(&pid) {
            continue;
        }
        let call = call.trim_start();
        let is_thread = call.contains("CLONE_THREAD") || pending.contains(&pid);
        if call.contains("flags=") || call.starts_with("fork(") || call.starts_with("vfork(") {
            made.push(call.to_owned());
        }
        if !is_thread {
            continue;
        }
        pending.retain(|other| *other != pid);
        match call.rsplit_once(" = ") {
            Some((_, thread)) => engine.extend(thread.split_whitespace().next()),
            None => pending.push(pid),
        }
    }
    made
}

#[test]
fn no_process_is_made_with_a_copy_of_the_engines_memory() {
    need_users!();
    need!("strace");
    let (world, _) = world(TWO);
    let builds = ["a", "b", "c"].map(|name| (name, sh("echo > $out")));
    let file = world.graph("g.json", &graph_of(builds));
    let trace = world.at("tmp").join("trace");
    let traced = world.windrow("build").arg(file).arg("-j2").through(
        "strace",
        &[
            "-f",
            "-e",
            "trace=clone,clone3,fork,vfork",
            "-o",
            trace.to_str().unwrap(),
        ],
    );
    with_users(&world, traced).ok();
    let trace = fs::read_to_string(trace).unwrap();
    let made = made_by_the_engine(&trace);
    let processes = made.iter().filter(|call| !call.contains("CLONE_THREAD"));
    // A builder and at least one killer of what its user left, for each build.
    assert!(processes.count() >= 6, "{trace}");
    for call in made {
        assert!(call.contains("CLONE_VM"), "{call}");
    }
}
