//! The help texts and the reference of commands, as users read them.

use crate::harness::World;

#[test]
fn help_of_every_command() {
    let world = World::new();
    let whole = world.program(env!("CARGO_BIN_EXE_windrow"));
    let whole = whole.arg("--help").ok().out();
    let commands = whole
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|command| !command.is_empty());
    let mut texts = vec![("windrow".to_owned(), whole.clone())];
    for command in commands.filter(|command| *command != "help") {
        let help = world.windrow(command).arg("--help").ok().out();
        texts.push((format!("windrow {command}"), help));
    }
    assert!(texts.len() > 9, "{texts:?}");
    let text: Vec<String> = texts
        .into_iter()
        .map(|(command, help)| format!("$ {command} --help\n{help}"))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn help_of_nix_store_lists_its_operations() {
    let world = World::new();
    let help = world.windrow("help").arg("nix-store").ok().out();
    let own = world.windrow("nix-store").arg("--help").ok().out();
    assert_eq!(help.trim_end(), own.trim_end());
    assert!(own.contains("--realise"));
}

#[test]
fn the_reference_of_commands_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COMMANDS.md");
    let made = windrow::cli::reference();
    if std::env::var_os("WINDROW_UPDATE").is_some() {
        std::fs::write(file, &made).expect("a writable file");
    }
    assert!(
        std::fs::read_to_string(file).unwrap_or_default() == made,
        "docs/COMMANDS.md is out of date; run \
         WINDROW_UPDATE=1 cargo test -p windrow --test e2e help"
    );
}
