//! No more than two files of a crate import each other, directly or through others. A directory's
//! own file may name what lies in the directory: that is how modules are declared and re-exported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::Visit;

/// A module, by its path from the root of its crate.
type Module = Vec<String>;

/// Where crates begin.
const CRATES: [&str; 9] = [
    "components",
    "crates/formats",
    "crates/net",
    "crates/report",
    "crates/sandbox",
    "crates/store",
    "crates/sys",
    "src",
    "systems",
];

/// The modules of a crate, with the text of each.
fn modules(dir: &Path, at: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let mut module = at.clone();
        if path.is_dir() {
            module.push(name.into_owned());
            if name_is_of_source(&path) {
                modules(&path, &module, found);
            }
            continue;
        }
        if path.extension().is_none_or(|end| end != "rs") || matches!(&*name, "main" | "tests") {
            continue;
        }
        if !matches!(&*name, "lib" | "mod") {
            module.push(name.into_owned());
        }
        found.insert(module, fs::read_to_string(&path).expect("a source"));
    }
}

/// Whether a directory holds modules of the crate it lies in.
fn name_is_of_source(dir: &Path) -> bool {
    let name = dir.file_name().expect("a name").to_string_lossy();
    !dir.join("Cargo.toml").exists() && !matches!(&*name, "tests" | "snapshots")
}

/// Collects what a module refers to.
struct Imports<'m> {
    module: &'m Module,
    known: &'m BTreeMap<Module, String>,
    found: BTreeSet<Module>,
}

impl Imports<'_> {
    /// Notes the file that a path leads to, if it leads into this crate.
    fn note(&mut self, path: &[String]) {
        let mut target = self.module.clone();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => target.clear(),
            Some("self") => {}
            Some("super") => drop(target.pop()),
            _ => return,
        }
        rest = &rest[1..];
        while rest.first().is_some_and(|part| part == "super") {
            target.pop();
            rest = &rest[1..];
        }
        for part in rest {
            target.push(part.clone());
            if !self.known.contains_key(&target) {
                target.pop();
                break;
            }
        }
        if !target.starts_with(self.module) && self.known.contains_key(&target) {
            self.found.insert(target);
        }
    }

    fn note_tree(&mut self, tree: &syn::UseTree, path: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.note_tree(&step.tree, path);
                path.pop();
            }
            syn::UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.note(path);
                path.pop();
            }
            syn::UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.note(path);
                path.pop();
            }
            syn::UseTree::Glob(_) => self.note(path),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_tree(tree, path);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string());
        self.note(&parts.collect::<Vec<_>>());
        syn::visit::visit_path(self, path);
    }

    // Who may see an item is not what it refers to.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    // Tests may use whatever they like.
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// All that can be reached from `start`.
fn reached<'m>(
    start: &'m Module,
    imports: &'m BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'m Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        for next in imports.get(module).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

#[test]
fn no_more_than_two_files_import_each_other() {
    for root in CRATES {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let mut known = BTreeMap::new();
        modules(&dir, &Vec::new(), &mut known);
        let imports: BTreeMap<Module, BTreeSet<Module>> = known
            .iter()
            .map(|(module, text)| {
                let file = syn::parse_file(text).expect("a source that compiles");
                let mut imports = Imports {
                    module,
                    known: &known,
                    found: BTreeSet::new(),
                };
                imports.visit_file(&file);
                (module.clone(), imports.found)
            })
            .collect();
        let count: usize = imports.values().map(BTreeSet::len).sum();
        assert!(count > 4, "{root}: hardly any imports were found");
        for module in known.keys() {
            let circle: Vec<String> = reached(module, &imports)
                .into_iter()
                .filter(|other| reached(other, &imports).contains(module))
                .map(|other| other.join("::"))
                .collect();
            assert!(circle.len() <= 2, "{root}: {}", circle.join(", "));
        }
    }
}
