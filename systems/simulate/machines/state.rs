//! Simulated machines at work: their queues, what runs, what is to happen when.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use bevy_ecs::prelude::{Entity, Resource};
use windrow_components::ids::DrvId;
use windrow_components::machine::Cluster;

use super::data::Data;
use super::decisions::{Decisions, Delays};
use super::outcome::{MachineOutcome, MachineRun};
use crate::machines::{Board, Load, Order, Placement, Workload};
use crate::world::Scheduler;

/// What happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A goal's child exits.
    TaskEnds(Entity, DrvId),
    /// The first byte of a transfer comes.
    TransferBegins(u64),
    /// The last byte of a transfer has come.
    TransferEnds(u64),
    /// The policy is asked about what has happened since it was last.
    PolicyIsAsked,
    /// What it decided comes into effect.
    DecisionIsDue(u64),
}

/// An instant at which something happens; what was foreseen first comes first.
#[derive(Debug, Clone, Copy)]
struct Event {
    time: f64,
    number: u64,
    what: What,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = self.time.total_cmp(&other.time);
        by_time.then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

/// What is to happen.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Event>>,
    foreseen: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, time: f64, what: What) {
        let number = self.foreseen;
        self.foreseen += 1;
        self.heap.push(Reverse(Event { time, number, what }));
    }

    pub(super) fn next(&self) -> Option<f64> {
        self.heap.peek().map(|Reverse(event)| event.time)
    }

    pub(super) fn pop(&mut self) -> Option<What> {
        self.heap.pop().map(|Reverse(event)| event.what)
    }
}

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
    /// Whether each core is busy.
    busy: Vec<bool>,
}

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
    sites: Vec<Site>,
    /// Machines on which something might start now.
    stirred: BTreeSet<usize>,
    seats: Vec<Option<Seat>>,
    ready: Vec<bool>,
}

impl SimulatedMachines {
    pub(super) fn new(
        cluster: &Cluster,
        workload: &Workload,
        units: f64,
        (delays, record): (Delays, bool),
    ) -> Self {
        let site = |cores: u32| Site {
            queue: VecDeque::new(),
            busy: vec![false; cores as usize],
        };
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
            sites: sites.collect(),
            stirred: BTreeSet::new(),
            seats: vec![None; workload.len()],
            ready: vec![false; workload.len()],
        }
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

    /// Gives a goal to its machine.
    pub(super) fn enqueue(&mut self, placement: Placement) {
        self.sites[placement.machine].queue.push_back(Queued {
            drv: placement.drv,
            cores: placement.cores,
            order: placement.order,
        });
    }

    /// Lets all start that can start on a machine, whose load is that.
    pub(super) fn start_what_can(
        &mut self,
        machine: usize,
        load: &mut Load,
        workload: &Workload,
        scheduler: &mut Scheduler,
    ) {
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
                        |core: &u32| !site.busy[*core as usize] && !awaited.contains(core);
                    cores.iter().all(is_free).then(|| cores.clone())
                }
                _ if queued.cores <= load.free => {
                    let free = (0..).zip(&site.busy).filter(|(_, busy)| !**busy);
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
                && workload.memory(drv) <= load.free_memory;
            if let Some(cores) = cores.filter(|_| is_ready) {
                for &core in &cores {
                    site.busy[core as usize] = true;
                }
                load.free -= cores.len() as u32;
                load.free_memory -= workload.memory(drv);
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
            self.sites[seat.machine].busy[core as usize] = false;
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
            });
        }
        Some((seat.machine, seat.start, cores))
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
}
