//! `compile_commands.json`: the compilations of a project, as tools for editors read them.

use serde::Deserialize;

use super::paths::shell_word;
use super::{Manifest, Step};

#[derive(Deserialize)]
struct Entry {
    directory: String,
    file: String,
    command: Option<String>,
    arguments: Option<Vec<String>>,
    output: Option<String>,
}

/// Reads a compilation database.
///
/// # Errors
/// When it is no JSON of that form, in words that say where.
pub fn read_compile_commands(text: &str) -> Result<Manifest, String> {
    let entries: Vec<Entry> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut manifest = Manifest::default();
    for entry in entries {
        let of = || format!("the entry for '{}' in '{}'", entry.file, entry.directory);
        if !entry.directory.starts_with('/') {
            return Err(format!("{} has a directory that is not absolute", of()));
        }
        let command = match (&entry.command, &entry.arguments) {
            (Some(command), _) => command.clone(),
            (None, Some(words)) => {
                let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
                words.join(" ")
            }
            (None, None) => return Err(format!("{} has no \"command\"", of())),
        };
        let words = words(&command);
        let named = words
            .iter()
            .enumerate()
            .rev()
            .find_map(|(at, word)| match word.as_str() {
                "-o" => words.get(at + 1).cloned(),
                word => word
                    .strip_prefix("-o")
                    .filter(|it| !it.is_empty())
                    .map(str::to_owned),
            });
        // What a compiler makes that is told no name.
        let usual = || {
            let name = entry.file.rsplit('/').next().unwrap_or_default();
            let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
            format!("{stem}.o")
        };
        let output = named.or(entry.output.clone()).unwrap_or_else(usual);
        manifest.steps.push(Step {
            directory: super::normal(&entry.directory),
            outputs: vec![super::normal(&output)],
            inputs: vec![super::normal(&entry.file)],
            command: Some(command),
            ..Step::default()
        });
    }
    Ok(manifest)
}

/// The words of a command, as a shell would take it apart that replaces nothing.
pub(super) fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => {
                let inside = characters.by_ref().take_while(|&c| c != '\'');
                word.get_or_insert_default().extend(inside);
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(c) = characters.next().filter(|&c| c != '"') {
                    match c {
                        '\\' => word.extend(characters.next()),
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_steps() {
        let text = r#"[{"directory": "/b/./x", "file": "../a b.c", "command": "cc -o \"a b.o\" -c '../a b.c'"},
            {"directory": "/b", "file": "/s/c.c", "arguments": ["cc", "-DX=a b", "-c", "/s/c.c"]},
            {"directory": "/b", "file": "d.c", "arguments": ["cc", "-od.obj", "d.c"], "output": "e.o"}]"#;
        let steps = read_compile_commands(text).unwrap().steps;
        let step = |directory: &str, output: &str, input: &str, command: &str| Step {
            directory: directory.to_owned(),
            outputs: vec![output.to_owned()],
            inputs: vec![input.to_owned()],
            command: Some(command.to_owned()),
            ..Step::default()
        };
        let expected = [
            step("/b/x", "a b.o", "../a b.c", "cc -o \"a b.o\" -c '../a b.c'"),
            step("/b", "c.o", "/s/c.c", "cc '-DX=a b' -c /s/c.c"),
            step("/b", "d.obj", "d.c", "cc -od.obj d.c"),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(read_compile_commands("{}").unwrap_err().contains("line 1"));
        let relative = r#"[{"directory": "b", "file": "a.c", "command": "cc"}]"#;
        assert!(
            read_compile_commands(relative)
                .unwrap_err()
                .contains("not absolute")
        );
        let nothing = r#"[{"directory": "/b", "file": "a.c"}]"#;
        assert!(
            read_compile_commands(nothing)
                .unwrap_err()
                .contains("\"command\"")
        );
    }
}
