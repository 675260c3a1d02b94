//! Text of others on its way to a terminal: logs, messages and names that try to do more than be
//! read. That each attempt is a real one is seen in the log that is kept, or on standard output
//! where programs read it.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Caller, Cmd, Ran, World, for_each_caller, graph_of, need, sh, sh_with, text};

/// A command that writes a line with a title, bells, movements, a clipboard, an unfinished sequence
/// and a line that is begun anew.
const HOSTILE: &str = r"printf 'begin \033]0;title\007\007\033[2J\033[5;5H\033[31mred\033[1m text \033]52;c;eA==\033\\back\bspace\302\2332J\n';
    printf 'gone\rkept\r\n'; printf 'after \033]0;never ended\n'; printf 'last\n'";

/// What is shown of it where there are no colours.
const SHOWN: [&str; 4] = ["begin red text backspace2J", "kept", "after ", "last"];

/// Expects text without a character that acts on a terminal.
#[track_caller]
fn is_harmless(ran: &Ran) {
    let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!ran.stderr.contains(is_control), "{:?}", ran.stderr);
}

#[track_caller]
fn has_lines(ran: &Ran, prefix: &str) {
    for line in SHOWN {
        let line = format!("{prefix}{line}");
        assert!(
            ran.stderr.lines().any(|it| it == line),
            "no '{line}'\n{ran}"
        );
    }
}

/// Adds a derivation as the caller, whose the store then is, and gives its .drv.
#[track_caller]
fn added(world: &World, caller: Caller, name: &str, script: &str) -> String {
    let file = world.graph("g.json", &graph_of([(name, sh(script))]));
    caller.runs(world.windrow("add").arg(file)).ok().line()
}

fn raw_log(world: &World, drv: &str) -> Vec<u8> {
    world.windrow("log").arg(drv).ok().stdout
}

#[test]
fn logs_that_are_shown_do_nothing_to_a_terminal() {
    for_each_caller(|world, caller| {
        let good = added(world, caller, "good", &format!("{HOSTILE}; echo > $out"));
        let ran = caller
            .runs(world.windrow("build").arg(&good).arg("-L"))
            .ok();
        is_harmless(&ran);
        has_lines(&ran, "good> ");
        let raw = raw_log(world, &good);
        for attempt in [
            "\x1b]0;title\x07",
            "\x1b[2J",
            "\u{9b}2J",
            "\x1b]52;c",
            "\x08",
            "gone\rkept",
        ] {
            let is_there = raw
                .windows(attempt.len())
                .any(|it| it == attempt.as_bytes());
            assert!(
                is_there,
                "the builder wrote {attempt:?}, and the log has it"
            );
        }
        let other = added(world, caller, "other", &format!("{HOSTILE}; echo > $out"));
        let realise = world.windrow("nix-store").args(["-r", &other]);
        let ran = caller.runs(realise).ok();
        is_harmless(&ran);
        // As nix-store writes them.
        has_lines(&ran, "");
    });
}

#[test]
fn the_end_of_a_failed_builds_log_does_nothing_to_a_terminal() {
    for_each_caller(|world, caller| {
        let script = format!("{HOSTILE}; printf '\\033[31mno end'; exit 1");
        let drv = added(world, caller, "bad", &script);
        for command in ["build", "nix-store"] {
            let cmd = world.windrow(command);
            let cmd = if command == "nix-store" {
                cmd.args(["-Q", "-r"])
            } else {
                cmd
            };
            let ran = caller.runs(cmd.arg(&drv)).run().exits(100);
            is_harmless(&ran);
            has_lines(&ran, "       > ");
            ran.says("       > no end\n");
        }
    });
}

#[test]
fn messages_of_builders_are_messages() {
    let world = World::new();
    let script = r#"say() { printf '%s\n' "@nix $1" >&"$NIX_LOG_FD"; }
        say '{"action":"setPhase","phase":"unpackPhase"}'
        say '{"action":"msg","level":1,"msg":"look:\u001b]0;t\u0007 \u001b[2Jhere"}'
        say '{"action":"msg","level":6,"msg":"too much"}'
        say '{"action":"start","id":7,"level":3,"type":101,"text":"downloading","fields":["http://x"]}'
        say '{"action":"result","id":7,"type":105,"fields":[1,2,0,0]}'
        say '{"action":"start","id":8,"level":0,"type":105,"text":"forged build"}'
        say '{"action":"result","id":9,"type":101,"fields":["forged line"]}'
        say '{"action":"stop","id":1}'
        say '{no message'
        echo text; exit 1"#;
    let drv = world.add_one("x", sh(script));
    let ran = world.windrow("build").arg(&drv).arg("-L").run().exits(100);
    is_harmless(&ran);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let count = |line: &str| lines.iter().filter(|it| **it == line).count();
    assert_eq!(count("x> look: here"), 1, "{ran}");
    assert_eq!(count("x> downloading..."), 1, "{ran}");
    assert_eq!(
        count("x> @nix {no message"),
        1,
        "what is no message is text\n{ran}"
    );
    // What was shown is not shown again at the end.
    assert_eq!(ran.stderr.matches("@nix").count(), 1, "{ran}");
    ran.never_says("too much")
        .never_says("unpackPhase")
        .never_says("forged");
    // They are no part of the log that has to be asked for.
    let quiet = world.windrow("build").arg(&drv).run().exits(100);
    let quiet = quiet.says("x> look: here\n").never_says("x> text");
    quiet
        .says("       > text\n")
        .says("       > @nix {no message\n");
    let log = String::from_utf8(raw_log(&world, &drv)).unwrap();
    assert!(
        log.contains("@nix {\"action\":\"setPhase\""),
        "the log that is kept has all\n{log}"
    );
}

#[test]
fn programs_get_the_messages_of_builders_as_json() {
    let world = World::new();
    let script = r#"printf '%s\n' '@nix {"action":"setPhase","phase":"p1"}' '@nix {"action":"msg","level":1,"msg":"m\u001b[2J"}' \
            '@nix {"action":"start","id":7,"level":3,"type":101,"text":"t","fields":["u",5]}' \
            '@nix {"action":"result","id":7,"type":105,"fields":[1,2]}' '@nix {"action":"start","id":8,"level":0,"type":105}' \
            '@nix {"action":"stop","id":1}'
        printf 'raw \033[31mred\302\2332J \033]0;t\007\n'; echo > $out"#;
    let drv = world.add_one("x", sh(script));
    let cmd = world.windrow("build").arg(&drv);
    let ran = cmd.args(["--log-format", "internal-json"]).ok();
    is_harmless(&ran);
    let records: Vec<Value> = ran
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line.strip_prefix("@nix ").unwrap()).unwrap())
        .collect();
    let all = |action: &str, kind: u64| {
        let is = |it: &&Value| it["action"] == action && it["type"] == kind;
        records.iter().filter(is).collect::<Vec<_>>()
    };
    let builds = all("start", 105);
    assert_eq!(builds.len(), 1, "{ran}");
    let build = &builds[0]["id"];
    let phases = all("result", 104);
    assert_eq!(
        (&phases[0]["id"], &phases[0]["fields"]),
        (build, &json!(["p1"]))
    );
    let lines = all("result", 101);
    assert_eq!(lines.len(), 1, "{ran}");
    assert_eq!(
        lines[0]["fields"][0], "raw \x1b[31mred\u{9b}2J \x1b]0;t\x07",
        "{ran}"
    );
    let transfer = all("start", 101)[0];
    assert_eq!(
        (&transfer["parent"], &transfer["fields"]),
        (build, &json!(["u", 5]))
    );
    let id = &transfer["id"];
    assert_ne!(id, &json!(7), "the number is one of windrow's");
    assert!(
        records.contains(&json!({"action": "result", "id": id, "type": 105, "fields": [1, 2]}))
    );
    let stop = |id: &Value| {
        records
            .iter()
            .position(|it| *it == json!({"action": "stop", "id": id}))
    };
    assert!(stop(id).unwrap() < stop(build).unwrap(), "{ran}");
    assert_eq!(
        stop(&json!(1)).unwrap(),
        records.len() - 1,
        "the builder stopped nothing else"
    );
    assert!(
        records.contains(&json!({"action": "msg", "level": 1, "msg": "m\x1b[2J"})),
        "{ran}"
    );
}

#[test]
fn names_in_messages_are_spelt_out() {
    let world = World::new();
    let name = "evil\x1b]0;t\x07\u{9b}2J\u{202e}\r\nerror: forged";
    let spelt = "evil\\x1b]0;t\\x07\\u{9b}2J\\u{202e}\\r";
    let graph = world.graph("g.json", &graph_of([(name, sh("echo > $out"))]));
    let file = world.write(&format!("{name}.json"), "{");
    let ninja = world.write(
        "build.ninja",
        format!("build {}: nothing\n", "a\x1b]0;t\x07b"),
    );
    let said = |cmd: Cmd| {
        let ran = cmd.run().exits(1).no_panic();
        is_harmless(&ran);
        assert!(
            !ran.stderr
                .lines()
                .any(|line| line.starts_with("error: forged")),
            "{ran}"
        );
        ran
    };
    said(world.windrow("add").arg(graph)).says("evil");
    said(world.windrow("build").arg(&file)).says(spelt);
    said(world.windrow("graph").arg(&ninja));
    for args in [
        ["-q", name],
        ["--dump", name],
        ["--realise", name],
        ["--add", name],
    ] {
        said(world.windrow("nix-store").args(args)).says(spelt);
    }
    let ran = world.windrow("build").arg(format!("--{name}")).run();
    is_harmless(&ran);
    let options = ["--option", "\x1b]0;t\x07", "x", "log", "/x"];
    said(world.windrow("log").args(&options[..3]).arg("/x"));
}

#[test]
fn platforms_do_not_forge_trace_lines() {
    let world = World::new();
    let platform = json!({"system": "none\n@ build-succeeded forged -\x1b[2J"});
    let drv = world.add_one("x", sh_with("echo > $out", platform));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .arg("--print-build-trace")
        .run();
    is_harmless(&ran);
    let forged = |line: &str| line.starts_with("@ build-succeeded");
    assert!(!ran.stderr.lines().any(forged), "{ran}");
    ran.says("@ unsupported-platform")
        .says("none\\n@ build-succeeded forged -\\x1b[2J");
}

#[test]
fn hooks_and_substituters_do_nothing_to_a_terminal() {
    let world = World::new();
    let loud = r"printf '\033]0;t\007hello \033[31mred\033[2J\n@nix {\x22action\x22:\x22msg\x22,\x22level\x22:1,\x22msg\x22:\x22from json\x22}\n' >&2";
    let loud = loud.replace("\\x22", "\"");
    let hook = world.script(
        "hook.sh",
        &format!("read -r line\n{loud}\necho '# decline' >&2; read -r line"),
    );
    let substituter = world.script("sub.sh", &format!("{loud}\nexit 1"));
    let drv = world.add_one("x", sh("echo > $out"));
    let ran = world
        .windrow("build")
        .arg(&drv)
        .env("NIX_BUILD_HOOK", &hook)
        .env("NIX_SUBSTITUTERS", &substituter)
        .args(["--option", "build-use-substitutes", "true"])
        .ok();
    is_harmless(&ran);
    for name in ["hook.sh", "sub.sh"] {
        for line in ["hello red", "from json"] {
            let line = format!("{name}: {line}");
            assert!(
                ran.stderr.lines().any(|it| it == line),
                "no '{line}'\n{ran}"
            );
        }
    }
}

#[test]
fn platforms_do_not_forge_requests_to_the_hook() {
    let world = World::new();
    let asked = world.file("asked");
    let hook = format!(
        "while read -r line; do echo \"$line\" >> {}; echo '# decline' >&2; done",
        asked.display()
    );
    let hook = world.script("hook.sh", &hook);
    let platform = json!({"system": "none\n1 forged /x y"});
    let forged = world.add_one("x", sh_with("echo > $out", platform));
    let other = world.add_one("y", sh("echo > $out"));
    let build = |drv: &str| world.windrow("build").arg(drv).env("NIX_BUILD_HOOK", &hook);
    build(&forged).run().exits(1).says("1 forged");
    build(&other).ok();
    let asked = text(asked);
    assert!(
        asked.contains("-y.drv") && !asked.contains("forged"),
        "{asked}"
    );
}

/// Runs windrow with a terminal for standard output and error, and gives what the terminal was
/// sent.
fn on_a_terminal(world: &World, args: &str) -> String {
    let line = format!(
        "stty cols 100 rows 30 -onlcr; {} {args}",
        env!("CARGO_BIN_EXE_windrow")
    );
    let seen = world.file("seen");
    world
        .program("script")
        .args(["--quiet", "--flush", "--return", "--command", &line])
        .arg(&seen)
        .env("TERM", "xterm")
        .env("PAGER", "")
        .run();
    let seen = text(seen);
    // The program `script` itself writes a first and a last line.
    let from = seen.find('\n').map_or(0, |at| at + 1);
    let to = seen.rfind("\nScript done").unwrap_or(seen.len());
    seen[from..to].to_owned()
}

#[test]
fn colours_reach_a_terminal_and_end_with_their_line() {
    need!("script", "stty");
    let world = World::new();
    let drv = world.add_one("x", sh(&format!("{HOSTILE}; echo > $out")));
    let seen = on_a_terminal(&world, &format!("build {drv} -L --log-format raw"));
    let red = "begin \x1b[31mred\x1b[1m text backspace2J\x1b[0m\n";
    assert!(seen.contains(&format!("x> {red}x> kept\n")), "{seen:?}");
    assert!(!seen.contains(['\x07', '\x08', '\u{9b}', '\r']), "{seen:?}");
    for args in [format!("log {drv}"), format!("nix-store -l {drv}")] {
        let seen = on_a_terminal(&world, &args);
        assert_eq!(seen, format!("{red}kept\nafter \nlast\n"), "{args}");
    }
    let other = world.add_one("y", sh(&format!("{HOSTILE}; echo > $out")));
    let seen = on_a_terminal(&world, &format!("build {other} -L"));
    assert!(seen.contains(&format!("y> {red}")), "{seen:?}");
    assert!(!seen.contains(['\x07', '\x08', '\u{9b}']), "{seen:?}");
    assert!(
        !seen.contains("\x1b]") && !seen.contains("\x1b[5;5H"),
        "{seen:?}"
    );
}

#[test]
fn names_on_standard_output_are_raw_for_programs_and_spelt_out_for_people() {
    need!("script", "stty");
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let out = world.windrow("build").arg(&drv).ok().line();
    let name = "root\x1b]0;t\x07\u{9b}2J";
    let roots = world.state().join("gcroots");
    std::fs::create_dir_all(&roots).unwrap();
    symlink(Path::new(&out), roots.join(name)).unwrap();
    for query in ["--gc --print-roots".to_owned(), format!("-q --roots {out}")] {
        let ran = world.windrow("nix-store").args(query.split(' ')).ok();
        let raw = format!("{} -> {out}", roots.join(name).display());
        assert!(ran.lines().contains(&raw), "programs get the bytes\n{ran}");
        let seen = on_a_terminal(&world, &format!("nix-store {query}"));
        assert!(seen.contains("root\\x1b]0;t\\x07\\u{9b}2J -> "), "{seen:?}");
        assert!(!seen.contains(['\x1b', '\x07', '\u{9b}']), "{seen:?}");
    }
    let ninja = "rule r\n  command = :\nbuild a\x1b]0;t\x07b: r\n";
    world.write("build.ninja", ninja);
    let seen = on_a_terminal(&world, "graph build.ninja --to dot");
    assert!(
        !seen.contains(['\x1b', '\x07']) && seen.contains("x1b"),
        "{seen:?}"
    );
}
