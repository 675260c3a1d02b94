//! `--gc` and `--delete`: what nothing needs is listed or deleted; also the roots of `--query
//! --roots`.

use std::collections::BTreeSet;

use indicatif::ProgressBar;
use windrow_store::gc::{self, Action, Collected, Event, GcOptions, roots, runtime};
use windrow_store::local::LocalStore;
use windrow_systems::report;

use super::args::Level;
use super::{Call, verify};
use crate::collecting;
use crate::error::{Error, Result};
use crate::terminal::complain;

pub(super) fn gc(call: &mut Call) -> Result<()> {
    let mut print_roots = false;
    let mut action = Action::DeleteDead;
    let mut max_freed = u64::MAX;
    let mut flags = std::mem::take(&mut call.command.flags).into_iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--print-roots" => print_roots = true,
            "--print-live" => action = Action::ListLive,
            "--print-dead" => action = Action::ListDead,
            "--max-freed" => max_freed = size(&flags.next().unwrap_or_default())?,
            // What Nix means by deleting, written out.
            "--delete-dead" => action = Action::DeleteDead,
            _ => return Err(Error::Usage(format!("bad sub-operation '{flag}' in GC"))),
        }
    }
    call.no_args()?;
    if max_freed != u64::MAX && (print_roots || action != Action::DeleteDead) {
        let text =
            "--max-freed cannot be combined with --print-roots, --print-live or --print-dead";
        return Err(Error::Usage(text.to_owned()));
    }
    if print_roots {
        let store = call.look()?;
        let rows: BTreeSet<(String, String)> = find_roots(&store)?.into_iter().collect();
        return rows
            .iter()
            .try_for_each(|(link, path)| call.print(format!("{link} -> {path}")));
    }
    let listed = action != Action::DeleteDead;
    let collected = run(call, action, false, max_freed)?;
    if listed {
        collected
            .paths
            .iter()
            .try_for_each(|path| call.print(path))?;
    }
    Ok(())
}

pub(super) fn delete(call: &mut Call) -> Result<()> {
    let [ignore_liveness] = call.switches(["--ignore-liveness"])?;
    let paths = call.store_paths()?;
    run(call, Action::Delete(paths), ignore_liveness, u64::MAX).map(drop)
}

/// Every root with the path it leads to.
pub(super) fn find_roots(store: &LocalStore) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let (layout, database) = (store.layout(), &store.database);
    for part in [
        roots::links(layout, database)?,
        runtime::find(layout, database)?,
    ] {
        for (path, links) in part {
            let name = |link: std::path::PathBuf| link.to_string_lossy().into_owned();
            found.extend(links.into_iter().map(|link| (name(link), path.clone())));
        }
    }
    for (path, process) in roots::temporary(layout)? {
        found.push((format!("{{temp:{process}}}"), path));
    }
    Ok(found)
}

fn run(
    call: &mut Call,
    action: Action,
    ignore_liveness: bool,
    max_freed: u64,
) -> Result<Collected> {
    let settings = &call.session.settings;
    let options = GcOptions {
        ignore_liveness,
        max_freed,
        keep_outputs: settings.keep_outputs,
        keep_derivations: settings.keep_derivations,
        ..GcOptions::new(action, call.session.database_options())
    };
    let deletes = matches!(options.action, Action::DeleteDead | Action::Delete(_));
    let mut database = match deletes {
        true => call.session.open_to_collect()?,
        false => call.session.open()?.database,
    };
    let layout = call.session.layout.clone();
    let bar = verify::bar(call);
    let mut collected = Collected::default();
    let result = gc::collect(
        &layout,
        &mut database,
        &options,
        &mut collected,
        &mut |event| {
            tell(call, &bar, &event);
        },
    );
    bar.finish_and_clear();
    if deletes {
        // Printed however it ended, as Nix does.
        let freed = collected.bytes as f64 / f64::from(1 << 20);
        let deleted = collected.deleted;
        call.print(format!(
            "{deleted} store paths deleted, {freed:.2} MiB freed"
        ))?;
    }
    result?;
    Ok(collected)
}

/// Shows an event as `windrow gc` does, by the verbosity of this program.
fn tell(call: &Call, bar: &ProgressBar, event: &Event<'_>) {
    let shows = |level| {
        let level = match level {
            report::Level::Error => Level::Error,
            report::Level::Warn => Level::Warn,
            report::Level::Info => Level::Info,
            _ => Level::Talkative,
        };
        level <= call.command.level
    };
    collecting::tell(bar, event, &shows, &complain);
}

/// A number of bytes, perhaps with a unit (K, M, G, T); less than nothing is nothing.
fn size(text: &str) -> Result<u64> {
    let wrong = || {
        Error::Usage(format!(
            "'--max-freed' requires a number of bytes, not '{text}'"
        ))
    };
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit() && c != '-') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    let bytes = u64::try_from(number).unwrap_or(0);
    bytes.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("3K", 3072),
            ("1m", 1 << 20),
            ("2G", 2 << 30),
            ("-5", 0),
        ] {
            assert_eq!(size(text).unwrap(), bytes);
        }
        for text in ["", "x", "1X", "1KK", "99999999999T", "1-"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
