//! Machines with little disk: what is kept never exceeds it, and what can't be is told.

use proptest::prelude::*;
use windrow_components::machine::{Cluster, Machine, Network, NetworkModel, Role};
use windrow_components::task_graph::{TaskGraph, TaskId, TimeUnit};
use windrow_systems::Error;
use windrow_systems::simulate::{MachineOutcome, MachineRun, simulate};

use crate::machines::{machine, on, run};
use crate::outages::with_data;
use crate::simulate::graphs_in;

const MB: u64 = 1_000_000;

/// What was kept on a machine at an instant, from the starts of tasks until all that need what they
/// make have ended, or until that is at the storage machine if none does.
fn kept(
    graph: &TaskGraph,
    (outcome, has_storage): (&MachineOutcome, bool),
    number: usize,
    now: f64,
) -> u64 {
    let demands = graph.demands().unwrap();
    let run_of = |task: TaskId| {
        let mut runs = outcome.runs.iter();
        runs.find(|run| run.task as usize == task.index()).unwrap()
    };
    let data_of = |run: &MachineRun| {
        let task = TaskId::from_index(run.task as usize);
        demands.outputs(task).to_vec()
    };
    let here = outcome
        .runs
        .iter()
        .filter(|run| run.machine == number && run.start <= now);
    let until = |data: u32| {
        let maker = demands.makers[data as usize].unwrap();
        let made = run_of(maker).end;
        let users = graph
            .tasks()
            .filter(|&task| demands.inputs(task).contains(&data));
        let ends: Vec<f64> = users.map(|task| run_of(task).end).collect();
        let arrived = outcome.sent.iter().find(|sent| sent.data == data);
        match (ends.is_empty(), arrived) {
            (false, _) => ends.into_iter().fold(0.0, f64::max),
            (true, Some(sent)) => sent.end,
            // Without a network it is there at once.
            (true, None) if has_storage => made,
            (true, None) => f64::INFINITY,
        }
    };
    let all = here.flat_map(data_of);
    let there = all.filter(|&data| until(data) > now);
    there.map(|data| demands.sizes[data as usize]).sum()
}

fn cluster(disks: &[u64], has_storage: bool, has_network: bool) -> Cluster {
    let machines = disks.iter().enumerate().map(|(number, &disk)| Machine {
        disk: Some(disk * MB),
        ..machine(&format!("m{number}"), 1.0, 2)
    });
    let mut machines: Vec<Machine> = machines.collect();
    if has_storage {
        machines.push(Machine {
            role: Role::Storage,
            ..machine("store", 1.0, 1)
        });
    }
    let network = match has_network {
        false => Network::default(),
        true => Network {
            model: NetworkModel::Constant,
            bandwidth: 1e6,
            ..Network::default()
        },
    };
    Cluster { machines, network }
}

proptest! {
    #[test]
    fn disks_are_never_overfull(
        graph in graphs_in(TimeUnit::Units), disks in proptest::collection::vec(2..12_u64, 1..4),
        has_storage in any::<bool>(), has_network in any::<bool>(),
        policy in prop::sample::select(vec!["fifo", "depth-first-by-memory", "list", "blevel-gt", "heft"]),
    ) {
        let graph = with_data(&graph);
        let cluster = cluster(&disks, has_storage, has_network);
        match simulate(&graph, &on(cluster.clone(), policy)) {
            Err(error) => prop_assert!(matches!(error, Error::DisksAreFull { .. }), "{error}"),
            Ok(outcome) => {
                prop_assert_eq!(outcome.succeeded, graph.len() as u64);
                let outcome = outcome.machines.unwrap();
                for run in &outcome.runs {
                    let kept = kept(&graph, (&outcome, has_storage), run.machine, run.start);
                    let disk = disks[run.machine] * MB;
                    prop_assert!(kept <= disk, "{} kept at {}: {:?}", kept, run.start, outcome);
                }
            }
        }
    }

    /// Enough disk for all that is made changes nothing.
    #[test]
    fn large_disks_are_as_good_as_none(graph in graphs_in(TimeUnit::Units), has_network in any::<bool>()) {
        let graph = with_data(&graph);
        let all: u64 = graph.demands().unwrap().sizes.iter().sum::<u64>() / MB;
        let limited = cluster(&[all, all], false, has_network);
        let mut free = limited.clone();
        free.machines.iter_mut().for_each(|machine| machine.disk = None);
        for policy in ["fifo", "list", "heft"] {
            let (_, one) = run(&graph, &on(limited.clone(), policy));
            let (_, other) = run(&graph, &on(free.clone(), policy));
            prop_assert_eq!(one, other);
        }
    }
}

#[test]
fn what_can_never_fit_is_told_beforehand_and_what_gets_stuck_when_it_does() {
    let text = r#"{"tasks":[
        {"name":"a","work":1,"outputs":["x"]}, {"name":"b","work":1,"outputs":["y"]},
        {"name":"c","work":1,"inputs":["x","y"]}],
        "data":[{"name":"x","size":"3MB"},{"name":"y","size":"3MB"}]}"#;
    let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let limits = windrow_components::task_graph::Limits::default();
    let graph =
        windrow_formats::task_graph::load(None, "g.json", text.as_bytes(), limits, &mut none);
    let graph = graph.unwrap();
    let result = |disk: u64| simulate(&graph, &on(cluster(&[disk], false, false), "fifo"));
    let message = result(2).unwrap_err().to_string();
    assert!(
        message.contains("`a` fits no machine: it needs 1 cores and 3000000 bytes of disk"),
        "{message}"
    );
    let message = result(5).unwrap_err().to_string();
    assert!(
        message.contains("the disks are full: `b` needs 3000000 bytes"),
        "{message}"
    );
    assert_eq!(result(6).unwrap().machines.unwrap().makespan, 2.0);
}
