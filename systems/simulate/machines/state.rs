//! Simulated machines at work: their queues, and what runs.

use std::collections::{BTreeSet, VecDeque};

use bevy_ecs::prelude::Resource;
use windrow_components::ids::DrvId;
use windrow_components::machine::Cluster;

use super::agenda::{Agenda, What};
use super::data::Data;
use super::decisions::{Decisions, Delays};
use super::disks::Disks;
use super::outages::Outages;
use super::outcome::{MachineOutcome, MachineRun};
use crate::machines::{Board, Load, Order, Placement, Workload};
use crate::world::Scheduler;

/// What a machine was given and has not started.
#[derive(Debug)]
struct Queued {
    drv: DrvId,
    cores: u32,
    order: Order,
}

/// One machine.
#[derive(Debug)]
struct Site {
    queue: VecDeque<Queued>,
    /// The goal that each core is busy with, or `FREE`.
    busy: Vec<u32>,
}

const FREE: u32 = u32::MAX;

/// A goal whose child is about to run or runs.
#[derive(Debug, Clone)]
struct Seat {
    machine: usize,
    cores: Vec<u32>,
    start: f64,
}

/// All machines.
#[derive(Debug, Resource)]
pub(crate) struct SimulatedMachines {
    pub(super) now: f64,
    /// How many units of the graph a second has.
    pub(super) units: f64,
    pub(super) agenda: Agenda,
    pub(super) data: Data,
    pub(super) outcome: MachineOutcome,
    pub(super) record: bool,
    pub(super) decisions: Decisions,
    pub(super) disks: Disks,
    sites: Vec<Site>,
    /// Machines on which something might start now.
    stirred: BTreeSet<usize>,
    seats: Vec<Option<Seat>>,
    ready: Vec<bool>,
    /// How often each goal has had a child that did not end well, so that it was ready again.
    again: Vec<u32>,
    pub(super) outages: Outages,
}

impl SimulatedMachines {
    pub(super) fn new(
        cluster: &Cluster,
        workload: &Workload,
        units: f64,
        (delays, record, seed): (Delays, bool, u64),
    ) -> Self {
        let site = |cores: u32| Site {
            queue: VecDeque::new(),
            busy: vec![FREE; cores as usize],
        };
        let outages = Outages::new(cluster, seed);
        let sites = cluster.machines.iter().map(|machine| site(machine.cores));
        Self {
            now: 0.0,
            units,
            agenda: Agenda::default(),
            data: Data::new(cluster, workload),
            outcome: MachineOutcome {
                cores: cluster.cores(),
                ..MachineOutcome::default()
            },
            record,
            decisions: Decisions::new(delays),
            disks: Disks::new(cluster, workload),
            sites: sites.collect(),
            stirred: BTreeSet::new(),
            seats: vec![None; workload.len()],
            ready: vec![false; workload.len()],
            again: vec![0; workload.len()],
            outages,
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> f64 {
        self.now
    }

    /// A task comes at that time.
    pub(crate) fn foresee_arrival(&mut self, time: f64, drv: DrvId) {
        self.agenda.add(time, What::TaskArrives(drv));
    }

    /// Something has happened that the policy should decide about, now or later.
    pub(super) fn tell(&mut self, board: &mut Board) {
        if self.decisions.may_ask(self.now, &mut self.agenda) {
            (board.has_news, board.has_news_now) = (true, true);
        }
    }

    /// Something might start on a machine.
    pub(super) fn stir(&mut self, machine: usize) {
        self.stirred.insert(machine);
    }

    /// Takes the machines on which something might start.
    pub(super) fn take_stirred(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.stirred)
    }

    /// A goal that is or will be placed may start as far as the engine is concerned.
    pub(super) fn note_ready(&mut self, drv: DrvId) {
        self.ready[drv.index()] = true;
    }

    /// Gives a goal to its machine. One that ran on its cores in vain is the next
    /// on them.
    pub(super) fn enqueue(&mut self, placement: Placement) {
        let is_next =
            self.times_again(placement.drv) > 0 && matches!(placement.order, Order::OnCores(_));
        let queued = Queued {
            drv: placement.drv,
            cores: placement.cores,
            order: placement.order,
        };
        let queue = &mut self.sites[placement.machine].queue;
        match is_next {
            true => queue.push_front(queued),
            false => queue.push_back(queued),
        }
    }

    /// How often a goal was ready again.
    pub(super) fn times_again(&self, drv: DrvId) -> u32 {
        self.again[drv.index()]
    }

    /// Lets all start that can start on a machine, whose load is that.
    pub(super) fn start_what_can(
        &mut self,
        machine: usize,
        load: &mut Load,
        workload: &Workload,
        scheduler: &mut Scheduler,
    ) {
        if load.is_down {
            return;
        }
        let site = &mut self.sites[machine];
        // Cores that what came earlier waits for.
        let mut awaited: Vec<u32> = Vec::new();
        let mut at = 0;
        while let Some(queued) = site.queue.get(at) {
            if load.free == 0 {
                return;
            }
            let drv = queued.drv;
            let cores = match &queued.order {
                Order::OnCores(cores) => {
                    let is_free =
                        |core: &u32| site.busy[*core as usize] == FREE && !awaited.contains(core);
                    cores.iter().all(is_free).then(|| cores.clone())
                }
                _ if queued.cores <= load.free => {
                    let free = (0..).zip(&site.busy).filter(|(_, busy)| **busy == FREE);
                    Some(
                        free.map(|(core, _)| core)
                            .take(queued.cores as usize)
                            .collect(),
                    )
                }
                _ => None,
            };
            let is_ready = self.ready[drv.index()]
                && self.data.missing(drv) == 0
                && workload.memory(drv) <= load.free_memory
                && (load.free_disk == u64::MAX || workload.disk(drv) <= load.free_disk);
            if let Some(cores) = cores.filter(|_| is_ready) {
                for &core in &cores {
                    site.busy[core as usize] = drv.index() as u32;
                }
                load.free -= cores.len() as u32;
                load.free_memory -= workload.memory(drv);
                if load.free_disk != u64::MAX {
                    load.free_disk -= workload.disk(drv);
                }
                let start = self.now;
                self.seats[drv.index()] = Some(Seat {
                    machine,
                    cores,
                    start,
                });
                site.queue.remove(at);
                scheduler.let_start(drv);
                continue;
            }
            match &queued.order {
                Order::Any => {}
                Order::Strict => return,
                Order::OnCores(cores) => awaited.extend(cores),
            }
            at += 1;
        }
    }

    /// The machine of a goal that was let start, and on how many cores.
    pub(super) fn seat(&self, drv: DrvId) -> Option<(usize, u32)> {
        let seat = self.seats[drv.index()].as_ref()?;
        Some((seat.machine, seat.cores.len() as u32))
    }

    /// A goal's child has exited: its cores are free. Its machine, its start and how many cores it
    /// had.
    pub(super) fn leave(&mut self, drv: DrvId, failed: bool) -> Option<(usize, f64, u32)> {
        let seat = self.seats[drv.index()].take()?;
        for &core in &seat.cores {
            self.sites[seat.machine].busy[core as usize] = FREE;
        }
        let (time, cores) = (self.now - seat.start, seat.cores.len() as u32);
        self.outcome.task_time += time;
        self.outcome.core_time += time * f64::from(cores);
        self.outcome.makespan = self.outcome.makespan.max(self.now);
        self.stir(seat.machine);
        if self.record {
            self.outcome.runs.push(MachineRun {
                task: drv.index() as u32,
                machine: seat.machine,
                cores: seat.cores,
                start: seat.start,
                end: self.now,
                failed,
                lost: false,
            });
        }
        Some((seat.machine, seat.start, cores))
    }

    /// A machine fails. The goals that run on it and those that wait there for a core, in an order
    /// that was not planned beforehand, are its goals no more: both, each with its cores.
    pub(super) fn take_down(&mut self, machine: usize) -> [Vec<(DrvId, u32)>; 2] {
        let site = &mut self.sites[machine];
        let mut running: Vec<u32> = site.busy.iter().copied().filter(|&it| it != FREE).collect();
        site.busy.fill(FREE);
        running.sort_unstable();
        running.dedup();
        let ready = &self.ready;
        let goes = |queued: &Queued| {
            ready[queued.drv.index()] && !matches!(queued.order, Order::OnCores(_))
        };
        let (gone, left): (VecDeque<Queued>, VecDeque<Queued>) =
            std::mem::take(&mut site.queue).into_iter().partition(goes);
        site.queue = left;
        let waiting: Vec<(DrvId, u32)> = gone.iter().map(|it| (it.drv, it.cores)).collect();
        let running: Vec<(DrvId, u32)> = running
            .into_iter()
            .filter_map(|number| self.lose(DrvId::from_index(number as usize)))
            .collect();
        for (drv, _) in running.iter().chain(&waiting) {
            self.ready[drv.index()] = false;
        }
        [running, waiting]
    }

    /// A goal's child is lost; how many cores it had.
    fn lose(&mut self, drv: DrvId) -> Option<(DrvId, u32)> {
        let seat = self.seats[drv.index()].take()?;
        let cores = seat.cores.len() as u32;
        self.again[drv.index()] += 1;
        self.outcome.lost += 1;
        self.outcome.lost_time += (self.now - seat.start) * f64::from(cores);
        if self.record {
            self.outcome.runs.push(MachineRun {
                task: drv.index() as u32,
                machine: seat.machine,
                cores: seat.cores,
                start: seat.start,
                end: self.now,
                failed: false,
                lost: true,
            });
        }
        Some((drv, cores))
    }

    /// A goal's child has failed, and the goal is to be tried again.
    pub(super) fn try_again(&mut self, drv: DrvId) {
        self.again[drv.index()] += 1;
        self.ready[drv.index()] = false;
    }

    /// Takes what was placed on a machine that has failed by now, and has to be placed again.
    pub(super) fn refuse_what_is_down(&mut self, new: &mut Vec<Placement>) -> Vec<Placement> {
        if !self.outages.are_possible {
            return Vec::new();
        }
        let (data, ready) = (&self.data, &self.ready);
        let is_refused = |placement: &mut Placement| {
            data.is_down(placement.machine)
                && ready[placement.drv.index()]
                && !matches!(placement.order, Order::OnCores(_))
        };
        let refused: Vec<Placement> = new.extract_if(.., is_refused).collect();
        for placement in &refused {
            self.ready[placement.drv.index()] = false;
        }
        refused
    }

    /// Takes from the agenda what was foreseen and will not happen: what a machine that failed had
    /// begun.
    pub(super) fn forget_what_was_cut(&mut self) {
        while self.outages.are_possible
            && let Some(what) = self.agenda.first()
        {
            let is_void = match what {
                What::TaskEnds(_, drv, nth) => {
                    nth != self.times_again(drv) || self.seats[drv.index()].is_none()
                }
                What::TransferBegins(id) | What::TransferEnds(id) => !self.data.is_under_way(id),
                _ => false,
            };
            if !is_void {
                return;
            }
            self.agenda.pop();
        }
    }

    /// A goal has ended that was placed and never let start: its machine has it no more. How many
    /// cores it was to have.
    pub(super) fn withdraw(&mut self, drv: DrvId, machine: usize) -> Option<u32> {
        let queue = &mut self.sites[machine].queue;
        let at = queue.iter().position(|queued| queued.drv == drv)?;
        let queued = queue.remove(at)?;
        self.stir(machine);
        Some(queued.cores)
    }

    /// A goal has ended, which made something on a machine or did not: what only it needed goes.
    pub(super) fn let_go_of_what_only(
        &mut self,
        drv: DrvId,
        made_on: Option<usize>,
        workload: &Workload,
    ) {
        let data = &self.data;
        let gone = self
            .disks
            .end((drv, made_on), workload, |one| data.origin(one));
        self.disks.gone.extend(gone);
    }

    /// Data has come to a machine.
    pub(super) fn note_arrival(&mut self, data: u32, from: usize, workload: &Workload) {
        let gone = self.disks.arrive(data, from, workload);
        self.disks.gone.extend(gone);
    }

    /// Gives back what was kept by data that is gone: something might start there, or be placed.
    /// Tells whether there was any.
    pub(super) fn give_back_disk(&mut self, mut free: impl FnMut(usize, u64)) -> bool {
        let gone = std::mem::take(&mut self.disks.gone);
        for &(machine, bytes) in &gone {
            free(machine, bytes);
            self.stir(machine);
        }
        !gone.is_empty()
    }
}
