//! `windrow add`: writes derivations described in JSON to the store and prints their paths.

use std::path::{Path, PathBuf};

use clap::Args;
use windrow_components::progress;
use windrow_systems::instantiate::{add_nix_json, instantiate_graph, parse_graph, read_graph};

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::progress::Steps;
use crate::standard_input;

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// A graph, or derivations as Nix prints them (nix derivation show); - reads standard input
    file: PathBuf,

    #[command(flatten)]
    common: CommonArgs,

    /// Print the paths of all derivations, not only of the graph's targets
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &AddArgs) -> Result<()> {
    let steps = Steps::new();
    let session = args.common.session()?;
    let mut store = session.open()?;
    let is_typed = args.file.as_os_str() == "-";
    let what = || format!("reading {}", args.file.display());
    let reading = (!is_typed).then(|| progress::begin(what(), "derivations", None));
    let (text, file) = match is_typed {
        true => (standard_input::read_text()?, Path::new("standard input")),
        false => (read_graph(&args.file)?, args.file.as_path()),
    };
    if let Some(derivations) = nix_json(&text, file)? {
        let added = add_nix_json(&mut store, &derivations).map_err(|source| Error::AddJson {
            path: file.to_owned(),
            source: Box::new(source),
        })?;
        drop(steps);
        return print_lines(added);
    }
    let graph = parse_graph(&text, file, &session.settings.system)?;
    // A large text is no small part of what the memory must hold.
    drop(text);
    drop(reading);
    let graph = instantiate_graph(&mut store, file, graph)?;
    drop(steps);
    if args.all {
        return print_lines(graph.derivations.iter().map(|drv| &drv.drv_path));
    }
    print_lines(
        graph
            .targets
            .iter()
            .map(|&(index, _)| &graph.derivations[index].drv_path),
    )
}

/// The file's contents if they are Nix's JSON rather than a graph: what only Nix's form has is
/// looked for first, so that large graphs are not read twice.
fn nix_json(text: &str, file: &Path) -> Result<Option<serde_json::Value>> {
    let marks = ["\"inputDrvs\"", "\"inputSrcs\"", "\"version\"", "\"srcs\""];
    if !marks.iter().any(|mark| text.contains(mark)) {
        return Ok(None);
    }
    let value: serde_json::Value = serde_json::from_str(text).map_err(|source| Error::Json {
        path: file.to_owned(),
        source,
    })?;
    let is_nix = |object: &serde_json::Value| {
        ["inputDrvs", "inputSrcs"]
            .iter()
            .any(|key| object.get(key).is_some())
            || (object
                .get("inputs")
                .is_some_and(serde_json::Value::is_object)
                && object.get("outputs").is_some())
    };
    let found = is_nix(&value)
        || value.get("version").is_some() && value.get("derivations").is_some()
        || value
            .as_object()
            .is_some_and(|all| all.values().any(is_nix));
    Ok(found.then_some(value))
}
