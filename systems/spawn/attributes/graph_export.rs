//! The closures that `exportReferencesGraph` tells a builder of, as text that Nix can register and
//! as JSON. Everything is looked up at once, for all graphs of one builder (Nix's
//! `exportReferences`).

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde_json::{Value, json};
use windrow_components::derivation::Derivation;
use windrow_components::hash::Hash;

use windrow_store::PathInfo;
use windrow_store::db::reader::Reader;
use windrow_sys::bounded;

/// Why a graph can't be exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// The path is no input.
    #[error(
        "its attribute 'exportReferencesGraph' names '{path}', which is not in the closure of its inputs; make it one"
    )]
    NotAnInput { path: String },
    /// A derivation in the graph can't be read, or an output of it is not valid.
    #[error("its attribute 'exportReferencesGraph' covers the derivation '{drv}', whose {problem}")]
    Derivation { drv: String, problem: String },
    /// The database or a file can't be read.
    #[error(transparent)]
    Store(#[from] windrow_store::Error),
}

/// What is recorded of the closure of a builder's inputs.
#[derive(Debug)]
pub(super) struct InputGraph {
    infos: HashMap<String, PathInfo>,
}

impl InputGraph {
    /// The closure of these paths.
    pub(super) fn of(inputs: &[String], reader: &Reader) -> Result<Self, ExportError> {
        let infos = reader.ask(|database| database.closure(inputs.iter().map(String::as_str)))?;
        let infos = infos.into_iter().map(|info| (info.path.clone(), info));
        Ok(Self {
            infos: infos.collect(),
        })
    }

    /// The closure of some inputs; if there are derivations in it, that of all their outputs too.
    pub(super) fn export(&self, paths: &[String], reader: &Reader) -> Result<Members, ExportError> {
        let mut members = Members::default();
        for path in paths {
            if !self.infos.contains_key(path) {
                return Err(ExportError::NotAnInput { path: path.clone() });
            }
            members.add_closure(path, &self.infos);
        }
        let derivations: Vec<String> = members
            .infos
            .keys()
            .filter(|path| path.ends_with(".drv"))
            .cloned()
            .collect();
        for drv in derivations {
            let outputs = outputs_of(&drv, reader)?;
            let elsewhere: Vec<&str> = outputs
                .iter()
                .map(String::as_str)
                .filter(|path| !self.infos.contains_key(*path))
                .collect();
            let found = reader.ask(|database| database.closure(elsewhere.iter().copied()))?;
            let found: HashMap<String, PathInfo> = found
                .into_iter()
                .map(|info| (info.path.clone(), info))
                .collect();
            for output in &outputs {
                if self.infos.contains_key(output) {
                    members.add_closure(output, &self.infos);
                } else if found.contains_key(output) {
                    members.add_closure(output, &found);
                } else {
                    let problem = format!("output '{output}' is not valid");
                    return Err(ExportError::Derivation { drv, problem });
                }
            }
        }
        Ok(members)
    }
}

fn outputs_of(drv: &str, reader: &Reader) -> Result<Vec<String>, ExportError> {
    let broken = |problem: String| ExportError::Derivation {
        drv: drv.to_owned(),
        problem,
    };
    let text = bounded::read_derivation(&reader.layout().real_path(drv))
        .map_err(|error| broken(format!("file can't be read: {error}")))?;
    let parsed =
        Derivation::parse(&text).map_err(|error| broken(format!("file can't be read: {error}")))?;
    Ok((parsed.outputs.iter())
        .map(|output| output.path.to_string())
        .collect())
}

/// The members of a graph to export, by path.
#[derive(Debug, Default)]
pub(super) struct Members {
    infos: BTreeMap<String, PathInfo>,
}

impl Members {
    fn add_closure(&mut self, path: &str, known: &HashMap<String, PathInfo>) {
        let mut pending = vec![path];
        while let Some(path) = pending.pop() {
            if self.infos.contains_key(path) {
                continue;
            }
            // What a valid path refers to is valid, so both maps hold closures whole.
            if let Some(info) = known.get(path) {
                pending.extend(info.references.iter().map(String::as_str));
                self.infos.insert(path.to_owned(), info.clone());
            }
        }
    }

    /// As `nix-store --register-validity` reads it: path, no deriver, number of references,
    /// references.
    pub(super) fn to_registration(&self) -> Vec<u8> {
        let mut text = String::new();
        for info in self.infos.values() {
            let count = info.references.len();
            text.push_str(&format!("{}\n\n{count}\n", info.path));
            for reference in &info.references {
                text.push_str(reference);
                text.push('\n');
            }
        }
        text.into_bytes()
    }

    /// As structured attributes have it: an array of objects, by path.
    pub(super) fn to_json(&self) -> Value {
        let sizes = self.closure_sizes();
        let entry = |info: &PathInfo| {
            let mut entry = json!({
                "path": info.path,
                "narHash": Hash::sha256(&info.nar_hash).prefixed_base32(),
                "narSize": info.nar_size,
                "references": info.references,
                "closureSize": sizes[&*info.path],
            });
            if let Some(ca) = &info.ca {
                entry["ca"] = ca.as_str().into();
            }
            entry
        };
        self.infos.values().map(entry).collect()
    }

    /// For each member the sizes in bytes of all the paths in its closure, together.
    fn closure_sizes(&self) -> HashMap<&str, u64> {
        let numbers: HashMap<&str, usize> = (self.infos.keys().enumerate())
            .map(|(number, path)| (&**path, number))
            .collect();
        let sizes: Vec<u64> = self.infos.values().map(|info| info.nar_size).collect();
        let edges: Vec<Vec<usize>> = (self.infos.values())
            .map(|info| {
                info.references
                    .iter()
                    .map(|path| numbers[&**path])
                    .collect()
            })
            .collect();
        let mut seen = vec![usize::MAX; sizes.len()];
        let mut pending = Vec::new();
        let mut closure_size = |root: usize| {
            let mut total = 0;
            pending.push(root);
            while let Some(member) = pending.pop() {
                if std::mem::replace(&mut seen[member], root) != root {
                    total += sizes[member];
                    pending.extend_from_slice(&edges[member]);
                }
            }
            total
        };
        numbers
            .iter()
            .map(|(path, number)| (*path, closure_size(*number)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(rows: &[(&str, u64, &[&str])]) -> Members {
        let info = |&(path, nar_size, references): &(&str, u64, &[&str])| PathInfo {
            path: path.to_owned(),
            nar_hash: [0; 32],
            nar_size,
            registration_time: 1,
            deriver: None,
            references: references.iter().map(|path| (*path).to_owned()).collect(),
            ultimate: true,
            sigs: vec![],
            ca: None,
        };
        let known: HashMap<String, PathInfo> = (rows.iter().map(info))
            .map(|info| (info.path.clone(), info))
            .collect();
        let mut members = Members::default();
        members.add_closure(rows[0].0, &known);
        members
    }

    #[test]
    fn closures_are_added_up_once_each_path() {
        let members = members(&[
            ("/d", 1, &["/b", "/c"]),
            ("/b", 10, &["/a", "/b"]),
            ("/c", 100, &["/a"]),
            ("/a", 1000, &[]),
            ("/unrelated", 10_000, &["/d"]),
        ]);
        let sizes = members.closure_sizes();
        assert_eq!(sizes.len(), 4);
        assert_eq!(
            ["/a", "/b", "/c", "/d"].map(|path| sizes[path]),
            [1000, 1010, 1100, 1111]
        );
        let json = members.to_json();
        assert_eq!(json[1]["path"], "/b");
        assert_eq!(json[1]["closureSize"], 1010);
        assert!(json[1].get("ca").is_none());
    }

    #[test]
    fn registration_text_has_no_deriver() {
        let members = members(&[("/b", 10, &["/a", "/b"]), ("/a", 1, &[])]);
        let text = String::from_utf8(members.to_registration()).unwrap();
        assert_eq!(text, "/a\n\n0\n/b\n\n2\n/a\n/b\n");
    }
}
