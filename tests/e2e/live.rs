//! The live region: what is on the screen of a terminal while something is built, and what stays on
//! it afterwards.

use serde_json::Value;

use crate::harness::{Cmd, Running, Terminal, World, graph_of, masked, need, sh, text, wait_until};

/// A builder that says something, makes the file `NAME-runs`, and ends once there is `NAME-go`.
fn waits(world: &World, name: &str, needs: &str) -> Value {
    sh(&format!(
        "echo '@nix {{\"action\":\"setPhase\",\"phase\":\"buildPhase\"}}' >&$NIX_LOG_FD\n\
         echo compiling {name}.c; : {needs} > {}\n\
         until [ -e {} ]; do sleep 0.05; done; echo > $out",
        world.file(&format!("{name}-runs")).display(),
        world.file(&format!("{name}-go")).display()
    ))
}

fn windrow(world: &World, terminal: &Terminal, args: &[&str]) -> Cmd {
    let cmd = world.windrow("build").args(args).env("TERM", "xterm");
    terminal.run(cmd, &world.file("stdout"))
}

fn start(world: &World, terminal: &Terminal, args: &[&str]) -> Running {
    windrow(world, terminal, args).start()
}

/// One that waits, in a terminal of the usual size.
fn start_one(world: &World) -> (Terminal, Running) {
    let graph = graph_of([("long-one", waits(world, "one", ""))]);
    world.graph("g.json", &graph);
    let terminal = Terminal::new(24, 80);
    let running = start(world, &terminal, &["g.json"]);
    (terminal, running)
}

/// The screen without what differs from run to run.
fn screen(terminal: &Terminal) -> String {
    let text = masked(&terminal.transcript());
    let lines = text.lines().filter(|line| !line.starts_with("slowest:"));
    // Where something is cut off depends on how long the time is.
    let uncut = |line: &str| match line.rsplit_once("  ") {
        Some((whole, cut)) if cut.ends_with('…') => format!("{whole}  …"),
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = lines.map(uncut).collect();
    // Which of two is started first depends on their paths.
    for pair in lines.chunk_by_mut(|a, b| a.starts_with("build ") && b.starts_with("build ")) {
        pair.sort_unstable();
    }
    (lines.join("\n")).replace("after long-two, long-one", "after long-one, long-two")
}

/// Three that run in turn: at the start, in the middle and at the end.
fn watch(rows: u16, columns: u16) -> String {
    let world = World::new();
    world.graph(
        "g.json",
        &graph_of([
            ("long-one", waits(&world, "one", "")),
            ("long-two", waits(&world, "two", "")),
            ("after", waits(&world, "after", "@{long-one} @{long-two}")),
        ]),
    );
    let terminal = Terminal::new(rows, columns);
    let running = start(&world, &terminal, &["g.json", "-j2"]);
    let two = ["long-one", "long-two"];
    let is_wide = columns >= 80;
    terminal.shows(&two);
    let said = |name: &str| match is_wide {
        true => format!("buildPhase: compiling {name}.c"),
        false => "buildPh".to_owned(),
    };
    terminal.shows(&[&said("one"), &said("two")]);
    let mut seen = vec![screen(&terminal)];
    world.write("one-go", "");
    terminal.shows(&["built long-one", "[1/3]"]);
    world.write("two-go", "");
    terminal.shows(&["built long-two", "[2/3]", &said("after")]);
    seen.push(screen(&terminal));
    world.write("after-go", "");
    running.wait().exits(0);
    terminal.shows(&["3 derivations built"]);
    seen.push(screen(&terminal));
    assert!(text(world.file("stdout")).trim().ends_with("-after"));
    world.is_clean();
    seen.join("\n----\n")
}

#[test]
fn at_a_narrow_terminal() {
    need!("setsid");
    insta::assert_snapshot!(watch(10, 40));
}

#[test]
fn at_a_usual_terminal() {
    need!("setsid");
    insta::assert_snapshot!(watch(24, 80));
}

#[test]
fn at_a_wide_terminal() {
    need!("setsid");
    insta::assert_snapshot!(watch(60, 200));
}

#[test]
fn what_failed_is_shown_at_the_end_and_what_needs_it_is_counted_apart() {
    need!("setsid");
    let world = World::new();
    world.graph(
        "g.json",
        &graph_of([
            ("good", sh("echo > $out")),
            ("bad", sh("echo some log; echo last words; exit 3")),
            ("mid", sh("cat @{bad}")),
            ("top", sh("cat @{mid} @{good}")),
        ]),
    );
    let terminal = Terminal::new(60, 250);
    start(&world, &terminal, &["g.json", "-k", "-j1"])
        .wait()
        .exits(100);
    terminal.shows(&[
        "1 derivation built, 1 failed, 2 not built",
        "error: build of",
    ]);
    let seen = terminal.transcript();
    let at = |text: &str| {
        let at = seen.find(text);
        at.unwrap_or_else(|| panic!("'{text}' should be on the screen:\n{seen}"))
    };
    let verdict = at("failed bad after ");
    let end = at("last 2 log lines:");
    assert!(verdict < end && end < at("> some log") && end < at("windrow log /"));
    assert!(at("not built because of that: mid, top") > end);
    assert_eq!(seen.matches("last words").count(), 1, "{seen}");
    world.is_clean();
}

#[test]
fn the_region_follows_the_size_and_leaves_nothing_behind() {
    need!("setsid");
    let world = World::new();
    let (terminal, running) = start_one(&world);
    terminal.shows(&["[0/1]", "long-one", "compiling one.c"]);
    for (rows, columns) in [(10, 100), (10, 40), (60, 250), (24, 80)] {
        terminal.resize(rows, columns);
        wait_until("the region has that width", || {
            let screen = terminal.screen();
            let widest = screen.lines().map(|line| line.chars().count()).max();
            widest.is_some_and(|widest| widest < usize::from(columns))
                && screen.matches("[0/1]").count() == 1
        });
    }
    world.write("one-go", "");
    running.wait().exits(0);
    terminal.shows(&["1 derivation built"]);
    let seen = terminal.transcript();
    assert!(!seen.contains("[0/1]"), "the region is gone:\n{seen}");
    world.is_clean();
}

#[test]
fn the_last_state_stays_after_control_c() {
    need!("setsid");
    let world = World::new();
    let (mut terminal, running) = start_one(&world);
    terminal.shows(&["[0/1]", "compiling one.c"]);
    terminal.types("\u{3}");
    running.wait().exits(130);
    terminal.shows(&["interrupted", "[0/1]", "compiling one.c"]);
    world.is_clean();
}

#[test]
fn what_others_have_written_while_it_was_stopped_stays() {
    need!("setsid");
    let world = World::new();
    let (terminal, running) = start_one(&world);
    terminal.shows(&["[0/1]", "compiling one.c"]);
    running.signal("STOP");
    terminal.others_write("$ some command\nits output\n$ fg\n");
    running.signal("CONT");
    wait_until("it is drawn below that", || {
        let screen = terminal.screen();
        let shell = screen.find("$ fg");
        shell.is_some_and(|at| screen[at..].contains("[0/1]"))
    });
    world.write("one-go", "");
    running.wait().exits(0);
    terminal.shows(&["$ some command", "its output", "1 derivation built"]);
    world.is_clean();
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    need!("setsid");
    let world = World::new();
    world.graph("g.json", &graph_of([("x", sh("echo > $out"))]));
    let terminal = Terminal::new(24, 200);
    let cmd = world.windrow("build").arg("g.json").env("TERM", "dumb");
    terminal.run(cmd, &world.file("stdout")).run().exits(0);
    terminal.shows(&["building '", "[1/1] built '", "1 derivation built"]);
    assert!(!terminal.bytes().contains(&0x1b));
}

#[test]
fn colours_are_as_the_environment_asks() {
    need!("setsid");
    let world = World::new();
    let red = || sh("printf '\\033[31mred\\n'; echo > $out");
    let colours = |name: &str, env: &[(&str, &str)], at_terminal: bool| {
        world.graph("g.json", &graph_of([(name, red())]));
        let mut cmd = world.windrow("build").args(["g.json", "-L"]);
        for (name, value) in [("TERM", "xterm")].iter().chain(env) {
            cmd = cmd.env(name, value);
        }
        if !at_terminal {
            return cmd.ok().stderr.contains("\x1b[31m");
        }
        let terminal = Terminal::new(24, 80);
        terminal.run(cmd, &world.file("stdout")).run().exits(0);
        terminal.shows(&["1 derivation built"]);
        let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        bytes.contains("\x1b[31m")
    };
    assert!(colours("a", &[], true));
    assert!(!colours("b", &[("NO_COLOR", "1")], true));
    assert!(!colours("c", &[], false));
    assert!(colours("d", &[("CLICOLOR_FORCE", "1")], false));
    assert!(!colours("e", &[("CLICOLOR_FORCE", "0")], false));
    assert!(!colours(
        "f",
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
        false
    ));
}

#[test]
fn who_holds_the_lock_that_is_waited_for_is_shown() {
    need!("setsid");
    let world = World::new();
    let drv = world.add_one("long-one", waits(&world, "one", ""));
    let first = world.windrow("build").arg(&drv).start();
    world.wait_for("one-runs");
    let terminal = Terminal::new(24, 250);
    let second = start(&world, &terminal, &[&drv]);
    let holder = format!("held by process {}", first.id());
    terminal.shows(&["wait  long-one", &holder]);
    world.write("one-go", "");
    first.wait().exits(0);
    second.wait().exits(0);
    assert!(!terminal.transcript().contains("wait  long-one"));
}
