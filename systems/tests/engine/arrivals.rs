//! Tasks that come later, and tasks that are tried again: against a naive model of slots.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use windrow_components::machine::Cluster;
use windrow_components::task_graph::{Attributes, TaskGraph, TaskId, TimeUnit};
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{Faults, Simulation, simulate};

use crate::simulate::graphs_in;

/// The starts and ends of all tries, by task: what was ready first takes the next slot, and a task
/// whose tries are not used up is ready again when it has failed.
fn naive(graph: &TaskGraph, jobs: usize, faults: &Faults) -> BTreeMap<u32, Vec<(u64, u64)>> {
    let attributes = graph.attributes().unwrap();
    let successors = graph.successors();
    let mut left: Vec<usize> = graph.tasks().map(|t| graph.predecessors(t).len()).collect();
    let mut ready: Vec<(u64, TaskId)> = Vec::new();
    let come = |task: TaskId, now: u64, ready: &mut Vec<(u64, TaskId)>| {
        ready.push((now.max(attributes.arrival(task) as u64), task));
    };
    for task in graph.tasks().filter(|task| left[task.index()] == 0) {
        come(task, 0, &mut ready);
    }
    let mut running: Vec<(u64, TaskId)> = Vec::new();
    let mut runs: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    let mut now = 0;
    loop {
        ready.sort_unstable();
        while running.len() < jobs && ready.first().is_some_and(|&(time, _)| time <= now) {
            let (_, task) = ready.remove(0);
            let end = now + graph.duration(task);
            let number = task.index() as u32;
            runs.entry(number).or_default().push((now, end));
            running.push((end, task));
        }
        let ends = running.iter().map(|&(end, _)| end);
        let arrivals = ready
            .iter()
            .map(|&(time, _)| time)
            .filter(|&time| time > now);
        let Some(next) = ends.chain(arrivals).min() else {
            return runs;
        };
        now = next;
        for (_, ended) in running
            .extract_if(.., |(end, _)| *end == now)
            .collect::<Vec<_>>()
        {
            let number = ended.index() as u32;
            if faults.tasks.contains(&number) {
                let tries = runs[&number].len() as u32;
                if tries <= faults.retries[ended.index()] {
                    ready.push((now, ended));
                }
                continue;
            }
            for &task in successors.of(ended) {
                left[task.index()] -= 1;
                if left[task.index()] == 0 {
                    come(task, now, &mut ready);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn tasks_start_when_they_have_come_and_as_often_as_they_may(
        graph in graphs_in(TimeUnit::Units), jobs in 1..5_u32, on_machines in any::<bool>(),
        arrivals in proptest::collection::vec(0..20_u8, 40), retries in proptest::collection::vec(0..3_u32, 40),
        failing in proptest::collection::hash_set(0..40_u32, 0..4),
    ) {
        let mut graph = graph;
        let durations = graph.tasks().map(|task| graph.duration(task) + 1).collect();
        graph.set_durations(TimeUnit::Units, durations).unwrap();
        let count = graph.len();
        let attributes = Attributes {
            arrivals: arrivals[..count].iter().map(|&time| f64::from(time)).collect(),
            retries: retries[..count].to_vec(),
            ..Attributes::default()
        };
        graph.set_attributes(attributes).unwrap();
        let faults = Faults { tasks: failing.into_iter().collect(), ..Faults::default() };
        let simulation = Simulation {
            faults: faults.clone(),
            keep_going: true,
            record_runs: true,
            cluster: on_machines.then(|| Arc::new(Cluster::of_slots(jobs))),
            ..Simulation::new(jobs, Policy::Fifo)
        };
        let outcome = simulate(&graph, &simulation).unwrap();
        let faults = Faults { retries: retries[..count].to_vec(), ..faults };
        let wanted = naive(&graph, jobs as usize, &faults);
        let mut found: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        match &outcome.machines {
            Some(machines) => machines.runs.iter().for_each(|run| {
                found.entry(run.task).or_default().push((run.start as u64, run.end as u64));
            }),
            None => outcome.runs.iter().for_each(|run| {
                found.entry(run.task).or_default().push((run.start, run.end));
            }),
        }
        prop_assert_eq!(&found, &wanted);
        let tried: u64 = wanted.values().map(|runs| runs.len() as u64 - 1).sum();
        prop_assert_eq!(outcome.retried, tried);
        let has_arrivals = graph.attributes().unwrap().has_arrivals();
        prop_assert_eq!(outcome.flow.is_some(), has_arrivals);
        if let Some(flow) = outcome.flow {
            prop_assert!(flow.mean <= flow.max && flow.mean_slowdown <= flow.max_slowdown + 1e-9);
            prop_assert!(flow.jobs == 0 || flow.mean_slowdown >= 1.0 - 1e-9);
        }
    }
}

/// Plans made beforehand wait for tasks that come later, and try again on the same cores.
#[test]
fn plans_wait_and_try_again() {
    let text = r#"{"tasks":[{"name":"a","work":1,"arrival":3,"retries":2},{"name":"b","work":1,"after":["a"]}]}"#;
    let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let limits = windrow_components::task_graph::Limits::default();
    let graph =
        windrow_formats::task_graph::load(None, "g.json", text.as_bytes(), limits, &mut none);
    let graph = graph.unwrap();
    for policy in ["heft", "list", "blevel-gt", "critical-path"] {
        let mut simulation = crate::machines::on(Cluster::of_slots(2), policy);
        let makespan = |simulation: &Simulation| {
            let outcome = simulate(&graph, simulation).unwrap();
            (
                outcome.machines.unwrap().makespan,
                outcome.retried,
                outcome.failed,
            )
        };
        assert_eq!(makespan(&simulation), (5.0, 0, 0), "{policy}");
        simulation.faults.tasks.insert(0);
        assert_eq!(makespan(&simulation), (6.0, 2, 2), "{policy}");
    }
}
