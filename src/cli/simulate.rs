//! `windrow simulate`: runs a task graph in simulated time and reports how well each policy does
//! with a given number of slots.

mod caches;
mod machine_report;
mod machines;
mod pages;
mod report;
mod uncertainty;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use hashbrown::HashSet;
use serde_json::{Value, json};
use windrow_components::machine::Cluster;
use windrow_components::task_graph::{Stats, TaskGraph, TaskId, spelt};
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{CacheSet, Faults, Outcome, Simulation, peak_outputs, simulate};

use self::caches::CacheArgs;
use self::machine_report::MachineResult;
use self::machines::MachineArgs;
use self::pages::{PageArgs, Pages};
use self::report::{Cost, SimulationResult};
use self::uncertainty::UncertaintyArgs;
use super::graph::GraphSource;
use super::print_lines;
use crate::error::{Error, Result};
use crate::memory;
use crate::task_graph::refuse_to_simulate;
use crate::trace::{Span, TraceFile};

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    source: GraphSource,

    /// Number of build slots; several numbers, separated by commas, are compared
    #[arg(short = 'j', long = "jobs", visible_alias = "max-jobs", value_delimiter = ',', default_value = "4",
          value_name = "M", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Vec<u32>,

    /// Order of ready tasks: fifo, random, shortest-first, longest-first, critical-path,
    /// most-dependents, depth-first-by-memory or priority; or one that chooses machines as well,
    /// with parameters as in heft:insertion=off: heft, cpop, peft, lookahead, dls, min-min,
    /// max-min, sufferage, etf, blevel-gt or list:task=…,machine=…,cores=…; or file:FILE with
    /// priorities, or program:PROGRAM, which is asked (see docs/SCHEDULING.md)
    #[arg(long, default_value = "fifo", value_name = "POLICY")]
    policy: Policy,

    /// Compare these policies, separated by commas
    #[arg(long, value_name = "POLICIES", conflicts_with = "policy", value_parser = policies)]
    compare: Option<Policies>,

    /// Continue with tasks that do not depend on a failed one
    #[arg(short = 'k', long)]
    keep_going: bool,

    /// Fail tasks with this probability (0 to 1)
    #[arg(long, default_value = "0", value_name = "P", value_parser = probability)]
    fail_probability: u32,

    /// Fail these tasks: names, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "TASKS")]
    fail: Vec<OsString>,

    /// Try each task that fails again, up to this often [default: what the graph says, else 0]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,

    /// Report the peak number of live outputs
    #[arg(long, conflicts_with = "caches")]
    outputs: bool,

    #[command(flatten)]
    uncertainty: UncertaintyArgs,

    #[command(flatten)]
    machines: MachineArgs,

    #[command(flatten)]
    caches: CacheArgs,

    /// Print the results as JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Write when and where each task ran, in the trace format of Chrome and Perfetto; for one
    /// policy and one number of slots
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    #[command(flatten)]
    pages: PageArgs,
}

/// Policies to compare.
#[derive(Debug, Clone)]
struct Policies(Vec<Policy>);

/// Policies separated by commas. A parameter behind a comma belongs to the policy before it.
fn policies(text: &str) -> Result<Policies, String> {
    let mut all: Vec<String> = Vec::new();
    for part in text.split(',') {
        let is_parameter = part.contains('=') && !part.contains(':');
        match all.last_mut() {
            Some(policy) if is_parameter => {
                *policy += if policy.contains(':') { "," } else { ":" };
                *policy += part;
            }
            _ => all.push(part.to_owned()),
        }
    }
    let policies = all.iter().map(|policy| policy.parse());
    policies.collect::<Result<_, String>>().map(Policies)
}

/// A probability in millionths.
fn probability(text: &str) -> Result<u32, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "it should be a number from 0 to 1".to_owned())?;
    if !(0.0..=1.0).contains(&value) {
        return Err("it should be from 0 to 1".to_owned());
    }
    Ok((value * 1e6).round() as u32)
}

impl SimulateArgs {
    /// Whether it is kept when and where each task ran.
    fn records_runs(&self) -> bool {
        self.outputs || self.trace.is_some() || self.pages.are_wanted()
    }

    fn policies(&self) -> Vec<Policy> {
        match &self.compare {
            None => vec![self.policy.clone()],
            Some(Policies(policies)) => policies.clone(),
        }
    }

    /// Policies that choose machines have slots as machines, and so have those they are compared
    /// to; `on_machines` says so.
    fn refuse_what_does_not_go(&self, single: bool, on_machines: bool) -> Result<()> {
        let refused = if self.trace.is_some() && !single {
            "a trace is of one simulation: give one policy and one number of jobs"
        } else if self.pages.gantt.is_some() && !single {
            "a picture of the timeline is of one simulation: give one policy and one number of jobs"
        } else if on_machines && (self.caches.count() > 0 || self.outputs) {
            "policies that choose machines know nothing of '--cache' and '--outputs'; leave these out"
        } else {
            return Ok(());
        };
        Err(Error::Unsupported(refused.to_owned()))
    }
}

pub(super) fn run(args: &SimulateArgs) -> Result<()> {
    let policies = args.policies();
    let single = policies.len() == 1 && args.jobs.len() == 1;
    let on_machines = args.machines.are_needed() || policies.iter().any(Policy::places);
    args.refuse_what_does_not_go(single, on_machines)?;
    let setting = Setting::new(args, single)?;
    let given = args.machines.cluster(&setting.graph)?;
    // That it can't be made is told before a long simulation, not after it.
    let trace = args.trace.as_deref();
    let trace = trace.map(|file| TraceFile::create(file, "windrow simulate"));
    let mut trace = trace.transpose()?;
    let mut pages = Pages::begin(&args.pages, &setting.graph, args.source.name())?;
    if !args.json {
        print_lines([match on_machines {
            true => machine_report::header(),
            false => report::header(setting.caches.is_some()),
        }])?;
    }
    for &jobs in &args.jobs {
        let slots = || Arc::new(Cluster::of_slots(jobs));
        let cluster = given.clone().or_else(|| on_machines.then(slots));
        for policy in &policies {
            let simulation = Simulation {
                jobs,
                policy: policy.clone(),
                cluster: cluster.clone(),
                ..setting.simulation()
            };
            setting.simulate(&simulation, trace.take(), &mut pages)?;
        }
    }
    pages.write()
}

/// What all simulations of a call have in common.
struct Setting<'a> {
    args: &'a SimulateArgs,
    /// Whether there is only one.
    single: bool,
    graph: TaskGraph,
    believed: Option<Arc<TaskGraph>>,
    stats: Stats,
    faults: Faults,
    caches: Option<CacheSet>,
    /// Options that results name.
    said: Vec<(&'static str, Value)>,
    /// The memory of the process before the graph was loaded.
    before: u64,
}

impl<'a> Setting<'a> {
    fn new(args: &'a SimulateArgs, single: bool) -> Result<Self> {
        let before = memory::resident();
        let seed = args.source.seed;
        let loaded = args.source.load()?;
        let (graph, believed) = args.uncertainty.apply(&args.source, loaded, seed)?;
        let stats = graph.stats();
        refuse_to_simulate(&stats, args.caches.count())?;
        let attributes = graph.attributes();
        if args.caches.count() > 0 && attributes.is_some_and(|it| it.has_arrivals()) {
            let refused = "caches know nothing of tasks that come later; leave out '--cache'";
            return Err(Error::Unsupported(refused.to_owned()));
        }
        Ok(Self {
            faults: faults(args, &graph)?,
            caches: args.caches.set(&graph, seed)?,
            said: [args.uncertainty.said(), args.machines.said()].concat(),
            args,
            single,
            graph,
            believed,
            stats,
            before,
        })
    }

    /// What is the same in all of them.
    fn simulation(&self) -> Simulation {
        let args = self.args;
        Simulation {
            seed: args.source.seed,
            keep_going: args.keep_going,
            faults: self.faults.clone(),
            record_runs: args.records_runs(),
            caches: self.caches.clone(),
            believed: self.believed.clone(),
            delays: args.machines.delays(),
            ..Simulation::new(1, Policy::Fifo)
        }
    }

    /// Runs one, and prints what came of it.
    fn simulate(
        &self,
        simulation: &Simulation,
        trace: Option<TraceFile>,
        pages: &mut Pages<'_>,
    ) -> Result<()> {
        memory::forget_peak();
        let began = Instant::now();
        let outcome = simulate(&self.graph, simulation)?;
        let cost = Cost {
            seconds: began.elapsed().as_secs_f64(),
            memory: memory::peak().saturating_sub(self.before),
        };
        if let Some(trace) = trace {
            write_trace(&self.graph, &outcome, simulation, trace)?;
        }
        let outputs = self.args.outputs;
        let result = SimulationResult {
            held: outputs.then(|| peak_outputs(&self.graph, &outcome.runs)),
            simulation,
            outcome: &outcome,
            stats: &self.stats,
            cost,
            said: &self.said,
        };
        pages.add(&result)?;
        print_result(self.args, self.single, &result)
    }
}

/// What a simulation came to on machines, if it had some.
fn machine_result<'r>(result: &'r SimulationResult<'r>) -> Option<MachineResult<'r>> {
    let outcome = result.outcome.machines.as_ref()?;
    let cluster = result.simulation.cluster.as_ref();
    Some(MachineResult {
        result,
        outcome,
        machines: cluster.map_or(0, |all| all.machines.len()),
    })
}

/// Prints what a simulation came to; more of one that stands alone.
fn print_result(args: &SimulateArgs, single: bool, result: &SimulationResult<'_>) -> Result<()> {
    let machines = machine_result(result);
    let (row, details) = match &machines {
        _ if args.json => {
            let json = machines.as_ref().map(MachineResult::as_json);
            (
                json.unwrap_or_else(|| result.as_json()).to_string(),
                Vec::new(),
            )
        }
        Some(machines) => (machines.row(), machines.details()),
        None => (result.row(), result.details()),
    };
    print_lines([row])?;
    match single {
        true => print_lines(details),
        false => Ok(()),
    }
}

fn faults(args: &SimulateArgs, graph: &TaskGraph) -> Result<Faults> {
    let wanted: HashSet<&[u8]> = args.fail.iter().map(|name| name.as_bytes()).collect();
    let mut left = wanted.clone();
    let mut tasks = HashSet::new();
    if !left.is_empty() {
        for task in graph.tasks() {
            // As it is, or as it is shown.
            let (bytes, text) = (graph.name_bytes(task), graph.name(task));
            for name in [&*bytes, text.as_bytes()] {
                if wanted.contains(name) {
                    left.remove(name);
                    tasks.insert(task.index() as u32);
                }
            }
        }
    }
    match left.into_iter().next() {
        None => Ok(Faults {
            tasks,
            per_million: args.fail_probability,
            retries: args.retries.map_or(Vec::new(), |n| vec![n; graph.len()]),
        }),
        Some(unknown) => Err(Error::BadArgument {
            what: spelt(unknown).into_owned(),
            reason: "the graph has no task of that name".to_owned(),
        }),
    }
}

/// A span a task, a line a slot, and a span a download, a line a connection of its cache; abstract
/// units are shown as microseconds.
fn write_trace(
    graph: &TaskGraph,
    outcome: &Outcome,
    simulation: &Simulation,
    mut trace: TraceFile,
) -> Result<()> {
    if let (Some(outcome), Some(cluster)) = (&outcome.machines, &simulation.cluster) {
        return machines::write_trace(graph, outcome, cluster, trace);
    }
    let caches = simulation.caches.as_ref();
    for run in &outcome.runs {
        trace.add(&Span {
            name: &graph.name(TaskId::from_index(run.task as usize)),
            slot: run.slot,
            start: run.start,
            end: run.end,
            good: !run.failed,
            args: json!({"task": run.task}),
        })?;
    }
    let all = caches.iter().flat_map(|set| &set.all);
    let processes = all.map(|cache| trace.begin_process(&cache.name, "connection"));
    let processes = processes.collect::<Result<Vec<usize>>>()?;
    for fetch in &outcome.fetched.downloads {
        let span = Span {
            name: &graph.name(TaskId::from_index(fetch.task as usize)),
            slot: fetch.connection,
            start: fetch.start,
            end: fetch.end,
            good: !fetch.failed,
            args: json!({"task": fetch.task, "bytes": fetch.bytes}),
        };
        trace.add_to(processes[fetch.cache as usize], &span)?;
    }
    trace.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_belong_to_the_policy_before_them() {
        let Policies(all) = policies("fifo,list:task=CompSize,cores=MaxCores,random,list").unwrap();
        let names: Vec<&str> = all.iter().map(Policy::name).collect();
        assert_eq!(
            names,
            [
                "fifo",
                "list:task=CompSize,machine=Speed,cores=MaxCores",
                "random",
                "list:task=BottomLevel,machine=Speed,cores=MaxCores"
            ]
        );
        for (text, wanted) in [
            ("list:task=Size", "`Size` is no task; there are BottomLevel"),
            ("list:speed=1", "no parameter `speed`"),
            ("list:x", "as in key=value"),
            ("fifo,x=1", "the policy fifo has no parameters"),
            ("fofo", "there is no policy 'fofo'; there are fifo"),
        ] {
            let message = policies(text).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
