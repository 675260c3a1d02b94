//! What is kept on the disks of simulated machines: what a goal makes has its place from the goal's
//! start on, until all goals that need it have ended. What none needs stays, or goes to the storage
//! machine.

use bevy_ecs::prelude::World;
use windrow_components::goal::Stage;
use windrow_components::ids::DrvId;
use windrow_components::machine::{Cluster, Role};
use windrow_components::task_graph::{TaskGraph, TaskId};

use super::outcome::sends;
use crate::error::Error;
use crate::machines::{Load, Workload};
use crate::policy::Policy;
use crate::world::Scheduler;

/// Who still needs what is kept.
#[derive(Debug, Default)]
pub(super) struct Disks {
    /// Whether the disk of any machine is limited; else nothing is counted.
    pub(super) are_limited: bool,
    /// How many goals that need each piece of data have not ended.
    users: Vec<u32>,
    /// Whether each goal has ended.
    ended: Vec<bool>,
    /// Whether what no goal needs goes to a storage machine, and whether that takes time.
    has_storage: bool,
    is_sent: bool,
    /// What has gone and has not been given back.
    pub(super) gone: Gone,
}

/// Data that goes, by the machine that has it.
pub(super) type Gone = Vec<(usize, u64)>;

impl Disks {
    pub(super) fn new(cluster: &Cluster, workload: &Workload) -> Self {
        let machines = &cluster.machines;
        if machines.iter().all(|machine| machine.disk.is_none()) {
            return Self::default();
        }
        let users = |data: usize| workload.consumers(data as u32).count() as u32;
        Self {
            are_limited: true,
            ended: vec![false; workload.len()],
            users: (0..workload.data_count()).map(users).collect(),
            has_storage: machines.iter().any(|machine| machine.role == Role::Storage),
            is_sent: sends(cluster),
            gone: Gone::new(),
        }
    }

    /// A goal has ended: what only it needed goes, and, if it made something, what goes to the
    /// storage machine at once. `origin` tells which machine has made a piece of data.
    pub(super) fn end(
        &mut self,
        (drv, made): (DrvId, Option<usize>),
        workload: &Workload,
        origin: impl Fn(u32) -> Option<usize>,
    ) -> Gone {
        let mut gone = Gone::new();
        if !self.are_limited || std::mem::replace(&mut self.ended[drv.index()], true) {
            return gone;
        }
        for &data in workload.inputs(drv) {
            let users = &mut self.users[data as usize];
            *users -= 1;
            if *users == 0
                && workload.maker(data).is_some()
                && let Some(machine) = origin(data)
            {
                gone.push((machine, workload.size(data)));
            }
        }
        if let Some(machine) = made.filter(|_| self.has_storage && !self.is_sent) {
            let results = workload.outputs(drv).iter();
            let results = results.filter(|&&data| workload.consumers(data).next().is_none());
            gone.extend(results.map(|&data| (machine, workload.size(data))));
        }
        gone
    }

    /// Data has come from one machine to another: what no goal needs is at the storage machine
    /// then, and goes where it was made.
    pub(super) fn arrive(&self, data: u32, from: usize, workload: &Workload) -> Gone {
        let is_result = self.are_limited && workload.consumers(data).next().is_none();
        is_result
            .then(|| (from, workload.size(data)))
            .into_iter()
            .collect()
    }
}

impl Load {
    /// That many bytes of the disk are free again.
    pub(super) fn give_disk_back(&mut self, bytes: u64) {
        self.free_disk = self.free_disk.saturating_add(bytes);
        self.unreserved_disk += bytes as i64;
    }
}

/// Why a run on machines is stuck: a task is ready, and finds no disk, or its policy does not place
/// it.
pub(crate) fn why_stuck(
    world: &World,
    tasks: &TaskGraph,
    cluster: &Cluster,
    policy: &Policy,
) -> Option<Error> {
    let (scheduler, workload) = (world.resource::<Scheduler>(), world.resource::<Workload>());
    let is_ready = |drv: &DrvId| {
        let goal = scheduler.index.goal(*drv);
        goal.is_some_and(|goal| scheduler.stage(goal) == Stage::Ready)
    };
    let mut drvs = (0..workload.len()).map(DrvId::from_index);
    let waiting = drvs.find(is_ready)?;
    let task = tasks.name(TaskId::from_index(waiting.index()));
    let is_limited = cluster
        .machines
        .iter()
        .any(|machine| machine.disk.is_some());
    Some(match is_limited {
        true => Error::DisksAreFull {
            task: task.into_owned(),
            bytes: workload.disk(waiting),
        },
        false => Error::Policy {
            what: policy.name().to_owned(),
            reason: format!("it leaves `{task}` unplaced, though nothing runs"),
        },
    })
}
