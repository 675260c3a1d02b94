//! What a simulation on machines came to, for people and for programs. Times are in seconds, with
//! all digits for programs, or in units for graphs that count in those.

use serde_json::{Value, json};
use windrow_components::task_graph::TimeUnit;
use windrow_systems::simulate::MachineOutcome;

use super::report::{MANY_MARKS, MARKS, SimulationResult};

/// The names of the columns.
pub(super) fn header() -> String {
    format!(
        "{:<60} {:>8} {:>8} {:>18} {:>18} {:>7} {:>7}  {:<MARKS$} {:>14} {:>9} {:>9} {:>7}",
        "policy",
        "machines",
        "cores",
        "makespan",
        "lower bound",
        "ratio",
        "busy",
        "over time",
        "moved",
        "transfers",
        "done",
        "failed"
    )
}

/// Results on machines.
pub(super) struct MachineResult<'a> {
    pub(super) result: &'a SimulationResult<'a>,
    pub(super) outcome: &'a MachineOutcome,
    /// How many there are.
    pub(super) machines: usize,
}

fn over(value: f64, bound: f64) -> f64 {
    if bound > 0.0 { value / bound } else { 1.0 }
}

impl MachineResult<'_> {
    fn time(&self, value: f64) -> String {
        match self.result.stats.unit {
            TimeUnit::Microseconds => format!("{value:.6} s"),
            TimeUnit::Units => format!("{value:.3}"),
        }
    }

    /// The busy share of all cores.
    fn busy(&self) -> f64 {
        let room = self.outcome.makespan * self.outcome.cores as f64;
        if room > 0.0 {
            self.outcome.core_time / room
        } else {
            0.0
        }
    }

    pub(super) fn row(&self) -> String {
        let (outcome, result) = (self.outcome, self.result);
        format!(
            "{:<60} {:>8} {:>8} {:>18} {:>18} {:>7.3} {:>6.1}%  {:<MARKS$} {:>14} {:>9} {:>9} {:>7}",
            result.simulation.policy.name(),
            self.machines,
            outcome.cores,
            self.time(outcome.makespan),
            self.time(outcome.lower_bound),
            over(outcome.makespan, outcome.lower_bound),
            self.busy() * 100.0,
            self.marks(MARKS),
            format!("{:.1} MB", outcome.megabytes),
            outcome.transfers,
            result.outcome.succeeded,
            result.outcome.failed,
        )
    }

    fn marks(&self, count: usize) -> String {
        self.result
            .marks_of(count, u32::try_from(self.outcome.cores).unwrap_or(u32::MAX))
    }

    /// More about a simulation that stands alone.
    pub(super) fn details(&self) -> Vec<String> {
        let outcome = self.outcome;
        let mut lines = self.result.details_of(&self.marks(MANY_MARKS));
        lines.push(format!(
            "schedule length       {:.3} times the critical path on the fastest machines, {}",
            over(self.outcome.makespan, self.outcome.critical_path),
            self.time(self.outcome.critical_path),
        ));
        lines.extend((outcome.outages > 0).then(|| {
            format!(
                "failures of machines  {}; {} times a task was lost, and {} of cores with that",
                outcome.outages,
                outcome.lost,
                self.time(outcome.lost_time),
            )
        }));
        lines
    }

    pub(super) fn as_json(&self) -> Value {
        let outcome = self.outcome;
        let cost = &self.result.cost;
        self.result.say_options(json!({
            "policy": self.result.simulation.policy.name(),
            "machines": self.machines,
            "cores": outcome.cores,
            "seed": self.result.simulation.seed,
            "unit": match self.result.stats.unit {
                TimeUnit::Microseconds => "s",
                TimeUnit::Units => "ut",
            },
            "makespan": outcome.makespan,
            "lowerBound": outcome.lower_bound,
            "ratio": over(outcome.makespan, outcome.lower_bound),
            "criticalPath": outcome.critical_path,
            "slr": over(outcome.makespan, outcome.critical_path),
            "utilisation": self.busy(),
            "taskTime": outcome.task_time,
            "coreTime": outcome.core_time,
            "megabytesMoved": outcome.megabytes,
            "transfers": outcome.transfers,
            "machineFailures": outcome.outages,
            "lostTasks": outcome.lost,
            "lostTime": outcome.lost_time,
            "wait": self.result.waits_in(match self.result.stats.unit {
                TimeUnit::Microseconds => 1e6,
                TimeUnit::Units => 1.0,
            }),
            "succeeded": self.result.outcome.succeeded,
            "failed": self.result.outcome.failed,
            "ticks": self.result.outcome.ticks,
            "seconds": cost.seconds,
            "memory": cost.memory,
        }))
    }
}
