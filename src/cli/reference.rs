//! The reference of all commands and options, docs/COMMANDS.md, made from the definitions of the
//! command line.

use std::fmt::Write as _;

use clap::{Arg, Args as _, Command};

use super::exit_status::EXIT_STATUSES;
use super::man::{program, usage};
use super::{BuildOptions, CommonArgs};

const HEAD: &str = "\
# Commands

All commands and their options, as `windrow COMMAND --help` and the manual pages (`windrow man`) tell
them as well. What the options of `windrow nix-store` mean is said in [NIX_STORE.md](NIX_STORE.md).
[SETTINGS.md](SETTINGS.md) lists what `--option` sets.

This page is made from the definitions in `src/cli` by
`WINDROW_UPDATE=1 cargo test -p windrow --test e2e help`.
";

/// A set of options that several commands have.
struct Shared {
    title: &'static str,
    ids: Vec<String>,
    /// The definitions.
    command: Command,
}

impl Shared {
    fn new(title: &'static str, command: Command) -> Self {
        let ids = command.get_arguments().map(|arg| arg.get_id().to_string());
        Self {
            title,
            ids: ids.collect(),
            command,
        }
    }

    fn has(&self, arg: &Arg) -> bool {
        self.ids.iter().any(|id| id == arg.get_id().as_str())
    }

    fn is_in(&self, command: &Command) -> bool {
        let known = command.get_arguments().filter(|arg| self.has(arg));
        known.count() == self.ids.len()
    }
}

/// All commands and options as a page of Markdown.
pub fn reference() -> String {
    let shared = [
        Shared::new(
            "Options of commands that build",
            BuildOptions::augment_args(Command::new("")),
        ),
        Shared::new(
            "Options of commands that work on a store",
            CommonArgs::augment_args(Command::new("")),
        ),
    ];
    let mut text = HEAD.to_owned();
    for command in program().get_subcommands() {
        describe(&mut text, command, &shared);
    }
    for shared in &shared {
        let _ = write!(text, "\n## {}\n", shared.title);
        table(&mut text, shared.command.get_arguments());
    }
    text.push_str("\n## Exit statuses\n\n| status | when |\n| --- | --- |\n");
    for (status, when) in EXIT_STATUSES {
        let _ = writeln!(text, "| {status} | {} |", cell(when));
    }
    text
}

fn describe(text: &mut String, command: &Command, shared: &[Shared]) {
    let name = command.get_name();
    let about = command.get_about().map(ToString::to_string);
    let _ = write!(
        text,
        "\n## windrow {name}\n\n{}.\n",
        about.unwrap_or_default()
    );
    if name == crate::nix_store::NAME {
        return;
    }
    let _ = write!(text, "\n    {}\n", usage(command).replace('\n', "\n    "));
    let has = |shared: &&Shared| shared.is_in(command);
    let shared: Vec<&Shared> = shared.iter().filter(has).collect();
    let own = command
        .get_arguments()
        .filter(|arg| arg.get_id() != "help" && !shared.iter().any(|shared| shared.has(arg)));
    table(text, own);
    let links: Vec<String> = shared
        .iter()
        .map(|shared| {
            let anchor = shared.title.to_lowercase().replace(' ', "-");
            format!("[{}](#{anchor})", shared.title.to_lowercase())
        })
        .collect();
    if !links.is_empty() {
        let _ = write!(text, "\nAnd the {}.\n", links.join(", the "));
    }
}

fn table<'a>(text: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let mut args = args.filter(|arg| !arg.is_hide_set()).peekable();
    if args.peek().is_none() {
        return;
    }
    text.push_str("\n| option | |\n| --- | --- |\n");
    for arg in args {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| {} | {}{} |", names(arg), cell(&help), default(arg));
    }
}

/// What is written on the command line: `-j`, `--max-jobs N`.
fn names(arg: &Arg) -> String {
    let values: Vec<String> = match arg.get_action().takes_values() {
        true => match arg.get_value_names() {
            Some(names) => names.iter().map(ToString::to_string).collect(),
            None => vec![arg.get_id().as_str().to_uppercase()],
        },
        false => Vec::new(),
    };
    if arg.is_positional() {
        return format!("`{}`", values.join(" "));
    }
    let mut names: Vec<String> = Vec::new();
    names.extend(
        arg.get_short_and_visible_aliases()
            .unwrap_or_default()
            .iter()
            .map(|short| format!("-{short}")),
    );
    names.extend(
        arg.get_long_and_visible_aliases()
            .unwrap_or_default()
            .iter()
            .map(|long| format!("--{long}")),
    );
    let last = names.len() - 1;
    for value in values {
        names[last].push(' ');
        names[last].push_str(&value);
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The possible values and the default, if there are any.
fn default(arg: &Arg) -> String {
    let mut text = String::new();
    let values: Vec<String> = match arg.get_action().takes_values() {
        true => arg
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect(),
        false => Vec::new(),
    };
    if !values.is_empty() {
        let _ = write!(text, ": {}", values.join(", "));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " (default: {})", defaults.join(", "));
    }
    text
}

/// Text as it stands in a cell of a table.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|").replace('<', "\\<")
}
