//! `exportReferencesGraph`: which closures a builder asks for, and under which names.
//! Only reads what is asked for.

use serde_json::Value;

use super::{AttributeError, Attributes, wrong_type};
use crate::store_path::StoreDir;

/// A closure that a builder asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphExport {
    /// The file in the build directory, or the key of the structured attributes.
    pub name: String,
    /// What it is the closure of, as full store paths.
    pub paths: Vec<String>,
}

const ATTRIBUTE: &str = "exportReferencesGraph";

impl Attributes<'_> {
    /// What to say of an attribute that Nix ignores in its form, with the same warning.
    pub(super) fn ignored(&self) -> Option<&'static str> {
        match self.structured.as_ref()?.get(ATTRIBUTE)? {
            Value::Object(_) => None,
            _ => Some(
                "'exportReferencesGraph' in structured attributes is not a JSON object, ignoring it",
            ),
        }
    }

    /// The closures wanted: pairs of a file name and a path in a variable, or an object from key to
    /// paths. A structured attribute of another form asks for nothing.
    ///
    /// # Errors
    /// When it names what is no store path, or a variable does not hold pairs.
    pub fn graph_exports(&self, store: &StoreDir) -> Result<Vec<GraphExport>, AttributeError> {
        match &self.structured {
            Some(members) => match members.get(ATTRIBUTE) {
                Some(Value::Object(wanted)) => wanted
                    .iter()
                    .map(|(name, value)| {
                        let mut paths = Vec::new();
                        collect_paths(&format!("{ATTRIBUTE}.{name}"), value, store, &mut paths)?;
                        Ok(GraphExport {
                            name: name.clone(),
                            paths,
                        })
                    })
                    .collect(),
                _ => Ok(Vec::new()),
            },
            None => {
                let words = self.list(ATTRIBUTE)?.unwrap_or_default();
                let (pairs, rest) = words.as_chunks::<2>();
                if let [last] = rest {
                    let last = last.clone();
                    return Err(AttributeError::OddExport { last });
                }
                let export = |[name, path]: &[String; 2]| {
                    if !is_file_name(name) {
                        return Err(AttributeError::ExportName { name: name.clone() });
                    }
                    // What lies in a store path stands for all of it.
                    let path = store.enclosing(path).map_err(|_| bad_path(path))?;
                    Ok(GraphExport {
                        name: name.clone(),
                        paths: vec![store.display(&path)],
                    })
                };
                pairs.iter().map(export).collect()
            }
        }
    }
}

fn collect_paths(
    place: &str,
    value: &Value,
    store: &StoreDir,
    paths: &mut Vec<String>,
) -> Result<(), AttributeError> {
    match value {
        Value::String(path) if store.parse(path).is_ok() => {
            paths.push(path.clone());
            Ok(())
        }
        Value::String(path) => Err(bad_path(path)),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| collect_paths(place, item, store, paths)),
        other => Err(wrong_type(place, "a store path or a list of them", other)),
    }
}

fn bad_path(path: &str) -> AttributeError {
    AttributeError::ExportPath {
        path: path.to_owned(),
    }
}

fn is_file_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}
