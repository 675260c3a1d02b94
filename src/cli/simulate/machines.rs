//! The machines of a simulation, as a file describes them, and what tasks ask of them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use windrow_components::machine::Cluster;
use windrow_components::task_graph::{TaskGraph, TaskId};
use windrow_formats::machines::read_machines;
use windrow_formats::task_graph::time;
use windrow_systems::simulate::{Delays, MachineOutcome};

use crate::error::{Error, Result};
use crate::terminal::complain;
use crate::trace::{Span, TraceFile};

#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// Run on these machines instead of slots: a TOML file (see docs/SCHEDULING.md), or those that
    /// a WfFormat file (x.json) recorded
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jobs", "caches", "outputs"])]
    machines: Option<PathBuf>,

    /// Let at least this much time pass from one question to the policy to the next, as in 100ms;
    /// what happens in between it is asked about together
    #[arg(long, value_name = "TIME", value_parser = delay, conflicts_with_all = ["caches", "outputs"])]
    decision_interval: Option<Delay>,

    /// Let what the policy decides come into effect this much later
    #[arg(long, value_name = "TIME", value_parser = delay, conflicts_with_all = ["caches", "outputs"])]
    decision_time: Option<Delay>,
}

/// A time in seconds, or units.
#[derive(Debug, Clone, Copy)]
struct Delay(f64);

fn delay(text: &str) -> Result<Delay, String> {
    Ok(Delay(time(text, "s")? as f64 / 1e6))
}

impl MachineArgs {
    /// Whether there are any, or slots have to be machines.
    pub(super) fn are_needed(&self) -> bool {
        self.machines.is_some() || self.delays().are_given()
    }

    /// How slow decisions are.
    pub(super) fn delays(&self) -> Delays {
        let time = |delay: Option<Delay>| delay.map_or(0.0, |Delay(time)| time);
        Delays {
            interval: time(self.decision_interval),
            time: time(self.decision_time),
        }
    }

    /// What results say of it.
    pub(super) fn said(&self) -> Vec<(&'static str, Value)> {
        let interval = self
            .decision_interval
            .map(|Delay(time)| ("decisionInterval", time.into()));
        let time = self
            .decision_time
            .map(|Delay(time)| ("decisionTime", time.into()));
        interval.into_iter().chain(time).collect()
    }

    /// The machines, if there are any; else what tasks ask of them and the run has no regard for
    /// is warned of.
    pub(super) fn cluster(&self, graph: &TaskGraph) -> Result<Option<Arc<Cluster>>> {
        let Some(file) = &self.machines else {
            warn_of_demands(graph);
            return Ok(None);
        };
        let text = std::fs::read(file).map_err(Error::io("read the machines", file))?;
        let name = file.display().to_string();
        let cluster = read_machines(&name, &text);
        cluster
            .map(|cluster| Some(Arc::new(cluster)))
            .map_err(Error::Machines)
    }
}

fn warn_of_demands(graph: &TaskGraph) {
    let demanding = graph
        .demands()
        .map_or(0, |demands| demands.demanding(graph.tasks()));
    if demanding > 0 {
        complain(&format!(
            "warning: {demanding} of {} tasks ask for cores, memory, data or kinds of machines, which \
             only count with '--machines FILE'",
            graph.len()
        ));
    }
}

/// A process for each machine, a line for each of its cores, a span for each task at the first of
/// its cores.
pub(super) fn write_trace(
    graph: &TaskGraph,
    outcome: &MachineOutcome,
    cluster: &Cluster,
    mut trace: TraceFile,
) -> Result<()> {
    let machines = cluster.machines.iter();
    let processes = machines.map(|machine| trace.begin_process(&machine.name, "core"));
    let processes = processes.collect::<Result<Vec<usize>>>()?;
    let micros = |seconds: f64| (seconds * 1e6).round() as u64;
    for run in &outcome.runs {
        let span = Span {
            name: &graph.name(TaskId::from_index(run.task as usize)),
            slot: run.cores.first().copied().unwrap_or(0),
            start: micros(run.start),
            end: micros(run.end),
            good: !run.failed && !run.lost,
            args: match run.lost {
                true => json!({"task": run.task, "cores": run.cores.len(), "lost": true}),
                false => json!({"task": run.task, "cores": run.cores.len()}),
            },
        };
        trace.add_to(processes[run.machine], &span)?;
    }
    trace.finish()
}
