//! The engine's own systems in simulated time: against published figures, and against a naive model
//! on random graphs.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use windrow_components::task_graph::{Builder, Limits, TaskGraph, TaskId, TimeUnit};
use windrow_formats::task_graph::load;
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{Faults, Outcome, Simulation, peak_outputs, simulate};

fn simulation(jobs: u32, policy: &Policy) -> Simulation {
    Simulation {
        keep_going: true,
        record_runs: true,
        ..Simulation::new(jobs, policy.clone())
    }
}

fn run(graph: &TaskGraph, simulation: &Simulation) -> Outcome {
    simulate(graph, simulation).expect("a simulation that ends")
}

#[test]
fn every_row_of_the_reference_is_reproduced() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/workflows");
    let Ok(reference) = std::fs::read_to_string(dir.join("reference.csv")) else {
        eprintln!("skipped: {} is not there", dir.display());
        return;
    };
    let mut rows = 0;
    for line in reference.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [file, .., jobs, bound, fifo, critical_path] = fields[..] else {
            panic!("{line}")
        };
        let text = std::fs::read(dir.join(file)).expect(file);
        let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let graph = load(None, file, &text, Limits::default(), &mut none).expect(file);
        let jobs: u32 = jobs.parse().unwrap();
        let figure = |text: &str| text.parse::<u64>().unwrap();
        assert_eq!(
            graph.stats().lower_bound(u64::from(jobs)),
            figure(bound),
            "{line}"
        );
        for (policy, expected) in [(Policy::Fifo, fifo), (Policy::CriticalPath, critical_path)] {
            let outcome = run(&graph, &simulation(jobs, &policy));
            assert_eq!(
                outcome.makespan,
                figure(expected),
                "{} of {line}",
                policy.name()
            );
            assert_eq!(outcome.succeeded, graph.len() as u64);
        }
        rows += 1;
    }
    assert_eq!(rows, 114);
}

fn graphs() -> impl Strategy<Value = TaskGraph> {
    graphs_in(TimeUnit::Units)
}

/// Graphs of a few tasks that take a few units each.
pub(crate) fn graphs_in(unit: TimeUnit) -> impl Strategy<Value = TaskGraph> {
    let task = (
        0..6_u64,
        proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    );
    proptest::collection::vec(task, 1..40).prop_map(move |tasks| {
        let mut builder = Builder::new("random", unit, Limits::default());
        let ids: Vec<TaskId> = tasks
            .iter()
            .map(|(duration, _)| builder.add_task(None, Some(*duration)).unwrap())
            .collect();
        for (index, (_, inputs)) in tasks.iter().enumerate().skip(1) {
            for input in inputs {
                builder
                    .add_edge(ids[input.index(index)], ids[index])
                    .unwrap();
            }
        }
        builder.finish().unwrap()
    })
}

/// Which tasks end well when those in `faults` fail and everything else goes on: all that need no
/// failed one.
fn survivors(graph: &TaskGraph, faults: &Faults) -> BTreeSet<u32> {
    let mut good = BTreeSet::new();
    for task in graph.topological_order() {
        let index = task.index() as u32;
        let inputs_good = graph
            .predecessors(task)
            .iter()
            .all(|input| good.contains(&(input.index() as u32)));
        if inputs_good && !faults.tasks.contains(&index) {
            good.insert(index);
        }
    }
    good
}

proptest! {
    #[test]
    fn no_policy_breaks_a_rule(graph in graphs(), jobs in 1..5_u32, which in 0..Policy::ALL.len()) {
        let outcome = run(&graph, &simulation(jobs, &Policy::ALL[which]));
        prop_assert_eq!(outcome.succeeded, graph.len() as u64);
        prop_assert_eq!(outcome.runs.len(), graph.len());
        let mut ended = vec![None; graph.len()];
        for run in &outcome.runs {
            prop_assert!(run.slot < jobs);
            prop_assert_eq!(run.end - run.start, graph.duration(TaskId::from_index(run.task as usize)));
            prop_assert_eq!(ended[run.task as usize].replace(run.end), None, "each task runs once");
        }
        for run in &outcome.runs {
            for input in graph.predecessors(TaskId::from_index(run.task as usize)) {
                prop_assert!(ended[input.index()].unwrap() <= run.start);
            }
            let beside = outcome.runs.iter().filter(|other| {
                other.slot == run.slot && other.start < run.end && run.start < other.end
            });
            prop_assert!(beside.count() <= 1, "a slot has one task at a time");
        }
        let stats = graph.stats();
        prop_assert!(outcome.makespan >= stats.lower_bound(u64::from(jobs)));
        // Graham's bound for every schedule that leaves no slot idle while a task is ready.
        let jobs = u64::from(jobs);
        prop_assert!(outcome.makespan * jobs <= stats.work + (jobs - 1) * stats.critical_path);
    }

    #[test]
    fn on_one_slot_a_tree_is_run_with_the_least_memory(parents in proptest::collection::vec(any::<prop::sample::Index>(), 0..30)) {
        let mut builder = Builder::new("tree", TimeUnit::Units, Limits::default());
        for _ in 0..=parents.len() {
            builder.add_task(None, None).unwrap();
        }
        let mut inputs = vec![Vec::new(); parents.len() + 1];
        for (index, parent) in parents.iter().enumerate() {
            let (task, parent) = (index + 1, parent.index(index + 1));
            builder.add_edge(TaskId::from_index(task), TaskId::from_index(parent)).unwrap();
            inputs[parent].push(task);
        }
        // The need of Sethi and Ullman, inputs kept until their user has ended.
        let mut need = vec![0; inputs.len()];
        for task in (0..inputs.len()).rev() {
            let mut needs: Vec<usize> = inputs[task].iter().map(|&input| need[input]).collect();
            needs.sort_by_key(|&need| std::cmp::Reverse(need));
            let most = needs.iter().enumerate().map(|(made, need)| need + made).max();
            need[task] = most.unwrap_or(0).max(needs.len() + 1);
        }
        let graph = builder.finish().unwrap();
        let outcome = run(&graph, &simulation(1, &Policy::DepthFirstByMemory));
        prop_assert_eq!(peak_outputs(&graph, &outcome.runs), need[0] as u64);
    }

    #[test]
    fn what_is_measured_is_what_ran(graph in graphs(), jobs in 1..5_u32) {
        for policy in Policy::ALL {
            let outcome = run(&graph, &simulation(jobs, &policy));
            prop_assert_eq!(outcome.utilisation.busy.iter().sum::<u64>(), outcome.busy);
            prop_assert_eq!(outcome.waits.started, graph.len() as u64);
            let end = |task: TaskId| {
                outcome.runs.iter().find(|run| run.task as usize == task.index()).unwrap().end
            };
            let waited = outcome.runs.iter().map(|run| {
                let inputs = graph.predecessors(TaskId::from_index(run.task as usize));
                run.start - inputs.iter().map(|&input| end(input)).max().unwrap_or(0)
            });
            prop_assert_eq!(outcome.waits.total, waited.clone().sum::<u64>());
            prop_assert_eq!(outcome.waits.max, waited.max().unwrap());
            // Whoever runs holds an output, and nobody holds more than all.
            let held = peak_outputs(&graph, &outcome.runs);
            prop_assert!((1..=graph.len() as u64).contains(&held));
        }
    }

    #[test]
    fn failures_spread_to_what_needs_them_and_no_further(
        graph in graphs(), jobs in 1..5_u32, failing in proptest::collection::hash_set(0..40_u32, 0..5),
    ) {
        let faults = Faults { tasks: failing.into_iter().collect(), ..Faults::default() };
        let mut simulation = simulation(jobs, &Policy::Fifo);
        simulation.faults = faults.clone();
        let outcome = run(&graph, &simulation);
        let good: BTreeSet<u32> =
            outcome.runs.iter().filter(|run| !run.failed).map(|run| run.task).collect();
        prop_assert_eq!(&good, &survivors(&graph, &faults));
        prop_assert_eq!(outcome.succeeded + outcome.failed, graph.len() as u64);

        simulation.keep_going = false;
        let stopped = run(&graph, &simulation);
        prop_assert!(stopped.succeeded <= outcome.succeeded);
        prop_assert_eq!(stopped.failed == 0, outcome.failed == 0);
    }

    #[test]
    fn the_same_seed_gives_the_same_runs(graph in graphs(), seed in any::<u64>()) {
        let mut simulation = simulation(2, &Policy::Random);
        simulation.seed = seed;
        simulation.faults.per_million = 100_000;
        prop_assert_eq!(run(&graph, &simulation).runs, run(&graph, &simulation).runs);
    }
}
