//! An engine that is killed: what it was running dies with it, and reaches nothing that a later run
//! registers.

use std::fs;

use serde_json::Value;

use super::{ROOMY, attempts};
use crate::build_users::{TWO, with_users, world as world_with_users};
use crate::harness::{
    Caller, Cmd, Running, World, graph_of, have, is_root, sh, skip, text, wait_until,
};

/// One way in which windrow runs builders.
pub(super) struct Way<'a> {
    pub(super) world: &'a World,
    pub(super) caller: Caller,
    pub(super) has_users: bool,
    pub(super) sandbox: bool,
}

impl Way<'_> {
    /// windrow as it is run in this way.
    pub(super) fn windrow(&self, subcommand: &str) -> Cmd {
        let sandbox = if self.sandbox { "true" } else { "false" };
        let cmd = self.world.windrow(subcommand);
        let cmd = cmd.args(["--option", "sandbox", sandbox]);
        if self.has_users {
            with_users(self.world, cmd)
        } else {
            self.caller.runs(cmd)
        }
    }

    /// Whether even a process that has left the builder's session is known to be the builder's.
    fn finds_daemons(&self) -> bool {
        self.sandbox || self.has_users
    }
}

impl std::fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users = if self.has_users { ", build users" } else { "" };
        let sandbox = if self.sandbox { ", sandbox" } else { "" };
        write!(f, "as {:?}{users}{sandbox}", self.caller)
    }
}

/// Runs a test in each way there is. Builders see the world's files.
pub(super) fn in_each_way(test: impl Fn(&Way<'_>)) {
    let conf = |world: &World, more: &str| {
        let paths = ROOMY.trim_end();
        world.conf(&format!("{paths} {}\n{more}", world.at("files").display()));
    };
    for sandbox in [true, false] {
        attempts(|world, caller| {
            conf(world, "");
            test(&Way {
                world,
                caller,
                has_users: false,
                sandbox,
            });
        });
        if !is_root() || !have(&["unshare", "mount"]) {
            skip("with build users: needs root, unshare and mount");
            continue;
        }
        let (world, _) = world_with_users(TWO);
        conf(&world, "build-users-group = windrow-test-users\n");
        test(&Way {
            world: &world,
            caller: Caller::Self_,
            has_users: true,
            sandbox,
        });
    }
}

/// What a process was started with.
fn command_line(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// The processes of a world that were started with these words.
fn running(world: &World, words: &str) -> Vec<u32> {
    let mut pids = world.processes();
    pids.retain(|&pid| command_line(pid).contains(words));
    pids
}

/// Whether it lives and is the first process of a builder.
fn leads_a_session(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // State, parent, group and session follow the name.
    let mut words = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    words.next().is_some_and(|state| state != "Z") && words.nth(2) == Some(&pid.to_string())
}

/// The process that outlives the engine.
fn guard(world: &World) -> Option<u32> {
    let is_guard = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name == "builder-guard\n")
    };
    world.processes().into_iter().find(is_guard)
}

fn kill(pid: u32) {
    let line = format!("kill -9 {pid}");
    let shell = Cmd::new("/bin/sh", "/".as_ref());
    // It may have died since.
    shell.args(["-c", &line]).run();
}

/// Expects nothing of a world's runs to live.
#[track_caller]
fn nothing_lives(world: &World, what: impl std::fmt::Display) {
    let left: Vec<_> = world.processes().into_iter().map(command_line).collect();
    assert!(left.is_empty(), "{what}: {left:?} live");
}

/// A builder with children that write to its output for ever, unless the file `go` is there: then
/// it makes it in a moment.
fn endless(world: &World, daemon: bool) -> Value {
    let daemon = if daemon {
        "setsid sh -c 'trap \"\" HUP TERM; cd $out; while :; do echo evil > $out/file; echo evil > file; sleep 0.01; done' \
           > /dev/null 2>&1 < /dev/null &"
    } else {
        ""
    };
    sh(&format!(
        "mkdir $out
        if [ ! -e {go} ]; then
            {daemon}
            (trap '' HUP TERM; cd $out; while :; do echo evil > $out/file; echo evil > file; sleep 0.01; done) 2> /dev/null &
            while :; do sleep 54321; done
        fi
        echo good > $out/file; sleep 0.2; echo good >> $out/file",
        go = world.file("go").display()
    ))
}

/// Starts the builder of such a graph and gives the engine, when everything runs.
fn begun(way: &Way<'_>) -> Running {
    let graph = graph_of([("x", endless(way.world, way.finds_daemons()))]);
    let file = way.world.graph("g.json", &graph);
    let engine = way.windrow("build").arg(file).start();
    wait_until("the builder runs", || {
        !running(way.world, "sleep 54321").is_empty()
    });
    engine
}

#[test]
fn builders_die_with_the_engine_and_reach_no_later_output() {
    in_each_way(|way| {
        let world = way.world;
        let engine = begun(way);
        engine.signal("KILL");
        assert_eq!(engine.wait().status.code(), None);
        nothing_lives(world, way);

        world.write("go", "");
        let out = way.windrow("build").arg(world.file("g.json")).ok().path();
        assert_eq!(text(out.join("file")), "good\ngood\n", "{way}");
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(text(out.join("file")), "good\ngood\n", "{way}");
    });
}

#[test]
fn nobody_gets_the_locks_of_a_dead_engine_before_its_builders_are_dead() {
    in_each_way(|way| {
        let world = way.world;
        let engine = begun(way);
        world.write("go", "");
        // It waits for the lock, and sees at once that it is free.
        let next = way.windrow("build").arg(world.file("g.json"));
        let next = next.args(["--option", "build-poll-interval", "1"]).start();
        wait_until("the second one is at work", || {
            fs::read_dir(world.state().join("temproots")).is_ok_and(|roots| roots.count() >= 2)
        });
        engine.signal("KILL");
        let out = next.wait().exits(0).path();
        assert_eq!(text(out.join("file")), "good\ngood\n", "{way}");
        engine.wait();
    });
}

#[test]
fn builders_die_by_themselves_where_nobody_ends_them() {
    in_each_way(|way| {
        let world = way.world;
        let engine = begun(way);
        kill(guard(world).expect("a guard"));
        let builders = running(world, "while :; do sleep 54321");
        let leader = builders.into_iter().find(|&pid| leads_a_session(pid));
        let leader = leader.expect("a builder's first process");
        engine.signal("KILL");
        wait_until("the builder is dead", || !leads_a_session(leader));
        if way.sandbox {
            wait_until("all in the sandbox are dead", || {
                running(world, "sleep").is_empty()
            });
        }
        world.processes().into_iter().for_each(kill);
        engine.wait();
    });
}

#[test]
fn a_guard_that_was_killed_is_made_anew() {
    attempts(|world, caller| {
        let way = Way {
            world,
            caller,
            has_users: false,
            sandbox: false,
        };
        let first = format!(
            "while [ ! -e {} ]; do sleep 0.01; done; echo > $out",
            world.file("first").display()
        );
        let second = format!(
            "cat @{{a}}; {}",
            endless(world, false)["args"][1].as_str().unwrap()
        );
        let file = world.graph("g.json", &graph_of([("a", sh(&first)), ("b", sh(&second))]));
        let engine = way.windrow("build").arg(file).start();
        wait_until("there is a guard", || guard(world).is_some());
        // It dies in its own time, and until then there is one. What is made ahead for the second
        // builder may make it anew.
        wait_until("the guard is gone", || guard(world).map(kill).is_none());
        world.write("first", "");
        // It is executed before its turn, and stands still until then.
        wait_until("the second builder runs", || {
            let mut sleeping = running(world, "sleep 54321").into_iter();
            sleeping.any(|pid| command_line(pid).starts_with("sleep"))
        });
        engine.signal("KILL");
        engine.wait();
        nothing_lives(world, &way);
    });
}

#[test]
fn the_guard_goes_with_its_engine() {
    attempts(|world, caller| {
        let file = world.graph("g.json", &graph_of([("x", sh("echo > $out; exit 1"))]));
        caller.runs(world.windrow("build").arg(file)).run();
        nothing_lives(world, "at the end");
    });
}

#[test]
fn helpers_die_with_the_engine() {
    attempts(|world, caller| {
        let helper = world.script(
            "helper",
            "trap '' TERM HUP\nsleep 54321 & while :; do sleep 54322; done",
        );
        let file = world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
        for (variable, more) in [
            ("NIX_BUILD_HOOK", &["--option", "substitute", "false"]),
            ("NIX_SUBSTITUTERS", &["--option", "substitute", "true"]),
        ] {
            let cmd = world.windrow("build").arg(&file).args(more);
            let engine = caller.runs(cmd.env(variable, &helper)).start();
            wait_until("the helper runs", || {
                !running(world, "sleep 54321").is_empty()
                    && !running(world, "sleep 54322").is_empty()
            });
            engine.signal("KILL");
            engine.wait();
            nothing_lives(world, format!("{variable}, as {caller:?}"));
        }
    });
}

/// How often each way is tried: `WINDROW_KILLS`.
fn kills() -> u64 {
    let wish = std::env::var("WINDROW_KILLS").ok();
    wish.and_then(|wish| wish.parse().ok()).unwrap_or(4)
}

/// Where the moments come from: `WINDROW_SEED`, or the clock.
fn seed() -> u64 {
    let wish = std::env::var("WINDROW_SEED").ok();
    wish.and_then(|wish| wish.parse().ok()).unwrap_or_else(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        clock.map_or(1, |time| u64::from(time.subsec_nanos()))
    })
}

/// The next of a row of numbers (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Builds of all kinds, whose outputs depend on the round: with files, in several outputs, with
/// children, fixed ones.
fn busy(round: u64) -> Value {
    let name = |n: u64| format!("r{round}-{n}");
    let mut derivations = Vec::new();
    for n in 0..12_u64 {
        let before = match n {
            0..4 => String::new(),
            _ => format!("ls -d @{{{}}} > deps; cp -r @{{{0}}}/f ./was;", name(n - 4)),
        };
        let script = match n % 4 {
            0 => "mkdir $out; for i in 1 2 3 4 5; do echo $i > $out/f$i; done; echo a > $out/f",
            1 => {
                "mkdir $out; sh -c 'sleep 0.02; echo b > $out/f'; (sleep 0.01; echo > litter) & wait"
            }
            2 => "mkdir -p $out/a/b; echo c > $out/f; mkdir d; chmod 0 d; ln -s ../f $out/a/b/link",
            _ => "mkdir $out; head -c 300000 /dev/zero > $out/f; sleep 0.01; cat $out/f > g",
        };
        derivations.push((name(n), sh(&format!("{before} {script}"))));
    }
    let all = (8..12).map(|n| format!("@{{{}}}", name(n)));
    let all = format!("echo {round} {} > $out", all.collect::<Vec<_>>().join(" "));
    derivations.push((format!("r{round}-all"), sh(&all)));
    let derivations = derivations
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    graph_of(derivations)
}

#[test]
fn nothing_of_killed_runs_is_left_after_the_next_and_a_collection() {
    let seed = seed();
    eprintln!("WINDROW_SEED={seed} WINDROW_KILLS={}", kills());
    in_each_way(|way| {
        let world = way.world;
        let mut state = seed;
        // What a whole run takes, for the kills to fall into it.
        let build = |round: u64| {
            let file = world.graph("g.json", &busy(round));
            way.windrow("build").arg(file).arg("-j3")
        };
        let begun = std::time::Instant::now();
        build(0).ok();
        let whole_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
        for round in 1..=kills() {
            let engine = build(round).start();
            let moment = random(&mut state) % whole_us;
            std::thread::sleep(std::time::Duration::from_micros(moment));
            engine.signal("KILL");
            engine.wait();
            // The moment may have been before it ran, in the program that starts it.
            wait_until("nothing lives", || world.processes().is_empty());
            if round % 2 == 0 {
                // Another run than the one that was killed.
                let other = sh(&format!("echo {round} > $out"));
                let name = format!("other{round}");
                let file = world.graph("other.json", &graph_of([(name.as_str(), other)]));
                way.windrow("build").arg(file).ok();
            } else {
                build(round).ok();
            }
            let what = format!("{way}, round {round} after {moment} µs");
            let locks: Vec<_> = world.store_entries();
            let locks = locks
                .iter()
                .filter(|path| path.extension().is_some_and(|end| end == "lock"));
            let locks: Vec<_> = locks.collect();
            assert!(
                locks.is_empty(),
                "{what}: {locks:?} are left by the next run"
            );
            world.is_clean();
            way.windrow("nix-store").arg("--gc").ok();
            let strange: Vec<_> = world.store_entries();
            assert!(strange.is_empty(), "{what}: {strange:?} are left");
            world.is_clean();
        }
        build(0).ok();
        if way.has_users {
            // Nix does not know these users.
            world.conf("");
        }
        world.stays_valid();
    });
}
