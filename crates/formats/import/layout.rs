//! What all derivations of an imported graph share: the sources, and how they are laid out.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::graph::Importer;
use super::names::{end, escaped, is_header, text};
use super::paths::{below, joined, relative};

/// What every derivation runs.
const SCRIPT: &str = include_str!("script.sh");

impl Importer<'_> {
    /// The `sources` of the graph.
    pub(super) fn sources(&self) -> Value {
        let directory = &self.roots.directory;
        let mut sources = Map::new();
        if self.source == *directory {
            let headers = self.roots.files.iter().filter(|file| {
                is_header(file) && !self.made.contains_key(&joined(directory, file))
            });
            let ends: BTreeSet<&str> = self
                .of_source
                .iter()
                .chain(headers)
                .map(|it| end(it))
                .collect();
            let (plain, ends): (Vec<&str>, Vec<&str>) =
                ends.into_iter().partition(|it| it.is_empty());
            let mut include: Vec<String> = ends.iter().map(|end| format!("**/*.{end}")).collect();
            if !plain.is_empty() {
                let files = self.of_source.iter().filter(|file| end(file).is_empty());
                include.extend(files.map(|file| escaped(file)));
            }
            let made = self.made.keys().filter_map(|path| below(path, directory));
            let made = made.filter(|path| ends.contains(&end(path)));
            let exclude: BTreeSet<String> = made.map(escaped).collect();
            if !include.is_empty() {
                let source = json!({"path": directory, "include": include, "exclude": exclude});
                sources.insert("src".to_owned(), source);
            }
            return sources.into();
        }
        let mut exclude = vec![".git/**".to_owned()];
        if let Some(inside) = below(directory, &self.source) {
            exclude.push(format!("{}/**", escaped(inside)));
        }
        if !self.of_source.is_empty() {
            let source = json!({"path": self.source, "exclude": exclude});
            sources.insert("src".to_owned(), source);
        }
        if !self.of_directory.is_empty() {
            let include: Vec<String> = self.of_directory.iter().map(|it| escaped(it)).collect();
            let source = json!({"path": directory, "include": include});
            sources.insert("build".to_owned(), source);
        }
        sources.into()
    }

    /// Its `templates`.
    pub(super) fn templates(&self) -> Value {
        let sources = self.sources();
        let headers: Vec<&String> = sources
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .collect();
        json!({
            "step": {
                "builder": "/bin/sh",
                "args": ["-ec", SCRIPT],
                "env": {
                    "PATH": text(&self.roots.path),
                    "passAsFile": "command needs content",
                    "top": text(&relative(&self.roots.directory, &self.top)),
                    "build": text(&relative(&self.roots.directory, &self.top)),
                    "source": text(&relative(&self.source, &self.top)),
                    "tree": "", "needs": "", "response": "", "content": "",
                },
            },
            "read": {"use": "step", "headers": headers, "env": {"tree": "@{tree}"}},
        })
    }
}
