//! Derivations as JSON, in the forms that releases of Nix print and read (`nix derivation show` and `add`).

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::attributes::{STRUCTURED, to_json_text};
use super::{Derivation, DerivationError, InputDrv, Output, Text, name_from_base};
use crate::hash::{Hash, HashAlgo};
use crate::store_path::StoreDir;

type Result<T> = std::result::Result<T, DerivationError>;

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
/// [`DerivationError::Json`] when one has an argument or variable that is not UTF-8, which JSON can't hold.
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
    let mut inputs = Map::new();
    for input in &drv.input_drvs {
        let names: Vec<&str> = input.outputs.iter().map(|name| &**name).collect();
        let value = match version {
            JsonVersion::V1 => json!(names),
            _ => json!({ "outputs": names, "dynamicOutputs": {} }),
        };
        inputs.insert(short(&input.path), value);
    }
    let sources: Vec<String> = drv.input_srcs.iter().map(|path| short(path)).collect();
    let mut env = Map::new();
    // Later releases have structured attributes apart, where that gives the very same variable again.
    let structured = drv
        .env_value(STRUCTURED)
        .filter(|_| version == JsonVersion::V4)
        .and_then(|text| {
            Some((
                text,
                serde_json::from_slice::<Map<String, Value>>(text).ok()?,
            ))
        })
        .filter(|(text, members)| to_json_text(members) == *text);
    for (key, value) in &drv.env {
        if structured.is_some() && **key == *STRUCTURED.as_bytes() {
            continue;
        }
        env.insert(utf8(key)?.to_owned(), Value::from(utf8(value)?));
    }
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
            if let Some((_, members)) = structured {
                object["structuredAttrs"] = members.into();
            }
        }
    }
    Ok(object)
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

/// Reads derivations in any of the forms that [`to_json`] writes, or one bare derivation that has a `name`.
/// Returns each with its name. Paths of outputs may be missing: they are left empty, to be computed.
///
/// # Errors
/// [`DerivationError::Json`] says what is missing or malformed and where.
pub fn from_json(value: &Value, store: &StoreDir) -> Result<Vec<(String, Derivation<'static>)>> {
    let object = as_object(value, "the top")?;
    if object.contains_key("builder") {
        return Ok(vec![one_from_json(object, None, store)?]);
    }
    let all = match object.get("derivations") {
        Some(derivations) => as_object(derivations, "'derivations'")?,
        None => object,
    };
    all.iter()
        .map(|(key, value)| {
            let base = store.strip(key).unwrap_or(key);
            let named = name_from_base(base).ok().map(str::to_owned);
            one_from_json(as_object(value, &format!("'{key}'"))?, named, store)
        })
        .collect()
}

fn one_from_json(
    object: &Map<String, Value>,
    named: Option<String>,
    store: &StoreDir,
) -> Result<(String, Derivation<'static>)> {
    let full = |path: &str| -> Text<'static> {
        if path.starts_with('/') {
            path.to_owned().into()
        } else {
            store.join(path).into()
        }
    };
    let name = match object.get("name") {
        Some(name) => as_string(name, "'name'")?.to_owned(),
        None => named.ok_or_else(|| bad("'name' is missing".to_owned()))?,
    };
    let (sources, drvs) = match object.get("inputs") {
        Some(inputs) => {
            let inputs = as_object(inputs, "'inputs'")?;
            (inputs.get("srcs"), inputs.get("drvs"))
        }
        None => (object.get("inputSrcs"), object.get("inputDrvs")),
    };

    let mut outputs = Vec::new();
    for (name, value) in as_object(field(object, "outputs")?, "'outputs'")? {
        outputs.push(output_from_json(name, value, &full)?);
    }
    if outputs.is_empty() {
        return Err(DerivationError::NoOutputs);
    }
    outputs.sort_by(|a, b| a.name.cmp(&b.name));

    let mut input_drvs = Vec::new();
    for (path, value) in drvs.map_or(Ok(&Map::new()), |drvs| as_object(drvs, "'inputDrvs'"))? {
        let place = format!("the input '{path}'");
        let names = match value {
            Value::Object(input) => {
                if input
                    .get("dynamicOutputs")
                    .and_then(Value::as_object)
                    .is_some_and(|d| !d.is_empty())
                {
                    return Err(DerivationError::Unsupported {
                        feature: "dynamic derivations",
                    });
                }
                input
                    .get("outputs")
                    .ok_or_else(|| bad(format!("{place} has no 'outputs'")))?
            }
            other => other,
        };
        let mut outputs = strings(names, &place)?;
        outputs.sort();
        outputs.dedup();
        input_drvs.push(InputDrv {
            path: full(path),
            outputs: outputs.into_iter().map(Cow::Owned).collect(),
        });
    }
    input_drvs.sort();

    let mut input_srcs: Vec<Text<'static>> = sources
        .map_or(Ok(Vec::new()), |list| strings(list, "'inputSrcs'"))?
        .iter()
        .map(|path| full(path))
        .collect();
    input_srcs.sort();
    input_srcs.dedup();

    let mut env = Vec::new();
    for (key, value) in as_object(field(object, "env")?, "'env'")? {
        let value = as_string(value, &format!("the variable '{key}'"))?;
        env.push((
            Cow::Owned(key.clone().into_bytes()),
            Cow::Owned(value.as_bytes().to_vec()),
        ));
    }
    if let Some(structured) = object
        .get("structuredAttrs")
        .filter(|value| !value.is_null())
    {
        let members = as_object(structured, "'structuredAttrs'")?;
        env.push((
            Cow::Borrowed(STRUCTURED.as_bytes()),
            Cow::Owned(to_json_text(members)),
        ));
    }
    env.sort();

    let args = strings(field(object, "args")?, "'args'")?;
    let drv = Derivation {
        outputs,
        input_drvs,
        input_srcs,
        system: as_string(field(object, "system")?, "'system'")?
            .to_owned()
            .into(),
        builder: Cow::Owned(
            as_string(field(object, "builder")?, "'builder'")?
                .as_bytes()
                .to_vec(),
        ),
        args: args
            .into_iter()
            .map(|arg| Cow::Owned(arg.into_bytes()))
            .collect(),
        env,
    };
    Ok((name, drv))
}

fn output_from_json(
    name: &str,
    value: &Value,
    full: &impl Fn(&str) -> Text<'static>,
) -> Result<Output<'static>> {
    let place = format!("the output '{name}'");
    let object = as_object(value, &place)?;
    let text = |key: &str| {
        object
            .get(key)
            .map(|v| as_string(v, &format!("'{key}' of {place}")))
            .transpose()
    };
    let path = text("path")?.map_or(Cow::Borrowed(""), full);
    let (hash_algo, hash) = match text("hash")? {
        None if text("hashAlgo")?.is_some() || object.contains_key("impure") => {
            return Err(DerivationError::Unsupported {
                feature: "content-addressed derivations",
            });
        }
        None => (String::new(), String::new()),
        Some(hash) => {
            let stated = text("hashAlgo")?.unwrap_or_default();
            let (recursive, algo) = match (text("method")?, stated.strip_prefix("r:")) {
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
            (format!("{prefix}{}", hash.algo().name()), hash.base16())
        }
    };
    Ok(Output {
        name: name.to_owned().into(),
        path,
        hash_algo: hash_algo.into(),
        hash: hash.into(),
    })
}

fn field<'v>(object: &'v Map<String, Value>, key: &str) -> Result<&'v Value> {
    object
        .get(key)
        .ok_or_else(|| bad(format!("'{key}' is missing")))
}

fn as_object<'v>(value: &'v Value, place: &str) -> Result<&'v Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| bad(format!("{place} should be an object")))
}

fn as_string<'v>(value: &'v Value, place: &str) -> Result<&'v str> {
    value
        .as_str()
        .ok_or_else(|| bad(format!("{place} should be a string")))
}

fn strings(value: &Value, place: &str) -> Result<Vec<String>> {
    let list = value
        .as_array()
        .ok_or_else(|| bad(format!("{place} should be a list")))?;
    list.iter()
        .map(|item| as_string(item, place).map(str::to_owned))
        .collect()
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
        assert!(message("[]").contains("the top should be an object"));
        assert!(message(r#"{"builder":"b"}"#).contains("'name' is missing"));
        assert!(message(r#"{"builder":"b","name":"n"}"#).contains("'outputs' is missing"));
        assert!(message(r#"{"builder":"b","name":"n","outputs":{"out":3}}"#).contains("'out'"));
        let floating =
            r#"{"builder":"b","name":"n","outputs":{"out":{"method":"nar","hashAlgo":"sha256"}}}"#;
        assert!(message(floating).contains("content-addressed"));
    }
}
