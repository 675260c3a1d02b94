//! Special attributes: what a derivation asks of the engine beside running its builder, in
//! variables or in one JSON object (`__json`). Reads and checks their forms (Nix's
//! `ParsedDerivation`); knows no store, writes no file.

mod checks;
mod exports;
mod json;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Derivation;
use crate::store_path::StoreDir;

pub use checks::{OutputChecks, ReferenceList};
pub use exports::GraphExport;
pub use json::{to_json_text, to_shell_text};

/// The variable that holds structured attributes.
pub const STRUCTURED: &str = "__json";

/// Variables that make a derivation's outputs subject to checks.
const CHECKS: [&str; 4] = [
    "allowedReferences",
    "allowedRequisites",
    "disallowedReferences",
    "disallowedRequisites",
];

/// What is wrong with a special attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// Structured attributes that are no JSON object.
    #[error("its structured attributes (variable '__json') can't be read: {reason}")]
    Structured {
        /// What is wrong with them.
        reason: String,
    },
    /// A value of the wrong type.
    #[error("its attribute '{name}' must be {wanted}, but is {found}")]
    Type {
        /// The attribute, with its place where it is inside of another.
        name: String,
        /// What it should be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A file name without a path.
    #[error(
        "its attribute 'exportReferencesGraph' must hold pairs of a file name and a store path, but '{last}' \
         stands alone at the end"
    )]
    OddExport {
        /// The last word.
        last: String,
    },
    /// A file name that can't be used.
    #[error(
        "its attribute 'exportReferencesGraph' names the file '{name}', but such names have letters, digits, '_', \
         '.' and '-' only, and start with a letter or '_'"
    )]
    ExportName {
        /// The name.
        name: String,
    },
    /// A path outside the store.
    #[error("its attribute 'exportReferencesGraph' names '{path}', which is no store path")]
    ExportPath {
        /// The path.
        path: String,
    },
    /// An entry of a list of references that means nothing.
    #[error(
        "its attribute '{name}' names '{specifier}', which is neither a store path nor one of its outputs"
    )]
    Specifier {
        /// The attribute.
        name: String,
        /// The entry.
        specifier: String,
    },
}

/// The attributes of one derivation.
#[derive(Debug)]
pub struct Attributes<'a> {
    drv: &'a Derivation<'a>,
    structured: Option<Map<String, Value>>,
}

impl<'a> Attributes<'a> {
    /// Reads the attributes of `drv`; only structured ones cost something.
    ///
    /// # Errors
    /// [`AttributeError::Structured`] when `__json` holds anything but an object.
    pub fn of(drv: &'a Derivation<'a>) -> Result<Self, AttributeError> {
        let structured = match drv.env_value(STRUCTURED) {
            None => None,
            Some(text) => {
                let broken = |reason: String| AttributeError::Structured { reason };
                let value: Value =
                    serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
                match value {
                    Value::Object(members) => Some(members),
                    other => {
                        return Err(broken(format!("they are {}, not an object", kind(&other))));
                    }
                }
            }
        };
        Ok(Self { drv, structured })
    }

    /// The derivation they belong to.
    pub fn derivation(&self) -> &'a Derivation<'a> {
        self.drv
    }

    /// The members of structured attributes, if the derivation has them.
    pub fn structured(&self) -> Option<&Map<String, Value>> {
        self.structured.as_ref()
    }

    /// A yes or no; `None` if it is not set.
    ///
    /// # Errors
    /// [`AttributeError::Type`] when a structured attribute is no truth value.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, AttributeError> {
        let Some(members) = &self.structured else {
            return Ok(self.drv.env_value(name).map(|value| value == b"1"));
        };
        match members.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong_type(name, "true or false", other)),
        }
    }

    /// A list of texts: words between white space, or a list of strings; `None` if it is not set.
    ///
    /// # Errors
    /// [`AttributeError::Type`] when a structured attribute is no list of strings.
    pub fn list(&self, name: &str) -> Result<Option<Vec<String>>, AttributeError> {
        match &self.structured {
            None => Ok(self.drv.env_value(name).map(words)),
            Some(members) => members
                .get(name)
                .map(|value| string_list(name, value))
                .transpose(),
        }
    }

    /// Features that a machine must have to build it.
    ///
    /// # Errors
    /// As [`Attributes::list`].
    pub fn required_features(&self) -> Result<Vec<String>, AttributeError> {
        Ok(self.list("requiredSystemFeatures")?.unwrap_or_default())
    }

    /// Everything special about the derivation, so that what is malformed is known before anything
    /// is built.
    ///
    /// # Errors
    /// The first thing that is wrong.
    ///
    /// Nix 1.8: `DerivationGoal::startBuilder`.
    pub fn special(&self, store: &StoreDir) -> Result<Special, AttributeError> {
        self.flag("preferLocalBuild")?;
        self.flag("allowSubstitutes")?;
        self.list("impureEnvVars")?;
        self.output_checks(store)?;
        Ok(Special {
            required_features: self.required_features()?,
            exports: self.graph_exports(store)?,
            ignored: self.ignored(),
        })
    }

    /// The members of structured attributes as builders get them: with `outputs` as a map from name
    /// to path.
    pub fn members_for_builder(&self) -> Option<Map<String, Value>> {
        let mut members = self.structured.clone()?;
        let outputs: BTreeMap<&str, &str> = (self.drv.outputs.iter())
            .map(|output| (&*output.name, &*output.path))
            .collect();
        let outputs = outputs
            .into_iter()
            .map(|(name, path)| (name.to_owned(), path.into()));
        members.insert("outputs".to_owned(), Value::Object(outputs.collect()));
        Some(members)
    }
}

/// What starting a builder must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Special {
    /// Features that a machine must have to build it.
    pub required_features: Vec<String>,
    /// Reference graphs to be written for the builder.
    pub exports: Vec<GraphExport>,
    /// What to warn of: an attribute that means nothing in its form.
    pub ignored: Option<&'static str>,
}

impl Derivation<'_> {
    /// Whether its outputs are subject to more checks than all outputs are, so that whoever takes
    /// them must read its attributes.
    pub fn checks_outputs(&self) -> bool {
        let mut names = CHECKS.iter().chain([&STRUCTURED]);
        names.any(|name| self.env_value(name).is_some())
    }
}

/// Splits at white space, as Nix's `tokenizeString` does.
fn words(text: &[u8]) -> Vec<String> {
    text.split(|byte| b" \t\n\r".contains(byte))
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn string_list(name: &str, value: &Value) -> Result<Vec<String>, AttributeError> {
    const WANTED: &str = "a list of strings";
    let Value::Array(items) = value else {
        return Err(wrong_type(name, WANTED, value));
    };
    let string = |(index, item): (usize, &Value)| match item {
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong_type(&format!("{name}[{index}]"), "a string", other)),
    };
    items.iter().enumerate().map(string).collect()
}

fn wrong_type(name: &str, wanted: &'static str, found: &Value) -> AttributeError {
    AttributeError::Type {
        name: name.to_owned(),
        wanted,
        found: kind(found),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
