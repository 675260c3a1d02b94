//! `windrow graph`: what a task graph is, and the same graph in another format.

mod details;

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use windrow_components::progress;
use windrow_components::task_graph::{Stats, TaskGraph, TimeUnit};
use windrow_formats::task_graph::{write_dot, write_ninja, write_wfformat};

use super::print_lines;
use crate::error::{Error, Result};
use crate::installable::{Word, usual_store};
use crate::progress::Steps;
use crate::session::Session;
use crate::task_graph::{self, Loaded};
use crate::terminal::{Out, complain};
use crate::whole_file::write_whole;

#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    source: GraphSource,

    /// Write the graph in this format instead of describing it
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<OutputFormat>,

    /// Write to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", requires = "to")]
    output: Option<PathBuf>,

    /// Print the description as JSON
    #[arg(long)]
    json: bool,

    /// Describe it in detail: degrees, the width of each level, the tasks of the critical path,
    /// edges that others imply, work by kind of task
    #[arg(long, conflicts_with = "to")]
    stats: bool,
}

/// Which graph.
#[derive(Debug, Args)]
pub(super) struct GraphSource {
    /// build.ninja, a graph of derivations (x.json, x.json#name), WfFormat and other JSON (x.json),
    /// STG (x.stg), FILE:NAME for one of several graphs in a file, a derivation (x.drv) with all it
    /// needs, a directory of .drv files, or a generator such as
    /// layered:n=1000,width=100,degree=3,time=uniform:1..10s,seed=7 (also chain, fan, tree,
    /// in-tree, random, scale-free)
    graph: String,

    /// How long tasks take: a file (a line "1.5s NAME" a task, or a .ninja_log), a distribution
    /// such as exponential:2s, or "history" for what builds took in the store [default: what the
    /// graph says, else one unit]
    #[arg(long, value_name = "FROM")]
    durations: Option<String>,

    /// Seed of everything random
    #[arg(long, default_value = "0", value_name = "N")]
    pub(super) seed: u64,

    /// The store of derivations and history, as for builds
    #[arg(long, value_name = "DIR")]
    store: Option<String>,
}

impl GraphSource {
    /// What the graph is called: as it was given.
    pub(super) fn name(&self) -> &str {
        &self.graph
    }

    /// Loads the graph, with the durations asked for.
    pub(super) fn load(&self) -> Result<Loaded> {
        let _steps = Steps::new();
        let _reading = progress::begin(format!("reading {}", self.graph), "tasks", None);
        let mut loaded = task_graph::load(&self.graph, || self.session())?;
        if let Some(from) = &self.durations {
            self.set_durations(&mut loaded, from)?;
        }
        Ok(loaded)
    }

    fn session(&self) -> Result<Session> {
        let words = [Word::Typed(self.graph.clone().into())];
        let usual = |machine: &Path| usual_store(&words, machine);
        Session::with_usual(&[], self.store.as_deref(), usual)
    }

    fn set_durations(&self, loaded: &mut Loaded, from: &str) -> Result<()> {
        let note = task_graph::set_durations(loaded, from, self.seed, || self.session())?;
        if let Some(note) = note {
            complain(&format!("warning: {note}"));
        }
        Ok(())
    }

    /// The same graph, in which tasks take what builds took in the store.
    pub(super) fn by_history(&self, loaded: &Loaded) -> Result<TaskGraph> {
        let mut known = loaded.clone();
        self.set_durations(&mut known, task_graph::HISTORY)?;
        Ok(known.graph)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutputFormat {
    Ninja,
    Wfformat,
    Dot,
}

pub(super) fn run(args: &GraphArgs) -> Result<()> {
    let graph = args.source.load()?.graph;
    match args.to {
        Some(format) => write(&graph, format, args.output.as_ref()),
        None => describe(&graph, args),
    }
}

fn write(graph: &TaskGraph, format: OutputFormat, file: Option<&PathBuf>) -> Result<()> {
    let Some(file) = file else {
        let mut sink = BufWriter::new(Out::new());
        write_to(graph, format, &mut sink)?;
        return match sink.flush() {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Error::io("write to", "standard output")),
        };
    };
    let _steps = Steps::new();
    write_whole(file, |sink| write_to(graph, format, sink))
}

fn write_to(graph: &TaskGraph, format: OutputFormat, sink: &mut impl std::io::Write) -> Result<()> {
    match format {
        OutputFormat::Ninja => write_ninja(graph, sink)?,
        OutputFormat::Wfformat => write_wfformat(graph, sink)?,
        OutputFormat::Dot => write_dot(graph, sink)?,
    }
    Ok(())
}

/// A time in the graph's own unit, for people.
pub(super) fn time(value: u64, unit: TimeUnit) -> String {
    match unit {
        TimeUnit::Units => value.to_string(),
        TimeUnit::Microseconds => format!("{}.{:06} s", value / 1_000_000, value % 1_000_000),
    }
}

fn describe(graph: &TaskGraph, args: &GraphArgs) -> Result<()> {
    let stats = graph.stats();
    let details = args.stats.then(|| {
        let _steps = Steps::new();
        let _looking = progress::begin("looking for edges that others imply", "tasks", None);
        graph.details()
    });
    if args.json {
        let mut described = json(&stats);
        if let Some(details) = details {
            described["details"] = details::json(graph, &details);
        }
        return print_lines([described.to_string()]);
    }
    let mut lines = figures(&stats);
    if let Some(details) = details {
        lines.extend(details::lines(graph, &details));
    }
    print_lines(lines)
}

fn figures(stats: &Stats) -> Vec<String> {
    vec![
        format!("nodes          {}", stats.tasks),
        format!("edges          {}", stats.edges),
        format!("depth          {}", stats.depth),
        format!("width          {}", stats.width),
        format!("total work     {}", time(stats.work, stats.unit)),
        format!("critical path  {}", time(stats.critical_path, stats.unit)),
    ]
}

fn json(stats: &Stats) -> serde_json::Value {
    serde_json::json!({
        "nodes": stats.tasks,
        "edges": stats.edges,
        "depth": stats.depth,
        "width": stats.width,
        "work": stats.work,
        "criticalPath": stats.critical_path,
        "unit": match stats.unit { TimeUnit::Microseconds => "us", TimeUnit::Units => "ut" },
    })
}
