//! `windrow failed-paths`: which outputs are known to fail, and how to forget that.

use clap::Args;

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable::Installable;
use crate::session::Session;

#[derive(Debug, Args)]
pub(super) struct FailedPathsArgs {
    /// Only these: outputs, or derivations for all of their outputs
    what: Vec<String>,

    /// Forget that they failed, so that they are built again
    #[arg(long)]
    clear: bool,

    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &FailedPathsArgs) -> Result<()> {
    let session = args.common.session(None)?;
    let only = named_paths(&args.what, &session)?;
    let Some(failed) = session.failed_paths(args.clear)? else {
        return Ok(());
    };
    match (args.clear, only) {
        (true, None) => Ok(failed.clear_all().map(drop)?),
        (true, Some(paths)) => Ok(failed.clear(&paths).map(drop)?),
        (false, None) => print_lines(failed.all()?),
        (false, Some(mut paths)) => {
            let known = failed.all()?;
            paths.retain(|path| known.binary_search(path).is_ok());
            print_lines(paths)
        }
    }
}

/// The outputs that arguments stand for; `None` if there are no arguments.
fn named_paths(what: &[String], session: &Session) -> Result<Option<Vec<String>>> {
    if what.is_empty() {
        return Ok(None);
    }
    let mut paths = Vec::new();
    for what in what {
        match Installable::parse(what, &session.store_dir(), &session.layout.real_store_dir)
            .map_err(Error::not_to_build)?
        {
            Installable::Path(path) => paths.push(path),
            Installable::Derivation { path, outputs } => {
                let store = session.open_read_only()?;
                let wanted = |name: &str| outputs.is_empty() || outputs.iter().any(|it| it == name);
                store.with_derivation(&path, |drv| {
                    let rows = drv.outputs.iter().filter(|row| wanted(&row.name));
                    paths.extend(rows.map(|row| row.path.clone().into_owned()));
                    Ok(())
                })?;
            }
            Installable::Graph(file) => {
                return Err(Error::BadArgument {
                    what: file.display().to_string(),
                    reason: "name outputs or derivations, not a graph".to_owned(),
                });
            }
        }
    }
    Ok(Some(paths))
}
