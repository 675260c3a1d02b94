//! Machines that goals run on, as policies see them and worlds keep them. A world has any of this
//! only if it has machines; one with slots alone has none of it, and pays nothing for it.
//!
//! A machine is an entity with a [`Machine`] and its
//! [`Load`]; [`Fleet`] has them in their order. A goal that is ready stands in the ready queue, in
//! the order of the policy, until the policy places it: a system in
//! [`TickSet::Lock`](crate::world::TickSet::Lock) takes it from there
//! ([`Scheduler::pop_to_place`](crate::world::Scheduler::pop_to_place)) and tells [`Placements`]
//! the machine. A policy may place a goal before it is ready, too. The world then has its inputs
//! sent there, and lets it start ([`Scheduler::let_start`](crate::world::Scheduler::let_start))
//! when they are and its cores are free; from there on it is locked, started, registered as any
//! other.
//!
//! What has a writer has one: a policy writes `Placements`, the world writes `Load` and [`Board`].

mod board;
mod ranks;
mod workload;

use bevy_ecs::prelude::{Component, Entity, Resource};
use windrow_components::ids::DrvId;
use windrow_components::machine::{Cluster, Machine, Network, Role};

pub use board::{Board, DataAt};
pub use ranks::upward_ranks;
pub use workload::Workload;
pub(crate) use workload::seconds;

/// How much of a machine is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
pub struct Load {
    /// Whether it has failed and is not back yet.
    pub is_down: bool,
    /// Cores on which nothing runs.
    pub free: u32,
    /// Cores that no goal has been given that is placed and has not ended: fewer than none, if
    /// goals wait for each other on it.
    pub unreserved: i64,
    /// Bytes of memory that nothing running needs.
    pub free_memory: u64,
    /// Bytes of memory that no goal placed here needs.
    pub unreserved_memory: i64,
    /// Bytes of the disk in which nothing is kept that was made or is being made here.
    pub free_disk: u64,
    /// The same, what goals will make that have been placed here not counted as free.
    pub unreserved_disk: i64,
}

/// What stands for an amount that is not limited.
const UNLIMITED: i64 = i64::MAX / 2;

impl Load {
    /// That of a machine on which nothing has been placed.
    pub fn of(machine: &Machine) -> Self {
        let limit = |bytes: Option<u64>| bytes.map_or(UNLIMITED, |bytes| bytes as i64);
        Self {
            is_down: false,
            free: machine.cores,
            unreserved: i64::from(machine.cores),
            free_memory: machine.memory.unwrap_or(u64::MAX),
            unreserved_memory: limit(machine.memory),
            free_disk: machine.disk.unwrap_or(u64::MAX),
            unreserved_disk: limit(machine.disk),
        }
    }
}

/// The machines of a world by their numbers.
#[derive(Debug, Resource)]
pub struct Fleet {
    /// Their entities.
    pub entities: Vec<Entity>,
    /// Those that compute.
    pub computing: Vec<usize>,
    /// The one that has what no task makes.
    pub storage: Option<usize>,
    /// Between them.
    pub network: Network,
    /// The mean over those that compute of the time for a unit of work.
    pub mean_work_time: f64,
}

impl Fleet {
    /// The machines of a cluster, whose entities are these.
    pub fn new(cluster: &Cluster, entities: Vec<Entity>) -> Self {
        let numbers = || 0..cluster.machines.len();
        let has = |role: Role| move |&number: &usize| cluster.machines[number].role == role;
        let computing: Vec<usize> = numbers().filter(has(Role::Compute)).collect();
        let times = computing
            .iter()
            .map(|&number| 1.0 / cluster.machines[number].speed);
        Self {
            mean_work_time: times.sum::<f64>() / computing.len() as f64,
            storage: numbers().find(has(Role::Storage)),
            network: cluster.network,
            computing,
            entities,
        }
    }

    /// The mean time over all pairs of machines, each with itself among them, for a transfer of a
    /// megabyte, and that before its first byte.
    pub fn mean_transfer(&self) -> (f64, f64) {
        let count = self.entities.len();
        let mean = |time: f64| {
            // As often as there are others, then as there are machines: so published figures are
            // summed, and ties are broken by the last bit.
            let of_one = (1..count).fold(0.0, |sum, _| sum + time);
            (0..count).fold(0.0, |sum, _| sum + of_one) / (count as f64).powi(2)
        };
        let empty = self.network.time(0);
        let megabyte = self.network.time(1_000_000);
        (mean(megabyte - empty), mean(empty))
    }
}

/// In which order a machine starts what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Whatever can start, in the order in which it came.
    Any,
    /// In the order in which it came: nothing starts before what came earlier has.
    Strict,
    /// The same for each of these cores, and on no others.
    OnCores(Vec<u32>),
}

/// Where a goal is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The goal's derivation.
    pub drv: DrvId,
    /// The machine's number.
    pub machine: usize,
    /// On how many cores.
    pub cores: u32,
    /// When the machine may start it.
    pub order: Order,
}

/// What a policy has decided and the world has not taken up yet.
#[derive(Debug, Default, Resource)]
pub struct Placements {
    new: Vec<Placement>,
    ready: Vec<DrvId>,
}

impl Placements {
    /// Places a goal, which has not been placed before.
    pub fn place(&mut self, placement: Placement) {
        self.new.push(placement);
    }

    /// A goal that was taken from the ready queue may start once it is placed.
    pub fn note_ready(&mut self, drv: DrvId) {
        self.ready.push(drv);
    }

    /// Takes what is new: placements, and goals that are ready.
    pub fn take(&mut self) -> (Vec<Placement>, Vec<DrvId>) {
        (
            std::mem::take(&mut self.new),
            std::mem::take(&mut self.ready),
        )
    }
}
