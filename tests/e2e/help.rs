//! The help texts, as users read them.

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
