//! `windrow failed-paths`: which outputs are known to fail, and how to forget that.

use clap::Args;

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable::{self, Installable, Word};
use crate::realise::Wanted;
use crate::session::Session;
use crate::wanted::look_up;

#[derive(Debug, Args)]
pub(super) struct FailedPathsArgs {
    /// Only these: outputs, derivations for all of their outputs, or names of a graph (x.json#name)
    what: Vec<String>,

    /// Forget that they failed, so that they are built again
    #[arg(long)]
    clear: bool,

    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &FailedPathsArgs) -> Result<()> {
    let words = match args.what.as_slice() {
        [] => Vec::new(),
        what => installable::gather(what).map_err(Error::not_to_build)?,
    };
    let session = args.common.session_for(&[], &words)?;
    let only = named_paths(&words, &session)?;
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
fn named_paths(what: &[Word], session: &Session) -> Result<Option<Vec<String>>> {
    if what.is_empty() {
        return Ok(None);
    }
    let what = installable::parse(what, session).map_err(Error::not_to_build)?;
    if let Some(paths) = plain_paths(&what) {
        return Ok(Some(paths));
    }
    let (store, wanted) = look_up(&what, session).map_err(Error::not_to_build)?;
    let mut paths = Vec::new();
    for wanted in wanted {
        match wanted {
            Wanted::Path(path) | Wanted::Repair(path) => paths.push(path),
            Wanted::Derivation { path, outputs } => {
                let wanted = |name: &str| outputs.is_empty() || outputs.iter().any(|it| it == name);
                store.with_derivation(&path, |drv| {
                    let rows = drv.outputs.iter().filter(|row| wanted(&row.name));
                    paths.extend(rows.map(|row| row.path.clone().into_owned()));
                    Ok(())
                })?;
            }
        }
    }
    Ok(Some(paths))
}

/// The arguments if all of them are outputs, for which no store need be there.
fn plain_paths(what: &[Installable]) -> Option<Vec<String>> {
    let path = |what: &Installable| match what {
        Installable::Path(path) => Some(path.clone()),
        _ => None,
    };
    what.iter().map(path).collect()
}
