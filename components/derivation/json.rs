//! Derivations as JSON, in the forms that releases of Nix print and read (`nix derivation show` and
//! `add`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::attributes::{STRUCTURED, to_json_text};
use super::{Bytes, Derivation, DerivationError, InputDrv, Output, Text, name_from_base};
use crate::hash::{Hash, HashAlgo};
use crate::store_path::StoreDir;

type Result<T> = std::result::Result<T, DerivationError>;
type Members = Map<String, Value>;

/// Which release's JSON to write. All are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonVersion {
    /// Nix 2.3 to 2.8: `hashAlgo` holds the mode, inputs are lists of outputs.
    V1,
    /// Nix 2.19 to 2.31: adds `name` and `method`, inputs have `dynamicOutputs`.
    #[default]
    V2,
    /// Nix 2.33 and later: `{"version": 4, "derivations": …}`, base names, SRI hashes.
    V4,
}

/// Writes derivations, each given with its full path, as one JSON object.
///
/// # Errors
/// [`DerivationError::Json`] when one has an argument or variable that is not UTF-8, which JSON
/// can't hold.
pub fn to_json(
    drvs: &[(String, Derivation<'_>)],
    store: &StoreDir,
    version: JsonVersion,
) -> Result<Value> {
    let mut all = Map::new();
    for (path, drv) in drvs {
        let base = store.strip(path).unwrap_or(path);
        let key = if version == JsonVersion::V4 {
            base
        } else {
            path
        };
        all.insert(key.to_owned(), one_to_json(base, drv, store, version)?);
    }
    Ok(match version {
        JsonVersion::V4 => json!({ "version": 4, "derivations": all }),
        _ => Value::Object(all),
    })
}

fn one_to_json(
    base: &str,
    drv: &Derivation<'_>,
    store: &StoreDir,
    version: JsonVersion,
) -> Result<Value> {
    let name = name_from_base(base)?;
    let short = |path: &str| match version {
        JsonVersion::V4 => store.strip(path).unwrap_or(path).to_owned(),
        _ => path.to_owned(),
    };
    let mut outputs = Map::new();
    for output in &drv.outputs {
        outputs.insert(
            output.name.to_string(),
            output_to_json(output, &short, version)?,
        );
    }
    let inputs = inputs_to_json(drv, &short, version);
    let sources: Vec<String> = drv.input_srcs.iter().map(|path| short(path)).collect();
    let (env, structured) = env_to_json(drv, version)?;
    let args = drv
        .args
        .iter()
        .map(|arg| utf8(arg))
        .collect::<Result<Vec<_>>>()?;
    let mut object = json!({
        "outputs": outputs,
        "system": drv.system,
        "builder": utf8(&drv.builder)?,
        "args": args,
        "env": env,
    });
    match version {
        JsonVersion::V1 => {
            object["inputSrcs"] = json!(sources);
            object["inputDrvs"] = inputs.into();
        }
        JsonVersion::V2 => {
            object["name"] = name.into();
            object["inputSrcs"] = json!(sources);
            object["inputDrvs"] = inputs.into();
        }
        JsonVersion::V4 => {
            object["name"] = name.into();
            object["version"] = 4.into();
            object["inputs"] = json!({ "srcs": sources, "drvs": inputs });
            if let Some(members) = structured {
                object["structuredAttrs"] = members.into();
            }
        }
    }
    Ok(object)
}

fn inputs_to_json(
    drv: &Derivation<'_>,
    short: &impl Fn(&str) -> String,
    version: JsonVersion,
) -> Members {
    let inputs = drv.input_drvs.iter().map(|input| {
        let names: Vec<&str> = input.outputs.iter().map(|name| &**name).collect();
        let value = match version {
            JsonVersion::V1 => json!(names),
            _ => json!({ "outputs": names, "dynamicOutputs": {} }),
        };
        (short(&input.path), value)
    });
    inputs.collect()
}

/// The variables, and apart from them the structured attributes in the versions that have them
/// apart, where that gives the very same variable again.
fn env_to_json(drv: &Derivation<'_>, version: JsonVersion) -> Result<(Members, Option<Members>)> {
    let structured = drv
        .env_value(STRUCTURED)
        .filter(|_| version == JsonVersion::V4)
        .and_then(|text| {
            let members = serde_json::from_slice::<Members>(text).ok()?;
            (to_json_text(&members) == text).then_some(members)
        });
    let mut env = Map::new();
    for (key, value) in &drv.env {
        if structured.is_none() || **key != *STRUCTURED.as_bytes() {
            env.insert(utf8(key)?.to_owned(), Value::from(utf8(value)?));
        }
    }
    Ok((env, structured))
}

fn output_to_json(
    output: &Output<'_>,
    short: &impl Fn(&str) -> String,
    version: JsonVersion,
) -> Result<Value> {
    let Some(fixed) = output.fixed()? else {
        return Ok(json!({ "path": short(&output.path) }));
    };
    let (method, algo) = match output.hash_algo.strip_prefix("r:") {
        Some(algo) => ("nar", algo),
        None => ("flat", &*output.hash_algo),
    };
    Ok(match version {
        JsonVersion::V1 => {
            json!({ "path": output.path, "hashAlgo": output.hash_algo, "hash": output.hash })
        }
        JsonVersion::V2 => json!({
            "path": output.path, "method": method, "hashAlgo": algo, "hash": output.hash,
        }),
        JsonVersion::V4 => json!({ "method": method, "hash": fixed.hash.sri() }),
    })
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| {
        let text = String::from_utf8_lossy(bytes);
        bad(format!(
            "the value '{text}' is not UTF-8, which JSON can't hold"
        ))
    })
}

fn bad(reason: String) -> DerivationError {
    DerivationError::Json { reason }
}

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

/// The inputs as [`JsonVersion::V4`] has them.
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

/// Reads derivations in any of the forms that [`to_json`] writes, or one bare derivation that has a
/// `name`. Returns each with its name. Paths of outputs may be missing: they are left empty, to be
/// computed.
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
        env: env_from_json(json.env, json.structured_attrs),
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
    let mut input_drvs = Vec::new();
    for (path, input) in drvs {
        let mut outputs = match input {
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
        outputs.sort();
        outputs.dedup();
        input_drvs.push(InputDrv {
            path: full(&path, store),
            outputs: outputs.into_iter().map(Cow::Owned).collect(),
        });
    }
    input_drvs.sort();
    Ok(input_drvs)
}

fn env_from_json(
    env: BTreeMap<String, String>,
    structured: Option<Members>,
) -> Vec<(Bytes<'static>, Bytes<'static>)> {
    let variables = env
        .into_iter()
        .map(|(key, value)| (bytes(key), bytes(value)));
    let mut env: Vec<_> = variables.collect();
    if let Some(members) = structured {
        let text = Cow::Owned(to_json_text(&members));
        env.push((Cow::Borrowed(STRUCTURED.as_bytes()), text));
    }
    env.sort();
    env
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
        name => Some(
            HashAlgo::from_name(name)
                .ok_or_else(|| bad(format!("'{name}' of {place} is no hash algorithm")))?,
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &[u8] = br#"Derive([("dev","/nix/store/00000000000000000000000000000000-x-dev","",""),("out","/nix/store/00000000000000000000000000000000-x","","")],[("/nix/store/11111111111111111111111111111111-y.drv",["out"])],["/nix/store/22222222222222222222222222222222-s"],"x86_64-linux","/bin/sh",["-c","true"],[("a","b")])"#;
    const FIXED: &[u8] = br#"Derive([("out","/nix/store/00000000000000000000000000000000-x","r:sha256","e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")],[],[],"x86_64-linux","/bin/sh",[],[])"#;
    const PATH: &str = "/nix/store/33333333333333333333333333333333-x.drv";

    #[test]
    fn every_version_is_read_back() {
        let store = StoreDir::new("/nix/store");
        for version in [JsonVersion::V1, JsonVersion::V2, JsonVersion::V4] {
            for text in [DRV, FIXED] {
                let drv = Derivation::parse(text).unwrap();
                let json = to_json(&[(PATH.to_owned(), drv.clone())], &store, version).unwrap();
                let (name, mut read) = from_json(&json, &store).unwrap().remove(0);
                assert_eq!(name, "x");
                if version == JsonVersion::V4 && drv.is_fixed() {
                    assert_eq!(read.outputs[0].path, "", "left out in this form");
                    read.outputs[0].path = drv.outputs[0].path.clone();
                }
                assert_eq!(read, drv, "{version:?}");
            }
        }
    }

    #[test]
    fn structured_attributes_stand_apart_in_the_latest_form_only() {
        let store = StoreDir::new("/nix/store");
        for (attributes, apart) in [
            (r#"{"a":[1,2.5,1e+22],"b":"x"}"#, true),
            (r#"{ "a": 1 }"#, false),
            ("[1]", false),
        ] {
            let mut drv = Derivation::parse(DRV).unwrap().into_owned();
            let value = Cow::Owned(attributes.as_bytes().to_vec());
            drv.env.insert(0, (Cow::Borrowed(b"__json"), value));
            drv.env.sort();
            for version in [JsonVersion::V1, JsonVersion::V2, JsonVersion::V4] {
                let json = to_json(&[(PATH.to_owned(), drv.clone())], &store, version).unwrap();
                let text = json.to_string();
                assert_eq!(
                    text.contains("structuredAttrs"),
                    apart && version == JsonVersion::V4,
                    "{text}"
                );
                assert_eq!(
                    text.contains("__json"),
                    !text.contains("structuredAttrs"),
                    "{text}"
                );
                let (_, read) = from_json(&json, &store).unwrap().remove(0);
                assert_eq!(read.env, drv.env);
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        let store = StoreDir::new("/nix/store");
        let message = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            from_json(&value, &store).unwrap_err().to_string()
        };
        let one = |rest: &str| format!(r#"{{"builder":"b","name":"n","system":"s",{rest}}}"#);
        let among = |rest: &str| {
            let name = "00000000000000000000000000000000-x.drv";
            format!(r#"{{"/nix/store/{name}":{{"builder":"b",{rest}}}}}"#)
        };
        for (text, said) in [
            ("[]".to_owned(), "the top should be an object"),
            (one(r#""args":[]"#), "missing field `outputs`"),
            (
                one(r#""outputs":{"out":3}"#),
                "'outputs.out': invalid type: integer `3`",
            ),
            (
                one(r#""outputs":{"out":{"path":[]}}"#),
                "'outputs.out.path': invalid type: sequence, expected a string",
            ),
            (
                one(r#""outputs":{},"args":["x",1]"#),
                "'args[1]': invalid type: integer `1`, expected a string",
            ),
            (
                among(r#""inputDrvs":{"/d":"out"}"#),
                "-x.drv': 'inputDrvs./d': expected a list of outputs or an object with 'outputs'",
            ),
            (
                r#"{"builder":"b","system":"s","outputs":{},"args":[],"env":{}}"#.to_owned(),
                "'name' is missing",
            ),
            (one(r#""outputs":{},"args":[],"env":{}"#), "no outputs"),
            (
                one(r#""outputs":{"out":{"hash":"x"}},"args":[],"env":{}"#),
                "the output 'out': ",
            ),
        ] {
            assert!(message(&text).contains(said), "{text}: {}", message(&text));
        }
        let floating =
            one(r#""outputs":{"out":{"method":"nar","hashAlgo":"sha256"}},"args":[],"env":{}"#);
        assert!(message(&floating).contains("content-addressed"));
    }
}
