//! What an empty tick costs: goals wait, one of them is ready, and nothing is done for any, because
//! the policy has yet to rank it. What remains are the loop over the systems, a policy that counts,
//! and the systems that run in every tick of a world.
//!
//!     cargo bench --bench side_by_side -- ticks                    100,000 of them, by the clock
//!     cargo bench --bench side_by_side -- ticks simulated 5000     in one world, as many as that
//!
//! Instructions are counted by running the same program under valgrind, twice, and taking the
//! difference: `valgrind --tool=callgrind target/release/deps/side_by_side-… --bench ticks real N`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use windrow::components::goal::Target;
use windrow::components::graph::BuildGraph;
use windrow::components::outputs::OutputSet;
use windrow::components::request::Request;
use windrow::components::task_graph::Limits;
use windrow::formats::task_graph::Generator;
use windrow::systems::ecs::prelude::{Local, ResMut, World};
use windrow::systems::engine::Engine;
use windrow::systems::policy::{Policy, PolicyPlugin, PolicySystems};
use windrow::systems::real;
use windrow::systems::real_store::RealStore;
use windrow::systems::report::Silent;
use windrow::systems::simulate::{Simulation, simulate};
use windrow::systems::world::Scheduler;

use crate::common::{Scratch, measuring, named, numbers};
use crate::idle::{add_real, session};

/// How many ticks the policy lets pass before it ranks anything.
static EMPTY_TICKS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Patient;

impl PolicyPlugin for Patient {
    fn name(&self) -> &str {
        "patient"
    }

    fn plug_in(&self, _: &mut World, systems: &mut PolicySystems) {
        systems.add_to_rank(rank_late);
    }
}

fn patient() -> Policy {
    Policy::Other(Arc::new(Patient))
}

fn rank_late(mut passed: Local<u64>, mut scheduler: ResMut<Scheduler>) {
    if *passed < EMPTY_TICKS.load(Ordering::Relaxed) {
        *passed += 1;
    } else {
        scheduler.rank(|_| 0);
    }
}

pub(crate) fn run_all() {
    let counts = match measuring() {
        true => numbers(&[100_000]),
        false => vec![100],
    };
    let all = !named("simulated") && !named("real");
    for count in counts {
        if all || named("simulated") {
            report("simulated", count, simulated(count));
        }
        if all || named("real") {
            report("real", count, in_real_world(count));
        }
    }
}

fn report(world: &str, count: usize, took: Duration) {
    let each = took.as_secs_f64() * 1e9 / count as f64;
    println!("{count} empty ticks, {world} world: {each:.0} ns each");
}

/// A chain of 100 tasks of which the first one is ranked late.
fn simulated(count: usize) -> Duration {
    EMPTY_TICKS.store(count as u64, Ordering::Relaxed);
    let generator: Generator = "chain:n=100".parse().expect("a generator");
    let graph = generator.generate(Limits::default()).expect("a graph");
    let began = Instant::now();
    let outcome = simulate(&graph, &Simulation::new(1, patient())).expect("a simulation");
    let took = began.elapsed();
    // Each task ends in a tick of its own.
    assert!(outcome.ticks >= count as u64 + 100 && outcome.ticks < count as u64 + 110);
    took
}

/// A derivation and one that needs it, in a store on disk, of which nothing is built.
fn in_real_world(count: usize) -> Duration {
    EMPTY_TICKS.store(u64::MAX, Ordering::Relaxed);
    let scratch = Scratch::new();
    let session = session(&scratch);
    let mut store = session.open().expect("a store");
    let file = scratch.path().join("graph.json");
    let gate = add_real(&mut store, &file, 1, &session.settings.system);
    let config = session
        .builder_config(&mut store, false)
        .expect("a configuration");
    let mut graph = BuildGraph::new(session.store_dir());
    let top = graph.path(&gate).expect("a path");
    let top = graph.drv(top);
    let store = Box::new(RealStore::from(store));
    let options = session.engine_options();
    let mut engine = Engine::new(graph, store, Box::new(Silent), options, patient());
    real::plug_in(&mut engine.world, config, false).expect("a world");
    let target = (Target::Derivation(top), OutputSet::ALL);
    engine.submit(Request::new([target]), None);
    while !engine.world.resource::<Scheduler>().has_newly_ready() {
        engine.tick();
    }
    let began = Instant::now();
    for _ in 0..count {
        engine.tick();
    }
    let took = began.elapsed();
    engine.check().expect("a run that goes on");
    assert_eq!(engine.world.resource::<Scheduler>().counts().running, 0);
    real::clean_up(&mut engine.world);
    took
}
