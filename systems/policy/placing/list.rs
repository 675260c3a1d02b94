//! Dynamic list schedulers: whenever cores have become free, the ready goals are taken in the order
//! of a criterion, and each is given the best machine that has a free core.
//!
//! A family of 36: four orders of goals, three of machines, and three ways to choose the number of
//! cores, as compared in "One size does not fit all: selecting scheduling algorithms" (Casanova et
//! al., JSSPP 2022). What a machine was given it starts in that order; until a goal starts its
//! cores count as free, so that several may wait on a machine for their inputs.

use std::sync::Arc;

use bevy_ecs::prelude::{Query, Res, ResMut, Resource, World};
use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use super::{Parameters, Room, rooms};
use crate::machines::{Board, Fleet, Load, Order, Placements, Workload, upward_ranks};
use crate::policy::{PolicyPlugin, PolicySystems};
use crate::world::Scheduler;

/// Which ready goal comes first: the one with the largest of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskCriterion {
    BottomLevel,
    CompSize,
    DataSize,
    ChildrenCount,
}

/// Which machine is best: the one with the largest of these, of equals the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MachineCriterion {
    Speed,
    TaskData,
    MaxAvailableCores,
}

/// On how many of the free cores a goal runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CoresCriterion {
    MaxCores,
    Efficiency90,
    Efficiency50,
}

#[derive(Debug, Clone, Resource)]
struct List {
    name: String,
    task: TaskCriterion,
    machine: MachineCriterion,
    cores: CoresCriterion,
}

/// The criterion of each goal as a rank, the smallest first.
#[derive(Debug, Default, Resource)]
struct ListRanks(Vec<u64>);

pub(super) fn parse(mut parameters: Parameters<'_>) -> Result<Arc<dyn PolicyPlugin>, String> {
    let tasks = [
        ("BottomLevel", TaskCriterion::BottomLevel),
        ("CompSize", TaskCriterion::CompSize),
        ("DataSize", TaskCriterion::DataSize),
        ("ChildrenCount", TaskCriterion::ChildrenCount),
    ];
    let machines = [
        ("Speed", MachineCriterion::Speed),
        ("TaskData", MachineCriterion::TaskData),
        ("MaxAvailableCores", MachineCriterion::MaxAvailableCores),
    ];
    let cores = [
        ("MaxCores", CoresCriterion::MaxCores),
        ("Efficiency90", CoresCriterion::Efficiency90),
        ("Efficiency50", CoresCriterion::Efficiency50),
    ];
    let task = parameters.take("task", TaskCriterion::BottomLevel, &tasks)?;
    let machine = parameters.take("machine", MachineCriterion::Speed, &machines)?;
    let core = parameters.take("cores", CoresCriterion::MaxCores, &cores)?;
    parameters.finish("list")?;
    Ok(Arc::new(List {
        name: format!("list:task={task:?},machine={machine:?},cores={core:?}"),
        task,
        machine,
        cores: core,
    }))
}

impl PolicyPlugin for List {
    fn name(&self) -> &str {
        &self.name
    }

    fn places(&self) -> bool {
        true
    }

    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems) {
        let ranks = match (world.get_resource(), world.get_resource()) {
            (Some(workload), Some(fleet)) => ranks(self.task, workload, fleet),
            _ => ListRanks::default(),
        };
        world.insert_resource(ranks);
        world.insert_resource(self.clone());
        systems.add_to_rank(rank);
        systems.add_to_place(place);
    }
}

/// Works out the criterion of all goals.
fn ranks(criterion: TaskCriterion, workload: &Workload, fleet: &Fleet) -> ListRanks {
    let drvs = (0..workload.len()).map(DrvId::from_index);
    let megabytes = |&data: &u32| workload.size(data) as f64 / 1e6;
    let values: Vec<f64> = match criterion {
        TaskCriterion::CompSize => drvs.map(|drv| workload.work(drv)).collect(),
        TaskCriterion::ChildrenCount => {
            drvs.map(|drv| workload.outputs(drv).len() as f64).collect()
        }
        TaskCriterion::DataSize => {
            let data = |drv| workload.inputs(drv).iter().chain(workload.outputs(drv));
            drvs.map(|drv| data(drv).map(megabytes).sum()).collect()
        }
        TaskCriterion::BottomLevel => {
            let (megabyte, latency) = fleet.mean_transfer();
            let time = |drv| workload.work(drv) * fleet.mean_work_time;
            upward_ranks(workload, time, |bytes| {
                bytes as f64 / 1e6 * megabyte + latency
            })
        }
    };
    // Bits of numbers that are not negative have the order of the numbers.
    ListRanks(values.into_iter().map(|value| !value.to_bits()).collect())
}

fn rank(mut scheduler: ResMut<Scheduler>, ranks: Res<ListRanks>) {
    scheduler.rank(|drv| ranks.0.get(drv.index()).copied().unwrap_or(u64::MAX));
}

/// Gives ready goals to machines, as long as there are free cores.
fn place(
    mut scheduler: ResMut<Scheduler>,
    mut placements: ResMut<Placements>,
    list: Res<List>,
    board: Res<Board>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    machines: Query<(&Machine, &Load)>,
) {
    // All that comes to be ready at an instant is put in order together.
    if !board.has_news || scheduler.is_awake() {
        return;
    }
    let machine = |number: usize| machines.get(fleet.entities[number]).ok();
    let free = |load: &Load| {
        (
            i64::from(load.free),
            load.free_memory.try_into().unwrap_or(i64::MAX),
            load.free_disk.try_into().unwrap_or(i64::MAX),
        )
    };
    let mut rooms = rooms(&fleet, machine, free);
    let mut free: i64 = rooms.iter().map(|room| room.cores).sum();
    let mut left = Vec::new();
    while free > 0
        && let Some((drv, rank)) = scheduler.pop_to_place()
    {
        let Some(best) = list.best(&rooms, drv, (&*workload, &*board)) else {
            left.push((drv, rank));
            continue;
        };
        let room = &mut rooms[best];
        let cores = list.cores(drv, room.cores as u32, &workload);
        free -= i64::from(cores);
        room.place((drv, cores, Order::Strict), &workload, &mut placements);
    }
    for (drv, rank) in left {
        scheduler.queue().push(drv, rank);
    }
}

impl List {
    /// The place of the best machine for a goal among those that have room for it.
    fn best(
        &self,
        rooms: &[Room<'_>],
        drv: DrvId,
        (workload, board): (&Workload, &Board),
    ) -> Option<usize> {
        let held = match self.machine {
            MachineCriterion::TaskData => data_by_machine(workload, board, drv),
            _ => Vec::new(),
        };
        let value = |room: &Room<'_>| match self.machine {
            MachineCriterion::Speed => 0.0,
            MachineCriterion::MaxAvailableCores => room.cores as f64,
            MachineCriterion::TaskData => {
                let here = held.iter().find(|(machine, _)| *machine == room.number);
                here.map_or(0.0, |(_, megabytes)| *megabytes)
            }
        };
        let mut best: Option<(usize, f64, f64)> = None;
        for (place, room) in rooms.iter().enumerate() {
            if !room.holds(workload, drv) {
                continue;
            }
            let (value, speed) = (value(room), room.machine.speed);
            let is_better = best.is_none_or(|(_, least, slowest)| {
                value > least || value == least && speed > slowest
            });
            if is_better {
                best = Some((place, value, speed));
            }
        }
        best.map(|(place, ..)| place)
    }

    fn cores(&self, drv: DrvId, free: u32, workload: &Workload) -> u32 {
        let cores = workload.cores(drv);
        let efficient = |least: f64| {
            let is_efficient = |&count: &u32| cores.speed_up(count) / f64::from(count) >= least;
            (1..=free).rev().find(is_efficient).unwrap_or(1)
        };
        let count = match self.cores {
            CoresCriterion::MaxCores => free,
            CoresCriterion::Efficiency90 => efficient(0.9),
            CoresCriterion::Efficiency50 => efficient(0.5),
        };
        count.clamp(cores.least, cores.most)
    }
}

/// The megabytes of a goal's inputs whose makers were placed on a machine, for each such machine.
fn data_by_machine(workload: &Workload, board: &Board, drv: DrvId) -> Vec<(usize, f64)> {
    let mut held: Vec<(usize, f64)> = Vec::new();
    for &data in workload.inputs(drv) {
        let maker = workload.maker(data);
        let Some(machine) = maker.and_then(|maker| board.machine_of(maker)) else {
            continue;
        };
        let megabytes = workload.size(data) as f64 / 1e6;
        match held.iter_mut().find(|(known, _)| *known == machine) {
            Some((_, sum)) => *sum += megabytes,
            None => held.push((machine, megabytes)),
        }
    }
    held
}
