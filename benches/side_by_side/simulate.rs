//! Simulations of very large graphs beside a bare traversal of the same graph in the same process.
//!
//!     cargo bench --bench side_by_side -- simulate              1,000,000 tasks, 4,000,000 edges
//!     cargo bench --bench side_by_side -- simulate 10000 10000000
//!     cargo bench --bench side_by_side -- simulate uniform      only tasks that take 1 to 10 s

use std::time::{Duration, Instant};

use windrow::components::task_graph::{Limits, TaskGraph, TaskId};
use windrow::formats::task_graph::Generator;
use windrow::systems::policy::Policy;
use windrow::systems::simulate::{Simulation, simulate};

use crate::common::{measuring, named, numbers};

/// How tasks last: all alike, so that slots end together, or each by itself, so that every end is
/// an instant of its own; and how many times longer than Kahn's traversal it may take.
const TIMES: [(&str, &str, u32); 2] = [("unit", "", 5), ("uniform", ",time=uniform:1..10s", 25)];

pub(crate) fn run_all() {
    let sizes = if measuring() {
        numbers(&[1_000_000])
    } else {
        vec![2000]
    };
    let rounds = if measuring() { 5 } else { 1 };
    for tasks in sizes {
        let all = !TIMES.iter().any(|(name, ..)| named(name));
        let times = TIMES.into_iter().filter(|(name, ..)| all || named(name));
        for (name, time, bound) in times {
            let text = format!("layered:n={tasks},width=1000,degree=4{time},seed=1");
            let generator: Generator = text.parse().expect("a generator");
            let graph = generator.generate(Limits::default()).expect("a graph");
            let (mut all, mut bare, mut ours) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let (with_arrays, traversal) = kahn(&graph);
                all.push(with_arrays);
                bare.push(traversal);
                ours.push(simulation(&graph));
            }
            let [all, bare, ours] = [all, bare, ours].map(|mut times| {
                times.sort_unstable();
                times[rounds / 2]
            });
            let each = ours.as_secs_f64() * 1e9 / tasks as f64;
            println!(
                "{tasks} tasks, {name} times: {:.3} s, {each:.0} ns each",
                ours.as_secs_f64()
            );
            println!(
                "  Kahn {:.4} s (traversal alone {:.4} s); ratio {:.2} (at most {bound})",
                all.as_secs_f64(),
                bare.as_secs_f64(),
                ours.as_secs_f64() / all.as_secs_f64()
            );
        }
    }
}

/// Kahn's traversal: successors and counts made from the graph's arrays of predecessors, then every
/// task once. The time of all, and of the last part alone.
fn kahn(graph: &TaskGraph) -> (Duration, Duration) {
    let began = Instant::now();
    let successors = graph.successors();
    let mut left: Vec<u32> = graph
        .tasks()
        .map(|task| graph.predecessors(task).len() as u32)
        .collect();
    let traversal = Instant::now();
    let mut order: Vec<TaskId> = Vec::with_capacity(graph.len());
    order.extend(graph.tasks().filter(|task| left[task.index()] == 0));
    let mut at = 0;
    while let Some(&task) = order.get(at) {
        at += 1;
        for &next in successors.of(task) {
            left[next.index()] -= 1;
            if left[next.index()] == 0 {
                order.push(next);
            }
        }
    }
    let end = Instant::now();
    assert_eq!(std::hint::black_box(order).len(), graph.len());
    (end - began, end - traversal)
}

fn simulation(graph: &TaskGraph) -> Duration {
    let simulation = Simulation::new(64, Policy::CriticalPath);
    let began = Instant::now();
    let outcome = simulate(graph, &simulation).expect("a simulation");
    assert_eq!(outcome.succeeded, graph.len() as u64);
    began.elapsed()
}
