//! How the program of a policy is asked where goals go.

use bevy_ecs::prelude::{NonSendMut, Query, Res, ResMut};
use hashbrown::HashSet;
use windrow_components::ids::DrvId;
use windrow_components::machine::{Machine, Role};

use super::messages::{Free, Message, Place, Places};
use super::talk::Silence;
use super::{Asked, Known};
use crate::machines::{Board, Load, Order, Placement, Placements, Workload};
use crate::world::{Scheduler, Services};

/// Asks where what is ready goes, whenever something has happened.
pub(super) fn place(
    mut scheduler: ResMut<Scheduler>,
    mut asked: NonSendMut<Asked>,
    mut services: NonSendMut<Services>,
    mut placements: ResMut<Placements>,
    board: Res<Board>,
    known: Known<'_, '_>,
    loads: Query<(&Machine, &Load)>,
) {
    let (Some(fleet), Some(workload)) = (&known.fleet, &known.workload) else {
        return;
    };
    if !board.is_time_to_place() || scheduler.is_awake() || asked.talk.is_none() {
        return;
    }
    let mut waiting: Vec<(DrvId, u64)> = Vec::new();
    while let Some(next) = scheduler.pop_to_place() {
        waiting.push(next);
    }
    if waiting.is_empty() {
        return;
    }
    let free: Vec<Free> = fleet
        .entities
        .iter()
        .filter_map(|&entity| loads.get(entity).ok())
        .map(|(machine, load)| free(machine, load))
        .collect();
    match asked.ask_for_places(&known, (&waiting, free), board.now) {
        Ok(places) => {
            for Place {
                task,
                machine,
                cores,
            } in places
            {
                let drv = DrvId::from_index(task as usize);
                waiting.retain(|(other, _)| *other != drv);
                asked.is_offered[drv.index()] = false;
                placements.note_ready(drv);
                placements.place(Placement {
                    drv,
                    machine,
                    cores: cores.unwrap_or(workload.cores(drv).least),
                    order: Order::Any,
                });
            }
        }
        Err(silence) => asked.fail(silence, true, (&mut *scheduler, &mut *services)),
    }
    for (drv, rank) in waiting {
        scheduler.queue().push(drv, rank);
    }
}

/// What a machine has for what is placed now: nothing, while it is down or if it runs nothing.
fn free(machine: &Machine, load: &Load) -> Free {
    let computes = machine.role == Role::Compute && !load.is_down;
    Free {
        cores: if computes { load.unreserved } else { 0 },
        memory: machine.memory.map(|_| load.unreserved_memory),
        disk: machine.disk.map(|_| load.unreserved_disk),
    }
}

impl Asked {
    fn ask_for_places(
        &mut self,
        known: &Known<'_, '_>,
        (waiting, free): (&[(DrvId, u64)], Vec<Free>),
        now: f64,
    ) -> Result<Vec<Place>, Silence> {
        let (Some(fleet), Some(workload)) = (&known.fleet, &known.workload) else {
            return Ok(Vec::new());
        };
        let mut lines = Vec::new();
        self.introduce(known, 0, &mut lines);
        self.is_offered.resize(workload.len(), false);
        let is_offered = &mut self.is_offered;
        let new = waiting
            .iter()
            .filter(|(drv, _)| !std::mem::replace(&mut is_offered[drv.index()], true));
        let new: Vec<u32> = new.map(|(drv, _)| drv.index() as u32).collect();
        let ended = std::mem::take(&mut self.ended);
        let question = Message::Place {
            time: now,
            ready: &new,
            ended: &ended,
            machines: free,
        };
        question.write(&mut lines);
        let machine = |number: usize| {
            let entity = fleet.entities.get(number)?;
            known.machines.get(*entity).ok()
        };
        let mut left: HashSet<u32> = waiting.iter().map(|(drv, _)| drv.index() as u32).collect();
        let answer = self.ask(&lines, |answer: &Places| {
            let places = answer.place.iter();
            let mut wrongs = places.filter_map(|place| {
                let machine = machine(place.machine);
                problem(place, left.remove(&place.task), machine, workload)
            });
            wrongs.next().map_or(Ok(()), Err)
        })?;
        Ok(answer.place)
    }
}

/// What is wrong with a place, if anything is.
fn problem(
    place: &Place,
    is_waiting: bool,
    machine: Option<&Machine>,
    workload: &Workload,
) -> Option<String> {
    let Place {
        task,
        machine: number,
        cores,
    } = *place;
    if !is_waiting {
        return Some(format!("the task {task} is not ready, or has been placed"));
    }
    let Some(machine) = machine.filter(|machine| machine.role == Role::Compute) else {
        return Some(format!("there is no machine {number} that computes"));
    };
    let drv = DrvId::from_index(task as usize);
    if !workload.fits(drv, machine) {
        return Some(format!("the task {task} does not fit the machine {number}"));
    }
    let own = workload.cores(drv);
    let cores = cores.unwrap_or(own.least);
    let most = own.most.min(machine.cores);
    let is_in_range = (own.least..=most).contains(&cores);
    (!is_in_range).then(|| {
        format!(
            "the task {task} can have from {} to {most} cores of the machine {number}",
            own.least
        )
    })
}
