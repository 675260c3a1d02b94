//! A shell at a terminal: the keys are the shell's, and the terminal is given back.

use crate::harness::{
    Cmd, Running, Terminal, World, busybox, for_each_caller, graph_of, need, sh, wait_until,
};

/// Starts a command at a terminal.
fn start(terminal: &Terminal, cmd: Cmd) -> Running {
    terminal.run_whole(cmd.env("TERM", "xterm")).start()
}

/// Types a line, and waits for what the shell says to it.
#[track_caller]
fn type_line(terminal: &mut Terminal, line: &str, says: &str) {
    terminal.types(&format!("{line}\r"));
    terminal.shows(&[says]);
}

/// What a shell asks with that is typed to.
const PROMPT: &str = "[x]$";

/// Waits until a shell asks for more: what is typed while it sets its terminal may be lost.
#[track_caller]
fn asks(terminal: &Terminal, prompt: &str) {
    wait_until(&format!("'{prompt}' is asked for more"), || {
        terminal.screen().trim_end().ends_with(prompt)
    });
}

/// Types a line that a shell runs to its end, and waits for what it says.
#[track_caller]
fn do_line(terminal: &mut Terminal, line: &str, says: &str) {
    type_line(terminal, line, says);
    asks(terminal, PROMPT);
}

/// Presses a key with Control, and waits until it is shown and the shell asks for more.
#[track_caller]
fn press(terminal: &mut Terminal, key: &str, shown: &str) {
    let count = |terminal: &Terminal| terminal.transcript().matches(shown).count();
    let before = count(terminal);
    terminal.types(key);
    wait_until(&format!("{shown} is shown"), || count(terminal) > before);
    asks(terminal, PROMPT);
}

/// A shell in which something is interrupted, which itself is not.
#[track_caller]
fn goes_on_after_keys(world: &World, terminal: &mut Terminal, shell: Cmd) {
    let running = start(terminal, shell);
    terminal.shows(&["directory: ", "WINDROW_BUILD"]);
    asks(terminal, PROMPT);
    do_line(terminal, "echo one-$((1 + 1))", "one-2");
    // It says so itself, so that it is there for the key.
    let runs = |at: &str| format!("/bin/sh -c 'echo runs-{at}-$((1 + 1)); exec sleep 300'");
    type_line(terminal, &runs("a"), "runs-a-2");
    press(terminal, "\x03", "^C");
    do_line(terminal, "echo two-$((1 + 1))", "two-2");
    // Nothing to interrupt.
    press(terminal, "\x03", "^C");
    do_line(terminal, "echo three-$((1 + 1))", "three-2");
    // A job that is stopped.
    type_line(terminal, &runs("b"), "runs-b-2");
    press(terminal, "\x1a", "^Z");
    do_line(terminal, "jobs; echo four-$((1 + 1))", "four-2");
    terminal.shows(&["topped"]);
    do_line(terminal, "kill -9 %1; echo five-$((1 + 1))", "five-2");
    // One that has not noticed yet asks once more.
    do_line(terminal, "wait; echo six-$((1 + 1))", "six-2");
    terminal.types("exit 7\r");
    running.wait().exits(7);
    world.is_clean();
}

#[test]
fn keys_interrupt_and_stop_what_runs_in_it() {
    need!("setsid", "bash");
    let world = World::new();
    let mut derivation = sh("echo > $out");
    derivation["builder"] = "/bin/bash".into();
    derivation["env"] = serde_json::json!({"PATH": "/usr/bin:/bin"});
    let drv = world.add_one("x", derivation);
    let mut terminal = Terminal::new(40, 200);
    let shell = world.windrow("shell").arg(drv);
    goes_on_after_keys(&world, &mut terminal, shell);
}

#[test]
fn keys_interrupt_and_stop_what_runs_in_it_in_the_sandbox() {
    need!("setsid");
    for_each_caller(|world, caller| {
        let mut derivation = busybox("echo > $out");
        derivation["env"] = serde_json::json!({"PATH": "/bin"});
        let file = world.graph("g.json", &graph_of([("x", derivation)]));
        let paths = "/bin/sleep=/usr/bin/busybox";
        let shell = world.windrow("shell").arg(file);
        let shell = shell.args(["--option", "extra-sandbox-paths", paths]);
        let mut terminal = Terminal::new(40, 200);
        terminal.open_to_all();
        goes_on_after_keys(world, &mut terminal, caller.runs(shell));
    });
}

#[test]
fn a_key_ends_a_program_that_does_not_handle_it() {
    need!("setsid");
    for_each_caller(|world, caller| {
        let derivation = busybox("echo > $out");
        let file = world.graph("g.json", &graph_of([("x", derivation)]));
        let sandboxes: [&[&str]; 2] = [&[], &["--option", "sandbox", "false"]];
        for sandbox in sandboxes {
            let line = "echo runs-$((1 + 1)); exec /bin/busybox sleep 300";
            let line = match sandbox {
                [] => line.to_owned(),
                _ => line.replace("/bin/busybox", "/usr/bin/busybox"),
            };
            let shell = world.windrow("shell").arg(&file).args(["--command", &line]);
            let mut terminal = Terminal::new(24, 120);
            terminal.open_to_all();
            let running = start(&terminal, caller.runs(shell.args(sandbox)));
            terminal.shows(&["runs-2"]);
            terminal.types("\x03");
            running.wait().exits(130);
            world.is_clean();
        }
    });
}

#[test]
fn what_handles_a_key_goes_on() {
    need!("setsid");
    for_each_caller(|world, caller| {
        let file = world.graph("g.json", &graph_of([("x", busybox("echo > $out"))]));
        let line = "trap 'echo trapped-$((1 + 1)); exit 9' INT; echo runs-$((1 + 1)); \
                    while :; do :; done";
        let shell = world.windrow("shell").arg(&file).args(["--command", line]);
        let mut terminal = Terminal::new(24, 120);
        terminal.open_to_all();
        let running = start(&terminal, caller.runs(shell));
        terminal.shows(&["runs-2"]);
        terminal.types("\x03");
        terminal.shows(&["trapped-2"]);
        running.wait().exits(9);
    });
}

#[test]
fn the_terminal_is_given_back_as_it_was() {
    need!("setsid", "stty", "bash");
    let world = World::new();
    let drv = world.add_one("x", sh("echo > $out"));
    let mut terminal = Terminal::new(40, 150);
    // A shell that starts it and goes on, with jobs of its own.
    let windrow = env!("CARGO_BIN_EXE_windrow");
    let outer = world
        .program("/bin/bash")
        .args(["--norc", "--noprofile", "-i"]);
    let running = start(
        &terminal,
        outer.env("PS1", "outer> ").env("PATH", "/usr/bin:/bin"),
    );
    asks(&terminal, "outer>");
    type_line(
        &mut terminal,
        &format!("{windrow} shell {drv}"),
        "directory: ",
    );
    asks(&terminal, PROMPT);
    terminal.types("/usr/bin/stty -echo; kill -9 $$\r");
    asks(&terminal, "outer>");
    type_line(&mut terminal, "echo status-$?; stty -a", "status-137");
    wait_until("it echoes", || {
        let text = terminal.transcript();
        text.contains(" echo ") && !text.contains("-echo ")
    });
    terminal.types("exit\r");
    drop(running.wait());
    world.is_clean();
}

#[test]
fn a_shell_that_is_suspended_suspends_windrow() {
    need!("setsid", "bash");
    let world = World::new();
    let mut derivation = sh("echo > $out");
    derivation["builder"] = "/bin/bash".into();
    let drv = world.add_one("x", derivation);
    let mut terminal = Terminal::new(40, 150);
    let windrow = env!("CARGO_BIN_EXE_windrow");
    let outer = world
        .program("/bin/bash")
        .args(["--norc", "--noprofile", "-i"]);
    let running = start(&terminal, outer.env("PS1", "outer> "));
    asks(&terminal, "outer>");
    type_line(
        &mut terminal,
        &format!("{windrow} shell {drv}"),
        "directory: ",
    );
    asks(&terminal, PROMPT);
    type_line(&mut terminal, "suspend", "Stopped");
    asks(&terminal, "outer>");
    type_line(&mut terminal, "echo outside-$((1 + 1))", "outside-2");
    asks(&terminal, "outer>");
    // The shell does not ask again by itself.
    type_line(&mut terminal, "fg", &format!("shell {drv}\n"));
    do_line(&mut terminal, "echo inside-$((2 + 2)) $name", "inside-4 x");
    terminal.types("exit 3\r");
    asks(&terminal, "outer>");
    type_line(&mut terminal, "echo status-$?", "status-3");
    terminal.types("exit\r");
    drop(running.wait());
    world.is_clean();
}

#[test]
fn nothing_is_typed_into_the_terminal() {
    need!(root);
    need!("setsid", "bash", "perl");
    let world = World::new();
    let mut derivation = sh("echo > $out");
    derivation["builder"] = "/bin/bash".into();
    let drv = world.add_one("x", derivation);
    // TIOCSTI, for each letter.
    let types = "/usr/bin/perl -e 'print(ioctl(STDIN, 0x5412, $_) ? \"typed \" : \"refused \") \
                 for split //, \"echo forged-\\$((1+1))\\n\"'";
    let settings: [(&[&str], &str, bool); 2] = [
        (&[], "refused refused", false),
        (
            &["--option", "filter-syscalls", "false"],
            "typed typed",
            true,
        ),
    ];
    for (options, says, is_typed) in settings {
        let mut terminal = Terminal::new(40, 200);
        let running = start(&terminal, world.windrow("shell").arg(&drv).args(options));
        asks(&terminal, PROMPT);
        do_line(&mut terminal, types, says);
        if is_typed {
            terminal.shows(&["forged-2"]);
            asks(&terminal, PROMPT);
        }
        do_line(&mut terminal, "echo end-$((1 + 1))", "end-2");
        assert_eq!(terminal.screen().contains("forged-2"), is_typed);
        terminal.types("exit\r");
        running.wait().exits(0);
    }
}
