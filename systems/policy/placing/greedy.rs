//! Where goals run that a policy only ranks: each takes, in the order of the policy, the machine on
//! which it ends first, its inputs being sent there first, among those with room for it.

use bevy_ecs::prelude::{Query, Res, ResMut};
use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use super::{Room, rooms, unreserved};
use crate::machines::{Board, DataAt, Fleet, Load, Order, Placements, Workload};
use crate::world::Scheduler;

/// Gives ready goals to machines that have cores which were not given to others.
pub(crate) fn place(
    scheduler: ResMut<Scheduler>,
    placements: ResMut<Placements>,
    board: Res<Board>,
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    machines: Query<(&Machine, &Load)>,
) {
    place_where(
        |_, _| true,
        (scheduler, placements),
        (&board, &workload, &fleet),
        &machines,
    );
}

/// The same, each to one of those machines, by their numbers, on which it may run.
pub(crate) fn place_where(
    may_run: impl Fn(DrvId, usize) -> bool,
    (mut scheduler, mut placements): (ResMut<Scheduler>, ResMut<Placements>),
    (board, workload, fleet): (&Board, &Workload, &Fleet),
    machines: &Query<(&Machine, &Load)>,
) {
    if !board.is_time_to_place() || scheduler.is_awake() {
        return;
    }
    let machine = |number: usize| machines.get(fleet.entities[number]).ok();
    let mut rooms = rooms(fleet, machine, unreserved);
    let mut free: i64 = rooms.iter().map(|room| room.cores.max(0)).sum();
    let mut left = Vec::new();
    while free > 0
        && let Some((drv, rank)) = scheduler.pop_to_place()
    {
        let end = |room: &Room<'_>| {
            let cores = cores(workload, drv, room);
            let span = workload.span(drv, (room.number, room.machine), cores);
            transfer(workload, board, fleet, drv, room.number) + span
        };
        let with_room = rooms
            .iter()
            .enumerate()
            .filter(|(_, room)| may_run(drv, room.number) && room.holds(workload, drv));
        let ends = with_room.map(|(place, room)| (place, end(room)));
        let Some((best, _)) = ends.min_by(|one, other| one.1.total_cmp(&other.1)) else {
            left.push((drv, rank));
            continue;
        };
        let room = &mut rooms[best];
        let cores = cores(workload, drv, room);
        free -= i64::from(cores);
        room.place((drv, cores, Order::Any), workload, &mut placements);
    }
    for (drv, rank) in left {
        scheduler.queue().push(drv, rank);
    }
}

/// As many cores as are free and the goal can use.
fn cores(workload: &Workload, drv: DrvId, room: &Room<'_>) -> u32 {
    let cores = workload.cores(drv);
    u32::try_from(room.cores)
        .unwrap_or(0)
        .clamp(cores.least, cores.most)
}

/// How long the largest of a goal's inputs that are not at a machine takes to come there.
fn transfer(workload: &Workload, board: &Board, fleet: &Fleet, drv: DrvId, machine: usize) -> f64 {
    let is_missing = |data: u32| match workload.maker(data) {
        Some(maker) => {
            board.machine_of(maker) != Some(machine) && board.data_at(data, machine) != DataAt::Here
        }
        None => fleet.storage.is_some() && board.data_at(data, machine) != DataAt::Here,
    };
    let inputs = workload.inputs(drv).iter().copied();
    let times = inputs.filter(|&data| is_missing(data));
    let times = times.map(|data| fleet.network.time(workload.size(data)));
    times.fold(0.0, f64::max)
}
