//! `windrow show`: derivations as the JSON that Nix prints.

use clap::{Args, ValueEnum};
use windrow_components::derivation::{Derivation, JsonVersion, to_json};

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable::Installable;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Derivations, or outputs of derivations
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
    let session = args.common.session(None)?;
    let store = session.open_read_only()?;
    let mut drvs = Vec::new();
    for what in &args.what {
        let bad = |reason: &str| Error::BadArgument {
            what: what.clone(),
            reason: reason.to_owned(),
        };
        let path =
            match Installable::parse(what, &session.store_dir(), &session.layout.real_store_dir)
                .map_err(Error::not_to_build)?
            {
                Installable::Derivation { path, .. } => path,
                Installable::Graph(_) => {
                    return Err(bad("it is a graph; 'windrow add' prints its derivations"));
                }
                Installable::Path(path) => match store.database.path_info(&path)? {
                    Some(info) => info
                        .deriver
                        .ok_or_else(|| bad("no derivation of it is known"))?,
                    None => return Err(bad("it is not valid in this store")),
                },
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
