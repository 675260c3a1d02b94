//! The table in docs/SEED.md: every place and test it names exists, and no method of the seed is
//! missing. Reads files only. Knows the table's form, not what its rows say.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::skip;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> String {
    crate::harness::text(root().join("docs/SEED.md"))
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

#[test]
fn every_place_and_test_it_names_exists() {
    let table = table();
    let rows = rows(&table);
    assert!(rows.len() > 60, "only {} rows", rows.len());
    for cells in rows {
        assert_eq!(cells.len(), 4, "a row has four cells: {cells:?}");
        for (cell, prefix) in [(cells[1], ""), (cells[2], "fn ")] {
            for place in quoted(cell) {
                let (file, name) = place
                    .split_once("::")
                    .unwrap_or_else(|| panic!("'{place}' is no FILE::NAME"));
                let code = crate::harness::text(root().join(file));
                let wanted = format!("{prefix}{name}");
                assert!(code.contains(&wanted), "'{file}' has no '{wanted}'");
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
fn no_method_of_the_seed_is_missing() {
    let Ok(folder) = std::fs::read_dir(root().join("../shared/seed")) else {
        skip("needs ../shared/seed");
        return;
    };
    let table = table();
    let named: BTreeSet<&str> = rows(&table)
        .iter()
        .flat_map(|cells| quoted(cells[0]))
        .collect();
    let mut seen = 0;
    for file in folder {
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
    assert!(seen > 50, "only {seen} methods found in the seed");
}
