//! Manual pages: one for each command, read without complaint by the programs that show them.

use crate::harness::{World, have, need, skip, text};

#[test]
fn there_is_a_page_for_every_command() {
    let world = World::new();
    let prefix = world.at("usr");
    let made = world.windrow("man").arg("--prefix").arg(&prefix).ok();
    let dir = prefix.join("share/man/man1");
    let help = world.program(env!("CARGO_BIN_EXE_windrow")).arg("--help");
    let help = help.ok().out();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty() && *name != "help");
    let mut expected = vec![dir.join("windrow.1").display().to_string()];
    expected.extend(names.map(|name| format!("{}/windrow-{name}.1", dir.display())));
    assert!(expected.len() > 12, "{expected:?}");
    assert_eq!(made.lines(), expected);
    for file in &expected {
        assert!(text(file).contains(".SH \"EXIT STATUS\""), "{file}");
    }
    let build = world.windrow("man").arg("build").ok();
    assert_eq!(build.out(), text(dir.join("windrow-build.1")));
    assert_eq!(world.windrow("man").ok().out(), text(&expected[0]));
}

#[test]
fn pages_are_read_without_warnings() {
    let world = World::new();
    let files = world.windrow("man").arg("--install").ok().lines();
    assert!(files[0].ends_with("home/.local/share/man/man1/windrow.1"));
    if have(&["mandoc"]) {
        // Pages have no date of their own: they change with the release that they name.
        let lint = world
            .program("mandoc")
            .args(["-T", "lint", "-W", "warning"]);
        let ran = lint.args(&files).run();
        let out = ran.out();
        let found: Vec<&str> = out
            .lines()
            .filter(|line| !line.contains("missing date"))
            .collect();
        assert!(found.is_empty(), "{ran}");
    } else {
        skip("mandoc is not installed");
    }
    need!("man", "groff");
    for file in &files {
        let man = world.program("man").args(["--warnings", "-l", file]);
        let ran = man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100").ok();
        assert!(ran.stderr.is_empty(), "{ran}");
    }
}

#[test]
fn signs_are_shown_as_they_are_typed() {
    let world = World::new();
    need!("man", "groff");
    let shown = |page: &str| {
        let source = world.windrow("man").arg(page).ok().stdout;
        let file = world.write("page.1", source);
        let man = world.program("man").arg("-l").arg(file);
        let ran = man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100").ok();
        // Letters that are printed twice are bold ones.
        let text = ran.out();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let build = shown("build");
    assert!(build.contains("x.drv^out,dev"), "{build}");
    assert!(build.contains("-j, --jobs"), "{build}");
    assert!(build.contains("windrow build [OPTIONS]"), "{build}");
    let store = shown("nix-store");
    assert!(store.contains("--add-fixed ALGO FILE…"), "{store}");
}

#[test]
fn a_page_that_is_not_there() {
    let world = World::new();
    world
        .windrow("man")
        .arg("bild")
        .run()
        .exits(1)
        .says("cannot use 'bild': there is no such command; there are build, copy,")
        .one_error();
}
