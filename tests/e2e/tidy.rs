//! Rules that the source keeps: no test file is left out, functions are short, comments not wide.

use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The most lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// The most columns of a line that is a comment.
const COMMENT_COLUMNS_MAX: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of Rust below a directory, as paths from the root of the repository.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(dir)).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let path = dir.join(&name);
        let kind = entry.file_type().expect("a type");
        let hidden = name.to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden && name != "target" {
            sources(&path, found);
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// All files of Rust, with their contents.
fn all_sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(Path::new(""), &mut found);
    assert!(found.len() > 100, "{found:?}");
    let text = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("a source");
        (path, text)
    };
    found.into_iter().map(text).collect()
}

#[test]
fn no_test_file_is_left_out() {
    let mut found = Vec::new();
    sources(Path::new("tests/e2e"), &mut found);
    for path in found {
        let (dir, name) = (path.parent().unwrap(), path.file_stem().unwrap());
        let name = name.to_str().expect("a module's name");
        let (parent, module) = match name {
            "main" => continue,
            "mod" => (dir.parent().unwrap(), dir.file_name().unwrap().to_str()),
            name => (dir, Some(name)),
        };
        let (plain, whole) = (parent.join("mod.rs"), parent.join("main.rs"));
        let beside = [plain, whole, parent.with_extension("rs")];
        let text: String = beside
            .iter()
            .filter_map(|file| fs::read_to_string(root().join(file)).ok())
            .collect();
        let declared = format!("mod {};", module.expect("a module's name"));
        assert!(
            text.lines().any(|line| line.ends_with(&declared)),
            "{} is never compiled: no file above it says '{declared}'",
            path.display()
        );
    }
}

/// Collects the functions that are too long.
struct Long<'p> {
    path: &'p Path,
    found: Vec<String>,
}

impl Long<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        let lines = last - first + 1;
        if lines > FUNCTION_LINES_MAX {
            let (path, name) = (self.path.display(), &signature.ident);
            self.found
                .push(format!("{path}:{first}: {name} has {lines} lines"));
        }
    }
}

impl<'ast> Visit<'ast> for Long<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for (path, text) in all_sources() {
        let file = syn::parse_file(&text).expect("a source that compiles");
        let mut long = Long {
            path: &path,
            found: Vec::new(),
        };
        long.visit_file(&file);
        found.extend(long.found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn comments_are_not_wide() {
    let mut found = Vec::new();
    for (path, text) in all_sources() {
        for (line, number) in text.lines().zip(1..) {
            let is_comment = line.trim_start().starts_with("//");
            if is_comment && line.chars().count() > COMMENT_COLUMNS_MAX {
                found.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "over {COMMENT_COLUMNS_MAX} columns:\n{}",
        found.join("\n")
    );
}
