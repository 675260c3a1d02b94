//! The table in docs/NIX_1_8.md: every place and test it names is defined, every definition says
//! which methods of Nix 1.8 it stands for, and no method is missing. Reads files only. Knows the
//! table's form, not what its rows say.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::skip;

/// What may come before the name that a definition defines.
const KEYWORDS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "static"];

/// How a comment begins to say which methods a definition stands for.
const MARK: &str = "Nix 1.8: ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> String {
    crate::harness::text(root().join("docs/NIX_1_8.md"))
}

/// The words between backticks in a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The rows of all tables, as cells.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| line.trim_matches('|').split('|').collect())
        .collect()
}

/// A file of the source.
struct Code {
    text: String,
}

impl Code {
    fn of(place: &str) -> (Self, &str) {
        let (file, name) = place
            .split_once("::")
            .unwrap_or_else(|| panic!("'{place}' is no FILE::NAME"));
        let text = crate::harness::text(root().join(file));
        (Self { text }, name)
    }

    /// The doc comments of everything that is defined under `name` by one of `keywords`.
    fn docs_of(&self, name: &str, keywords: &[&str]) -> Vec<Vec<&str>> {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let defining = |line: &&str| defines(line, name, keywords);
        let at = (0..lines.len()).filter(|&at| defining(&lines[at]));
        at.map(|at| doc_above(&lines[..at])).collect()
    }
}

/// Whether a line defines `name` by one of `keywords`. A comment that speaks of it does not.
fn defines(line: &str, name: &str, keywords: &[&str]) -> bool {
    if line.starts_with("//") {
        return false;
    }
    let is_of_word = |symbol: char| symbol.is_alphanumeric() || symbol == '_';
    let words: Vec<&str> = line.split(|symbol| !is_of_word(symbol)).collect();
    let mut pairs = words.windows(2);
    pairs.any(|pair| pair[1] == name && keywords.contains(&pair[0]))
}

/// The doc comment that ends a file's lines, if attributes alone follow it.
fn doc_above<'t>(lines: &[&'t str]) -> Vec<&'t str> {
    let upwards = lines.iter().rev();
    upwards
        .copied()
        .skip_while(|line| line.starts_with("#["))
        .take_while(|line| line.starts_with("///"))
        .collect()
}

/// Whether a line of a comment says that what follows stands for `method`: on one line, for grep.
fn says(line: &str, method: &str) -> bool {
    line.split_once(MARK)
        .is_some_and(|(_, methods)| quoted(methods).any(|name| name == method))
}

#[test]
fn every_place_and_test_it_names_is_defined() {
    let table = table();
    let rows = rows(&table);
    assert!(rows.len() > 60, "only {} rows", rows.len());
    for cells in rows {
        assert_eq!(cells.len(), 4, "a row has four cells: {cells:?}");
        for (cell, keywords) in [(cells[1], &KEYWORDS[..]), (cells[2], &["fn"])] {
            for place in quoted(cell) {
                let (code, name) = Code::of(place);
                let docs = code.docs_of(name, keywords);
                assert!(!docs.is_empty(), "'{place}' is not defined");
            }
        }
        let (here, test) = (cells[1].trim(), cells[2].trim());
        assert!(
            !here.is_empty() && !test.is_empty(),
            "no test shows {}",
            cells[0]
        );
    }
}

#[test]
fn every_place_says_which_methods_it_stands_for() {
    let mut silent = Vec::new();
    for cells in rows(&table()) {
        for place in quoted(cells[1]) {
            let (code, name) = Code::of(place);
            let docs = code.docs_of(name, &KEYWORDS);
            for method in quoted(cells[0]) {
                let said = docs.iter().flatten().any(|line| says(line, method));
                if !said {
                    silent.push(format!("'{place}' lacks '/// {MARK}`{method}`'"));
                }
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn a_definition_is_told_from_a_use() {
    let defined = |line| defines(line, "run", &KEYWORDS);
    assert!(defined("pub(crate) fn run<'a>(&self)"));
    assert!(defined("pub const fn run() {}"));
    assert!(!defined("self.run();"));
    assert!(!defined("// as fn run says"));
    assert!(!defined("fn rerun() {"));
    assert!(!defined("fn run_all() {"));
    assert!(!defines("struct run;", "run", &["fn"]));
    let above = [
        "/// Another.",
        "",
        "/// Does.",
        "/// Nix 1.8: `A::b`.",
        "#[inline]",
    ];
    let doc = doc_above(&above);
    assert_eq!(doc, ["/// Nix 1.8: `A::b`.", "/// Does."]);
    assert!(says(doc[0], "A::b") && !says(doc[0], "b") && !says(doc[1], "A::b"));
}

#[test]
fn no_method_of_nix_1_8_is_missing() {
    let Ok(dir) = std::fs::read_dir(root().join("../shared/seed")) else {
        skip("needs ../shared/seed");
        return;
    };
    let table = table();
    let named: BTreeSet<&str> = rows(&table)
        .iter()
        .flat_map(|cells| quoted(cells[0]))
        .collect();
    let mut seen = 0;
    for file in dir {
        let text = crate::harness::text(file.expect("a file").path());
        for line in text.lines().filter_map(|line| line.strip_prefix('+')) {
            // A definition stands at the margin, a call or a declaration does not.
            let Some((before, _)) = line.split_once('(') else {
                continue;
            };
            let name = before.rsplit([' ', '*', '&']).next().unwrap_or_default();
            if line.starts_with([' ', '\t', '/', '#', '}']) || !name.contains("::") {
                continue;
            }
            seen += 1;
            assert!(named.contains(name), "the table lacks `{name}`");
        }
    }
    assert!(seen > 50, "only {seen} methods found in Nix 1.8");
}
