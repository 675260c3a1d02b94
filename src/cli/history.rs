//! `windrow history`: what builders took in this store, by derivation name and platform.

use clap::Args;
use serde_json::{Value, json};
use windrow_store::own::history::{self, Known};

use super::{CommonArgs, print_lines};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Names of derivations, such as hello-2.10, or patterns such as 'hello-*' [default: all]
    names: Vec<String>,

    #[command(flatten)]
    common: CommonArgs,

    /// Print JSON, one object a line, with each of the last builds
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &HistoryArgs) -> Result<()> {
    let session = args.common.session(None)?;
    let mut found = Vec::new();
    if args.names.is_empty() {
        found = history::known(&session.layout, None)?;
    }
    for name in &args.names {
        let matching = history::known(&session.layout, Some(name))?;
        if matching.is_empty() {
            return Err(Error::NoHistory { name: name.clone() });
        }
        found.extend(matching);
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
