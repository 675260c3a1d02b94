//! `windrow build`: realises what is asked for and prints the output paths.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;
use windrow_components::goal::BuildMode;
use windrow_components::graph::BuildGraph;
use windrow_report::page::html;
use windrow_store::roots::links::add_indirect_root;
use windrow_sys::interrupt::Owing;
use windrow_sys::mutex;
use windrow_systems::policy::Policy;
use windrow_systems::report::Reporter;

use super::{BuildOptions, CommonArgs, print_lines};
use crate::error::{Error, Result};
use crate::installable::{self, Installable};
use crate::outcome::{failure, root_name};
use crate::progress::{self, Record, Style, Tracing};
use crate::realise::{Outputs, already_valid, hold, realise_and_look};
use crate::reports::{About, WholeFile, of_build};
use crate::session::{Session, build_policy};
use crate::terminal::complain;
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

    /// Print what 'windrow plan' prints: what would be built and fetched; build and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Order of ready derivations: fifo, random, shortest-first, longest-first, critical-path,
    /// most-dependents, depth-first-by-memory, file:FILE with priorities or program:PROGRAM, which
    /// is asked [default: setting policy, fifo]
    #[arg(long, value_name = "POLICY", value_parser = build_policy)]
    policy: Option<Policy>,

    /// Rebuild valid outputs, and fail if they differ; with -K the new output is
    /// kept beside it, as PATH.check
    #[arg(long, visible_alias = "rebuild", conflicts_with = "dry_run")]
    check: bool,

    /// Write a trace of when and in which slot each builder ran, for Chrome and Perfetto
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write a report when the build has ended, also if it fails or is interrupted: one HTML
    /// file with a timeline, the critical path, what took longest, failures with their logs
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    report: Option<PathBuf>,

    /// Verify the contents of valid outputs and their closures, and fetch or build again
    /// what is corrupt or missing
    #[arg(long, conflicts_with_all = ["dry_run", "check"])]
    repair: bool,

    /// Make LINK (LINK-2 for the second target, LINK-dev for an output dev) a link to the results,
    /// which keeps them from the collector
    #[arg(short, long, value_name = "LINK", conflicts_with = "dry_run")]
    out_link: Option<PathBuf>,

    /// The same, and print the links instead of the output paths
    #[arg(long, value_name = "LINK", conflicts_with_all = ["out_link", "dry_run"])]
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

pub(super) fn run(args: &BuildArgs) -> Result<()> {
    let words = installable::gather(&args.what)?;
    let mut session = args.common.session_for(&args.options.settings(), &words)?;
    session.settings.print_build_trace |= args.print_build_trace;
    if let Some(policy) = &args.policy {
        session.policy = policy.clone();
    }
    session.finish_running = args.finish_running;
    if args.check {
        session.mode = BuildMode::Check;
    } else if args.repair {
        session.mode = BuildMode::Repair;
    }
    let what = installable::parse(&words, &session)?;
    if args.dry_run {
        let (store, wanted) = look_up(&what, &session)?;
        return super::plan::describe(&session, store, &wanted);
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
    let records = Records::begin(args)?;
    let reporter = records.keep_of(progress::reporter(style.clone()), args)?;
    let link = args.out_link.as_ref().or(args.add_root.as_ref());
    let held = match link {
        Some(_) => Some(hold(&session, &store, &wanted)?),
        None => None,
    };
    // A signal ends the process when the report is there, not before.
    let _owing = Owing::new();
    let ended = realise_and_look(&session, store, &wanted, reporter, |graph| {
        records.look(graph)
    });
    let ended = ended.and_then(|(summary, outputs)| match summary.interrupted {
        Some(signal) => Err(Error::Interrupted { signal }),
        None if summary.lacks_something() => Err(failure(&summary, session.mode)),
        None => Ok((summary, outputs)),
    });
    records.report(&session, &args.what, ended.as_ref().err())?;
    let (summary, outputs) = ended?;
    let links = match link {
        Some(link) => add_links(&session, link, &outputs)?,
        None => Vec::new(),
    };
    if let Some(held) = &held {
        let paths = outputs.iter().flatten().map(|(_, path)| path.as_str());
        held.remind(&paths.collect::<Vec<_>>())?;
    }
    match args.add_root {
        Some(_) => print_lines(links.iter().map(|link| link.to_string_lossy()))?,
        None => print_lines(outputs.iter().flatten().map(|(_, path)| path))?,
    }
    // Not before all that may fail.
    progress::say_if_idle(&style, &summary);
    Ok(())
}

/// What is kept of the build for its report, if there is to be one.
struct Records {
    file: Option<WholeFile>,
    record: Arc<Mutex<Record>>,
}

impl Records {
    /// Nothing yet. That the report can't be written is told before the build.
    fn begin(args: &BuildArgs) -> Result<Self> {
        let file = args.report.as_deref();
        let file = file.map(|file| WholeFile::expect(file, "write the report"));
        let record = match file {
            Some(_) => Record::for_report(),
            None => Record::default(),
        };
        Ok(Self {
            file: file.transpose()?,
            record: Arc::new(Mutex::new(record)),
        })
    }

    /// A reporter that keeps what `shown` shows, and writes the trace, if that is wanted.
    fn keep_of(
        &self,
        shown: Box<dyn Reporter + Send>,
        args: &BuildArgs,
    ) -> Result<Box<dyn Reporter + Send>> {
        let trace = args.trace.as_deref();
        let trace = trace.map(|file| TraceFile::create(file, "windrow build"));
        let trace = trace.transpose()?;
        Ok(match trace.is_some() || self.file.is_some() {
            true => Box::new(Tracing::new(shown, trace, Arc::clone(&self.record))),
            false => shown,
        })
    }

    fn look(&self, graph: &mut BuildGraph) {
        if self.file.is_some() {
            mutex::lock(&self.record).note_needs(graph);
        }
    }

    /// Writes the report of a build that ended with that error, or well.
    fn report(&self, session: &Session, what: &[OsString], error: Option<&Error>) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let about = About {
            what: what
                .iter()
                .map(|it| it.to_string_lossy().into_owned())
                .collect(),
            jobs: session.settings.max_jobs,
            policy: session.policy.name(),
            store: session.layout.real_store_dir.display().to_string(),
            error: error.map(ToString::to_string),
            is_interrupted: matches!(error, Some(Error::Interrupted { .. })),
        };
        let report = of_build(&mutex::lock(&self.record), &about);
        let written = html(&report).map_err(Error::from);
        let written = written.and_then(|html| file.write(&html));
        match (written, error) {
            // Why the build failed is the message that the command ends with.
            (Err(problem), Some(_)) => {
                complain(&format!("warning: {problem}"));
                Ok(())
            }
            (written, _) => written,
        }
    }
}

/// Links to the outputs of each target, which are roots of the collector.
fn add_links(session: &Session, link: &Path, outputs: &Outputs) -> Result<Vec<PathBuf>> {
    let mut links = Vec::new();
    for (index, outputs) in outputs.iter().enumerate() {
        for (name, path) in outputs {
            let link = root_name(link, index, name);
            links.push(add_indirect_root(&session.layout, &link, path)?);
        }
    }
    Ok(links)
}

/// Prints the output paths if all of them are valid in a store that can't be written, for that
/// reason; nothing else can be done with one.
fn read_only(
    args: &BuildArgs,
    what: &[Installable],
    session: &Session,
    reason: Error,
) -> Result<()> {
    if args.add_root.is_some() || args.out_link.is_some() {
        return Err(reason);
    }
    let (store, wanted) = look_up(what, session)?;
    let outputs = already_valid(session, &store, &wanted)?.ok_or(reason)?;
    print_lines(outputs.iter().flatten().map(|(_, path)| path))
}
