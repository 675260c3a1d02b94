//! Writes derivations as JSON, in the form of one release or another.

use serde_json::{Map, Value, json};

use super::{JsonVersion, Members, Result, bad};
use crate::derivation::attributes::{STRUCTURED, to_json_text};
use crate::derivation::{Derivation, Output, name_from_base};
use crate::store_path::StoreDir;

/// Writes derivations, each given with its full path, as one JSON object.
///
/// # Errors
/// [`DerivationError::Json`](super::DerivationError::Json) when one has an argument or variable
/// that is not UTF-8, which JSON can't hold.
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
