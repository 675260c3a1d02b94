//! What is shown while it builds: plain lines, traces, JSON for programs, and the live region at a
//! terminal. Standard output carries nothing but paths in all of them.

use serde_json::Value;

use crate::harness::{Cmd, World, graph_of, need, sh, text};

fn chatty(world: &World) -> (String, Cmd) {
    let drv = world.add_one(
        "chatty",
        sh("echo from the builder; echo and its error >&2; echo > $out"),
    );
    let cmd = world.windrow("build").arg(&drv);
    (drv, cmd)
}

#[test]
fn plain_lines_where_there_is_no_terminal() {
    let world = World::new();
    let (drv, cmd) = chatty(&world);
    let ran = cmd.ok().says(&drv);
    assert!(
        !ran.stderr.contains(['\x1b', '\r']),
        "no control characters\n{ran}"
    );
    assert!(ran.path().exists(), "standard output is the path alone");
}

#[test]
fn logs_are_shown_on_request() {
    let world = World::new();
    let (_, cmd) = chatty(&world);
    let ran = cmd
        .arg("-L")
        .ok()
        .says("from the builder")
        .says("and its error");
    assert!(ran.path().exists());
}

#[test]
fn the_trace_names_every_build() {
    let world = World::new();
    let graph = graph_of([
        ("good", sh("echo > $out")),
        ("bad", sh("exit 3")),
        ("slow", sh("sleep 300")),
        ("top", sh("cat @{good} @{bad} @{slow} > $out")),
    ]);
    let top = world.add(&graph);
    let system = text(&top)
        .split('"')
        .find(|part| part.ends_with("-linux"))
        .unwrap()
        .to_owned();
    let ran = world
        .windrow("build")
        .arg(&top)
        .args(["-k", "-j3", "--timeout", "1", "--print-build-trace"])
        .run();
    let lines: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("@ "))
        .collect();
    let of = |what: &str, name: &str| {
        let found: Vec<_> = lines
            .iter()
            .filter(|line| {
                line.starts_with(&format!("@ {what} ")) && line.contains(&format!("-{name}.drv "))
            })
            .collect();
        assert_eq!(
            found.len(),
            1,
            "'{what}' of '{name}' should stand there once\n{ran}"
        );
        *found[0]
    };
    for name in ["good", "bad", "slow"] {
        let started = of("build-started", name);
        let drv = started.split(' ').nth(2).unwrap();
        assert_eq!(
            started,
            format!(
                "@ build-started {drv} - {system} {}",
                world.log_file(drv).display()
            )
        );
    }
    assert!(of("build-succeeded", "good").ends_with("-good.drv -"));
    let bad = of("build-failed", "bad");
    assert!(
        bad.contains("-bad.drv - 1 ") && bad.contains("exit code 3"),
        "{bad}"
    );
    assert!(of("build-failed", "slow").ends_with("-slow.drv - timeout"));
    ran.exits(101);
}

#[test]
fn json_for_programs() {
    let world = World::new();
    let graph = graph_of([
        ("low", sh("echo low says; echo > $out")),
        (
            "bad",
            sh("cat @{low}; echo 'bad \"says\\'; printf '\\377\\n'; exit 3"),
        ),
    ]);
    let drv = world.add(&graph);
    let ran = world
        .windrow("build")
        .arg(&drv)
        .args(["--log-format", "internal-json", "-v"])
        .run()
        .exits(100);
    let mut records = Vec::new();
    for line in ran.stderr.lines() {
        let json = line
            .strip_prefix("@nix ")
            .unwrap_or_else(|| panic!("'{line}' is no JSON record\n{ran}"));
        let value: Value =
            serde_json::from_str(json).unwrap_or_else(|e| panic!("'{line}': {e}\n{ran}"));
        records.push(value);
    }
    let builds: Vec<&Value> = records
        .iter()
        .filter(|r| r["action"] == "start" && r["type"] == 105)
        .collect();
    assert_eq!(builds.len(), 2, "{ran}");
    assert_eq!(builds[1]["fields"][0], drv.as_str());
    assert!(builds[1]["level"].is_u64() && builds[1]["text"].as_str().unwrap().contains(&drv));
    for build in &builds {
        let stops = records
            .iter()
            .filter(|r| r["action"] == "stop" && r["id"] == build["id"])
            .count();
        assert_eq!(stops, 1, "{ran}");
    }
    let line = |build: &Value, text: &str| {
        records.iter().any(|r| {
            r["action"] == "result"
                && r["type"] == 101
                && r["id"] == build["id"]
                && r["fields"][0] == text
        })
    };
    assert!(
        line(builds[0], "low says") && line(builds[1], "bad \"says\\"),
        "{ran}"
    );
    let message = |r: &&Value| r["action"] == "msg" && r["level"] == 0;
    let messages: Vec<&Value> = records.iter().filter(message).collect();
    assert!(
        messages
            .iter()
            .any(|m| m["msg"].as_str().unwrap().contains("exit code 3")),
        "{ran}"
    );
}

/// windrow with a terminal as its standard error, through `script`; standard output goes to a file.
fn at_a_terminal(world: &World, args: &str) -> Cmd {
    let windrow = env!("CARGO_BIN_EXE_windrow");
    let line = format!(
        "stty cols 100 rows 30; {windrow} {args} > {}",
        world.file("stdout").display()
    );
    world
        .program("script")
        .args(["--quiet", "--flush", "--return", "--command", &line])
        .arg(world.file("seen"))
        .env("TERM", "xterm")
}

#[test]
fn a_live_line_at_a_terminal() {
    need!("script", "stty");
    let world = World::new();
    let go = world.file("go");
    let waits = |name: &str| {
        sh(&format!(
            "echo secret chatter; : > {}; while [ ! -e {} ]; do sleep 0.05; done; echo > $out",
            world.file(name).display(),
            go.display()
        ))
    };
    let graph = graph_of([
        ("long-one", waits("one-runs")),
        ("long-two", waits("two-runs")),
        ("after", sh("cat @{long-one} @{long-two} > $out")),
    ]);
    world.graph("g.json", &graph);
    let running = at_a_terminal(&world, "build g.json -j2").start();
    world.wait_for("one-runs");
    world.wait_for("two-runs");
    let seen = || {
        std::fs::read(world.file("seen"))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    };
    crate::harness::wait_until("the region names what runs", || {
        let seen = seen();
        seen.contains("long-one") && seen.contains("long-two") && seen.contains("[0/3]")
    });
    std::fs::write(&go, "").unwrap();
    let ran = running.wait().exits(0);
    let seen = seen();
    assert!(
        seen.contains('\r') || seen.contains('\x1b'),
        "the region is drawn in place\n{ran}"
    );
    assert!(!text(world.file("stdout")).contains(['\x1b', '\r']));
    assert!(
        text(world.file("stdout")).trim().ends_with("-after"),
        "standard output has the path"
    );
    world.is_clean();
}

#[test]
fn control_c_at_a_terminal_leaves_no_ruins() {
    need!("script", "stty");
    let world = World::new();
    world.graph(
        "g.json",
        &graph_of([(
            "sleeper",
            sh(&format!(": > {}; sleep 300", world.file("runs").display())),
        )]),
    );
    // The terminal's interrupt character, sent once the builder runs.
    let line = format!(
        "(while [ ! -e {} ]; do sleep 0.05; done; sleep 0.2; printf '\\003'; sleep 5) | script --quiet --return --command '{} build g.json' /dev/null",
        world.file("runs").display(),
        env!("CARGO_BIN_EXE_windrow")
    );
    let ran = world.program("sh").args(["-c", &line]).run();
    assert_eq!(ran.status.code(), Some(130), "{ran}");
    world.is_clean();
}
