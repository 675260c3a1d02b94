//! What the documents promise about themselves: their links lead somewhere, and the architecture's
//! page tells of all stages, sets and crates. Reads files only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    crate::harness::text(root().join(path))
}

/// All documents, as paths from the root of the repository.
fn documents() -> Vec<PathBuf> {
    let of = |dir: &str| {
        let entries = fs::read_dir(root().join(dir)).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "md"))
            .collect::<Vec<_>>()
    };
    [of(""), of("docs")].concat()
}

/// What comes between `before` and `after`, everywhere in a text.
fn between<'t>(text: &'t str, before: &str, after: char) -> BTreeSet<&'t str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(|part| part.split(after).next()).collect()
}

/// The variants of an enum in a file.
fn variants(file: &str, name: &str) -> Vec<String> {
    let file = syn::parse_file(&text(file)).expect("a source that compiles");
    let found = file.items.into_iter().find_map(|item| match item {
        syn::Item::Enum(item) if item.ident == name => Some(item.variants),
        _ => None,
    });
    let variants = found.expect("the enum").into_iter();
    variants.map(|variant| variant.ident.to_string()).collect()
}

#[test]
fn links_lead_to_files() {
    let mut seen = 0;
    for document in documents() {
        let text = crate::harness::text(&document);
        for link in between(&text, "](", ')') {
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let file = link.split('#').next().unwrap_or_default();
            let target = document.parent().expect("a directory").join(file);
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
    assert!(seen > 10, "only {seen} links");
}

#[test]
fn the_architecture_names_files_that_exist() {
    let page = text("docs/ARCHITECTURE.md");
    let is_path = |word: &&str| word.contains('/') && !word.contains(['<', ' ', '*']);
    let tops = ["src", "systems", "crates", "components", "tests"];
    let words: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_path).collect();
    let paths = words.iter().filter(|word| {
        let top = word.split('/').next().unwrap_or_default();
        tops.contains(&top)
    });
    let mut seen = 0;
    for path in paths {
        seen += 1;
        assert!(root().join(path).exists(), "there is no {path}");
    }
    assert!(seen > 10, "only {seen} files");
}

#[test]
fn the_architecture_tells_of_every_stage_set_and_crate() {
    let page = text("docs/ARCHITECTURE.md");
    let diagram = page.split("stateDiagram-v2").nth(1).expect("a diagram");
    let diagram = diagram.split("```").next().unwrap_or_default();
    for stage in variants("components/goal.rs", "Stage") {
        let drawn = diagram
            .split_whitespace()
            .any(|word| word.trim_end_matches(':') == stage);
        assert!(drawn, "no stage {stage} in the diagram");
    }
    for set in variants("systems/world/tick_set.rs", "TickSet") {
        assert!(page.contains(&format!("\n| `{set}` | ")), "no set {set}");
    }
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members"));
    for member in members.expect("members").split('"').skip(1).step_by(2) {
        assert!(page.contains(&format!("\n    {member}/ ")), "no {member}/");
        let listed = text("README.md").contains(member.rsplit('/').next().unwrap_or(member));
        assert!(listed, "the README does not list {member}");
    }
}
