//! `windrow history`: what builders took in this store, by derivation name and platform.

use clap::Args;
use serde_json::{Value, json};
use windrow_store::own::history::{self, Known};

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable::{self, Installable, Word};
use crate::realise::Wanted;
use crate::session::Session;
use crate::wanted::look_up;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Names of derivations, such as hello-2.10, patterns such as 'hello-*', or x.drv, a graph
    /// (x.json) or a name in it (x.json#name) [default: all]
    names: Vec<String>,

    #[command(flatten)]
    common: CommonArgs,

    /// Print JSON, one object a line, with each of the last builds
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &HistoryArgs) -> Result<()> {
    let named = args.names.iter().map(|name| words(name));
    let named = named.collect::<Result<Vec<Vec<Word>>>>()?;
    let session = args.common.session_for(&[], &named.concat())?;
    let mut found = Vec::new();
    if args.names.is_empty() {
        found = history::known(&session.layout, None)?;
    }
    for (name, words) in args.names.iter().zip(&named) {
        for name in names((name, words), &session)? {
            let matching = history::known(&session.layout, Some(&name))?;
            if matching.is_empty() {
                return Err(Error::NoHistory { name });
            }
            found.extend(matching);
        }
    }
    if args.json {
        print_lines(found.iter().map(|known| as_json(known).to_string()))
    } else if found.is_empty() {
        // Nothing was built in this store yet.
        Ok(())
    } else {
        let width = found.iter().map(|known| known.name.len()).max();
        let width = width.unwrap_or(0).clamp(4, 60);
        print_lines(
            std::iter::once(header(width)).chain(found.iter().map(|known| row(known, width))),
        )
    }
}

/// What an argument names in a store or in a graph; nothing if it is a name or a pattern.
fn words(what: &str) -> Result<Vec<Word>> {
    let is_name = !what.contains(['/', '#']) && !what.ends_with(".json") && !what.ends_with(".drv");
    match is_name && what != "-" {
        true => Ok(Vec::new()),
        false => installable::gather(&[what]).map_err(Error::not_to_build),
    }
}

/// The names of derivations that an argument stands for: those of a graph, of derivations and of
/// outputs, or what was typed, which may be a pattern.
fn names((what, words): (&str, &[Word]), session: &Session) -> Result<Vec<String>> {
    if words.is_empty() {
        return Ok(vec![what.to_owned()]);
    }
    let found = installable::parse(words, session).map_err(Error::not_to_build)?;
    let wanted = match found.as_slice() {
        // It may be known no more, and its builds be recorded.
        [Installable::Derivation { path, .. }] => vec![path.clone()],
        found => {
            let (store, wanted) = look_up(found, session).map_err(Error::not_to_build)?;
            let derivations = wanted.into_iter().map(|wanted| match wanted {
                Wanted::Derivation { path, .. } => Ok(path),
                Wanted::Path(path) | Wanted::Repair(path) => {
                    let info = store.database.path_info(&path)?;
                    let deriver = info.and_then(|info| info.deriver);
                    deriver.ok_or(Error::NoDeriver { path })
                }
            });
            derivations.collect::<Result<Vec<_>>>()?
        }
    };
    let store_dir = session.store_dir();
    let name = |path: String| -> Result<String> {
        let path = store_dir.parse(&path)?;
        Ok(path.name().trim_end_matches(".drv").to_owned())
    };
    wanted.into_iter().map(name).collect()
}

fn header(width: usize) -> String {
    format!(
        "{:<width$}  {:<16}{:>8}{:>8}{:>14}{:>14}{:>12}",
        "name", "platform", "builds", "failed", "time", "processor", "memory"
    )
}

/// Means of the builds that are kept, and the most memory of any.
fn row(known: &Known, width: usize) -> String {
    let kept = known.builds.len().max(1) as f64;
    let mean = |sum: u64| format!("{:.3} s", sum as f64 / kept / 1e6);
    let failed = known.builds.iter().filter(|build| !build.succeeded).count();
    let peaks = known.builds.iter().filter_map(|build| build.peak_memory);
    let peak = peaks
        .max()
        .map(|peak| format!("{:.1} MB", peak as f64 / 1e6));
    format!(
        "{:<width$}  {:<16}{:>8}{failed:>8}{:>14}{:>14}{:>12}",
        known.name,
        known.system,
        known.count,
        mean(known.builds.iter().map(|build| build.wall_us).sum()),
        mean(known.builds.iter().map(|build| build.cpu_us).sum()),
        peak.as_deref().unwrap_or("small"),
    )
}

fn as_json(known: &Known) -> Value {
    let builds = known.builds.iter().map(|build| {
        json!({
            "ended": build.ended_s,
            "wall": build.wall_us,
            "cpu": build.cpu_us,
            "peakMemory": build.peak_memory,
            "succeeded": build.succeeded,
        })
    });
    json!({
        "name": known.name,
        "system": known.system,
        "builds": known.count,
        "estimate": known.estimate_us,
        "last": builds.collect::<Vec<Value>>(),
    })
}
