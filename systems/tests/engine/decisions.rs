//! Policies that are asked seldom, or decide slowly, against a naive model of slots.

use proptest::prelude::*;
use windrow_components::task_graph::{TaskGraph, TaskId, TimeUnit};
use windrow_systems::simulate::{Delays, MachineRun, Simulation, simulate};

use crate::simulate::graphs_in;

/// The start of each task on that many slots, what was ready first coming first.
fn naive(graph: &TaskGraph, jobs: usize, delays: Delays) -> Vec<f64> {
    let successors = graph.successors();
    let mut left: Vec<usize> = graph.tasks().map(|t| graph.predecessors(t).len()).collect();
    let mut ready: Vec<(f64, TaskId)> = graph
        .tasks()
        .filter(|task| left[task.index()] == 0)
        .map(|task| (0.0, task))
        .collect();
    let mut starts = vec![f64::NAN; graph.len()];
    let mut ends: Vec<(f64, TaskId)> = Vec::new();
    let (mut free, mut now, mut next, mut has_news) = (jobs, 0.0, 0.0, true);
    loop {
        if has_news && now >= next {
            has_news = false;
            next = now + delays.interval.max(delays.time);
            ready.sort_by(|one, other| one.partial_cmp(other).unwrap());
            while free > 0 && !ready.is_empty() {
                let (_, task) = ready.remove(0);
                free -= 1;
                let start = now + delays.time;
                starts[task.index()] = start;
                ends.push((start + graph.duration(task) as f64, task));
            }
        }
        let event = ends
            .iter()
            .map(|&(end, _)| end)
            .fold(f64::INFINITY, f64::min);
        let event = if has_news { event.min(next) } else { event };
        if event.is_infinite() {
            return starts;
        }
        now = event;
        for (_, ended) in ends
            .extract_if(.., |(end, _)| *end == now)
            .collect::<Vec<_>>()
        {
            (free, has_news) = (free + 1, true);
            for &task in successors.of(ended) {
                left[task.index()] -= 1;
                if left[task.index()] == 0 {
                    ready.push((now, task));
                }
            }
        }
    }
}

/// The same graph without tasks that take no time.
fn without_zeros(graph: &TaskGraph) -> TaskGraph {
    let mut graph = graph.clone();
    let durations = graph.tasks().map(|task| graph.duration(task) + 1).collect();
    graph.set_durations(TimeUnit::Units, durations).unwrap();
    graph
}

proptest! {
    #[test]
    fn slow_decisions_are_those_of_a_naive_model(
        graph in graphs_in(TimeUnit::Units), jobs in 1..5_u32, interval in 0..6_u8, time in 0..4_u8,
    ) {
        let graph = without_zeros(&graph);
        let delays = Delays { interval: f64::from(interval), time: f64::from(time) };
        let simulation = Simulation {
            delays,
            record_runs: true,
            ..Simulation::new(jobs, "fifo".parse().unwrap())
        };
        let outcome = simulate(&graph, &simulation).unwrap();
        prop_assert_eq!(outcome.succeeded, graph.len() as u64);
        let wanted = naive(&graph, jobs as usize, delays);
        if delays.are_given() {
            let mut runs: Vec<MachineRun> = outcome.machines.unwrap().runs;
            runs.sort_by_key(|run| run.task);
            let starts: Vec<f64> = runs.iter().map(|run| run.start).collect();
            prop_assert_eq!(starts, wanted);
        } else {
            let starts = outcome.runs.iter().map(|run| (run.task, run.start as f64));
            let wanted = (0..).zip(wanted).collect::<std::collections::BTreeMap<u32, f64>>();
            prop_assert_eq!(starts.collect::<std::collections::BTreeMap<_, _>>(), wanted);
        }
    }

    /// Whatever the policy, all is done in the end, and no sooner for slow decisions of plans.
    #[test]
    fn every_policy_may_decide_slowly(
        graph in graphs_in(TimeUnit::Units), interval in 0..6_u8, time in 0..4_u8,
        policy in prop::sample::select(vec![
            "random", "critical-path", "depth-first-by-memory", "heft", "dls", "min-min", "etf", "blevel-gt", "list",
        ]),
    ) {
        let delays = Delays { interval: f64::from(interval), time: f64::from(time) };
        let simulation = Simulation { delays, ..Simulation::new(3, policy.parse().unwrap()) };
        let outcome = simulate(&graph, &simulation).unwrap();
        prop_assert_eq!(outcome.succeeded, graph.len() as u64);
        if delays.are_given() {
            prop_assert!(outcome.machines.unwrap().makespan >= delays.time);
        }
    }
}
