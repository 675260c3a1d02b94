//! Estee's `blevel-gt`: whenever cores have become free, the ready goals are taken by the longest
//! path to the end of the graph, and each is given to the machine to which the fewest bytes have to
//! be sent for it, among those with enough cores that were not given to others.
//!
//! J. Beránek, S. Böhm, V. Cima: Analysis of workflow schedulers in simulated distributed
//! environments, J. Supercomputing, 2022 (doi 10.1007/s11227-022-04438-y).

use std::sync::Arc;

use bevy_ecs::prelude::{Local, Query, Res, ResMut, Resource, World};
use hashbrown::HashSet;
use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use super::{Parameters, Room, rooms, unreserved};
use crate::machines::{Board, DataAt, Fleet, Load, Order, Placements, Workload, upward_ranks};
use crate::policy::{PolicyPlugin, PolicySystems, Seed, draw};
use crate::world::Scheduler;

#[derive(Debug, Clone)]
struct BlevelGt;

/// The place of each goal in the order of levels.
#[derive(Debug, Default, Resource)]
struct Places(Vec<u64>);

pub(super) const NAME: &str = "blevel-gt";

pub(super) fn parse(parameters: Parameters<'_>) -> Result<Arc<dyn PolicyPlugin>, String> {
    parameters.finish(NAME)?;
    Ok(Arc::new(BlevelGt))
}

impl PolicyPlugin for BlevelGt {
    fn name(&self) -> &str {
        NAME
    }

    fn places(&self) -> bool {
        true
    }

    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems) {
        let seed = world.resource::<Seed>().0;
        let places = world
            .get_resource::<Workload>()
            .map(|workload| in_order(workload, seed));
        world.insert_resource(places.unwrap_or_default());
        systems.add_to_rank(rank);
        systems.add_to_place(place);
    }
}

/// By level, the longest path to the end without transfers; of equals, by chance.
fn in_order(workload: &Workload, seed: u64) -> Places {
    let levels = upward_ranks(workload, |drv| workload.work(drv), |_| 0.0);
    let mut order: Vec<DrvId> = (0..workload.len()).map(DrvId::from_index).collect();
    order.sort_by(|&one, &other| {
        let by_level = levels[other.index()].total_cmp(&levels[one.index()]);
        by_level.then(draw(seed, one).cmp(&draw(seed, other)))
    });
    let mut places = vec![0; order.len()];
    for (place, drv) in (0..).zip(order) {
        places[drv.index()] = place;
    }
    Places(places)
}

fn rank(mut scheduler: ResMut<Scheduler>, places: Res<Places>) {
    scheduler.rank(|drv| places.0.get(drv.index()).copied().unwrap_or(u64::MAX));
}

fn place(
    mut scheduler: ResMut<Scheduler>,
    mut placements: ResMut<Placements>,
    (board, seed): (Res<Board>, Res<Seed>),
    workload: Res<Workload>,
    fleet: Res<Fleet>,
    machines: Query<(&Machine, &Load)>,
    mut drawn: Local<u64>,
) {
    if !board.is_time_to_place() || scheduler.is_awake() {
        return;
    }
    let machine = |number: usize| machines.get(fleet.entities[number]).ok();
    let mut rooms = rooms(&fleet, machine, unreserved);
    let mut left = Vec::new();
    // What goals need that were placed just now, and the board does not know of.
    let mut asked: HashSet<(u32, usize)> = HashSet::new();
    while !rooms.is_empty()
        && let Some((drv, rank)) = scheduler.pop_to_place()
    {
        let costs = rooms
            .iter()
            .enumerate()
            .filter(|(_, room)| room.holds(&workload, drv));
        let costs: Vec<(usize, f64)> = costs
            .map(|(place, room)| (place, cost((&*workload, &*board), &asked, drv, room)))
            .collect();
        let least = costs
            .iter()
            .map(|&(_, cost)| cost)
            .fold(f64::INFINITY, f64::min);
        let best: Vec<usize> = costs
            .iter()
            .filter(|(_, cost)| *cost == least)
            .map(|&(place, _)| place)
            .collect();
        if best.is_empty() {
            left.push((drv, rank));
            // What would have room for it is kept free for it.
            rooms.retain(|room| !workload.fits(drv, room.machine));
            continue;
        }
        *drawn += 1;
        let nth = draw(seed.0.wrapping_add(*drawn), drv) % best.len() as u64;
        let room = &mut rooms[best[nth as usize]];
        let cores = workload.cores(drv).least;
        asked.extend(workload.inputs(drv).iter().map(|&data| (data, room.number)));
        room.place((drv, cores, Order::Any), &workload, &mut placements);
    }
    for (drv, rank) in left {
        scheduler.queue().push(drv, rank);
    }
}

/// The bytes that have to be sent to a machine for a goal. What is on its way there for another one
/// counts a tenth.
fn cost(
    (workload, board): (&Workload, &Board),
    asked: &HashSet<(u32, usize)>,
    drv: DrvId,
    room: &Room<'_>,
) -> f64 {
    let inputs = workload.inputs(drv).iter();
    let costs = inputs.map(|&data| {
        let size = workload.size(data) as f64;
        let maker = workload.maker(data);
        if maker.and_then(|maker| board.machine_of(maker)) == Some(room.number) {
            return 0.0;
        }
        match board.data_at(data, room.number) {
            DataAt::Here => 0.0,
            DataAt::Wanted => 0.1 * size,
            DataAt::Elsewhere if asked.contains(&(data, room.number)) => 0.1 * size,
            DataAt::Elsewhere => size,
        }
    });
    costs.sum()
}
