//! Completions: where they are installed, and what the shells then complete.

use std::path::PathBuf;

use crate::harness::{Cmd, World, need, text};

/// What bash completes at the end of a line.
fn bash(world: &World, words: &[&str]) -> Vec<String> {
    let script = world.at("home/completions.bash");
    let made = world.windrow("completions").arg("bash").ok().stdout;
    std::fs::write(&script, made).expect("a writable file");
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let line = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}; _windrow windrow '{last}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        quoted.join(" "),
        words.len() - 1,
    );
    let ran = world.program("bash").arg("-c").arg(line).ok();
    let lines = ran.lines().into_iter();
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_commands_options_values_and_files() {
    need!("bash");
    let world = World::new();
    let commands = bash(&world, &["windrow", ""]);
    for command in ["build", "nix-store", "serve-cache", "completions", "man"] {
        assert!(commands.iter().any(|word| word == command), "{commands:?}");
    }
    assert_eq!(bash(&world, &["windrow", "serve"]), ["serve-cache"]);
    assert_eq!(
        bash(&world, &["windrow", "build", "--keep-g"]),
        ["--keep-going"]
    );
    let formats = bash(&world, &["windrow", "build", "--log-format", ""]);
    assert!(formats.contains(&"internal-json".to_owned()), "{formats:?}");
    world.write("graph.json", "{}");
    assert_eq!(
        bash(&world, &["windrow", "build", "--trace", "gra"]),
        ["graph.json"]
    );
    let script = world.windrow("completions").arg("bash").ok().out();
    let files_else = "complete -F _windrow -o nosort -o bashdefault -o default windrow";
    assert!(script.contains(files_else), "{script}");
    assert_eq!(bash(&world, &["windrow", "completions", "f"]), ["fish"]);
}

#[test]
fn fish_completes() {
    let world = World::new();
    need!("fish");
    let installed = world.windrow("completions").args(["fish", "--install"]);
    assert!(
        installed
            .ok()
            .path()
            .starts_with(world.at("home/.config/fish"))
    );
    let complete = |line: &str| {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_windrow"));
        let dir = program.parent().expect("a directory").display();
        let line = format!("set -x PATH {dir} $PATH; complete -C '{line}'");
        world.program("fish").arg("-c").arg(line).ok().lines()
    };
    let commands = complete("windrow serve");
    assert!(commands[0].starts_with("serve-cache\t"), "{commands:?}");
    let options = complete("windrow build --keep-g");
    assert!(options[0].starts_with("--keep-going\t"), "{options:?}");
}

#[test]
fn zsh_completes() {
    let world = World::new();
    need!("zsh");
    let installed = world.windrow("completions").args(["zsh", "--install"]).ok();
    let installed = installed.says("fpath=(");
    let script = installed.path();
    assert!(script.ends_with(".local/share/zsh/site-functions/_windrow"));
    world.program("zsh").arg("-n").arg(&script).ok();
    // The function itself, with the place where it would show its words taken by one that prints.
    let dir = script.parent().expect("a directory").display();
    let line = format!(
        "fpath=('{dir}' $fpath); autoload -Uz compinit; compinit -u -D; \
         print $_comps[windrow]; functions _windrow_commands >/dev/null || autoload +X _windrow; \
         print loaded"
    );
    let ran = world.program("zsh").args(["-f", "-c"]).arg(line).ok();
    assert_eq!(ran.lines(), ["_windrow", "loaded"], "{ran}");
}

#[test]
fn a_prefix_gets_the_completions_of_all_shells() {
    let world = World::new();
    let prefix = world.at("usr");
    let made = world.windrow("completions").arg("--prefix").arg(&prefix);
    let files = made.ok().lines();
    let expected = [
        "bash-completion/completions/windrow",
        "zsh/site-functions/_windrow",
        "fish/vendor_completions.d/windrow.fish",
    ];
    let expected = expected.map(|file| prefix.join("share").join(file));
    assert_eq!(
        files,
        expected.clone().map(|path| path.display().to_string())
    );
    for (file, shell) in expected.iter().zip(["bash", "zsh", "fish"]) {
        let printed = world.windrow("completions").arg(shell).ok();
        assert_eq!(text(file), printed.out(), "{shell}");
    }
}

#[test]
fn the_shell_is_that_of_the_user() {
    let world = World::new();
    let install = |shell: &str| {
        let cmd = world.windrow("completions").arg("--install");
        cmd.env("SHELL", shell)
    };
    let expect = |cmd: Cmd, path: PathBuf| assert_eq!(cmd.ok().path(), path);
    let below_home = |path: &str| world.at("home").join(path);
    expect(
        install("/bin/bash"),
        below_home(".local/share/bash-completion/completions/windrow"),
    );
    expect(
        install("/bin/bash").env("XDG_DATA_HOME", world.at("data")),
        world.at("data/bash-completion/completions/windrow"),
    );
    expect(
        install("/bin/bash").env("BASH_COMPLETION_USER_DIR", world.at("bash")),
        world.at("bash/completions/windrow"),
    );
    expect(
        install("/usr/bin/fish").env("XDG_CONFIG_HOME", world.at("config")),
        world.at("config/fish/completions/windrow.fish"),
    );
    install("/bin/tcsh")
        .run()
        .exits(1)
        .says("cannot use 'SHELL=/bin/tcsh': name the shell: bash, zsh or fish")
        .one_error();
    install("/bin/zsh")
        .env_remove("HOME")
        .run()
        .exits(1)
        .says("set HOME, or give '--prefix DIR'")
        .one_error();
    world.write("home", "");
    world
        .windrow("completions")
        .args(["bash", "--prefix", "home"])
        .run()
        .exits(1)
        .says("cannot create 'home/share/bash-completion/completions'")
        .one_error();
}
