//! What came of a simulation on machines, in seconds, or in units for graphs that count in those.

use windrow_components::ids::DrvId;
use windrow_components::machine::{Cluster, Machine, NetworkModel, Role};
use windrow_components::task_graph::TaskGraph;

use crate::error::{Error, Result};
use crate::machines::{Workload, upward_ranks};

/// When and where a task ran.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineRun {
    /// The task, by its place in the graph.
    pub task: u32,
    /// The machine, by its place in the cluster.
    pub machine: usize,
    /// The numbers of its cores.
    pub cores: Vec<u32>,
    /// When it began.
    pub start: f64,
    /// When it ended.
    pub end: f64,
    /// Whether it failed.
    pub failed: bool,
    /// Whether its machine failed before it had ended, so that it has to run again.
    pub lost: bool,
}

/// When and between which machines data was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent {
    /// The number of the data.
    pub data: u32,
    /// The machine that sent it.
    pub from: usize,
    /// The one it was sent to.
    pub to: usize,
    /// When it was asked for.
    pub start: f64,
    /// When it was there.
    pub end: f64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineOutcome {
    /// When the last task or transfer ended.
    pub makespan: f64,
    /// What no schedule can beat.
    pub lower_bound: f64,
    /// The longest path, each task on the machine on which it is fastest and without transfers.
    pub critical_path: f64,
    /// The megabytes that were sent.
    pub megabytes: f64,
    /// How many transfers there were.
    pub transfers: u64,
    /// How long all tasks took together.
    pub task_time: f64,
    /// The same, each counted as often as it had cores.
    pub core_time: f64,
    /// How often machines failed.
    pub outages: u64,
    /// How often tasks were lost that way, and had to run again.
    pub lost: u64,
    /// How long they had run by then, each counted as often as it had cores; this is in no other
    /// sum.
    pub lost_time: f64,
    /// How many cores there are.
    pub cores: u64,
    /// When and where each task ran, if that was asked for.
    pub runs: Vec<MachineRun>,
    /// What was sent when, if that was asked for.
    pub sent: Vec<Sent>,
}

/// Refuses a graph of which some task fits no machine.
pub(super) fn refuse_unfit(
    tasks: &TaskGraph,
    workload: &Workload,
    cluster: &Cluster,
) -> Result<()> {
    let computing = || cluster.machines.iter().filter(|m| m.role == Role::Compute);
    let drvs = || (0..workload.len()).map(DrvId::from_index);
    let fits = |drv: &DrvId| computing().any(|machine| workload.fits(*drv, machine));
    // Nearly always one machine holds all.
    if computing().any(|machine| drvs().all(|drv| workload.fits(drv, machine))) {
        return Ok(());
    }
    let unfit: Vec<DrvId> = drvs().filter(|drv| !fits(drv)).collect();
    let Some(&first) = unfit.first() else {
        return Ok(());
    };
    let mut needs = format!("{} cores", workload.cores(first).least);
    for (bytes, what) in [
        (workload.memory(first), "memory"),
        (workload.disk(first), "disk for what it makes"),
    ] {
        if bytes > 0 {
            needs += &format!(" and {bytes} bytes of {what}");
        }
    }
    let id = windrow_components::task_graph::TaskId::from_index(first.index());
    Err(Error::FitsNoMachine {
        task: tasks.name(id).into_owned(),
        others: unfit.len() - 1,
        needs,
    })
}

/// How long a goal takes on the machine on which it is fastest.
pub(super) fn fastest(workload: &Workload, cluster: &Cluster, drv: DrvId) -> f64 {
    let cores = workload.cores(drv);
    let fitting = computing(cluster).filter(|(_, machine)| workload.fits(drv, machine));
    let spans = fitting.map(|(number, machine)| {
        let count = cores.most.min(machine.cores);
        workload.true_span(drv, (number, machine), count)
    });
    spans.fold(f64::INFINITY, f64::min)
}

fn computing(cluster: &Cluster) -> impl Iterator<Item = (usize, &Machine)> {
    let all = cluster.machines.iter().enumerate();
    all.filter(|(_, machine)| machine.role == Role::Compute)
}

/// The longest path with each task on its fastest machine, and the larger of that and the work
/// shared evenly by all cores.
pub(super) fn lower_bounds(workload: &Workload, cluster: &Cluster) -> (f64, f64) {
    let fastest = |drv: DrvId| fastest(workload, cluster, drv);
    let ranks = upward_ranks(workload, fastest, |_| 0.0);
    let critical_path = ranks.into_iter().fold(0.0, f64::max);
    if workload.has_times() {
        return (critical_path, critical_path);
    }
    let speed: f64 = computing(cluster)
        .map(|(_, m)| m.speed * f64::from(m.cores))
        .sum();
    let drvs = (0..workload.len()).map(DrvId::from_index);
    // On fewer cores a task takes fewer seconds of all of them together.
    let least = |drv: DrvId| {
        let cores = workload.cores(drv);
        workload.true_work(drv) / cores.speed_up(cores.least) * f64::from(cores.least)
    };
    let work: f64 = drvs.map(least).sum();
    (critical_path, critical_path.max(work / speed))
}

/// Whether data has to be sent at all.
pub(super) fn sends(cluster: &Cluster) -> bool {
    cluster.network.model != NetworkModel::None
}
