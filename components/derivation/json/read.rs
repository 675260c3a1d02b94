//! Reads derivations from JSON in any of its forms, and says what is malformed and where.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Members, Result, bad};
use crate::derivation::attributes::{STRUCTURED, to_json_text};
use crate::derivation::{
    Bytes, Derivation, DerivationError, InputDrv, Output, Text, name_from_base,
};
use crate::hash::{Hash, HashAlgo};
use crate::store_path::StoreDir;

/// A derivation in any of the three forms; what only one of them has may be missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonDerivation {
    name: Option<String>,
    outputs: BTreeMap<String, JsonOutput>,
    inputs: Option<JsonInputs>,
    #[serde(default)]
    input_srcs: Vec<String>,
    #[serde(default)]
    input_drvs: BTreeMap<String, JsonInput>,
    system: String,
    builder: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    structured_attrs: Option<Members>,
}

/// The inputs as [`JsonVersion::V4`](super::JsonVersion::V4) has them.
#[derive(Deserialize)]
struct JsonInputs {
    #[serde(default)]
    srcs: Vec<String>,
    #[serde(default)]
    drvs: BTreeMap<String, JsonInput>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of outputs or an object with 'outputs'"
)]
enum JsonInput {
    Outputs(Vec<String>),
    #[serde(rename_all = "camelCase")]
    Dynamic {
        outputs: Vec<String>,
        dynamic_outputs: Option<Members>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonOutput {
    path: Option<String>,
    method: Option<String>,
    hash_algo: Option<String>,
    hash: Option<String>,
    impure: Option<Value>,
}

/// Reads derivations in any of the forms that [`to_json`](super::to_json) writes, or one bare
/// derivation that has a `name`. Returns each with its name. Paths of outputs may be missing: they
/// are left empty, to be computed.
///
/// # Errors
/// [`DerivationError::Json`] says what is missing or malformed and where.
pub fn from_json(value: &Value, store: &StoreDir) -> Result<Vec<(String, Derivation<'static>)>> {
    let object = as_object(value, "the top")?;
    if object.contains_key("builder") {
        return Ok(vec![one_from_json(value, None, store)?]);
    }
    let all = match object.get("derivations") {
        Some(derivations) => as_object(derivations, "'derivations'")?,
        None => object,
    };
    all.iter()
        .map(|(key, value)| one_from_json(value, Some(key), store))
        .collect()
}

/// Reads one derivation; `key` is where it stands among others.
fn one_from_json(
    value: &Value,
    key: Option<&str>,
    store: &StoreDir,
) -> Result<(String, Derivation<'static>)> {
    let json: JsonDerivation = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let places = [key, Some(path.as_str()).filter(|path| *path != ".")];
        let places: Vec<String> = places
            .iter()
            .flatten()
            .map(|p| format!("'{p}': "))
            .collect();
        bad(format!("{}{}", places.concat(), error.inner()))
    })?;
    let named = || name_from_base(store.strip(key?).unwrap_or(key?)).ok();
    let name = match &json.name {
        Some(name) => name.clone(),
        None => named()
            .ok_or_else(|| bad("'name' is missing".to_owned()))?
            .to_owned(),
    };
    let (sources, drvs) = match json.inputs {
        Some(inputs) => (inputs.srcs, inputs.drvs),
        None => (json.input_srcs, json.input_drvs),
    };
    let mut input_srcs: Vec<_> = sources.iter().map(|path| full(path, store)).collect();
    input_srcs.sort();
    input_srcs.dedup();
    let drv = Derivation {
        outputs: outputs_from_json(json.outputs, store)?,
        input_drvs: inputs_from_json(drvs, store)?,
        input_srcs,
        system: json.system.into(),
        builder: bytes(json.builder),
        args: json.args.into_iter().map(bytes).collect(),
        env: env_from_json(json.env, json.structured_attrs)?,
    };
    Ok((name, drv))
}

fn bytes(text: String) -> Bytes<'static> {
    Cow::Owned(text.into_bytes())
}

/// A store path from one that may lack the store directory.
fn full(path: &str, store: &StoreDir) -> Text<'static> {
    match path.starts_with('/') {
        true => path.to_owned().into(),
        false => store.join(path).into(),
    }
}

fn outputs_from_json(
    outputs: BTreeMap<String, JsonOutput>,
    store: &StoreDir,
) -> Result<Vec<Output<'static>>> {
    if outputs.is_empty() {
        return Err(DerivationError::NoOutputs);
    }
    outputs
        .into_iter()
        .map(|(name, output)| output_from_json(name, output, store))
        .collect()
}

fn inputs_from_json(
    drvs: BTreeMap<String, JsonInput>,
    store: &StoreDir,
) -> Result<Vec<InputDrv<'static>>> {
    // With the store directory and without it, one path may stand there twice.
    let mut by_path = BTreeMap::<_, Vec<_>>::new();
    for (path, input) in drvs {
        let outputs = match input {
            JsonInput::Outputs(outputs) => outputs,
            JsonInput::Dynamic {
                outputs,
                dynamic_outputs,
            } => {
                if dynamic_outputs.is_some_and(|dynamic| !dynamic.is_empty()) {
                    return Err(DerivationError::Unsupported {
                        feature: "dynamic derivations",
                    });
                }
                outputs
            }
        };
        let of_path = by_path.entry(full(&path, store)).or_default();
        of_path.extend(outputs.into_iter().map(Cow::Owned));
    }
    let sorted = by_path.into_iter().map(|(path, mut outputs)| {
        outputs.sort_unstable();
        outputs.dedup();
        InputDrv { path, outputs }
    });
    Ok(sorted.collect())
}

fn env_from_json(
    env: BTreeMap<String, String>,
    structured: Option<Members>,
) -> Result<Vec<(Bytes<'static>, Bytes<'static>)>> {
    if structured.is_some() && env.contains_key(STRUCTURED) {
        return Err(bad(format!(
            "it has structured attributes twice, in 'structuredAttrs' and as the variable '{STRUCTURED}'"
        )));
    }
    let variables = env
        .into_iter()
        .map(|(key, value)| (bytes(key), bytes(value)));
    let mut env: Vec<_> = variables.collect();
    if let Some(members) = structured {
        let text = Cow::Owned(to_json_text(&members));
        env.push((Cow::Borrowed(STRUCTURED.as_bytes()), text));
    }
    env.sort();
    Ok(env)
}

fn output_from_json(name: String, output: JsonOutput, store: &StoreDir) -> Result<Output<'static>> {
    let (hash_algo, hash) = match output.hash {
        None if output.hash_algo.is_some() || output.impure.is_some() => {
            return Err(DerivationError::Unsupported {
                feature: "content-addressed derivations",
            });
        }
        None => (String::new(), String::new()),
        Some(hash) => {
            let stated = output.hash_algo.as_deref().unwrap_or_default();
            let method = output.method.as_deref();
            fixed_from_json(&hash, stated, method, &format!("the output '{name}'"))?
        }
    };
    Ok(Output {
        name: name.into(),
        path: output
            .path
            .map_or(Cow::Borrowed(""), |path| full(&path, store)),
        hash_algo: hash_algo.into(),
        hash: hash.into(),
    })
}

/// The algorithm, `r:` before it for trees, and the hash in base 16 of a fixed output.
fn fixed_from_json(
    hash: &str,
    stated: &str,
    method: Option<&str>,
    place: &str,
) -> Result<(String, String)> {
    let (recursive, algo) = match (method, stated.strip_prefix("r:")) {
        (Some("nar" | "recursive"), _) => (true, stated),
        (Some("flat"), _) | (None, None) => (false, stated),
        (None, Some(algo)) => (true, algo),
        (Some(_), _) => {
            return Err(DerivationError::Unsupported {
                feature: "git and text hashing",
            });
        }
    };
    let algo = match algo {
        "" => None,
        name => Some(HashAlgo::from_name(name).ok_or_else(|| {
            bad(format!(
                "'{name}' of {place} is no hash algorithm; use {}",
                HashAlgo::NAMES
            ))
        })?),
    };
    let hash = Hash::parse(hash, algo).map_err(|error| bad(format!("{place}: {error}")))?;
    let prefix = if recursive { "r:" } else { "" };
    Ok((format!("{prefix}{}", hash.algo().name()), hash.base16()))
}

fn as_object<'v>(value: &'v Value, place: &str) -> Result<&'v Members> {
    value
        .as_object()
        .ok_or_else(|| bad(format!("{place} should be an object")))
}
