//! Graphs that were changed at random: none panics, and each mistake has a place.

use proptest::prelude::*;

use super::super::*;
use super::{Disk, FILES, literal, read};

const VALID: &str = r#"{
  "system": "x86_64-linux",
  "sources": {"main.c": "src/main.c", "data": {"path": "../data", "name": "my-data"},
    "src": {"path": "src", "include": ["**/*.[ch]"], "exclude": "old/**", "ignore-files": true}},
  "templates": {"sh": {"builder": "/bin/sh"}, "cc": {"use": "sh", "env": {"W": "1"}}},
  "derivations": {
    "*.o": {"use": "cc", "each": ["src/*.c"], "args": ["@{tree}/@{each}"], "headers": ["main.c"]},
    "all": {"use": "cc", "tree": "src/b.c", "args": ["@{*.o}", "@{tree} @{src/b.c}"]},
    "hello": {"name": "h\u00e9", "builder": "/bin/sh", "args": ["-c", "cc @{main.c} -o @{^out}"],
      "env": {"V": ["a", 1, "@{lib^dev}", true], "W": null, "X": "@@{ä\n"},
      "inputs": ["data", "lib", "/nix/store/p", "/nix/store/x.drv^out"]},
    "lib": {"builder": "@{file}", "outputs": ["out", "dev"]},
    "file": {"builder": "b", "outputHash": "sha256-x", "outputHashMode": "flat"}
  },
  "targets": ["hello", "lib^dev", "*.o"]
}"#;

fn reaches(source: &str, place: Position) -> bool {
    let line = source.split('\n').nth(place.line as usize - 1);
    line.is_some_and(|line| (1..=line.len() as u32 + 1).contains(&place.column))
}

/// A graph has its dependencies first; an error is somewhere in the text.
fn check(source: &str) -> Result<(), TestCaseError> {
    match parse(source, "x86_64-linux", &mut Disk::of(FILES)) {
        Ok(graph) => {
            for (index, node) in graph.derivations.iter().enumerate() {
                for piece in node.pieces() {
                    match piece {
                        Piece::Source(source) => {
                            let source = &graph.sources[*source as usize];
                            prop_assert!(source.contents != Contents::Unused);
                        }
                        Piece::Tree(tree) => {
                            let tree = &graph.trees[*tree as usize];
                            prop_assert!(tree.files.is_sorted());
                        }
                        _ => {}
                    }
                    if let Piece::Output { node, output } = piece {
                        prop_assert!((*node as usize) < index);
                        let outputs = &graph.derivations[*node as usize].outputs;
                        prop_assert!((*output as usize) < outputs.len());
                    }
                }
            }
        }
        Err(error) => {
            prop_assert!(reaches(source, error.place()), "{}: {error}", error.place());
            prop_assert!(!error.to_string().is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Cut, doubled, moved and overwritten: the answer is a graph, or an error inside the text.
    #[test]
    fn mutated_graphs_never_panic(
        edits in prop::collection::vec((0_usize..1500, 0_usize..40, 0_usize..1500, 0_u8..4), 1..5),
        patch in prop::sample::select(vec![
            "\"", "\\", "{", "}", "@{", "@@{", "^", ",", ":", "[", "]", "\\u0000", "\\ud800",
            "ä", "\n",
            "1e9", "-0", "null", "\"lib\"", "@{hello}", "\"out\"", "/", "*", "**", "@{tree}",
        ]),
    ) {
        let mut bytes = VALID.as_bytes().to_vec();
        for (at, length, other, kind) in edits {
            let start = at % bytes.len().max(1);
            let end = (start + length).min(bytes.len());
            let piece = bytes[start..end].to_vec();
            match kind {
                0 => drop(bytes.drain(start..end)),
                1 => drop(bytes.splice(start..start, patch.bytes())),
                2 => drop(bytes.splice(start..end, patch.bytes())),
                _ => {
                    let target = other % (bytes.len() + 1);
                    drop(bytes.splice(target..target, piece));
                }
            }
        }
        let source = String::from_utf8_lossy(&bytes).into_owned();
        check(&source)?;
    }

    /// The same with whole strings exchanged, so that it stays JSON and reaches what comes after
    /// syntax.
    #[test]
    fn exchanged_strings_never_panic(
        edits in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..4),
    ) {
        let tokens = VALID.split_inclusive('"').collect::<Vec<_>>();
        // Outside, inside, outside, …: VALID has no escaped quote.
        let strings: Vec<&str> = tokens.iter().skip(1).step_by(2).copied().collect();
        let odd = [
            "\"", "\\ud800\"", "\\n\\u0000\"", "@{\"", "@{}\"", "ä\\u00e4@{^dev}\"", "@{hello}\"",
            "a=b\"", "hello^out\"", "^out\"", "recursiv\"", "@{lib}@{file}@@{\"",
            "/nix/store/p^out\"", "src/*\"", "src/b.c\"", "[\"", "each\"", "*.o\"", "@{*.o}\"",
        ];
        let choices: Vec<&str> = strings.iter().copied().chain(odd).collect();
        let mut mutated = tokens.clone();
        for [at, choice] in edits {
            mutated[2 * at.index(strings.len()) + 1] = choices[choice.index(choices.len())];
        }
        check(&mutated.concat())?;
    }

    /// Every literal text survives being written with its `@{` escaped.
    #[test]
    fn escaped_texts_read_back(text in "[@{}a^ä\\\\\"\n]{0,30}") {
        // A run of `@` before `{` is ambiguous by the format itself: only its last `@` is special.
        let escaped = text.replace("@{", "@@{");
        let string = serde_json::to_string(&escaped).unwrap();
        let source =
            format!(r#"{{"derivations": {{"d": {{"builder": "b", "args": [{string}]}}}}}}"#);
        let graph = read(&source);
        let pieces = &graph.derivations[0].args[0];
        let expected = if text.is_empty() { vec![] } else { vec![literal(&text)] };
        prop_assert_eq!(pieces, &expected);
    }
}
