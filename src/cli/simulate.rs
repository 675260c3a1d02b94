//! `windrow simulate`: runs a task graph in simulated time and says how well each policy does with so many slots.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use hashbrown::HashSet;
use serde_json::{Value, json};
use windrow_components::task_graph::{Stats, TaskGraph, TimeUnit};
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{Faults, Outcome, Run, Simulation, simulate};

use super::graph::{GraphSource, time};
use super::print_lines;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    source: GraphSource,

    /// Build slots; several, separated by commas, are compared
    #[arg(short = 'j', long = "jobs", visible_alias = "max-jobs", value_delimiter = ',', default_value = "4",
          value_name = "M", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Vec<u32>,

    /// Which ready task comes first: fifo, random, shortest-first, longest-first, critical-path or
    /// most-dependents
    #[arg(long, default_value = "fifo", value_name = "POLICY")]
    policy: Policy,

    /// Compare these policies, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "POLICIES",
        conflicts_with = "policy"
    )]
    compare: Vec<Policy>,

    /// Go on with what does not depend on a failed task
    #[arg(short = 'k', long)]
    keep_going: bool,

    /// Let tasks fail with this probability, from 0 to 1
    #[arg(long, default_value = "0", value_name = "P", value_parser = probability)]
    fail_probability: u32,

    /// Let these tasks fail, by name, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "TASKS")]
    fail: Vec<String>,

    /// Print the results as JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Write when and where each task ran, in the trace format of Chrome and Perfetto; for one policy and
    /// one number of slots
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// A probability as so many of a million.
fn probability(text: &str) -> Result<u32, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "it should be a number from 0 to 1".to_owned())?;
    if !(0.0..=1.0).contains(&value) {
        return Err("it should be from 0 to 1".to_owned());
    }
    Ok((value * 1e6).round() as u32)
}

pub(super) fn run(args: &SimulateArgs) -> Result<()> {
    let policies = if args.compare.is_empty() {
        vec![args.policy]
    } else {
        args.compare.clone()
    };
    if args.trace.is_some() && (policies.len() > 1 || args.jobs.len() > 1) {
        return Err(Error::Unsupported(
            "a trace is of one simulation: give one policy and one number of jobs".to_owned(),
        ));
    }
    let graph = args.source.load()?;
    let stats = graph.stats();
    let faults = faults(args, &graph)?;
    if !args.json {
        print_lines([header()])?;
    }
    for &jobs in &args.jobs {
        for &policy in &policies {
            let simulation = Simulation {
                jobs,
                policy,
                seed: args.source.seed,
                keep_going: args.keep_going,
                faults: faults.clone(),
                record_runs: args.trace.is_some(),
            };
            let began = Instant::now();
            let outcome = simulate(&graph, &simulation)?;
            let seconds = began.elapsed().as_secs_f64();
            if let Some(file) = &args.trace {
                write_trace(&graph, &outcome.runs, file)?;
            }
            let line = if args.json {
                as_json(&simulation, &outcome, &stats, seconds).to_string()
            } else {
                row(&simulation, &outcome, &stats)
            };
            print_lines([line])?;
        }
    }
    Ok(())
}

fn faults(args: &SimulateArgs, graph: &TaskGraph) -> Result<Faults> {
    let mut left: HashSet<&str> = args.fail.iter().map(String::as_str).collect();
    let mut tasks = HashSet::new();
    if !left.is_empty() {
        for task in graph.tasks() {
            let name = graph.name(task);
            if args.fail.iter().any(|wanted| *wanted == name) {
                left.remove(&*name);
                tasks.insert(task.index() as u32);
            }
        }
    }
    match left.into_iter().next() {
        None => Ok(Faults {
            tasks,
            per_million: args.fail_probability,
        }),
        Some(unknown) => Err(Error::BadTarget {
            what: unknown.to_owned(),
            reason: "the graph has no task of that name".to_owned(),
        }),
    }
}

/// Makespan over its lower bound, and the busy share of all slots.
fn shares(simulation: &Simulation, outcome: &Outcome, stats: &Stats) -> (u64, f64, f64) {
    let bound = stats.lower_bound(u64::from(simulation.jobs));
    let makespan = outcome.makespan as f64;
    let ratio = if bound == 0 {
        1.0
    } else {
        makespan / bound as f64
    };
    let room = makespan * f64::from(simulation.jobs);
    (
        bound,
        ratio,
        if room == 0.0 {
            0.0
        } else {
            outcome.busy as f64 / room
        },
    )
}

fn header() -> String {
    format!(
        "{:<16}{:>6}{:>20}{:>20}{:>8}{:>8}{:>18}{:>10}{:>8}",
        "policy", "jobs", "makespan", "lower bound", "ratio", "busy", "mean wait", "done", "failed"
    )
}

fn row(simulation: &Simulation, outcome: &Outcome, stats: &Stats) -> String {
    let (bound, ratio, busy) = shares(simulation, outcome, stats);
    let wait = outcome.waited / outcome.succeeded.max(1);
    format!(
        "{:<16}{:>6}{:>20}{:>20}{ratio:>8.3}{:>7.1}%{:>18}{:>10}{:>8}",
        simulation.policy.name(),
        simulation.jobs,
        time(outcome.makespan, stats.unit),
        time(bound, stats.unit),
        busy * 100.0,
        time(wait, stats.unit),
        outcome.succeeded,
        outcome.failed,
    )
}

fn as_json(simulation: &Simulation, outcome: &Outcome, stats: &Stats, seconds: f64) -> Value {
    let (bound, ratio, busy) = shares(simulation, outcome, stats);
    json!({
        "policy": simulation.policy.name(),
        "jobs": simulation.jobs,
        "seed": simulation.seed,
        "unit": match stats.unit { TimeUnit::Microseconds => "us", TimeUnit::Units => "ut" },
        "makespan": outcome.makespan,
        "lowerBound": bound,
        "ratio": ratio,
        "utilisation": busy,
        "waited": outcome.waited,
        "succeeded": outcome.succeeded,
        "failed": outcome.failed,
        "ticks": outcome.ticks,
        "seconds": seconds,
        "goalsPerSecond": (outcome.succeeded + outcome.failed) as f64 / seconds.max(1e-9),
    })
}

/// One complete event a task, each slot a thread; abstract units are shown as microseconds.
fn write_trace(graph: &TaskGraph, runs: &[Run], file: &PathBuf) -> Result<()> {
    let sink = File::create(file).map_err(Error::io("create", file))?;
    let mut sink = BufWriter::new(sink);
    let mut write = || {
        writeln!(sink, "[")?;
        for (index, run) in runs.iter().enumerate() {
            let task = windrow_components::task_graph::TaskId::from_index(run.task as usize);
            let event = json!({
                "name": graph.name(task),
                "ph": "X",
                "ts": run.start,
                "dur": run.end - run.start,
                "pid": 1,
                "tid": run.slot,
                "cname": if run.failed { "terrible" } else { "good" },
            });
            let comma = if index + 1 < runs.len() { "," } else { "" };
            writeln!(sink, "{event}{comma}")?;
        }
        writeln!(sink, "]")?;
        sink.flush()
    };
    write().map_err(Error::io("write to", file))
}
