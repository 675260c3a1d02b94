//! Policies that choose machines, by name and parameters as the command line has them:
//! `NAME:key=value,…`.

mod batch;
mod blevel_gt;
mod fixed;
pub(super) mod greedy;
mod list;
mod planner;
mod plans;

use std::sync::Arc;

use windrow_components::ids::DrvId;
use windrow_components::machine::Machine;

use crate::machines::{Fleet, Load, Order, Placement, Placements, Workload};
use crate::policy::PolicyPlugin;

/// The names of all policies that choose machines.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    fixed::NAMES.into_iter().chain(["list", blevel_gt::NAME])
}

/// The parameters of a policy as they were written.
struct Parameters<'t> {
    pairs: Vec<(&'t str, &'t str)>,
}

impl<'t> Parameters<'t> {
    fn new(text: &'t str) -> Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        let pair = |part: &'t str| {
            let pair = part.split_once('=');
            pair.ok_or_else(|| format!("`{part}` should be a parameter as in key=value"))
        };
        Ok(Self {
            pairs: parts.map(pair).collect::<Result<_, _>>()?,
        })
    }

    /// Takes the value of a parameter, which is one of those words.
    fn take<T: Copy>(&mut self, key: &str, default: T, words: &[(&str, T)]) -> Result<T, String> {
        let Some(place) = self.pairs.iter().position(|(known, _)| *known == key) else {
            return Ok(default);
        };
        let (_, value) = self.pairs.remove(place);
        let found = words.iter().find(|(word, _)| *word == value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("`{value}` is no {key}; there are {}", all.join(", "))
        })
    }

    /// Refuses what was not taken.
    fn finish(self, policy: &str) -> Result<(), String> {
        match self.pairs.first() {
            Some((key, _)) => Err(format!("the policy {policy} has no parameter `{key}`")),
            None => Ok(()),
        }
    }
}

/// The policy of that name with those parameters, if there is one of that name.
pub(super) fn parse(name: &str, parameters: &str) -> Option<Result<Arc<dyn PolicyPlugin>, String>> {
    let parse = |parameters| match name {
        "list" => list::parse(parameters),
        blevel_gt::NAME => blevel_gt::parse(parameters),
        _ => fixed::parse(name, parameters),
    };
    let is_known = names().any(|known| known == name);
    is_known.then(|| Parameters::new(parameters).and_then(parse))
}

/// What a machine has left while goals are placed one after the other.
#[derive(Debug, Clone, Copy)]
struct Room<'m> {
    number: usize,
    machine: &'m Machine,
    cores: i64,
    memory: i64,
    disk: i64,
}

/// Cores, memory and disk of which nothing was given to a goal.
fn unreserved(load: &Load) -> (i64, i64, i64) {
    (
        load.unreserved,
        load.unreserved_memory,
        load.unreserved_disk,
    )
}

/// How much of each computing machine that is up counts as free.
fn rooms<'m>(
    fleet: &Fleet,
    machine: impl Fn(usize) -> Option<(&'m Machine, &'m Load)>,
    free: impl Fn(&Load) -> (i64, i64, i64),
) -> Vec<Room<'m>> {
    let computing = fleet.computing.iter();
    let room = |&number: &usize| {
        let (machine, load) = machine(number).filter(|(_, load)| !load.is_down)?;
        let (cores, memory, disk) = free(load);
        Some(Room {
            number,
            machine,
            cores,
            memory,
            disk,
        })
    };
    computing.filter_map(room).collect()
}

impl Room<'_> {
    /// Whether a goal finds enough of it.
    fn holds(&self, workload: &Workload, drv: DrvId) -> bool {
        i64::from(workload.cores(drv).least) <= self.cores
            && workload.memory(drv) as i64 <= self.memory
            && (self.machine.disk.is_none() || workload.disk(drv) as i64 <= self.disk)
            && workload.is_kind(drv, self.machine)
    }

    /// Places a goal that is ready here, on `cores` of its cores.
    fn place(
        &mut self,
        (drv, cores, order): (DrvId, u32, Order),
        workload: &Workload,
        placements: &mut Placements,
    ) {
        self.cores -= i64::from(cores);
        self.memory -= workload.memory(drv) as i64;
        if self.machine.disk.is_some() {
            self.disk -= workload.disk(drv) as i64;
        }
        placements.note_ready(drv);
        placements.place(Placement {
            drv,
            machine: self.number,
            cores,
            order,
        });
    }
}
