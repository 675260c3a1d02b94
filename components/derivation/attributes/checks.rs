//! What the outputs of a derivation may be: their sizes, what they may refer to, whether they are
//! looked at at all. Only reads what is asked for; whether outputs meet it is found out where they
//! lie.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{AttributeError, Attributes, CHECKS, string_list, wrong_type};
use crate::store_path::StoreDir;

/// What one output must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputChecks {
    /// The size of its NAR in bytes, at most.
    pub max_size: Option<u64>,
    /// The size of the NARs of its closure in bytes, at most.
    pub max_closure_size: Option<u64>,
    /// What it may or may not refer to.
    pub lists: Vec<ReferenceList>,
    /// Its contents are not searched for references (`unsafeDiscardReferences`).
    pub discard_references: bool,
}

/// Paths that an output may refer to, or may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceList {
    /// The attribute it comes from, for messages.
    pub attribute: String,
    /// Whether only these are allowed; else these are not.
    pub allowed: bool,
    /// Whether the whole closure is meant and not only references.
    pub recursive: bool,
    /// Whether a reference to itself is of no interest.
    pub ignore_self: bool,
    /// The paths, in full.
    pub paths: BTreeSet<String>,
}

impl Attributes<'_> {
    /// What the outputs must be like, in the derivation's order (Nix's `checkOutputs`).
    ///
    /// Variables hold for all outputs, and lists of requisites ignore an output's reference to
    /// itself. Structured attributes hold for the output they name, and never ignore it.
    ///
    /// # Errors
    /// [`AttributeError::Type`] and [`AttributeError::Specifier`].
    pub fn output_checks(&self, store: &StoreDir) -> Result<Vec<OutputChecks>, AttributeError> {
        let Some(members) = &self.structured else {
            let mut checks = OutputChecks::default();
            for attribute in CHECKS {
                if let Some(words) = self.list(attribute)? {
                    let recursive = attribute.ends_with("Requisites");
                    let list = self.list_of(attribute, attribute, recursive, &words, store)?;
                    checks.lists.push(list);
                }
            }
            return Ok(vec![checks; self.drv.outputs.len()]);
        };
        let of_outputs = object("outputChecks", members.get("outputChecks"))?;
        let discarded = object(
            "unsafeDiscardReferences",
            members.get("unsafeDiscardReferences"),
        )?;
        let mut all = Vec::with_capacity(self.drv.outputs.len());
        for output in &self.drv.outputs {
            let name = &*output.name;
            let place = format!("outputChecks.{name}");
            let asked = object(&place, of_outputs.and_then(|checks| checks.get(name)))?;
            let mut checks = match asked {
                Some(asked) => self.structured_checks(&place, asked, store)?,
                None => OutputChecks::default(),
            };
            match discarded.and_then(|discarded| discarded.get(name)) {
                None => {}
                Some(Value::Bool(flag)) => checks.discard_references = *flag,
                Some(other) => {
                    let place = format!("unsafeDiscardReferences.{name}");
                    return Err(wrong_type(&place, "true or false", other));
                }
            }
            all.push(checks);
        }
        Ok(all)
    }

    fn structured_checks(
        &self,
        place: &str,
        asked: &Map<String, Value>,
        store: &StoreDir,
    ) -> Result<OutputChecks, AttributeError> {
        let bytes = |name: &str| match asked.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                let place = format!("{place}.{name}");
                wrong_type(&place, "a number of bytes, 0 or more", value)
            }),
        };
        let mut checks = OutputChecks {
            max_size: bytes("maxSize")?,
            max_closure_size: bytes("maxClosureSize")?,
            ..OutputChecks::default()
        };
        for attribute in CHECKS {
            if let Some(value) = asked.get(attribute) {
                let place = format!("{place}.{attribute}");
                let words = string_list(&place, value)?;
                checks
                    .lists
                    .push(self.list_of(&place, attribute, false, &words, store)?);
            }
        }
        Ok(checks)
    }

    /// The paths that a list names, by themselves or as the name of an output.
    ///
    /// Nix 1.8: `parseReferenceSpecifiers`.
    fn list_of(
        &self,
        place: &str,
        attribute: &str,
        ignore_self: bool,
        words: &[String],
        store: &StoreDir,
    ) -> Result<ReferenceList, AttributeError> {
        let path = |word: &String| {
            if store.parse(word).is_ok() {
                return Ok(word.clone());
            }
            match self.drv.output(word) {
                Some(output) => Ok(output.path.to_string()),
                None => Err(AttributeError::Specifier {
                    name: place.to_owned(),
                    specifier: word.clone(),
                }),
            }
        };
        Ok(ReferenceList {
            attribute: place.to_owned(),
            allowed: attribute.starts_with("allowed"),
            recursive: attribute.ends_with("Requisites"),
            ignore_self,
            paths: words.iter().map(path).collect::<Result<_, _>>()?,
        })
    }
}

fn object<'v>(
    name: &str,
    value: Option<&'v Value>,
) -> Result<Option<&'v Map<String, Value>>, AttributeError> {
    match value {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(other) => Err(wrong_type(name, "an object", other)),
    }
}
