//! `windrow show`: derivations as the JSON that Nix prints.

use clap::{Args, ValueEnum};
use windrow_components::derivation::{Derivation, JsonVersion, to_json};
use windrow_store::PathInfo;
use windrow_store::local::LocalStore;

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable;
use crate::realise::Wanted;
use crate::wanted::look_up;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Derivations, outputs of derivations, graphs (x.json) or names in them (x.json#name)
    #[arg(required = true)]
    what: Vec<String>,

    #[command(flatten)]
    common: CommonArgs,

    /// Which release's form: 1 of Nix 2.8, 2 of Nix 2.26, 4 of Nix 2.33
    #[arg(long, value_enum, default_value = "2", value_name = "N")]
    json_version: Version,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Version {
    #[value(name = "1")]
    V1,
    #[value(name = "2")]
    V2,
    #[value(name = "4")]
    V4,
}

pub(super) fn run(args: &ShowArgs) -> Result<()> {
    let words = installable::gather(&args.what).map_err(Error::not_to_build)?;
    let session = args.common.session_for(&[], &words)?;
    let what = installable::parse(&words, &session).map_err(Error::not_to_build)?;
    let (store, wanted) = look_up(&what, &session).map_err(Error::not_to_build)?;
    let mut drvs = Vec::new();
    for wanted in wanted {
        let path = match wanted {
            Wanted::Derivation { path, .. } => path,
            Wanted::Path(path) | Wanted::Repair(path) => deriver(&store, path)?,
        };
        let drv = store.with_derivation(&path, |drv| Ok(drv.clone().into_owned()))?;
        drvs.push((path, drv));
    }
    let version = match args.json_version {
        Version::V1 => JsonVersion::V1,
        Version::V2 => JsonVersion::V2,
        Version::V4 => JsonVersion::V4,
    };
    let drvs: Vec<(String, Derivation<'_>)> = drvs;
    let json =
        to_json(&drvs, &session.store_dir(), version).map_err(windrow_components::Error::from)?;
    print_lines([format!("{json:#}")])
}

fn deriver(store: &LocalStore, path: String) -> Result<String> {
    let reason = match store.database.path_info(&path)? {
        Some(PathInfo {
            deriver: Some(deriver),
            ..
        }) => return Ok(deriver),
        Some(_) => "no derivation of it is known",
        None => "it is not valid in this store",
    };
    Err(Error::BadArgument {
        what: path,
        reason: reason.to_owned(),
    })
}
