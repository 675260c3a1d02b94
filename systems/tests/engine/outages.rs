//! Machines that fail: against a naive model, and by what must hold of every schedule.

use std::collections::BTreeMap;

use proptest::prelude::*;
use windrow_components::machine::{
    Cluster, Machine, Network, NetworkModel, Outage, Reliability, Role,
};
use windrow_components::task_graph::{TaskGraph, TaskId, TimeUnit};
use windrow_systems::simulate::{MachineOutcome, MachineRun, Simulation, simulate};

use crate::machines::{machine, on, validate_room};
use crate::simulate::graphs_in;

/// Times of being down: they begin and end between whole seconds, at which tasks end.
fn outages() -> impl Strategy<Value = Vec<Outage>> {
    proptest::collection::vec((0..12_u8, 0..6_u8), 0..5).prop_map(|gaps| {
        let mut now = 0.25;
        let outage = |(gap, length): (u8, u8)| {
            let at = now + f64::from(gap);
            let length = f64::from(length) + 0.5;
            // The next begins a quarter after a whole second, too.
            now = at + length + 0.5;
            Outage { at, length }
        };
        gaps.into_iter().map(outage).collect()
    })
}

/// The same graph in which each task takes a whole number of seconds above 0.
fn longer(graph: &TaskGraph) -> TaskGraph {
    let mut graph = graph.clone();
    let seconds = graph.tasks().map(|task| graph.duration(task) + 1);
    let durations = seconds.map(|seconds| seconds * 1_000_000).collect();
    graph
        .set_durations(TimeUnit::Microseconds, durations)
        .unwrap();
    graph
}

fn cluster(all: &[Vec<Outage>]) -> Cluster {
    let machines = all.iter().enumerate().map(|(number, outages)| Machine {
        reliability: Reliability::Listed(outages.clone()),
        ..machine(&format!("m{number}"), 1.0, 1)
    });
    Cluster {
        machines: machines.collect(),
        network: Network::default(),
    }
}

/// All runs of tasks as task, machine, start, end and whether it was lost, in the order of their
/// starts: what was ready first takes the first machine that is up and free.
fn naive(graph: &TaskGraph, all: &[Vec<Outage>]) -> Vec<(u32, usize, f64, f64, bool)> {
    let successors = graph.successors();
    let mut left: Vec<usize> = graph.tasks().map(|t| graph.predecessors(t).len()).collect();
    let mut ready: Vec<(f64, TaskId)> = graph
        .tasks()
        .filter(|task| left[task.index()] == 0)
        .map(|task| (0.0, task))
        .collect();
    let mut running: Vec<Option<(TaskId, f64)>> = vec![None; all.len()];
    let mut runs = Vec::new();
    let mut now = 0.0;
    loop {
        let is_up = |machine: usize| {
            let down = |outage: &Outage| outage.at <= now && now < outage.at + outage.length;
            !all[machine].iter().any(down)
        };
        ready.sort_by(|one, other| one.partial_cmp(other).unwrap());
        for (machine, task) in running.iter_mut().enumerate() {
            if task.is_none() && is_up(machine) && !ready.is_empty() {
                *task = Some((ready.remove(0).1, now));
            }
        }
        let end = |&(task, start): &(TaskId, f64)| start + graph.work(task);
        let instants = all.iter().flatten();
        let instants = instants.flat_map(|outage| [outage.at, outage.at + outage.length]);
        let instants = instants.chain(running.iter().flatten().map(end));
        let next = instants
            .filter(|&time| time > now)
            .fold(f64::INFINITY, f64::min);
        let is_over = ready.is_empty() && running.iter().all(Option::is_none);
        if next.is_infinite() || is_over {
            return runs;
        }
        now = next;
        for machine in 0..all.len() {
            let Some((task, start)) = running[machine] else {
                continue;
            };
            let number = task.index() as u32;
            if end(&(task, start)) == now {
                running[machine] = None;
                runs.push((number, machine, start, now, false));
                for &after in successors.of(task) {
                    left[after.index()] -= 1;
                    if left[after.index()] == 0 {
                        ready.push((now, after));
                    }
                }
            } else if all[machine].iter().any(|outage| outage.at == now) {
                running[machine] = None;
                runs.push((number, machine, start, now, true));
                ready.push((now, task));
            }
        }
    }
}

fn sorted(mut runs: Vec<(u32, usize, f64, f64, bool)>) -> Vec<(u32, usize, f64, f64, bool)> {
    runs.sort_by(|one, other| one.partial_cmp(other).unwrap());
    runs
}

/// Whether a schedule on machines that fail is one.
fn validate(graph: &TaskGraph, cluster: &Cluster, outcome: &MachineOutcome) -> Result<(), String> {
    let mut done: BTreeMap<u32, &MachineRun> = BTreeMap::new();
    for run in outcome.runs.iter().filter(|run| !run.lost) {
        if done.insert(run.task, run).is_some() {
            return Err(format!("task {} ends twice", run.task));
        }
    }
    let lost = outcome.runs.iter().filter(|run| run.lost).count() as u64;
    if lost != outcome.lost || done.len() != graph.len() {
        return Err(format!("{lost} lost, {} done: {outcome:?}", done.len()));
    }
    for run in &outcome.runs {
        for before in graph.predecessors(TaskId::from_index(run.task as usize)) {
            if done[&(before.index() as u32)].end > run.start {
                return Err(format!("{run:?} begins too early"));
            }
        }
        if let Reliability::Listed(all) = &cluster.machines[run.machine].reliability {
            let touches =
                |outage: &&Outage| run.start < outage.at + outage.length && outage.at < run.end;
            if let Some(outage) = all.iter().find(touches) {
                return Err(format!("{run:?} goes on in {outage:?}"));
            }
            if run.lost && !all.iter().any(|outage| outage.at == run.end) {
                return Err(format!("{run:?} is lost while its machine is up"));
            }
        }
    }
    // No machine fails once all tasks have ended.
    let last = outcome.runs.iter().map(|run| run.end);
    let last = last.fold(0.0, f64::max);
    for sent in &outcome.sent {
        for machine in [sent.from, sent.to] {
            if let Reliability::Listed(all) = &cluster.machines[machine].reliability
                && let Some(outage) = all
                    .iter()
                    .find(|it| it.at < last && it.at < sent.end && sent.end < it.at + it.length)
            {
                return Err(format!("{sent:?} ends in {outage:?}"));
            }
        }
    }
    let demands = graph.demands().map(|demands| (**demands).clone());
    validate_room(cluster, &demands.unwrap_or_default(), outcome)
}

proptest! {
    #[test]
    fn lost_tasks_run_again_as_in_a_naive_model(
        graph in graphs_in(TimeUnit::Units), all in proptest::collection::vec(outages(), 1..4),
    ) {
        let graph = longer(&graph);
        let cluster = cluster(&all);
        let outcome = simulate(&graph, &on(cluster.clone(), "fifo")).unwrap();
        prop_assert_eq!(outcome.succeeded, graph.len() as u64);
        let machines = outcome.machines.unwrap();
        prop_assert_eq!(validate(&graph, &cluster, &machines), Ok(()));
        let found = machines.runs.iter();
        let found = found.map(|run| (run.task, run.machine, run.start, run.end, run.lost));
        prop_assert_eq!(sorted(found.collect()), sorted(naive(&graph, &all)));
        let lost = machines.runs.iter().filter(|run| run.lost);
        prop_assert_eq!(machines.lost_time, lost.map(|run| run.end - run.start).sum::<f64>());
        let work: f64 = graph.tasks().map(|task| graph.work(task)).sum();
        prop_assert_eq!(machines.core_time, work);
    }

    #[test]
    fn every_policy_ends_on_machines_that_fail(
        graph in graphs_in(TimeUnit::Units), all in proptest::collection::vec(outages(), 2..4),
        by_chance in any::<bool>(), seed in any::<u64>(), has_network in any::<bool>(),
        reuse in any::<bool>(), storage in any::<bool>(),
        policy in prop::sample::select(vec![
            "fifo", "critical-path", "heft", "cpop", "peft", "dls", "min-min", "sufferage", "etf", "blevel-gt", "list",
            "depth-first-by-memory", "random",
        ]),
    ) {
        let graph = with_data(&longer(&graph));
        let mut cluster = cluster(&all);
        cluster.machines[0].cores = 2;
        cluster.machines[1].speed = 2.0;
        if storage {
            let last = cluster.machines.len() - 1;
            cluster.machines.push(Machine { role: Role::Storage, ..cluster.machines[last].clone() });
        }
        if by_chance {
            for machine in &mut cluster.machines {
                machine.reliability = Reliability::ByChance { up: 20.0, down: 3.0 };
            }
        }
        if has_network {
            cluster.network = Network {
                model: if reuse { NetworkModel::MaxMin } else { NetworkModel::Constant },
                bandwidth: 1e6,
                latency: 0.5,
                reuse,
                downloads: reuse.then_some(2),
                downloads_from_each: None,
            };
        }
        let simulation = Simulation { seed, ..on(cluster.clone(), policy) };
        let outcome = simulate(&graph, &simulation).unwrap();
        prop_assert_eq!(outcome.succeeded, graph.len() as u64);
        let machines = outcome.machines.unwrap();
        prop_assert_eq!(validate(&graph, &cluster, &machines), Ok(()));
        let again = simulate(&graph, &simulation).unwrap().machines.unwrap();
        prop_assert_eq!(&machines, &again);
        let megabytes: f64 = machines.sent.iter().map(|sent| sent.data as f64 % 3.0).sum();
        prop_assert!((machines.megabytes - megabytes).abs() < 1e-6);
    }
}

/// Each task makes a piece of data of 0 to 2 MB for all that need it.
pub(crate) fn with_data(graph: &TaskGraph) -> TaskGraph {
    use windrow_components::task_graph::Demands;
    let mut demands = Demands::default();
    for task in graph.tasks() {
        demands.sizes.push(task.index() as u64 % 3 * 1_000_000);
        demands.makers.push(Some(task));
        demands.outputs.push([task.index() as u32]);
        let inputs = graph.predecessors(task).iter();
        demands
            .inputs
            .push(inputs.map(|input| input.index() as u32));
    }
    let mut graph = graph.clone();
    graph.set_demands(demands).unwrap();
    graph
}

#[test]
fn a_task_that_no_machine_is_up_long_enough_for_is_told() {
    let mut cluster = cluster(&[Vec::new()]);
    cluster.machines[0].reliability = Reliability::ByChance { up: 1.0, down: 1.0 };
    let graph = "chain:n=1,time=constant:1h".parse::<windrow_formats::task_graph::Generator>();
    let graph = graph.unwrap().generate(Default::default()).unwrap();
    let error = simulate(&graph, &on(cluster, "fifo")).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("machines have failed 100000 times"),
        "{message}"
    );
}
