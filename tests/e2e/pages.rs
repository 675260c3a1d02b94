//! The pages of docs/ for readers who do: every command in them is run, in order, and says what the
//! page says that it does.
//!
//! A block whose language is `console` holds commands, each after `$ ` (more lines of it after
//! `> `), and below each the lines of its output that matter; `…` stands for any text in a line. A
//! block with a second word after its language is that file. A command that fails is followed by
//! `$ echo $?`.

use std::fmt::Write as _;
use std::path::Path;

use crate::harness::{World, need, need_usual_place, text};

/// A step of a page, with the line that it begins at.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    File {
        name: String,
        text: String,
    },
    Command {
        command: String,
        expected: Vec<String>,
    },
}

/// The steps of a page in their order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((opening, first)) = lines.next() {
        let Some(info) = opening.strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().take_while(|(line, _)| *line != "```");
        let block: Vec<(&str, usize)> = block.collect();
        match info.split_once(' ') {
            Some((_, name)) => steps.push(Step {
                line: first,
                what: What::File {
                    name: name.to_owned(),
                    text: block.iter().map(|(line, _)| format!("{line}\n")).collect(),
                },
            }),
            None if info == "console" => commands(&block, &mut steps),
            None => {}
        }
    }
    steps
}

fn commands(block: &[(&str, usize)], steps: &mut Vec<Step>) {
    for (text, line) in block {
        if let Some(command) = text.strip_prefix("$ ") {
            let what = What::Command {
                command: command.to_owned(),
                expected: Vec::new(),
            };
            steps.push(Step { line: *line, what });
            continue;
        }
        let Some(Step {
            what: What::Command { command, expected },
            ..
        }) = steps.last_mut()
        else {
            panic!("line {line}: output before any command");
        };
        match text.strip_prefix("> ") {
            Some(more) if expected.is_empty() => {
                let _ = write!(command, "\n{more}");
            }
            _ => expected.push((*text).to_owned()),
        }
    }
}

/// Whether a line is what the page shows.
fn is_shown_as(line: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.split_once(before) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// The first line that the page shows and that does not come, if there is one. Messages may come
/// before what is on standard output, or after it.
fn missing<'e>(output: &str, expected: &'e [String]) -> Option<&'e String> {
    let comes = |shown: &str| output.lines().any(|line| is_shown_as(line, shown));
    expected.iter().find(|shown| !comes(shown))
}

/// A program for bash that takes the steps, with marks around what each prints.
fn script(world: &World, steps: &[Step]) -> String {
    let mut script = "exec 2>&1\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        match &step.what {
            What::File { name, text } => {
                let file = world.at(format!("page-{number}"));
                std::fs::write(&file, text).expect("a writable file");
                let _ = writeln!(
                    script,
                    "mkdir -p \"$(dirname '{name}')\"; cp {} '{name}'",
                    file.display()
                );
            }
            What::Command { command, .. } => {
                let _ = write!(
                    script,
                    "printf '\\001{number}\\n'; (exit \"${{status:-0}}\")\n{command}\n\
                     status=$?; printf '\\002%s\\n' \"$status\"\n"
                );
            }
        }
    }
    script
}

/// Takes all steps of a page in a world of its own.
#[track_caller]
fn follow(page: &str, store: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let steps = steps(&text(file));
    assert!(!steps.is_empty(), "{page} has no commands");
    let world = World::new();
    let program = Path::new(env!("CARGO_BIN_EXE_windrow"));
    let path = format!(
        "{}:/usr/bin:/bin:/usr/sbin:/sbin",
        program.parent().expect("a directory").display()
    );
    let mut bash = world.program("bash").arg("-c").arg(script(&world, &steps));
    if store == "own" {
        for name in ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"] {
            bash = bash.env_remove(name);
        }
        bash = bash.env("NIX_REMOTE", "own");
    }
    let ran = bash.env("PATH", path).run();
    let out = ran.out();
    let outputs = out.split('\x01').skip(1);
    let commands = steps.iter().enumerate();
    let commands = commands.filter_map(|(number, step)| match &step.what {
        What::Command { command, expected } => Some((number, step.line, command, expected)),
        What::File { .. } => None,
    });
    let commands: Vec<_> = commands.collect();
    let outputs: Vec<&str> = outputs.collect();
    assert_eq!(outputs.len(), commands.len(), "{page}: {out}");
    for (index, (number, line, command, expected)) in commands.iter().enumerate() {
        let output = outputs[index].strip_prefix(&format!("{number}\n"));
        let (output, status) = output
            .and_then(|output| output.rsplit_once('\x02'))
            .unwrap_or_else(|| panic!("{page}:{line}: no end of '{command}' in {out}"));
        let may_fail = commands
            .get(index + 1)
            .is_some_and(|(.., next, _)| *next == "echo $?");
        assert!(
            may_fail || status.trim() == "0",
            "{page}:{line}: $ {command}\n{output}exit status {status}"
        );
        let missing = missing(output, expected);
        assert!(
            missing.is_none(),
            "{page}:{line}: $ {command}\n{output}\nlacks: {}",
            missing.map_or("", |line| line)
        );
    }
}

/// The pages that are followed below.
const PAGES: &[&str] = &[
    "docs/C_PROJECT.md",
    "docs/FAILURES.md",
    "docs/LARGE_GRAPHS.md",
    "docs/NIX.md",
    "docs/RESEARCH.md",
    "docs/SANDBOX.md",
    "docs/STORES.md",
];

#[test]
fn a_c_project() {
    need!("bash", "cc");
    follow("docs/C_PROJECT.md", "own");
}

#[test]
fn when_it_fails() {
    need!("bash");
    follow("docs/FAILURES.md", "own");
}

#[test]
fn large_graphs() {
    need!("bash");
    follow("docs/LARGE_GRAPHS.md", "own");
}

#[test]
fn nix_derivations() {
    need!(nix);
    need!("bash");
    follow("docs/NIX.md", "Nix's");
}

#[test]
fn research() {
    need!("bash");
    follow("docs/RESEARCH.md", "own");
}

#[test]
fn the_sandbox() {
    need!(root);
    need!("bash", "cc");
    follow("docs/SANDBOX.md", "own");
}

#[test]
fn stores() {
    need!(root);
    need_usual_place!();
    need!("bash");
    follow("docs/STORES.md", "own");
}

#[test]
fn every_page_with_commands_is_followed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for entry in std::fs::read_dir(docs).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "md") {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let page = format!("docs/{name}");
        if !steps(&text(&path)).is_empty() {
            assert!(PAGES.contains(&page.as_str()), "{page} is not followed");
        }
    }
}

#[test]
fn pages_are_read_as_they_are_written() {
    let page = "Text\n\n```c a.c\nint x;\n```\n\n```console\n$ cat a.c\nint …;\n$ echo \\\n\
                > two\ntwo\n```\n\n```sh\nnot run\n```\n";
    let found = steps(page);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        found[2].what,
        What::Command {
            command: "echo \\\ntwo".to_owned(),
            expected: vec!["two".to_owned()],
        }
    );
    assert!(is_shown_as("int x;", "int …;"));
    assert!(is_shown_as("a b c d", "a…c…"));
    assert!(!is_shown_as("a b c d", "a…c"));
    assert!(!is_shown_as("int x", "int …;"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(missing("c\nb\na\n", &lines("a\nc")), None);
    assert_eq!(missing("a\nb\n", &lines("a\nc")), Some(&"c".to_owned()));
}
