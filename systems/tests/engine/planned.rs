//! Policies that plan beforehand, against the figures of the papers they come from and others that
//! are published; and one of them against an implementation that shares nothing with it.

use proptest::prelude::*;
use windrow_components::machine::{Cluster, Network, NetworkModel};
use windrow_components::task_graph::{
    Builder, Demands, Limits, TaskGraph, TaskId, TimeUnit, Times,
};
use windrow_systems::machines::{Workload, upward_ranks};

use crate::machines::{corpus, machine, on, read, run};

/// Edges and what they carry of the example of HEFT's paper.
const EDGES: [(usize, usize, u64); 15] = [
    (1, 2, 18),
    (1, 3, 12),
    (1, 4, 9),
    (1, 5, 11),
    (1, 6, 14),
    (2, 8, 19),
    (2, 9, 16),
    (3, 7, 23),
    (4, 8, 27),
    (4, 9, 23),
    (5, 9, 13),
    (6, 8, 15),
    (7, 10, 17),
    (8, 10, 11),
    (9, 10, 13),
];

/// The times of its tasks on its three processors.
const TIMES: [[f64; 3]; 10] = [
    [14.0, 16.0, 9.0],
    [13.0, 19.0, 18.0],
    [11.0, 13.0, 19.0],
    [13.0, 8.0, 17.0],
    [12.0, 13.0, 10.0],
    [13.0, 16.0, 9.0],
    [7.0, 15.0, 11.0],
    [5.0, 11.0, 14.0],
    [18.0, 12.0, 20.0],
    [21.0, 7.0, 16.0],
];

/// A graph with a piece of data for each edge; numbers of tasks from 0, sizes in MB.
fn graph(
    tasks: usize,
    edges: impl IntoIterator<Item = (usize, usize, u64)>,
    mut demands: Demands,
) -> TaskGraph {
    let mut builder = Builder::new("test", TimeUnit::Microseconds, Limits::default());
    for _ in 0..tasks {
        builder.add_task(None, Some(1)).unwrap();
    }
    let (mut inputs, mut outputs) = (vec![Vec::new(); tasks], vec![Vec::new(); tasks]);
    for (from, to, megabytes) in edges {
        let maker = TaskId::from_index(from);
        builder.add_edge(maker, TaskId::from_index(to)).unwrap();
        let number = demands.sizes.len() as u32;
        demands.sizes.push(megabytes * 1_000_000);
        demands.makers.push(Some(maker));
        outputs[from].push(number);
        inputs[to].push(number);
    }
    demands.inputs = inputs.into_iter().collect();
    demands.outputs = outputs.into_iter().collect();
    let mut graph = builder.finish().unwrap();
    graph.set_demands(demands).unwrap();
    graph
}

/// Machines of one core, of those speeds, a second for a MB between them.
fn cluster(speeds: &[f64]) -> Cluster {
    let machines = (1..).zip(speeds);
    Cluster {
        machines: machines
            .map(|(n, &speed)| machine(&format!("P{n}"), speed, 1))
            .collect(),
        network: Network {
            model: NetworkModel::Constant,
            bandwidth: 1e6,
            ..Network::default()
        },
    }
}

fn edges() -> impl Iterator<Item = (usize, usize, u64)> {
    EDGES
        .into_iter()
        .map(|(from, to, size)| (from - 1, to - 1, size))
}

/// Topcuoglu, Hariri, Wu: IEEE TPDS 13(3), 2002.
#[test]
fn the_example_of_heft_and_cpop_is_reproduced() {
    let demands = Demands {
        times: Times {
            machines: ["P1", "P2", "P3"].map(str::to_owned).to_vec(),
            seconds: TIMES.concat(),
        },
        ..Demands::default()
    };
    let graph = graph(10, edges(), demands);
    let cluster = cluster(&[1.0; 3]);
    let makespan = |policy: &str| run(&graph, &on(cluster.clone(), policy)).1.makespan;
    assert_eq!((makespan("heft"), makespan("cpop")), (80.0, 86.0));
    let workload = Workload::new(&graph, &cluster);
    let mean = |drv: windrow_components::ids::DrvId| TIMES[drv.index()].iter().sum::<f64>() / 3.0;
    let ranks = upward_ranks(&workload, mean, |bytes| cluster.network.time(bytes));
    let wanted = [
        108.0, 77.0, 80.0, 80.0, 69.0, 63.333, 42.667, 35.667, 44.333, 14.667,
    ];
    for (found, wanted) in ranks.iter().zip(wanted) {
        assert!((found - wanted).abs() < 0.001, "{ranks:?}");
    }
}

/// The same edges between tasks of other work, as DSLab DAG tests them.
#[test]
fn the_makespans_of_dslab_are_reproduced() {
    let demands = Demands {
        work: [64, 76, 52, 32, 56, 64, 60, 44, 48, 28]
            .map(f64::from)
            .to_vec(),
        ..Demands::default()
    };
    let graph = graph(10, edges(), demands);
    let cluster = cluster(&[1.0, 2.0, 4.0, 4.0]);
    for (policy, wanted) in [
        ("heft", 98.0),
        ("lookahead", 94.0),
        ("dls", 96.0),
        ("peft", 95.0),
    ] {
        let makespan = run(&graph, &on(cluster.clone(), policy)).1.makespan;
        assert_eq!(makespan, wanted, "{policy}");
    }
}

/// HEFT as its paper has it, by itself: the makespan that it plans.
fn heft(times: &[Vec<f64>], edges: &[(usize, usize, u64)]) -> f64 {
    let tasks = times.len();
    let mean = |task: usize| times[task].iter().sum::<f64>() / times[task].len() as f64;
    // Edges go from lower to higher numbers.
    let mut rank = vec![0.0_f64; tasks];
    for task in (0..tasks).rev() {
        let after = edges.iter().filter(|edge| edge.0 == task);
        let longest = after.map(|&(_, to, sent)| rank[to] + sent as f64);
        rank[task] = longest.fold(0.0, f64::max) + mean(task);
    }
    let mut order: Vec<usize> = (0..tasks).collect();
    order.sort_by(|&one, &other| rank[other].total_cmp(&rank[one]));
    let mut taken: Vec<Vec<(f64, f64)>> = vec![Vec::new(); times[0].len()];
    let mut placed = vec![(0, 0.0); tasks];
    for task in order {
        let mut best = (0, 0.0, f64::INFINITY);
        for (machine, list) in taken.iter().enumerate() {
            let before = edges.iter().filter(|edge| edge.1 == task);
            let ready = before.map(|&(from, _, sent)| match placed[from] {
                (other, end) if other == machine => end,
                (_, end) => end + sent as f64,
            });
            let (mut start, time) = (ready.fold(0.0, f64::max), times[task][machine]);
            for &(from, to) in list {
                if start + time <= from {
                    break;
                }
                start = start.max(to);
            }
            if start + time < best.2 {
                best = (machine, start, start + time);
            }
        }
        taken[best.0].push((best.1, best.2));
        taken[best.0].sort_by(|one, other| one.0.total_cmp(&other.0));
        placed[task] = (best.0, best.2);
    }
    placed.iter().fold(0.0, |last, &(_, end)| last.max(end))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What is planned is what happens, where nothing shares the network.
    #[test]
    fn heft_is_that_of_its_paper(
        times in proptest::collection::vec(proptest::collection::vec(1..1_000_000_u32, 4), 1..20),
        edges in proptest::collection::btree_map((0..20_usize, 0..20_usize), 0..400_u64, 0..50),
    ) {
        let count = times.len();
        let edges: Vec<(usize, usize, u64)> = edges
            .into_iter()
            .filter(|&((from, to), _)| from < to && to < count)
            .map(|((from, to), size)| (from, to, size))
            .collect();
        let times: Vec<Vec<f64>> = times
            .into_iter()
            .map(|row| row.into_iter().map(|time| f64::from(time) / 1000.0).collect())
            .collect();
        let demands = Demands {
            times: Times {
                machines: ["P1", "P2", "P3", "P4"].map(str::to_owned).to_vec(),
                seconds: times.concat(),
            },
            ..Demands::default()
        };
        let graph = graph(count, edges.iter().copied(), demands);
        let found = run(&graph, &on(cluster(&[1.0; 4]), "heft")).1.makespan;
        let wanted = heft(&times, &edges);
        prop_assert!((found - wanted).abs() < 1e-9 * wanted.max(1.0), "{found} {wanted}");
    }
}

/// Estee 55c0834 on 8 machines of 4 cores with 128 MiB/s, with its two networks. Ties are broken by
/// chance there and here. Three seeds there are few: with 24, `plain1cpus` takes from 1824 to 1968
/// s, while the three lie from 1863 to 1886. So of twelve seeds here some have to lie in the spread
/// of the three, give or take one in a hundred, and all near it.
#[test]
fn the_makespans_of_estee_are_reproduced() {
    let Some(dir) = corpus() else { return };
    let rows = std::fs::read_to_string(dir.join("estee-makespans.csv")).expect("rows");
    let rows = rows.lines().filter(|line| !line.starts_with('#')).skip(1);
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split(',').collect()).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for group in rows.chunk_by(|one, other| one[..6] == other[..6]) {
        let [set, name, _, _, network, "blevel-gt", ..] = group[0][..] else {
            continue;
        };
        let graph = read(&dir.join(format!("estee-{set}.zip")), name);
        let times = group.iter().map(|row| row[7].parse::<f64>().unwrap());
        let least = times.clone().fold(f64::INFINITY, f64::min) * 0.99;
        let most = times.fold(0.0, f64::max) * 1.01;
        let mut cluster = cluster(&[1.0; 8]);
        cluster
            .machines
            .iter_mut()
            .for_each(|machine| machine.cores = 4);
        cluster.network = Network {
            model: match network {
                "simple" => NetworkModel::Constant,
                _ => NetworkModel::MaxMin,
            },
            bandwidth: 128.0 * 1_048_576.0,
            reuse: true,
            downloads: (network != "simple").then_some(4),
            downloads_from_each: (network != "simple").then_some(2),
            ..Network::default()
        };
        let makespans = (1..=12).map(|seed| {
            let mut simulation = on(cluster.clone(), "blevel-gt");
            simulation.seed = seed;
            run(&graph, &simulation).1.makespan
        });
        let makespans: Vec<f64> = makespans.collect();
        let inside = makespans
            .iter()
            .filter(|time| (least..=most).contains(time))
            .count();
        let is_near = |time: &f64| (least * 0.95..=most * 1.05).contains(time);
        if inside < 3 || !makespans.iter().all(is_near) {
            wrong.push(format!(
                "{name} {network}: {least:.1}..{most:.1}: {makespans:.1?}"
            ));
        }
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
