//! Machines in simulated time: each runs what the policy places on it, on its own cores and at its
//! own speed, once the inputs have been sent there. Time is a number of seconds with all the digits
//! there are, since published figures have them; only what the engine itself tells of time is
//! rounded to microseconds.
//!
//! One event is taken at a time: the end of a task, after which the policy may place goals, or that
//! of a transfer. Those at one instant come in the order in which they were foreseen.

mod agenda;
mod data;
mod decisions;
mod disks;
mod failing;
mod network;
mod outages;
mod outcome;
mod state;
pub(crate) mod systems;

use bevy_ecs::prelude::World;
use windrow_components::ids::DrvId;
use windrow_components::machine::Cluster;
use windrow_components::task_graph::{TaskGraph, TaskId};

pub use decisions::Delays;
pub(super) use disks::why_stuck;
pub use outcome::{MachineOutcome, MachineRun, Sent};
pub(crate) use state::SimulatedMachines;

use super::flow::{self, Flow};
use crate::error::Result;
use crate::machines::{Board, Fleet, Load, Placements, Workload, seconds};
use crate::world::{Parts, Scheduler};

/// Adds machines to a simulated world, where policies believe tasks to take what they do in
/// `believed`, and decide as slowly as `delays` say; `record` keeps when and where each task ran
/// and what was sent.
///
/// # Errors
/// When a task fits none of them.
pub(super) fn plug_in(
    world: &mut World,
    (tasks, believed): (&TaskGraph, Option<&TaskGraph>),
    cluster: &Cluster,
    (delays, record, seed): (Delays, bool, u64),
) -> Result<()> {
    let mut workload = Workload::new(tasks, cluster);
    if let Some(believed) = believed {
        workload = workload.believed(believed);
    }
    outcome::refuse_unfit(tasks, &workload, cluster)?;
    let machines = cluster.machines.iter();
    let machines = machines.map(|machine| (machine.clone(), Load::of(machine)));
    let entities = machines.map(|machine| world.spawn(machine).id()).collect();
    world.insert_resource(Fleet::new(cluster, entities));
    let units = seconds(tasks.unit());
    let machines = SimulatedMachines::new(cluster, &workload, units, (delays, record, seed));
    world.insert_resource(machines);
    world.insert_resource(Board::new(workload.len()));
    world.init_resource::<Placements>();
    let mut scheduler = world.resource_mut::<Scheduler>();
    scheduler.place_goals();
    // What holds goals back is that they have to be let start.
    scheduler.options.max_jobs = u32::MAX;
    world.insert_resource(workload);
    world.resource_mut::<Parts>().machines = true;
    Ok(())
}

/// What came of it, once the run is over, if there were machines; and how long jobs took, as far as
/// runs were kept.
pub(super) fn take_outcome(
    world: &mut World,
    tasks: &TaskGraph,
    cluster: &Cluster,
) -> Option<(MachineOutcome, Flow)> {
    let mut machines = world.remove_resource::<SimulatedMachines>()?;
    let mut board = world.remove_resource::<Board>()?;
    let workload = world.remove_resource::<Workload>()?;
    systems::let_transfers_end(&mut machines, &mut board, &workload);
    let (critical_path, lower_bound) = outcome::lower_bounds(&workload, cluster);
    let runs = machines.outcome.runs.iter();
    let runs = runs.map(|run| (run.task, run.end, !run.failed && !run.lost));
    let ends = flow::ends(tasks.len(), runs);
    let least =
        |task: TaskId| outcome::fastest(&workload, cluster, DrvId::from_index(task.index()));
    let flow = Flow::of(tasks, &ends, least);
    let outcome = MachineOutcome {
        critical_path,
        lower_bound,
        ..machines.outcome
    };
    Some((outcome, flow))
}
