//! The machines of a simulation, as a file describes them, and what tasks ask of them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use windrow_components::machine::Cluster;
use windrow_components::task_graph::{TaskGraph, TaskId};
use windrow_formats::machines::read_machines;
use windrow_systems::simulate::MachineOutcome;

use crate::error::{Error, Result};
use crate::terminal::complain;
use crate::trace::{Span, TraceFile};

#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// Run on these machines instead of slots: a TOML file (see docs/SCHEDULING.md), or those that
    /// a WfFormat file (x.json) recorded
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jobs", "caches", "outputs"])]
    machines: Option<PathBuf>,
}

impl MachineArgs {
    /// Whether there are any.
    pub(super) fn are_given(&self) -> bool {
        self.machines.is_some()
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
            good: !run.failed,
            args: json!({"task": run.task, "cores": run.cores.len()}),
        };
        trace.add_to(processes[run.machine], &span)?;
    }
    trace.finish()
}
