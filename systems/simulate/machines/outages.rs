//! When simulated machines fail, and when they come back: at given times, or by chance.

use std::collections::BTreeSet;

use windrow_components::machine::{Cluster, Reliability};
use windrow_formats::task_graph::{Draws, exponential};

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

    /// Whether machines have failed so often without a task having ended in between that the run is
    /// taken to be one that never ends; how often that is.
    pub(super) fn are_in_vain(&self) -> Option<u64> {
        (self.in_vain > IN_VAIN_MAX).then_some(IN_VAIN_MAX)
    }

    /// No machine fails any more.
    pub(super) fn stop(&mut self) {
        self.next.clear();
    }
}
