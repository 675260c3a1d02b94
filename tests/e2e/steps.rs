//! The line on terminals about long work that is not a build.

use crate::harness::{Terminal, World, need, wait_until};

const CHAIN: &str = "rule r\n command = x\nbuild a: r\nbuild b: r a\n";

#[test]
fn work_that_takes_long_is_told_of_on_terminals() {
    need!("setsid", "mkfifo");
    let world = World::new();
    world.program("mkfifo").arg(world.file("build.ninja")).ok();
    let terminal = Terminal::new(24, 80);
    let command = world.windrow("graph").arg("build.ninja");
    let command = command.env("TERM", "xterm");
    let running = terminal.run(command, &world.file("stdout")).start();
    terminal.shows(&["reading build.ninja, "]);
    std::fs::write(world.file("build.ninja"), CHAIN).unwrap();
    running.wait().exits(0);
    let printed = std::fs::read_to_string(world.file("stdout")).unwrap();
    assert!(printed.starts_with("nodes          2\n"), "{printed}");
    wait_until("the line is gone", || terminal.screen().trim().is_empty());
}

#[test]
fn programs_are_told_nothing() {
    need!("mkfifo");
    let world = World::new();
    world.program("mkfifo").arg(world.file("build.ninja")).ok();
    let running = world.windrow("graph").arg("build.ninja").start();
    std::fs::write(world.file("build.ninja"), CHAIN).unwrap();
    running.wait().exits(0).never_says("reading");
}
