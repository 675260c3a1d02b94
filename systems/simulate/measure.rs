//! What a simulation measures while it runs, in bounded memory: how long tasks waited, and how many
//! slots were busy when. Knows instants and indices, nothing of goals.

use windrow_components::task_graph::TaskGraph;

/// When and where a task ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The task, by its place in the graph.
    pub task: u32,
    /// In which slot, from 0.
    pub slot: u32,
    /// When it began, in the graph's unit.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// How many parts of the time a [`Utilisation`] has at most.
pub const PARTS: usize = 256;

/// How much slots were busy over time, in parts of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utilisation {
    /// How long a part is, in the graph's unit: a power of two.
    pub width: u64,
    /// For each part the time that slots were busy in it, all slots together. The last one may be
    /// shorter.
    pub busy: Vec<u64>,
}

impl Default for Utilisation {
    fn default() -> Self {
        Self {
            width: 1,
            busy: Vec::new(),
        }
    }
}

impl Utilisation {
    /// Counts a slot as busy from `start` to `end`.
    #[cfg(test)]
    pub(super) fn add(&mut self, start: u64, end: u64) {
        self.add_many(start, end, 1);
    }

    /// Counts this many slots as busy from `start` to `end`.
    pub(super) fn add_many(&mut self, start: u64, end: u64, slots: u64) {
        if start == end {
            return;
        }
        // A shift, as the width is a power of two: divisions would cost more than all the rest.
        while (end - 1) >> self.width.trailing_zeros() >= PARTS as u64 {
            self.halve();
        }
        let shift = self.width.trailing_zeros();
        let (first, last) = (start >> shift, (end - 1) >> shift);
        if self.busy.len() as u64 <= last {
            self.busy.resize(last as usize + 1, 0);
        }
        for part in first..=last {
            let from = (part * self.width).max(start);
            let to = (part + 1).saturating_mul(self.width).min(end);
            self.busy[part as usize] += (to - from) * slots;
        }
    }

    /// Makes every two parts one.
    fn halve(&mut self) {
        self.width *= 2;
        let parts = self.busy.chunks(2).map(|pair| pair.iter().sum());
        self.busy = parts.collect();
    }

    /// The share of `jobs` slots that was busy, for each of a number of equal pieces of the time up
    /// to `makespan`.
    pub fn shares(&self, pieces: usize, makespan: u64, jobs: u32) -> Vec<f64> {
        let length = makespan as f64 / pieces as f64;
        let mut shares = vec![0.0; if makespan == 0 { 0 } else { pieces }];
        for (part, &busy) in self.busy.iter().enumerate() {
            let from = part as u64 * self.width;
            let to = (from + self.width).min(makespan);
            // Within a part nothing is known but the sum, so it is spread evenly.
            let density = busy as f64 / (to - from) as f64 / length / f64::from(jobs);
            let first = (from as f64 / length) as usize;
            for (piece, share) in shares.iter_mut().enumerate().skip(first) {
                let start = (piece as f64 * length).max(from as f64);
                let end = ((piece + 1) as f64 * length).min(to as f64);
                if start >= to as f64 {
                    break;
                }
                *share += (end - start).max(0.0) * density;
            }
        }
        shares
    }
}

/// How long tasks waited from being ready to their start, in the graph's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// All together.
    pub total: u64,
    /// How many tasks started.
    pub started: u64,
    /// Half of the tasks waited no longer.
    pub half: u64,
    /// Nine of ten waited no longer.
    pub p90: u64,
    /// 99 of a hundred waited no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Waits {
    /// The mean, rounded down.
    pub fn mean(&self) -> u64 {
        self.total / self.started.max(1)
    }
}

/// In one number a task: when it came to be ready, and once it has started, how long it had waited.
#[derive(Debug, Default)]
pub(super) struct WaitTimes(Vec<u64>);

const STARTED: u64 = 1 << 63;

impl WaitTimes {
    pub(super) fn resize(&mut self, tasks: usize) {
        if self.0.is_empty() {
            // Memory that is new is zero, and need not be written twice.
            self.0 = vec![0; tasks];
        } else if self.0.len() < tasks {
            self.0.resize(tasks, 0);
        }
    }

    pub(super) fn ready(&mut self, task: usize, instant: u64) {
        self.0[task] = instant.min(STARTED - 1);
    }

    pub(super) fn start(&mut self, task: usize, instant: u64) {
        self.0[task] = instant.saturating_sub(self.0[task]).min(STARTED - 1) | STARTED;
    }

    /// What came of it: the smallest waits that given hundredths of the tasks did not exceed.
    pub(super) fn finish(self) -> Waits {
        // In place: there may be ten million of them.
        let mut waits = self.0;
        if waits.iter().any(|word| word & STARTED == 0) {
            waits.retain(|word| word & STARTED != 0);
        }
        let (mut total, mut max) = (0_u64, 0);
        for word in &mut waits {
            *word &= !STARTED;
            total = total.saturating_add(*word);
            max = max.max(*word);
        }
        if waits.is_empty() {
            return Waits::default();
        }
        let [half, p90, p99] = hundredths(&waits, max, [50, 90, 99]);
        Waits {
            total,
            started: waits.len() as u64,
            half,
            p90,
            p99,
            max,
        }
    }
}

/// The smallest values that given hundredths of all do not exceed. What has the same leading bits
/// is counted first, so that only those that have them in common with a result need be looked at
/// again.
fn hundredths<const N: usize>(values: &[u64], max: u64, wanted: [usize; N]) -> [u64; N] {
    const KINDS: usize = 1 << 12;
    let bits = u64::BITS - max.leading_zeros();
    let shift = bits.saturating_sub(KINDS.trailing_zeros());
    let mut counts = vec![0_usize; KINDS];
    for value in values {
        counts[(value >> shift) as usize] += 1;
    }
    wanted.map(|hundredths| {
        let mut rank = (values.len() * hundredths).div_ceil(100) - 1;
        let mut kind = 0;
        while rank >= counts[kind] {
            rank -= counts[kind];
            kind += 1;
        }
        if shift == 0 {
            return kind as u64;
        }
        let alike = values.iter().filter(|&value| value >> shift == kind as u64);
        let mut alike: Vec<u64> = alike.copied().collect();
        *alike.select_nth_unstable(rank).1
    })
}

/// How many outputs had to be kept at a time at most, if each is there from its task's start
/// until the last task that needs it has ended, and those that none needs until the end of the run.
/// What ends at an instant is gone before anything starts.
pub fn peak_outputs(tasks: &TaskGraph, runs: &[Run]) -> u64 {
    let mut left = vec![0_u32; tasks.len()];
    for task in tasks.tasks() {
        for input in tasks.predecessors(task) {
            left[input.index()] += 1;
        }
    }
    let mut by_start: Vec<&Run> = runs.iter().collect();
    by_start.sort_by_key(|run| run.start);
    let mut ends = runs.iter().peekable();
    let (mut held, mut peak) = (0_u64, 0);
    for run in by_start {
        // A task of no duration that runs at this instant is not gone before it starts.
        while let Some(ended) = ends.next_if(|it| it.end <= run.start && it.start < run.start) {
            held -= release(tasks, ended, &mut left);
        }
        held += 1;
        peak = peak.max(held);
    }
    peak
}

fn release(tasks: &TaskGraph, ended: &Run, left: &mut [u32]) -> u64 {
    use windrow_components::task_graph::TaskId;
    let inputs = tasks.predecessors(TaskId::from_index(ended.task as usize));
    let mut released = 0;
    for input in inputs {
        left[input.index()] -= 1;
        released += u64::from(left[input.index()] == 0);
    }
    released
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_busy_time_is_lost(intervals in proptest::collection::vec((0..5_000_u64, 0..3_000_u64), 0..60)) {
            let mut measured = Utilisation::default();
            for &(start, length) in &intervals {
                measured.add(start, start + length);
            }
            prop_assert!(measured.busy.len() <= PARTS && measured.width.is_power_of_two());
            for (part, &busy) in measured.busy.iter().enumerate() {
                let (from, to) = (part as u64 * measured.width, (part as u64 + 1) * measured.width);
                let inside = |&(start, length): &(u64, u64)| {
                    (start + length).min(to).saturating_sub(start.max(from))
                };
                prop_assert_eq!(busy, intervals.iter().map(inside).sum::<u64>());
            }
            let makespan = intervals.iter().map(|(start, length)| start + length).max().unwrap_or(0);
            let shares = measured.shares(10, makespan, 2);
            let all: f64 = shares.iter().map(|share| share * makespan as f64 / 10.0 * 2.0).sum();
            let sum: u64 = intervals.iter().map(|(_, length)| length).sum();
            prop_assert!((all - sum as f64).abs() < 1e-6 * (1.0 + sum as f64), "{} {}", all, sum);
        }

        #[test]
        fn waits_are_exact(waits in proptest::collection::vec(0..1000_u64, 1..300)) {
            let mut times = WaitTimes::default();
            times.resize(waits.len() + 1);
            for (task, wait) in waits.iter().enumerate() {
                times.ready(task, 7);
                times.start(task, 7 + wait);
            }
            times.ready(waits.len(), 99); // never starts
            let found = times.finish();
            let mut sorted = waits.clone();
            sorted.sort_unstable();
            let at = |share: f64| sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1];
            prop_assert_eq!((found.half, found.p90), (at(0.5), at(0.9)));
            prop_assert_eq!((found.max, found.started), (*sorted.last().unwrap(), waits.len() as u64));
            prop_assert_eq!(found.total, waits.iter().sum::<u64>());
        }
    }

    proptest! {
        #[test]
        fn hundredths_are_those_of_the_sorted_list(
            bits in 0..63_u32,
            values in proptest::collection::vec(any::<u64>(), 1..300),
        ) {
            let mut values: Vec<u64> = values.into_iter().map(|value| value >> 1 >> bits).collect();
            let max = values.iter().max().copied().unwrap();
            let found = hundredths(&values, max, [1, 50, 90, 99, 100]);
            values.sort_unstable();
            let plain = [1, 50, 90, 99, 100].map(|n| values[(values.len() * n).div_ceil(100) - 1]);
            prop_assert_eq!(found, plain);
        }
    }
}
