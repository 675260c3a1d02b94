//! Simulations in which policies believe something else than what happens: against a naive list
//! scheduler that ranks by the one and takes time by the other, and by the rules on machines.

use std::collections::BTreeMap;

use proptest::prelude::*;
use windrow_components::machine::{Cluster, Network};
use windrow_components::task_graph::{Builder, Limits, TaskGraph, TaskId, TimeUnit};
use windrow_formats::task_graph::{Belief, Draws, Noise};
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{MachineRun, Simulation, simulate};

use crate::machines::{machine, on, run};
use crate::simulate::graphs_in;

/// The start and end of each task on that many slots, ranked by what is believed.
fn naive(graph: &TaskGraph, believed: &TaskGraph, jobs: usize, policy: &Policy) -> Vec<(u64, u64)> {
    let successors = graph.successors();
    let mut remaining = vec![0; graph.len()];
    for task in graph.topological_order().into_iter().rev() {
        let after = successors
            .of(task)
            .iter()
            .map(|next| remaining[next.index()]);
        remaining[task.index()] = after.max().unwrap_or(0) + believed.duration(task);
    }
    let rank = |task: TaskId, instant: u64| match policy {
        Policy::Fifo => instant,
        Policy::ShortestFirst => believed.duration(task),
        Policy::LongestFirst => u64::MAX - believed.duration(task),
        Policy::CriticalPath => u64::MAX - remaining[task.index()],
        other => panic!("{other:?}"),
    };
    let mut left: Vec<usize> = graph.tasks().map(|t| graph.predecessors(t).len()).collect();
    let mut ready: Vec<(u64, TaskId)> = graph
        .tasks()
        .filter(|task| left[task.index()] == 0)
        .map(|task| (rank(task, 0), task))
        .collect();
    let mut running: Vec<(u64, TaskId)> = Vec::new();
    let mut runs = vec![(0, 0); graph.len()];
    let mut now = 0;
    loop {
        ready.sort_unstable();
        while running.len() < jobs && !ready.is_empty() {
            let (_, task) = ready.remove(0);
            let end = now + graph.duration(task);
            runs[task.index()] = (now, end);
            running.push((end, task));
        }
        let Some(next) = running.iter().map(|&(end, _)| end).min() else {
            return runs;
        };
        now = next;
        for (_, ended) in running
            .extract_if(.., |(end, _)| *end == now)
            .collect::<Vec<_>>()
        {
            for &task in successors.of(ended) {
                left[task.index()] -= 1;
                if left[task.index()] == 0 {
                    ready.push((rank(task, now), task));
                }
            }
        }
    }
}

fn noises() -> impl Strategy<Value = Noise> {
    prop_oneof![
        (0.0..2.0).prop_map(Noise::LogNormal),
        (0.0..=1.0).prop_map(Noise::Normal),
        (0.0..=1.0).prop_map(Noise::Uniform),
    ]
}

fn beliefs() -> impl Strategy<Value = Belief> {
    prop_oneof![
        Just(Belief::Exact),
        Just(Belief::Measured),
        Just(Belief::KindMean),
        Just(Belief::Blind),
        noises().prop_map(Belief::Noise),
    ]
}

fn span(graph: &TaskGraph, run: &MachineRun, speed: f64) -> f64 {
    graph.work(TaskId::from_index(run.task as usize)) / speed
}

proptest! {
    #[test]
    fn ranks_are_of_what_is_believed_and_times_of_what_happens(
        graph in graphs_in(TimeUnit::Units), noise in noises(), belief in beliefs(),
        jobs in 1..5_u32, seed in any::<u64>(), which in 0..4_usize,
    ) {
        let policy = [Policy::Fifo, Policy::ShortestFirst, Policy::LongestFirst, Policy::CriticalPath];
        let policy = &policy[which];
        let truth = noise.apply(&graph, seed, Draws::Truth).unwrap();
        let believed = belief.of(&graph, seed).unwrap();
        let simulation = Simulation {
            record_runs: true,
            believed: believed.clone().map(Into::into),
            ..Simulation::new(jobs, policy.clone())
        };
        let outcome = simulate(&truth, &simulation).unwrap();
        let wanted = naive(&truth, believed.as_ref().unwrap_or(&truth), jobs as usize, policy);
        let found: BTreeMap<u32, (u64, u64)> =
            outcome.runs.iter().map(|run| (run.task, (run.start, run.end))).collect();
        prop_assert_eq!(found, (0..).zip(wanted).collect::<BTreeMap<_, _>>());
        prop_assert_eq!(outcome.busy, truth.stats().work);
        prop_assert!(outcome.makespan >= truth.stats().lower_bound(u64::from(jobs)));
    }

    #[test]
    fn machines_take_the_time_that_it_takes_whatever_is_believed(
        graph in graphs_in(TimeUnit::Microseconds), noise in noises(), belief in beliefs(),
        seed in any::<u64>(), policy in prop::sample::select(vec![
            "fifo", "critical-path", "heft", "cpop", "peft", "lookahead", "dls", "min-min", "sufferage", "etf",
            "blevel-gt", "list",
        ]),
    ) {
        let truth = noise.apply(&graph, seed, Draws::Truth).unwrap();
        let believed = belief.of(&graph, seed).unwrap();
        let machines = vec![machine("a", 1.0, 1), machine("b", 2.0, 2)];
        let speeds = [1.0, 2.0];
        let cluster = Cluster { machines, network: Network::default() };
        let simulation = Simulation { believed: believed.map(Into::into), ..on(cluster, policy) };
        let (outcome, machines) = run(&truth, &simulation);
        prop_assert_eq!(outcome.succeeded, graph.len() as u64);
        for run in &machines.runs {
            let wanted = span(&truth, run, speeds[run.machine]);
            prop_assert!((run.end - run.start - wanted).abs() < 1e-9, "{:?} takes {}", run, wanted);
        }
        prop_assert!(machines.makespan >= machines.lower_bound * (1.0 - 1e-9));
    }
}

/// A policy that plans by what it believes puts the task that it takes for the longer one on the
/// faster machine.
#[test]
fn plans_follow_what_is_believed() {
    let graph = |durations: Vec<u64>| {
        let mut builder = Builder::new("two", TimeUnit::Microseconds, Limits::default());
        for duration in durations {
            builder.add_task(None, Some(duration)).unwrap();
        }
        builder.finish().unwrap()
    };
    let (truth, believed) = (
        graph(vec![1_000_000, 8_000_000]),
        graph(vec![8_000_000, 1_000_000]),
    );
    let machines = vec![machine("slow", 1.0, 1), machine("fast", 4.0, 1)];
    let cluster = Cluster {
        machines,
        network: Network::default(),
    };
    let makespan = |believed: Option<TaskGraph>| {
        let simulation = Simulation {
            believed: believed.map(Into::into),
            ..on(cluster.clone(), "heft")
        };
        run(&truth, &simulation).1.makespan
    };
    assert_eq!((makespan(None), makespan(Some(believed))), (2.0, 8.0));
}
