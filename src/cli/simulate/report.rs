//! What a simulation came to, for people and for programs.

use serde_json::{Value, json};
use windrow_components::task_graph::{Stats, TimeUnit};
use windrow_systems::simulate::{Outcome, Simulation};

use crate::cli::graph::time;

/// What the engine itself needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Real time.
    pub(super) seconds: f64,
    /// The most memory the process had resident in this simulation, graph included, less what it
    /// had before the graph was loaded, in bytes.
    pub(super) memory: u64,
}

/// One simulation and what came of it.
pub(super) struct SimulationResult<'a> {
    pub(super) simulation: &'a Simulation,
    pub(super) outcome: &'a Outcome,
    pub(super) stats: &'a Stats,
    pub(super) cost: Cost,
    /// The most outputs kept at a time, if that was asked for.
    pub(super) held: Option<u64>,
    /// Options that results name, by their keys.
    pub(super) said: &'a [(&'static str, Value)],
}

/// How many marks the table has for utilisation over time, and how many the details of one
/// simulation have.
pub(super) const MARKS: usize = 16;
pub(super) const MANY_MARKS: usize = 64;

/// The names of the columns, of which some are only for caches.
pub(super) fn header(has_caches: bool) -> String {
    let mut header = format!(
        "{:<20} {:>5} {:>18} {:>18} {:>7} {:>7}  {:<MARKS$} {:>18} {:>18} {:>9} {:>7}",
        "policy",
        "jobs",
        "makespan",
        "lower bound",
        "ratio",
        "busy",
        "over time",
        "mean wait",
        "longest wait",
        "done",
        "failed"
    );
    if has_caches {
        header += &format!(" {:>9} {:>14}", "fetched", "downloaded");
    }
    header
}

/// A size, for people.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

impl SimulationResult<'_> {
    fn bound(&self) -> u64 {
        self.stats.lower_bound(u64::from(self.simulation.jobs))
    }

    /// Makespan over its lower bound.
    fn ratio(&self) -> f64 {
        match self.bound() {
            0 => 1.0,
            bound => self.outcome.makespan as f64 / bound as f64,
        }
    }

    /// The busy share of all slots.
    fn busy(&self) -> f64 {
        let room = self.outcome.makespan as f64 * f64::from(self.simulation.jobs);
        if room == 0.0 {
            0.0
        } else {
            self.outcome.busy as f64 / room
        }
    }

    fn marks(&self, count: usize) -> String {
        self.marks_of(count, self.simulation.jobs)
    }

    /// Bars of how busy that many slots or cores were.
    pub(super) fn marks_of(&self, count: usize, slots: u32) -> String {
        let Outcome {
            makespan,
            utilisation,
            ..
        } = self.outcome;
        let shares = utilisation.shares(count, *makespan, slots);
        shares.into_iter().map(mark).collect()
    }

    fn goals(&self) -> u64 {
        self.outcome.succeeded + self.outcome.failed + self.outcome.fetched.paths
    }

    fn has_caches(&self) -> bool {
        self.simulation.caches.is_some()
    }

    fn goals_per_second(&self) -> f64 {
        self.goals() as f64 / self.cost.seconds.max(1e-9)
    }

    fn memory_per_goal(&self) -> u64 {
        self.cost.memory / (self.stats.tasks as u64).max(1)
    }

    pub(super) fn row(&self) -> String {
        let (outcome, unit) = (self.outcome, self.stats.unit);
        let mut row = format!(
            "{:<20} {:>5} {:>18} {:>18} {:>7.3} {:>6.1}%  {:<MARKS$} {:>18} {:>18} {:>9} {:>7}",
            self.simulation.policy.name(),
            self.simulation.jobs,
            time(outcome.makespan, unit),
            time(self.bound(), unit),
            self.ratio(),
            self.busy() * 100.0,
            self.marks(MARKS),
            time(outcome.waits.mean(), unit),
            time(outcome.waits.max, unit),
            outcome.succeeded,
            outcome.failed,
        );
        if self.has_caches() {
            let fetched = &outcome.fetched;
            row += &format!(" {:>9} {:>14}", fetched.paths, megabytes(fetched.bytes));
        }
        row
    }

    /// More about a simulation that stands alone.
    pub(super) fn details(&self) -> Vec<String> {
        let mut lines = self.details_of(&self.marks(MANY_MARKS));
        let failures = self.outcome.fetched.failures;
        lines.extend((failures > 0).then(|| format!("failed downloads      {failures}")));
        lines.extend(
            self.held
                .map(|held| format!("live outputs          {held} at the peak")),
        );
        lines
    }

    /// What is told on slots as well as on machines.
    pub(super) fn details_of(&self, marks: &str) -> Vec<String> {
        let (waits, unit) = (&self.outcome.waits, self.stats.unit);
        let unit_name = match unit {
            TimeUnit::Microseconds => " s",
            TimeUnit::Units => "",
        };
        let flow = self.outcome.flow.map(|flow| {
            format!(
                "time in the system    of {} jobs {:.6}{unit_name} in the mean, {:.6}{unit_name} at most; that is {:.3} and \
                 {:.3} times as long as alone",
                flow.jobs, flow.mean, flow.max, flow.mean_slowdown, flow.max_slowdown
            )
        });
        let retried = self.outcome.retried;
        let retried = (retried > 0).then(|| format!("tried again           {retried} times"));
        let lines = vec![
            String::new(),
            format!("busy slots over time  {marks}"),
            format!(
                "waiting for a slot    half at most {}, 90 % at most {}, 99 % at most {}",
                time(waits.half, unit),
                time(waits.p90, unit),
                time(waits.p99, unit),
            ),
            format!(
                "engine                {:.3} s, {} ticks, {:.0} goals a second, {} bytes a goal",
                self.cost.seconds,
                self.outcome.ticks,
                self.goals_per_second(),
                self.memory_per_goal(),
            ),
        ];
        lines.into_iter().chain(retried).chain(flow).collect()
    }

    /// How long tasks waited, where a second, or unit, has that many units of the engine's.
    pub(super) fn waits_in(&self, units: f64) -> Value {
        let waits = &self.outcome.waits;
        let time = |value: u64| value as f64 / units;
        json!({
            "total": time(waits.total),
            "mean": time(waits.mean()),
            "p50": time(waits.half),
            "p90": time(waits.p90),
            "p99": time(waits.p99),
            "max": time(waits.max),
        })
    }

    pub(super) fn as_json(&self) -> Value {
        let Outcome {
            makespan,
            waits,
            utilisation,
            ..
        } = self.outcome;
        let jobs = self.simulation.jobs;
        let series = utilisation.busy.iter().enumerate().map(|(part, &busy)| {
            let start = part as u64 * utilisation.width;
            let length = utilisation.width.min(makespan - start);
            let share = busy as f64 / (length as f64 * f64::from(jobs));
            (share * 1e4).round() / 1e4
        });
        let mut value = json!({
            "policy": self.simulation.policy.name(),
            "jobs": jobs,
            "seed": self.simulation.seed,
            "unit": match self.stats.unit { TimeUnit::Microseconds => "us", TimeUnit::Units => "ut" },
            "makespan": makespan,
            "lowerBound": self.bound(),
            "ratio": self.ratio(),
            "utilisation": self.busy(),
            "utilisationOverTime": {
                "width": utilisation.width,
                "shares": series.collect::<Vec<f64>>(),
            },
            "wait": {
                "total": waits.total,
                "mean": waits.mean(),
                "p50": waits.half,
                "p90": waits.p90,
                "p99": waits.p99,
                "max": waits.max,
            },
            "succeeded": self.outcome.succeeded,
            "failed": self.outcome.failed,
            "ticks": self.outcome.ticks,
            "seconds": self.cost.seconds,
            "goalsPerSecond": self.goals_per_second(),
            "memory": self.cost.memory,
            "memoryPerGoal": self.memory_per_goal(),
        });
        if self.has_caches() {
            let fetched = &self.outcome.fetched;
            value["fetched"] = fetched.paths.into();
            value["downloadedBytes"] = fetched.bytes.into();
            value["failedDownloads"] = fetched.failures.into();
        }
        if let Some(held) = self.held {
            value["outputsKept"] = held.into();
        }
        self.say_options(value)
    }

    /// Adds the options that results name.
    pub(super) fn say_options(&self, mut value: Value) -> Value {
        for (key, said) in self.said {
            value[*key] = said.clone();
        }
        if self.outcome.retried > 0 {
            value["retried"] = self.outcome.retried.into();
        }
        if let Some(flow) = &self.outcome.flow {
            value["flow"] = json!({
                "jobs": flow.jobs,
                "mean": flow.mean,
                "max": flow.max,
                "meanSlowdown": flow.mean_slowdown,
                "maxSlowdown": flow.max_slowdown,
            });
        }
        value
    }
}

/// A bar of eight heights.
fn mark(share: f64) -> char {
    const MARKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    MARKS[(share.clamp(0.0, 1.0) * 8.0).round() as usize]
}
