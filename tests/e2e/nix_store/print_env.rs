//! `--print-env`: what it prints is evaluated by a shell, so nothing of a derivation may be run by
//! that.

use serde_json::json;

use crate::harness::{World, graph_of, have, text};

/// Evaluates what `--print-env` prints in a shell, and then prints what a script says.
fn evaluated(world: &World, shell: &str, drv: &str, script: &str) -> Vec<u8> {
    let windrow = env!("CARGO_BIN_EXE_windrow");
    let line = format!("set -e; eval \"$({windrow} nix-store --print-env {drv})\"; {script}");
    let ran = world.program(shell).args(["-c", &line]).run();
    assert!(!world.file("PWNED").exists(), "something was run\n{ran}");
    ran.exits(0).stdout
}

fn shells() -> impl Iterator<Item = &'static str> {
    let known = ["sh", "bash", "dash", "zsh", "ksh"];
    known.into_iter().filter(|shell| have(&[shell]))
}

#[test]
fn arguments_are_not_run() {
    let args = [
        "-c",
        "echo $(touch PWNED)",
        "`touch PWNED`",
        "'; touch PWNED; '",
        "' '$(touch PWNED)",
        "it's\ntwo lines \\",
        "",
        "*",
    ];
    let world = World::new();
    // Each by itself, for several may hide each other's quotes, and all together.
    let alone = args[1..].iter().map(|arg| vec!["-c", arg]);
    for args in alone.chain([args.to_vec()]) {
        let derivation = json!({"builder": "/bin/sh", "args": args});
        let drv = world.add(&graph_of([("x", derivation)]));
        for shell in shells() {
            let seen = evaluated(&world, shell, &drv, "printf %s \"$_args\"");
            assert_eq!(String::from_utf8(seen).unwrap(), args.join(" "), "{shell}");
        }
    }
}

#[test]
fn values_and_names_are_not_run() {
    let world = World::new();
    let value = "$(touch PWNED) `touch PWNED` '; touch PWNED; '\n\"$HOME\\";
    let names = [
        "a; touch PWNED",
        "b$(touch PWNED)",
        "c[$(touch PWNED)]",
        "d\ntouch PWNED\n",
        "f-g",
        "9",
        "h\u{1b}]0;title\u{7}",
    ];
    let mut env: serde_json::Map<_, _> = names
        .into_iter()
        .map(|name| (name.to_owned(), json!("x")))
        .collect();
    env.insert("good_1".into(), json!(value));
    env.insert("_".into(), json!("y"));
    let derivation = json!({"builder": "/bin/sh", "args": ["-c", ":"], "env": env});
    let drv = world.add(&graph_of([("x", derivation)]));
    for shell in shells() {
        let seen = evaluated(&world, shell, &drv, "printf %s \"$good_1|$name\"");
        assert_eq!(
            String::from_utf8(seen).unwrap(),
            format!("{value}|x"),
            "{shell}"
        );
    }
    let ran = world.windrow("nix-store").args(["--print-env", &drv]).ok();
    let left_out = ran.stderr.matches("is left out").count();
    assert_eq!(left_out, names.len(), "{ran}");
    // In a file that the text is written to, nothing but the good names is assigned to.
    let assigned = world.write("env.sh", &ran.stdout);
    assert!(!text(assigned).contains("f-g"));
}
