//! The report of simulations: a timeline for each, and what they show beside each other.

use serde_json::Value;
use windrow_components::machine::Cluster;
use windrow_components::task_graph::{TaskGraph, TaskId, TimeUnit};
use windrow_report::page::Report;
use windrow_report::results::{Comparison, Outcome as Row};
use windrow_report::run::{Figure, Kind, LaneGroup, Run, Span, Tone, Verdict};
use windrow_report::time::Unit;
use windrow_systems::simulate::{MachineOutcome, Outcome, Simulation};

use super::PROGRAM;
use crate::error::Result;

/// How many spans a report shows at most. A page of as many takes some 30 megabytes.
const SPANS: usize = 1_000_000;

/// The simulations of a command so far.
pub(crate) struct Simulations<'g> {
    graph: &'g TaskGraph,
    /// What the graph is called.
    named: String,
    names: Vec<String>,
    runs: Vec<Run>,
    rows: Vec<Row>,
    spans: usize,
    /// How many have no timeline, because there would be too many spans.
    left_out: usize,
}

impl<'g> Simulations<'g> {
    /// None yet, of that graph.
    pub(crate) fn new(graph: &'g TaskGraph, named: &str) -> Self {
        Self {
            graph,
            named: named.to_owned(),
            names: graph
                .tasks()
                .map(|task| graph.name(task).into_owned())
                .collect(),
            runs: Vec::new(),
            rows: Vec::new(),
            spans: 0,
            left_out: 0,
        }
    }

    /// Adds one, with its result as `--json` prints it.
    ///
    /// # Errors
    /// Never: such a result has all that is asked of it.
    pub(crate) fn add(
        &mut self,
        simulation: &Simulation,
        outcome: &Outcome,
        json: Value,
    ) -> Result<()> {
        let row = Row::from_json(json, &self.named);
        let row = row.map_err(windrow_report::page::PageError::from)?;
        let count = outcome.runs.len() + outcome.machines.as_ref().map_or(0, |it| it.runs.len());
        self.spans += count;
        if self.spans > SPANS && !self.runs.is_empty() {
            self.left_out += 1;
        } else {
            let run = run(self.graph, &row, (simulation, outcome));
            self.runs.push(run);
        }
        self.rows.push(row);
        Ok(())
    }

    /// The run that was added last.
    pub(crate) fn last(&self) -> Option<(&Run, &[String])> {
        self.runs.last().map(|run| (run, self.names.as_slice()))
    }

    /// The report of all.
    ///
    /// # Errors
    /// When a picture can't be drawn.
    pub(crate) fn report(self) -> Result<Report> {
        let comparison = Comparison::new(&self.rows);
        let several = self.rows.len() > 1;
        let left_out = match self.left_out {
            0 => None,
            count => Some(format!(
                "The last {count} of {} simulations have no timeline here: all together have more than {SPANS} spans.",
                self.rows.len()
            )),
        };
        let stats = (self.graph.len(), self.graph.edge_count());
        Ok(Report {
            title: format!("Simulation of {}", self.named),
            subtitle: format!("{PROGRAM} · {} tasks, {} edges", stats.0, stats.1),
            pictures: comparison.pictures()?,
            tables: several.then(|| comparison.table()).into_iter().collect(),
            names: self.names,
            runs: self.runs,
            notes: left_out.into_iter().collect(),
        })
    }
}

/// From the graph's unit to millionths of what reports count in.
const fn millionths(unit: TimeUnit, time: u64) -> u64 {
    match unit {
        TimeUnit::Microseconds => time,
        TimeUnit::Units => time.saturating_mul(1_000_000),
    }
}

fn run(graph: &TaskGraph, row: &Row, (simulation, outcome): (&Simulation, &Outcome)) -> Run {
    let machines = outcome.machines.as_ref().zip(simulation.cluster.as_deref());
    let are_slots = machines.is_none_or(|(_, it)| *it == Cluster::of_slots(simulation.jobs));
    let (spans, groups) = match machines {
        Some((outcome, cluster)) => on_machines(graph, outcome, cluster),
        None => in_slots(graph, (simulation, outcome)),
    };
    let needs = needs(graph, &spans);
    let unit = match graph.unit() {
        TimeUnit::Microseconds => Unit::Seconds,
        TimeUnit::Units => Unit::Units,
    };
    let name = match are_slots {
        true => format!("{}, {} slots", row.policy, simulation.jobs),
        false => row.policy.clone(),
    };
    let mut run = Run::new(name, unit, spans, needs);
    run.groups = match are_slots && machines.is_some() {
        true => vec![slots(groups.len() as u32)],
        false => groups,
    };
    run.capacity = match machines {
        Some((outcome, _)) => outcome.cores,
        None => u64::from(simulation.jobs),
    };
    run.memory_is = "Memory over time, as tasks ask for it";
    run.figures = figures(outcome, row);
    run
}

/// The memory that a task asks for, if it does.
fn memory(graph: &TaskGraph, task: u32) -> Option<u64> {
    let asked = graph.demands()?.memory(TaskId::from_u32(task));
    (asked > 0).then_some(asked)
}

const fn verdict(failed: bool) -> Verdict {
    match failed {
        true => Verdict::Failed,
        false => Verdict::Good,
    }
}

fn slots(count: u32) -> LaneGroup {
    LaneGroup {
        name: "slots".to_owned(),
        lane: "slot".to_owned(),
        count,
        counts: true,
    }
}

fn in_slots(
    graph: &TaskGraph,
    (simulation, outcome): (&Simulation, &Outcome),
) -> (Vec<Span>, Vec<LaneGroup>) {
    let unit = graph.unit();
    let span = |task, lane, (start, end), kind, failed| Span {
        name: task,
        lane,
        more_lanes: Vec::new(),
        start: millionths(unit, start),
        end: millionths(unit, end),
        kind,
        verdict: verdict(failed),
        cpu: None,
        memory: match kind {
            Kind::Build => memory(graph, task),
            _ => None,
        },
    };
    let runs = outcome.runs.iter();
    let mut spans: Vec<Span> = runs
        .map(|run| {
            span(
                run.task,
                run.slot,
                (run.start, run.end),
                Kind::Build,
                run.failed,
            )
        })
        .collect();
    let used = outcome.runs.iter().map(|run| run.slot + 1).max();
    let mut first = used.unwrap_or(0);
    let mut groups = vec![slots(first)];
    let caches = simulation.caches.iter().flat_map(|set| &set.all);
    for (number, cache) in caches.enumerate() {
        let downloads = || {
            let all = outcome.fetched.downloads.iter();
            all.filter(move |fetch| fetch.cache as usize == number)
        };
        let count = downloads()
            .map(|fetch| fetch.connection + 1)
            .max()
            .unwrap_or(0);
        spans.extend(downloads().map(|fetch| {
            let times = (fetch.start, fetch.end);
            span(
                fetch.task,
                first + fetch.connection,
                times,
                Kind::Fetch,
                fetch.failed,
            )
        }));
        groups.push(LaneGroup {
            name: cache.name.clone(),
            lane: "connection".to_owned(),
            count,
            counts: false,
        });
        first += count;
    }
    groups.retain(|group| group.count > 0);
    (spans, groups)
}

fn on_machines(
    graph: &TaskGraph,
    outcome: &MachineOutcome,
    cluster: &Cluster,
) -> (Vec<Span>, Vec<LaneGroup>) {
    let mut first = Vec::new();
    let mut groups = Vec::new();
    let mut lanes = 0;
    let mut runs_tasks = vec![false; cluster.machines.len()];
    for run in &outcome.runs {
        runs_tasks[run.machine] = true;
    }
    for (machine, runs) in cluster.machines.iter().zip(runs_tasks) {
        first.push(lanes);
        // Those that run nothing, such as storage, have no lane.
        let count = if runs { machine.cores } else { 0 };
        groups.push(LaneGroup {
            name: machine.name.clone(),
            lane: match machine.cores {
                1 => machine.name.clone(),
                _ => "core".to_owned(),
            },
            count,
            counts: true,
        });
        lanes += count;
    }
    groups.retain(|group| group.count > 0);
    let micros = |time: f64| (time * 1e6).round() as u64;
    let spans = outcome.runs.iter().map(|run| {
        let mut cores = run.cores.iter().map(|core| first[run.machine] + core);
        Span {
            name: run.task,
            lane: cores.next().unwrap_or(first[run.machine]),
            more_lanes: cores.collect(),
            start: micros(run.start),
            end: micros(run.end.max(run.start)),
            kind: Kind::Build,
            verdict: verdict(run.failed),
            cpu: None,
            memory: memory(graph, run.task),
        }
    });
    (spans.collect(), groups)
}

/// Which span needed which.
fn needs(graph: &TaskGraph, spans: &[Span]) -> Vec<(u32, u32)> {
    let mut made: Vec<Option<u32>> = vec![None; graph.len()];
    for (at, span) in (0..).zip(spans) {
        // What was fetched in vain was built then.
        let before = &mut made[span.name as usize];
        if span.kind == Kind::Build || before.is_none() {
            *before = Some(at);
        }
    }
    let mut needs = Vec::new();
    for (at, span) in (0..).zip(spans) {
        if span.kind == Kind::Fetch {
            continue;
        }
        let before = graph.predecessors(TaskId::from_u32(span.name)).iter();
        needs.extend(before.filter_map(|task| Some((at, made[task.index()]?))));
    }
    needs
}

fn figures(outcome: &Outcome, row: &Row) -> Vec<Figure> {
    let makespan = row.unit.show((row.makespan * 1e6).round() as u64);
    let over = row
        .ratio
        .map(|ratio| format!("{ratio:.3} times the lower bound"));
    let mut figures = vec![
        Figure::new("Makespan", makespan, over.unwrap_or_default()),
        Figure::new("Policy", row.policy.clone(), ""),
        Figure::new("Tasks done", outcome.succeeded.to_string(), ""),
    ];
    if outcome.failed > 0 {
        let failed = Figure::new(
            "Failed",
            outcome.failed.to_string(),
            "with those that need them",
        );
        figures.push(failed.toned(Tone::Bad));
    }
    let fetched = &outcome.fetched;
    if fetched.paths > 0 {
        let note = format!("{:.1} MB", fetched.bytes as f64 / 1e6);
        figures.push(Figure::new("Fetched", fetched.paths.to_string(), note));
    }
    if let Some(machines) = &outcome.machines {
        let note = format!("in {} transfers", machines.transfers);
        let moved = format!("{:.1} MB", machines.megabytes);
        figures.extend((machines.transfers > 0).then(|| Figure::new("Moved", moved, note)));
    }
    figures
}
