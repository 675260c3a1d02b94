//! Binary caches in simulated time: small cases that can be worked out by hand, and what holds for
//! all graphs.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use windrow_components::task_graph::{Builder, Limits, TaskGraph, TaskId, TimeUnit};
use windrow_systems::policy::Policy;
use windrow_systems::simulate::{ALL, Cache, CacheSet, Outcome, Simulation, simulate};

use crate::simulate::graphs_in;

const SECOND: u64 = 1_000_000;
const MB: u64 = 1_000_000;

/// A cache that has everything, answers at once and sends 1 MB a second.
fn cache() -> Cache {
    Cache {
        name: "x".to_owned(),
        latency: Duration::ZERO,
        bandwidth: MB,
        hit: ALL,
        errors: 0,
        priority: 0,
        connections: 25,
        is_dead: false,
    }
}

fn latent(millis: u64) -> Cache {
    Cache {
        latency: Duration::from_millis(millis),
        ..cache()
    }
}

fn lacking() -> Cache {
    Cache { hit: 0, ..cache() }
}

fn dead() -> Cache {
    Cache {
        is_dead: true,
        ..cache()
    }
}

/// Outputs of 1 MB, which refer to all inputs.
fn set(graph: &TaskGraph, all: Vec<Cache>) -> CacheSet {
    CacheSet {
        all,
        sizes: vec![MB; graph.len()],
        references: ALL,
        prefer_builds: false,
    }
}

fn run_with(graph: &TaskGraph, jobs: u32, caches: Option<CacheSet>) -> Outcome {
    let simulation = Simulation {
        record_runs: true,
        keep_going: true,
        caches,
        ..Simulation::new(jobs, Policy::Fifo)
    };
    simulate(graph, &simulation).expect("a simulation that ends")
}

fn run(graph: &TaskGraph, all: Vec<Cache>) -> Outcome {
    run_with(graph, 4, Some(set(graph, all)))
}

/// Layers of tasks that take 100 seconds each, and need all of the layer before.
fn layers(count: usize, width: usize) -> TaskGraph {
    let mut builder = Builder::new("layers", TimeUnit::Microseconds, Limits::default());
    let mut before: Vec<TaskId> = Vec::new();
    for _ in 0..count {
        let layer = (0..width).map(|_| builder.add_task(None, Some(100 * SECOND)).unwrap());
        let layer: Vec<TaskId> = layer.collect();
        for &task in &layer {
            for &input in &before {
                builder.add_edge(input, task).unwrap();
            }
        }
        before = layer;
    }
    builder.finish().unwrap()
}

#[test]
fn what_a_cache_has_takes_as_long_as_its_bytes() {
    let chain = layers(10, 1);
    let outcome = run(&chain, vec![cache()]);
    assert_eq!((outcome.succeeded, outcome.fetched.paths), (0, 10));
    assert_eq!(outcome.fetched.bytes, 10 * MB);
    // A few microseconds may be lost where a line is shared by three.
    let close = |time: u64, expected: u64| time.abs_diff(expected) < 20;
    assert!(close(outcome.makespan, 10 * SECOND), "{}", outcome.makespan);
    // An answer, and then the first byte; all other answers come meanwhile.
    let outcome = run(&chain, vec![latent(50)]);
    let expected = 10 * SECOND + 100_000;
    assert!(close(outcome.makespan, expected), "{}", outcome.makespan);
    // One request after the other: for each a question and a download.
    let one = Cache {
        connections: 1,
        ..latent(50)
    };
    let outcome = run(&chain, vec![one]);
    assert_eq!(outcome.makespan, 10 * (SECOND + 100_000));
    // One alone needs none of the others.
    let mut alone = set(&chain, vec![cache()]);
    alone.references = 0;
    let outcome = run_with(&chain, 4, Some(alone));
    assert_eq!((outcome.makespan, outcome.fetched.paths), (SECOND, 1));
}

#[test]
fn what_no_cache_has_is_built_as_without_caches() {
    let graph = layers(5, 7);
    for jobs in [1, 3, 100] {
        let without = run_with(&graph, jobs, None);
        let with = run_with(&graph, jobs, Some(set(&graph, vec![lacking()])));
        assert_eq!(with.makespan, without.makespan);
        assert_eq!((with.succeeded, with.fetched.paths), (35, 0));
    }
    // All that a chain loses is an answer for each of its tasks.
    let chain = layers(5, 1);
    let slow = Cache {
        hit: 0,
        ..latent(50)
    };
    assert_eq!(run(&chain, vec![slow]).makespan, 500 * SECOND + 250_000);
}

#[test]
fn a_cache_that_is_dead_or_always_fails_costs_next_to_nothing() {
    let graph = layers(10, 20);
    let fast = Cache {
        bandwidth: 10 * MB,
        ..latent(50)
    };
    let alone = run(&graph, vec![fast.clone()]);
    assert_eq!((alone.succeeded, alone.fetched.paths), (0, 200));
    let failing = Cache {
        errors: ALL,
        ..latent(50)
    };
    for bad in [dead(), failing] {
        for all in [vec![bad.clone(), fast.clone()], vec![fast.clone(), bad]] {
            let both = run(&graph, all);
            assert_eq!((both.succeeded, both.fetched.paths), (0, 200));
            assert!(
                both.makespan * 10 < alone.makespan * 11,
                "{} and {}",
                both.makespan,
                alone.makespan
            );
        }
    }
}

#[test]
fn what_caches_fail_to_deliver_is_built() {
    let graph = layers(3, 3);
    let failing = Cache {
        errors: ALL,
        ..cache()
    };
    for bad in [dead(), failing] {
        let outcome = run(&graph, vec![bad]);
        assert_eq!((outcome.succeeded, outcome.failed), (9, 0));
        assert_eq!(outcome.fetched.paths, 0);
    }
}

#[test]
fn the_best_cache_gives_what_it_has_and_the_next_one_the_rest() {
    let graph = layers(4, 25);
    let half = Cache {
        hit: ALL / 2,
        ..cache()
    };
    let worse = Cache {
        priority: 10,
        ..cache()
    };
    let outcome = run(&graph, vec![worse, half]);
    let of = |cache: u32| {
        let downloads = outcome.fetched.downloads.iter();
        downloads.filter(|fetch| fetch.cache == cache).count()
    };
    assert_eq!((of(0) + of(1), outcome.succeeded), (100, 0));
    assert!((30..70).contains(&of(1)), "{}", of(1));
}

#[test]
fn what_takes_much_longer_to_fetch_is_built_if_that_is_wanted() {
    let mut builder = Builder::new("two", TimeUnit::Microseconds, Limits::default());
    // Of two that are both 200 MB, one is quick to build.
    builder.add_task(None, Some(2 * SECOND)).unwrap();
    builder.add_task(None, Some(100 * SECOND)).unwrap();
    let graph = builder.finish().unwrap();
    for (prefer_builds, built, seconds) in [(false, 0, 400), (true, 1, 200)] {
        let caches = CacheSet {
            sizes: vec![200 * MB; 2],
            prefer_builds,
            ..set(&graph, vec![cache()])
        };
        let outcome = run_with(&graph, 4, Some(caches));
        assert_eq!(
            (outcome.succeeded, outcome.fetched.paths),
            (built, 2 - built)
        );
        assert_eq!(outcome.makespan, seconds * SECOND);
    }
}

fn caches() -> impl Strategy<Value = Vec<Cache>> {
    let share = prop_oneof![Just(0), Just(ALL / 2), Just(ALL)];
    let cache = (
        share.clone(),
        share,
        0..3_u64,
        0..3_i64,
        1..4_u32,
        proptest::bool::weighted(0.1),
    );
    let cache = cache.prop_map(
        |(hit, errors, millis, priority, connections, is_dead)| Cache {
            hit,
            errors,
            priority,
            connections,
            is_dead,
            ..latent(millis)
        },
    );
    proptest::collection::vec(cache, 1..4)
}

proptest! {
    /// Whatever caches do, all is valid in the end, and nothing is built before its inputs are.
    #[test]
    fn all_is_valid_in_the_end(
        graph in graphs_in(TimeUnit::Microseconds), all in caches(), jobs in 1..4_u32,
        references in 0..=ALL, prefer_builds in any::<bool>(), seed in any::<u64>(),
    ) {
        let caches = CacheSet { references, prefer_builds, ..set(&graph, all) };
        let simulation = Simulation {
            record_runs: true,
            seed,
            caches: Some(caches),
            ..Simulation::new(jobs, Policy::Fifo)
        };
        let outcome = simulate(&graph, &simulation).unwrap();
        prop_assert_eq!(outcome.failed, 0);
        let mut there: BTreeMap<u32, u64> = BTreeMap::new();
        for run in &outcome.runs {
            prop_assert_eq!(there.insert(run.task, run.end), None, "each task runs once");
        }
        for fetch in outcome.fetched.downloads.iter().filter(|fetch| !fetch.failed) {
            let at = there.entry(fetch.task).or_insert(fetch.end);
            *at = fetch.end.min(*at);
        }
        for run in &outcome.runs {
            for input in graph.predecessors(TaskId::from_index(run.task as usize)) {
                prop_assert!(there[&(input.index() as u32)] <= run.start);
            }
        }
        let needed = graph.tasks().flat_map(|task| graph.predecessors(task).iter().copied());
        let needed: std::collections::BTreeSet<TaskId> = needed.collect();
        for task in graph.tasks().filter(|task| !needed.contains(task)) {
            prop_assert!(there.contains_key(&(task.index() as u32)));
        }
        let again = simulate(&graph, &simulation).unwrap();
        prop_assert_eq!(outcome.runs, again.runs);
        prop_assert_eq!(outcome.fetched.downloads, again.fetched.downloads);
    }
}
