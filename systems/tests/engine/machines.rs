//! Simulations on machines: against published makespans, and against a validator that knows nothing
//! of how they are made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use windrow_components::machine::{Cluster, Machine, Network, NetworkModel, Reliability, Role};
use windrow_components::task_graph::{
    Builder, Cores, Demands, Limits, TaskGraph, TaskId, TimeUnit,
};
use windrow_formats::task_graph::load_part;
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{
    Faults, MachineOutcome, MachineRun, Outcome, Sent, Simulation, simulate,
};

/// The published graphs and makespans, unless they are not there.
pub(crate) fn corpus() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/scheduling");
    if !dir.exists() {
        eprintln!("skipped: {} is not there", dir.display());
        return None;
    }
    Some(dir)
}

/// One of the graphs in a file.
pub(crate) fn read(file: &Path, name: &str) -> TaskGraph {
    let text = std::fs::read(file).expect("a file of graphs");
    let mut none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let shown = file.display().to_string();
    load_part(
        None,
        (&shown, Some(name)),
        &text,
        Limits::default(),
        &mut none,
    )
    .expect(name)
}

pub(crate) fn machine(name: &str, speed: f64, cores: u32) -> Machine {
    Machine {
        name: name.to_owned(),
        speed,
        cores,
        memory: None,
        disk: None,
        reliability: Reliability::Perfect,
        systems: Vec::new(),
        features: Vec::new(),
        role: Role::Compute,
    }
}

pub(crate) fn on(cluster: Cluster, policy: &str) -> Simulation {
    Simulation {
        cluster: Some(Arc::new(cluster)),
        record_runs: true,
        keep_going: true,
        ..Simulation::new(1, policy.parse().expect(policy))
    }
}

/// Runs it, and has the validator look at what came of it.
pub(crate) fn run(graph: &TaskGraph, simulation: &Simulation) -> (Outcome, MachineOutcome) {
    let outcome = simulate(graph, simulation).expect("a simulation that ends");
    let machines = outcome.machines.clone().expect("machines");
    let cluster = simulation.cluster.as_ref().expect("machines");
    if let Err(problem) = validate(graph, cluster, &machines) {
        panic!("{}: {problem}", simulation.policy.name());
    }
    (outcome, machines)
}

/// Whether a schedule is one: no core has two tasks at a time, memory suffices, tasks begin after
/// their inputs have come, data comes from where it was made and takes as long as it must.
fn validate(graph: &TaskGraph, cluster: &Cluster, outcome: &MachineOutcome) -> Result<(), String> {
    let empty = Arc::new(Demands::default());
    let demands = graph.demands().unwrap_or(&empty);
    let id = |run: &MachineRun| TaskId::from_index(run.task as usize);
    let mut by_task: BTreeMap<TaskId, &MachineRun> = BTreeMap::new();
    for run in &outcome.runs {
        if by_task.insert(id(run), run).is_some() {
            return Err(format!("task {} runs twice", run.task));
        }
    }
    for (&task, run) in &by_task {
        let machine = &cluster.machines[run.machine];
        let own = demands.cores(task);
        let count = run.cores.len() as u32;
        let fits = machine.role == Role::Compute
            && (own.least..=own.most).contains(&count)
            && run.cores.iter().all(|&core| core < machine.cores);
        if !fits {
            return Err(format!(
                "task {} does not fit where it runs: {run:?}",
                run.task
            ));
        }
        for before in graph.predecessors(task) {
            let ended = by_task
                .get(before)
                .is_some_and(|before| before.end <= run.start);
            if !ended {
                return Err(format!("task {} begins before {before:?} ends", run.task));
            }
        }
        if cluster.network.model == NetworkModel::None {
            continue;
        }
        for &data in demands.inputs(task) {
            let made = demands.makers[data as usize].and_then(|maker| by_task.get(&maker));
            let is_local = made.is_some_and(|made| made.machine == run.machine)
                || demands.makers[data as usize].is_none()
                    && cluster
                        .machines
                        .iter()
                        .all(|machine| machine.role == Role::Compute);
            let came =
                |sent: &Sent| sent.data == data && sent.to == run.machine && sent.end <= run.start;
            if !is_local && !outcome.sent.iter().any(came) {
                return Err(format!("task {} begins without its data {data}", run.task));
            }
        }
    }
    for sent in &outcome.sent {
        let from = match demands.makers[sent.data as usize] {
            Some(maker) => by_task
                .get(&maker)
                .filter(|made| made.end <= sent.start)
                .map(|m| m.machine),
            None => cluster
                .machines
                .iter()
                .position(|machine| machine.role == Role::Storage),
        };
        let least = cluster.network.time(demands.sizes[sent.data as usize]);
        if from != Some(sent.from) || sent.end - sent.start < least * (1.0 - 1e-9) - 1e-9 {
            return Err(format!("{sent:?} can't be"));
        }
    }
    validate_room(cluster, demands, outcome)
}

/// Whether cores and memory are never given twice.
pub(crate) fn validate_room(
    cluster: &Cluster,
    demands: &Demands,
    outcome: &MachineOutcome,
) -> Result<(), String> {
    for (number, machine) in cluster.machines.iter().enumerate() {
        let mut runs: Vec<&MachineRun> = outcome
            .runs
            .iter()
            .filter(|run| run.machine == number)
            .collect();
        runs.sort_by(|one, other| one.start.total_cmp(&other.start));
        let memory = |run: &MachineRun| demands.memory(TaskId::from_index(run.task as usize));
        let mut under_way: Vec<&MachineRun> = Vec::new();
        for run in runs {
            under_way.retain(|other| other.end > run.start);
            let shared =
                |other: &&MachineRun| other.cores.iter().any(|core| run.cores.contains(core));
            if let Some(other) = under_way.iter().copied().find(shared) {
                return Err(format!("{run:?} and {other:?} share a core"));
            }
            under_way.push(run);
            let needed: u64 = under_way.iter().map(|run| memory(run)).sum();
            if machine.memory.is_some_and(|memory| needed > memory) {
                return Err(format!(
                    "machine {number} has too little memory for {under_way:?}"
                ));
            }
        }
    }
    Ok(())
}

/// One of the four published platforms: nodes of some speeds with eight cores each, and the master.
fn portfolio_platform(name: &str) -> Cluster {
    let speeds: &[(u32, f64)] = match name {
        "system-0" => &[(96, 10.0)],
        "system-1" => &[(48, 5.0), (48, 15.0)],
        "system-2" => &[(48, 5.0), (48, 40.0)],
        "system-3" => &[(32, 10.0), (32, 20.0), (32, 30.0)],
        other => panic!("{other}"),
    };
    let nodes = speeds
        .iter()
        .flat_map(|&(count, speed)| (0..count).map(move |_| speed));
    let mut machines: Vec<Machine> = nodes
        .enumerate()
        .map(|(number, speed)| machine(&format!("node {number}"), speed, 8))
        .collect();
    machines.push(Machine {
        role: Role::Storage,
        ..machine("master", 1.0, 1)
    });
    Cluster {
        machines,
        network: Network {
            model: NetworkModel::Constant,
            bandwidth: 1e9,
            ..Network::default()
        },
    }
}

/// DSLab DAG's results of the portfolio of JSSPP 2022: 36 policies, four platforms, four workflows.
#[test]
fn every_row_of_the_portfolio_is_reproduced() {
    let Some(dir) = corpus() else { return };
    let rows = std::fs::read_to_string(dir.join("portfolio-makespans.csv")).expect("rows");
    let rows: Vec<Vec<&str>> = rows
        .lines()
        .skip(2)
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(rows.len(), 576);
    let check = |row: &Vec<&str>, graph: &TaskGraph| {
        let [workflow, system, task, machine, cores, figures @ ..] = &row[..] else {
            panic!("{row:?}")
        };
        let policy = format!("list:task={task},machine={machine},cores={cores}");
        let mut simulation = on(portfolio_platform(system), &policy);
        // The validator looks at some, for it is slow.
        simulation.record_runs = *system == "system-3" && *workflow != "5-Epigenomics";
        let outcome = match simulation.record_runs {
            true => run(graph, &simulation).1,
            false => simulate(graph, &simulation).unwrap().machines.unwrap(),
        };
        let found = [outcome.makespan, outcome.megabytes, outcome.task_time];
        for (found, wanted) in found.into_iter().zip(figures) {
            let wanted: f64 = wanted.parse().unwrap();
            let off = (found - wanted).abs();
            assert!(
                off <= wanted.abs() * 1e-6,
                "{row:?}: {found} instead of {wanted}"
            );
        }
    };
    std::thread::scope(|scope| {
        for part in rows.chunk_by(|one, other| one[0] == other[0]) {
            let (dir, check) = (&dir, &check);
            scope.spawn(move || {
                let graph = read(&dir.join("portfolio-graphs.zip"), part[0][0]);
                part.iter().for_each(|row| check(row, &graph));
            });
        }
    });
}

/// A graph whose tasks need cores, memory and data, by chance.
pub(crate) fn graphs() -> impl Strategy<Value = TaskGraph> {
    let task = (
        0..2_000_000_u64,
        1..3_u32,
        0..3_u32,
        0.0..1.0_f64,
        0..50_u64,
    );
    let tasks = proptest::collection::vec(task, 1..25);
    let edges = proptest::collection::vec((0..25_u32, 0..25_u32, 0..30_000_000_u64), 0..40);
    (tasks, edges).prop_map(|(tasks, edges)| {
        let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
        let mut demands = Demands::default();
        for &(time, least, more, alpha, memory) in &tasks {
            builder.add_task(None, Some(time)).unwrap();
            demands.work.push(time as f64 / 1e6);
            demands.cores.push(Cores {
                least,
                most: least + more,
                alpha,
            });
            demands.memory.push(memory);
        }
        let count = tasks.len() as u32;
        let mut inputs = vec![Vec::new(); tasks.len()];
        let mut outputs = vec![Vec::new(); tasks.len()];
        for (one, other, size) in edges {
            let (from, to) = (one.min(other) % count, one.max(other) % count);
            let number = demands.sizes.len() as u32;
            demands.sizes.push(size);
            match from.cmp(&to) {
                std::cmp::Ordering::Less => {
                    builder
                        .add_edge(TaskId::from_u32(from), TaskId::from_u32(to))
                        .unwrap();
                    demands.makers.push(Some(TaskId::from_u32(from)));
                    outputs[from as usize].push(number);
                    inputs[to as usize].push(number);
                }
                // Something that is there from the beginning, or that nobody needs.
                std::cmp::Ordering::Equal => {
                    demands.makers.push(None);
                    inputs[to as usize].push(number);
                }
                std::cmp::Ordering::Greater => {
                    demands.makers.push(Some(TaskId::from_u32(from)));
                    outputs[from as usize].push(number);
                }
            }
        }
        demands.inputs = inputs.into_iter().collect();
        demands.outputs = outputs.into_iter().collect();
        let mut graph = builder.finish().unwrap();
        graph.set_demands(demands).unwrap();
        graph
    })
}

/// A cluster by chance, on which all of [`graphs`] fit.
pub(crate) fn clusters() -> impl Strategy<Value = Cluster> {
    let machines = proptest::collection::vec((1..5_u32, 1..5_u32, 60..200_u64), 1..6);
    let limit = || proptest::option::of(1..3_u32);
    let network = (0..4_u32, any::<bool>(), any::<bool>(), limit(), limit());
    (machines, any::<bool>(), network).prop_map(|(machines, has_storage, network)| {
        let (model, is_late, reuse, downloads, downloads_from_each) = network;
        let mut machines: Vec<Machine> = machines
            .into_iter()
            .enumerate()
            .map(|(number, (speed, cores, memory))| Machine {
                memory: Some(memory),
                ..machine(&number.to_string(), f64::from(speed), cores)
            })
            .collect();
        machines[0].cores = 4;
        if has_storage {
            machines.push(Machine {
                role: Role::Storage,
                ..machine("store", 1.0, 1)
            });
        }
        let model = match model {
            0 => NetworkModel::None,
            1 => NetworkModel::Constant,
            2 => NetworkModel::MaxMin,
            _ => NetworkModel::Shared,
        };
        Cluster {
            machines,
            network: match model {
                NetworkModel::None => Network::default(),
                model => Network {
                    model,
                    bandwidth: 1e7,
                    latency: if is_late { 0.05 } else { 0.0 },
                    reuse,
                    downloads,
                    downloads_from_each,
                },
            },
        }
    })
}

/// The policies that are tried on them.
const POLICIES: [&str; 20] = [
    "fifo",
    "random",
    "critical-path",
    "depth-first-by-memory",
    "list",
    "list:task=DataSize,machine=TaskData,cores=Efficiency50",
    "list:task=CompSize,machine=MaxAvailableCores,cores=Efficiency90",
    "list:task=ChildrenCount",
    "blevel-gt",
    "heft",
    "heft:insertion=off",
    "cpop",
    "peft",
    "lookahead",
    "lookahead:depth=1",
    "dls",
    "min-min",
    "max-min",
    "sufferage",
    "etf",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn schedules_are_valid(graph in graphs(), cluster in clusters(), per_million in 0..100_000_u32) {
        for policy in POLICIES {
            let mut simulation = on(cluster.clone(), policy);
            let (outcome, machines) = run(&graph, &simulation);
            prop_assert_eq!(outcome.succeeded, graph.len() as u64);
            prop_assert!(machines.makespan >= machines.lower_bound * (1.0 - 1e-9), "{:?}", machines);
            prop_assert_eq!(run(&graph, &simulation).1, machines);
            simulation.faults = Faults { per_million, ..Faults::default() };
            let (outcome, machines) = run(&graph, &simulation);
            prop_assert_eq!(outcome.succeeded + outcome.failed, graph.len() as u64);
            let failed = machines.runs.iter().filter(|run| run.failed).count() as u64;
            prop_assert!(failed <= outcome.failed);
        }
    }

    /// Machines of one core without network are slots.
    #[test]
    fn machines_that_are_alike_are_slots(graph in graphs(), jobs in 1..5_u32) {
        let mut plain = graph.clone();
        plain.set_demands(Demands::default()).unwrap();
        for policy in [Policy::Fifo, Policy::CriticalPath, Policy::LongestFirst] {
            let on_slots = simulate(&plain, &Simulation::new(jobs, policy.clone())).unwrap();
            let (_, machines) = run(&plain, &on(Cluster::of_slots(jobs), policy.name()));
            prop_assert!((machines.makespan * 1e6 - on_slots.makespan as f64).abs() < 0.5, "{:?}", machines);
        }
    }
}

#[test]
fn a_task_that_fits_no_machine_is_told_beforehand() {
    let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
    for name in ["small", "wide", "large"] {
        builder.add_task(Some(name), Some(1)).unwrap();
    }
    let mut graph = builder.finish().unwrap();
    graph
        .set_demands(Demands {
            cores: [1, 4, 1].map(Cores::rigid).to_vec(),
            memory: vec![1, 1, 2000],
            ..Demands::default()
        })
        .unwrap();
    let small = Machine {
        memory: Some(1000),
        ..machine("a", 1.0, 2)
    };
    let cluster = Cluster {
        machines: vec![small],
        network: Network::default(),
    };
    let message = simulate(&graph, &on(cluster, "fifo"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`wide` fits no machine: it needs 4 cores and 1 bytes of memory")
            && message.contains("; nor does another one"),
        "{message}"
    );
}
