//! `--realise`: builds or fetches what is asked for, through the engine as `windrow build` does,
//! and says what it would do first; also the memory of failed builds.

use std::path::PathBuf;

use windrow_components::goal::BuildMode;
use windrow_store::local::LocalStore;
use windrow_store::roots::links::add_indirect_root;
use windrow_store::roots::temporary::TempRoots;
use windrow_store::{Edges, WalkRoot};
use windrow_systems::engine::Summary;

use super::Call;
use super::args::Level;
use super::elsewhere;
use super::paths::path_of;
use crate::error::{Error, Result};
use crate::outcome::{failure, root_name};
use crate::progress::{self, Hints, LogFormat, Style};
use crate::realise::{Outputs, Planned, Wanted, already_valid, hold, make_plan, realise_planned};
use crate::terminal::complain;

pub(super) fn realise(call: &mut Call) -> Result<()> {
    let flags = [
        "--dry-run",
        "--ignore-unknown",
        "--check",
        "--repair",
        "--finish-running",
    ];
    let [dry_run, ignore_unknown, check, repair, finish_running] = call.switches(flags)?;
    call.session.finish_running = finish_running;
    if check {
        call.session.mode = BuildMode::Check;
    }
    if repair {
        call.session.mode = BuildMode::Repair;
    }
    let mut wanted = Vec::new();
    for arg in &call.command.args {
        wanted.push(target(call, arg)?);
    }
    if let Some(url) = call.other.clone() {
        return elsewhere::realise(call, (&url, &wanted), (dry_run, ignore_unknown));
    }
    let (unknown, planned) = announce(call, &wanted, ignore_unknown)?;
    if dry_run {
        return Ok(());
    }
    if ignore_unknown {
        wanted.retain(|wanted| !unknown.contains(path_of(wanted)));
    }
    let (held, outputs, idle) = hold_and_make_valid(call, &wanted, planned)?;
    if ignore_unknown {
        return say_if_idle(call, &idle);
    }
    let roots = call.command.add_root.clone();
    if roots.is_none() && call.command.gc_warning && !wanted.is_empty() {
        call.say(
            Level::Warn,
            "warning: you did not specify '--add-root'; the result might be removed by the garbage collector",
        );
    }
    for (index, outputs) in outputs.into_iter().enumerate() {
        let mut lines = Vec::new();
        let mut rooted = Vec::new();
        for (name, path) in outputs {
            lines.push(match &roots {
                None => path,
                Some(root) => {
                    let link = absolute(root_name(root, index, &name))?;
                    let link = add_indirect_root(&call.session.layout, &link, &path)?;
                    rooted.push(path);
                    link.to_string_lossy().into_owned()
                }
            });
        }
        if let Some(held) = &held {
            held.remind(&rooted.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        if !call.command.no_output {
            lines.sort_unstable();
            lines.dedup();
            lines.iter().try_for_each(|line| call.print(line))?;
        }
    }
    say_if_idle(call, &idle)
}

/// Makes everything wanted valid, kept from collection until the roots are dropped. In a store that
/// can't be written it may be valid all the same.
fn hold_and_make_valid(
    call: &Call,
    wanted: &[Wanted],
    planned: Planned,
) -> Result<(Option<TempRoots>, Outputs, Option<Summary>)> {
    let store = match call.session.open() {
        Err(error) if error.is_read_only() => {
            let store = call.session.open_read_only()?;
            let outputs = already_valid(&call.session, &store, wanted)?;
            return outputs.map(|outputs| (None, outputs, None)).ok_or(error);
        }
        opened => opened?,
    };
    let held = hold(&call.session, &store, wanted)?;
    drop(store);
    let (summary, outputs) = make_valid(call, wanted, Some(planned))?;
    Ok((Some(held), outputs, Some(summary)))
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(Error::io("find", path))
}

/// What an argument asks for: a path, or outputs of a derivation as `x.drv!out,dev` names them.
fn target(call: &Call, arg: &std::ffi::OsStr) -> Result<Wanted> {
    let text = arg.to_string_lossy();
    let (path, outputs) = match text.rsplit_once(['!', '^']) {
        Some((path, outputs)) => (path.as_ref(), Some(outputs)),
        None => (arg, None),
    };
    let path = call.store_path(path)?;
    if !path.ends_with(".drv") {
        return Ok(Wanted::Path(path));
    }
    let names = outputs.filter(|&names| names != "*").unwrap_or_default();
    let outputs = names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    Ok(Wanted::Derivation { path, outputs })
}

/// Says what will be built; returns what nobody knows how to make (Nix's `queryMissing` and
/// `printMissing`).
fn announce(
    call: &Call,
    wanted: &[Wanted],
    ignore_unknown: bool,
) -> Result<(Vec<String>, Planned)> {
    let is_said = call.session.settings.print_missing;
    let say = |text: &str| {
        if is_said {
            call.say(Level::Info, text);
        }
    };
    let store = call.look()?;
    let planned = make_plan(&call.session, store, wanted)?;
    let (graph, plan) = (&planned.graph, &planned.plan);
    for complaint in &planned.complaints {
        complain(complaint);
    }
    let builds: Vec<String> = plan
        .builds
        .iter()
        .map(|&drv| graph.full_path(graph.drv_path(drv)))
        .collect();
    // In their order, which takes another look at the database.
    if is_said && !builds.is_empty() {
        let count = builds.len();
        say(&match count {
            1 => "this derivation will be built:".to_owned(),
            _ => format!("these {count} derivations will be built:"),
        });
        let seeds: Vec<WalkRoot<'_>> = builds.iter().map(|path| WalkRoot::Path(path)).collect();
        let order = call.look()?.database.walk(&seeds, Edges::default())?;
        for at in order.sorted()? {
            say(&format!("  {}", order.path(at)));
        }
    }
    let mut fetches: Vec<String> = plan.fetches.iter().map(|&p| graph.full_path(p)).collect();
    fetches.sort_unstable();
    if !fetches.is_empty() {
        let what = match fetches.len() {
            1 => "this path".to_owned(),
            count => format!("these {count} paths"),
        };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (download, unpacked) = (mib(plan.download_size), mib(plan.nar_size));
        let text = format!(
            "{what} will be fetched ({download:.2} MiB download, {unpacked:.2} MiB unpacked):"
        );
        say(&text);
        fetches.iter().for_each(|path| say(&format!("  {path}")));
    }
    let mut unknown: Vec<String> = plan
        .unknown
        .iter()
        .map(|&path| graph.full_path(path))
        .collect();
    unknown.sort_unstable();
    if !unknown.is_empty() && !ignore_unknown {
        say("don't know how to build these paths:");
        unknown.iter().for_each(|path| say(&format!("  {path}")));
    }
    Ok((unknown, planned))
}

/// Says that there was nothing to do, once nothing can fail any more.
fn say_if_idle(call: &Call, summary: &Option<Summary>) -> Result<()> {
    let style = style(call)?;
    if let Some(summary) = summary {
        progress::say_if_idle(&style, summary);
    }
    Ok(())
}

/// Makes everything wanted valid; returns how it went, and the outputs of each.
pub(super) fn make_valid(
    call: &Call,
    wanted: &[Wanted],
    planned: Option<Planned>,
) -> Result<(Summary, Outputs)> {
    let store = call.session.open()?;
    check_outputs(&store, wanted)?;
    let style = style(call)?;
    let reporter = progress::reporter(style);
    let wanted = (wanted, planned);
    let (summary, outputs) = realise_planned(&call.session, store, wanted, reporter)?;
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    if summary.lacks_something() {
        return Err(failure(&summary, call.session.mode));
    }
    Ok((summary, outputs))
}

/// Refuses outputs that a derivation does not have, before anything is built.
fn check_outputs(store: &LocalStore, wanted: &[Wanted]) -> Result<()> {
    for wanted in wanted {
        let Wanted::Derivation { path, outputs } = wanted else {
            continue;
        };
        if outputs.is_empty() || !store.database.is_valid(path)? {
            continue;
        }
        let known = super::paths::outputs_of(store, path)?;
        for output in outputs {
            if !known.iter().any(|(name, _)| name == output) {
                let (drv, name) = (path.clone(), output.clone());
                return Err(Error::NoOutput { drv, name });
            }
        }
    }
    Ok(())
}

fn style(call: &Call) -> Result<Style> {
    let (format, logs) = match call.command.log_format.as_deref() {
        None => (LogFormat::Raw, call.command.build_output),
        Some("raw") => (LogFormat::Raw, false),
        Some("raw-with-logs") => (LogFormat::Raw, true),
        Some("internal-json") => (LogFormat::InternalJson, true),
        Some("bar") => (LogFormat::Bar, false),
        Some("bar-with-logs") => (LogFormat::BarWithLogs, true),
        Some(other) => return Err(Error::Usage(format!("unknown log format '{other}'"))),
    };
    Ok(Style {
        format,
        verbosity: call.command.level as i16 - Level::Info as i16,
        build_logs: logs,
        names: format != LogFormat::Raw,
        trace: call.session.settings.print_build_trace,
        copying: false,
        hints: Hints::new(call.command.store.as_deref(), &call.command.settings),
    })
}

pub(super) fn repair_path(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    call.session.mode = BuildMode::Repair;
    let wanted: Vec<Wanted> = call.store_paths()?.into_iter().map(Wanted::Path).collect();
    let (summary, _) = make_valid(call, &wanted, None)?;
    say_if_idle(call, &Some(summary))
}

/// Repairs what `--verify` found; says whether all of it is as it should be now.
pub(super) fn repair(call: &mut Call, broken: Vec<String>) -> Result<bool> {
    call.session.mode = BuildMode::Repair;
    let mut all = true;
    for path in broken {
        // One that can't be repaired is no reason not to repair the others.
        match make_valid(call, &[Wanted::Path(path)], None) {
            Err(interrupted @ Error::Interrupted { .. }) => return Err(interrupted),
            Err(error) => {
                call.say(Level::Error, &format!("error: {error}"));
                all = false;
            }
            Ok(_) => {}
        }
    }
    Ok(all)
}

/// What `--force-realise` does before a query.
pub(super) fn force(call: &Call) -> Result<()> {
    let mut wanted = Vec::new();
    for path in call.store_paths()? {
        wanted.push(if path.ends_with(".drv") {
            let outputs = Vec::new();
            Wanted::Derivation { path, outputs }
        } else {
            Wanted::Path(path)
        });
    }
    match &call.other {
        Some(url) => elsewhere::must_be_there(call, (url, &wanted)),
        None => make_valid(call, &wanted, None).map(drop),
    }
}

pub(super) fn query_failed_paths(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    call.no_args()?;
    let Some(failed) = call.session.failed_paths(false)? else {
        return Ok(());
    };
    failed.all()?.iter().try_for_each(|path| call.print(path))
}

pub(super) fn clear_failed_paths(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let all = call.command.args.iter().any(|arg| arg == "*");
    let paths = if all { Vec::new() } else { call.store_paths()? };
    let Some(failed) = call.session.failed_paths(true)? else {
        return Ok(());
    };
    if all {
        failed.clear_all()?;
    } else {
        failed.clear(&paths)?;
    }
    Ok(())
}
