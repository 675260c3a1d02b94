//! `windrow build`: realises what is asked for and prints the output paths.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use windrow_components::goal::BuildMode;
use windrow_store::roots::links::add_indirect_root;
use windrow_systems::policy::Policy;

use super::{BuildOptions, CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable::{self, Installable};
use crate::outcome::{failure, root_name};
use crate::progress::{self, Style, Tracing};
use crate::realise::{already_valid, hold, realise};
use crate::session::Session;
use crate::trace::TraceFile;
use crate::wanted::{look_up, understand};

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// x.drv, x.drv^out,dev, a store path, a graph (x.json), a name in it (x.json#name, #name^dev),
    /// or - for a list or a graph on standard input [default: windrow.json of this directory]
    what: Vec<OsString>,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    #[command(flatten)]
    pub(super) options: BuildOptions,

    /// Print what would be built, and build nothing
    #[arg(long)]
    dry_run: bool,

    /// Order of ready derivations: fifo, random, shortest-first, longest-first,
    /// critical-path, most-dependents or depth-first-by-memory
    #[arg(long, default_value = "fifo", value_name = "POLICY", value_parser = policy)]
    policy: Policy,

    /// Rebuild valid outputs, and fail if they differ; with -K the new output is
    /// kept beside it, as PATH.check
    #[arg(long, visible_alias = "rebuild", conflicts_with = "dry_run")]
    check: bool,

    /// Write a trace of when and in which slot each builder ran, for Chrome and Perfetto
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Verify the contents of valid outputs and their closures, and fetch or build again
    /// what is corrupt or missing
    #[arg(long, conflicts_with_all = ["dry_run", "check"])]
    repair: bool,

    /// Make LINK a garbage collector root for the results
    #[arg(long, value_name = "LINK")]
    add_root: Option<PathBuf>,

    /// Print a machine-readable line at every start and end of a build
    #[arg(long)]
    print_build_trace: bool,

    /// At the first interruption start no more builds, and let those end that run; the
    /// second one kills them
    #[arg(long)]
    finish_running: bool,

    /// Print what builders write
    #[arg(short = 'L', long)]
    print_build_logs: bool,
}

/// A policy for builds, which run in slots.
fn policy(text: &str) -> Result<Policy, String> {
    let policy: Policy = text.parse()?;
    match policy.places() {
        true => Err("it chooses machines, which only 'windrow simulate' has".to_owned()),
        false => Ok(policy),
    }
}

pub(super) fn run(args: &BuildArgs) -> Result<()> {
    let mut session = args.common.session(Some(&args.options))?;
    session.settings.print_build_trace |= args.print_build_trace;
    session.policy = args.policy.clone();
    session.finish_running = args.finish_running;
    if args.check {
        session.mode = BuildMode::Check;
    } else if args.repair {
        session.mode = BuildMode::Repair;
    }
    let what = installable::read(&args.what, &session)?;
    if args.dry_run {
        let (store, wanted) = look_up(&what, &session)?;
        return super::plan::describe(&session, store, &wanted, false);
    }
    let mut store = match session.open() {
        Err(error) if error.is_read_only() => {
            return read_only(args, &what, &session, error);
        }
        opened => opened?,
    };
    let wanted = understand(&what, &session, &mut store)?;
    let style = Style {
        trace: args.print_build_trace || session.settings.print_build_trace,
        ..args.common.style(args.print_build_logs)
    };
    let mut reporter = progress::reporter(style);
    if let Some(file) = &args.trace {
        let trace = TraceFile::create(file, "windrow build")?;
        reporter = Box::new(Tracing::new(reporter, trace));
    }
    let held = match args.add_root {
        Some(_) => Some(hold(&session, &store, &wanted)?),
        None => None,
    };
    let (summary, outputs) = realise(&session, store, &wanted, reporter)?;
    if let Some(signal) = summary.interrupted {
        return Err(Error::Interrupted { signal });
    }
    if summary.lacks_something() {
        return Err(failure(&summary, session.mode));
    }
    match &args.add_root {
        None => {
            progress::say_if_idle(style, &summary);
            print_lines(outputs.iter().flatten().map(|(_, path)| path))
        }
        Some(link) => {
            let mut links = Vec::new();
            for (index, outputs) in outputs.iter().enumerate() {
                for (name, path) in outputs {
                    let link = root_name(link, index, name);
                    links.push(add_indirect_root(&session.layout, &link, path)?);
                }
            }
            if let Some(held) = &held {
                let paths = outputs.iter().flatten().map(|(_, path)| path.as_str());
                held.remind(&paths.collect::<Vec<_>>())?;
            }
            progress::say_if_idle(style, &summary);
            print_lines(links.iter().map(|link| link.to_string_lossy().into_owned()))
        }
    }
}

/// Prints the output paths if all of them are valid in a store that can't be written, for that
/// reason; nothing else can be done with one.
fn read_only(
    args: &BuildArgs,
    what: &[Installable],
    session: &Session,
    reason: Error,
) -> Result<()> {
    if args.add_root.is_some() {
        return Err(reason);
    }
    let (store, wanted) = look_up(what, session)?;
    let outputs = already_valid(session, &store, &wanted)?.ok_or(reason)?;
    print_lines(outputs.iter().flatten().map(|(_, path)| path))
}
