//! Tasks that come later than at the beginning: until then they are held back, even if they have
//! all they need.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bevy_ecs::prelude::{Res, ResMut, Resource, World};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::task_graph::{Attributes, TaskGraph};

use super::children::{SimulatedChildren, end_builds};
use super::machines::SimulatedMachines;
use crate::machines::seconds;
use crate::world::{Parts, Scheduler};

/// When tasks come.
#[derive(Debug, Resource)]
pub(crate) struct Arrivals {
    /// In seconds, or units.
    times: Vec<f64>,
    /// How many of the engine's units those have.
    units: f64,
    /// Those that are held back, the first to come first.
    held: BinaryHeap<Reverse<(u64, DrvId)>>,
}

/// Whether any task comes later than at the beginning.
pub(super) fn are_given(tasks: &TaskGraph) -> bool {
    let attributes = tasks.attributes();
    attributes.is_some_and(|attributes| attributes.has_arrivals())
}

/// Has tasks come when the graph says that they do.
pub(super) fn plug_in(world: &mut World, tasks: &TaskGraph, attributes: &Attributes) {
    world.insert_resource(Arrivals {
        times: attributes.arrivals.clone(),
        units: seconds(tasks.unit()),
        held: BinaryHeap::new(),
    });
    world.resource_mut::<Parts>().arrivals = true;
}

impl Arrivals {
    fn time(&self, drv: DrvId) -> f64 {
        self.times.get(drv.index()).copied().unwrap_or(0.0)
    }

    /// When a task comes, in the engine's units.
    fn instant(&self, drv: DrvId) -> u64 {
        (self.time(drv) * self.units).round() as u64
    }
}

/// Holds back tasks that have all they need and have not come.
pub(crate) fn hold(
    mut scheduler: ResMut<Scheduler>,
    mut arrivals: ResMut<Arrivals>,
    mut machines: Option<ResMut<SimulatedMachines>>,
) {
    let now = u64::try_from(scheduler.now.as_micros()).unwrap_or(u64::MAX);
    let arrivals = &mut *arrivals;
    scheduler.hold_back(|drv| match &mut machines {
        Some(machines) => {
            let time = arrivals.time(drv);
            let is_early = time > machines.now();
            if is_early {
                machines.foresee_arrival(time, drv);
            }
            is_early
        }
        None => {
            let instant = arrivals.instant(drv);
            if instant > now {
                arrivals.held.push(Reverse((instant, drv)));
            }
            instant > now
        }
    });
}

/// Lets time jump to the next end, or to when the next task comes.
pub(crate) fn advance(
    mut scheduler: ResMut<Scheduler>,
    mut children: ResMut<SimulatedChildren>,
    mut arrivals: ResMut<Arrivals>,
    graph: Res<BuildGraph>,
) {
    let next = arrivals.held.peek().map(|Reverse((instant, _))| *instant);
    let Some(instant) = [children.next_end(), next].into_iter().flatten().min() else {
        scheduler.run.is_stuck = true;
        return;
    };
    scheduler.now = Duration::from_micros(instant);
    end_builds(&mut scheduler, &mut children, &graph, instant);
    while let Some(Reverse((time, drv))) = arrivals.held.peek().copied()
        && time <= instant
    {
        arrivals.held.pop();
        scheduler.place_again(drv);
    }
}
