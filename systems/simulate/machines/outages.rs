//! Machines that fail and come back. What runs on one that fails is lost, and ready again; what its
//! disk has is there again with it. What was being sent from it or to it is sent anew.

use std::collections::BTreeSet;

use windrow_components::graph::BuildGraph;
use windrow_components::machine::{Cluster, Reliability};
use windrow_formats::task_graph::{Draws, exponential};

use super::state::SimulatedMachines;
use crate::error::Error;
use crate::machines::{Board, Load, Workload};
use crate::world::{ReadyGoal, Scheduler};

/// After how many failures in a row, in which no task has ended, a run is taken to be one that
/// never ends.
const IN_VAIN_MAX: u64 = 100_000;

/// When machines fail next.
#[derive(Debug, Default)]
pub(super) struct Outages {
    seed: u64,
    reliability: Vec<Reliability>,
    /// How often each has failed.
    counts: Vec<usize>,
    /// When each that is up fails next, as the bits of the time, which have the order of times.
    next: BTreeSet<(u64, usize)>,
    /// Failures since a task ended.
    in_vain: u64,
    /// Whether any machine may fail.
    pub(super) are_possible: bool,
}

impl Outages {
    pub(super) fn new(cluster: &Cluster, seed: u64) -> Self {
        let machines = &cluster.machines;
        let mut outages = Self {
            seed,
            reliability: machines.iter().map(|m| m.reliability.clone()).collect(),
            counts: vec![0; machines.len()],
            are_possible: machines
                .iter()
                .any(|machine| machine.reliability != Reliability::Perfect),
            ..Self::default()
        };
        for machine in 0..machines.len() {
            outages.foresee(machine, 0.0);
        }
        outages
    }

    /// A number of mean 1, for the time that a machine is up before its next failure, or down after
    /// it.
    fn draw(&self, machine: usize, is_up: bool) -> f64 {
        let place = machine << 32 | self.counts[machine] << 1 | usize::from(is_up);
        exponential(self.seed, Draws::Outages, place)
    }

    /// Finds out when a machine that is up since then fails next.
    pub(super) fn foresee(&mut self, machine: usize, since: f64) {
        let next = match &self.reliability[machine] {
            Reliability::Perfect => None,
            Reliability::Listed(all) => all.get(self.counts[machine]).map(|outage| outage.at),
            Reliability::ByChance { up, .. } => Some(since + up * self.draw(machine, true)),
        };
        self.next.extend(next.map(|time| (time.to_bits(), machine)));
    }

    /// When the next machine fails.
    pub(super) fn next(&self) -> Option<f64> {
        self.next.first().map(|&(bits, _)| f64::from_bits(bits))
    }

    /// Lets it fail: its number, and when it comes back.
    pub(super) fn pop(&mut self) -> Option<(usize, f64)> {
        let (bits, machine) = self.next.pop_first()?;
        let length = match &self.reliability[machine] {
            Reliability::Perfect => 0.0,
            Reliability::Listed(all) => all[self.counts[machine]].length,
            Reliability::ByChance { down, .. } => down * self.draw(machine, false),
        };
        self.counts[machine] += 1;
        self.in_vain += 1;
        Some((machine, f64::from_bits(bits) + length))
    }

    /// A task has ended.
    pub(super) fn note_end(&mut self) {
        self.in_vain = 0;
    }

    /// No machine fails any more.
    pub(super) fn stop(&mut self) {
        self.next.clear();
    }
}

impl SimulatedMachines {
    /// A machine that is up fails, or one that is down comes back.
    pub(super) fn come_or_go(
        &mut self,
        (machine, load): (usize, Option<&mut Load>),
        engine: (&mut Scheduler, &BuildGraph),
        shared: (&mut Board, &Workload),
    ) {
        match load {
            Some(load) if !load.is_down => self.fail((machine, load), engine, shared),
            load => self.come_back(machine, load, shared),
        }
    }

    /// A machine fails.
    fn fail(
        &mut self,
        (machine, load): (usize, &mut Load),
        (scheduler, graph): (&mut Scheduler, &BuildGraph),
        (board, workload): (&mut Board, &Workload),
    ) {
        self.outcome.outages += 1;
        if self.outages.in_vain > IN_VAIN_MAX {
            scheduler.abort(Error::FailsTooOften {
                failures: IN_VAIN_MAX,
            });
            return;
        }
        load.is_down = true;
        let [running, waiting] = self.take_down(machine);
        for (drv, cores) in running {
            load.free += cores;
            load.free_memory += workload.memory(drv);
            load.unreserved += i64::from(cores);
            load.unreserved_memory += workload.memory(drv) as i64;
            load.give_disk_back(workload.disk(drv));
            board.place(drv, None);
            if let Some(goal) = scheduler.index.goal(drv) {
                scheduler.lose(graph, ReadyGoal { goal, drv });
            }
        }
        for (drv, cores) in waiting {
            load.unreserved += i64::from(cores);
            load.unreserved_memory += workload.memory(drv) as i64;
            load.unreserved_disk += workload.disk(drv) as i64;
            board.place(drv, None);
            self.data.withdraw(drv, machine, workload);
            scheduler.place_again(drv);
        }
        self.with_data((&mut *board, workload), |data, moves| {
            data.take_down(machine, moves)
        });
        self.tell(board);
    }

    /// A machine comes back.
    pub(super) fn come_back(
        &mut self,
        machine: usize,
        load: Option<&mut Load>,
        (board, workload): (&mut Board, &Workload),
    ) {
        if let Some(load) = load {
            load.is_down = false;
        }
        self.outages.foresee(machine, self.now);
        self.with_data((&mut *board, workload), |data, moves| {
            data.bring_back(machine, moves)
        });
        self.stir(machine);
        self.tell(board);
    }
}
