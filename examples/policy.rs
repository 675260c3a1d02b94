//! A policy of one's own, tried in simulation beside two that come with the engine:
//!
//!     cargo run --release --example policy [-- GENERATOR]
//!
//! A policy is a system that ranks every goal that has come to be ready: the smallest is built
//! first. It may look at all that the engine knows. Given to `windrow::EngineBuilder::policy`, real
//! builds run in its order.

use std::sync::Arc;

use windrow::components::graph::BuildGraph;
use windrow::components::task_graph::Limits;
use windrow::formats::task_graph::Generator;
use windrow::systems::ecs::prelude::{Res, ResMut, World};
use windrow::systems::policy::{Estimates, Policy, PolicyPlugin, PolicySystems};
use windrow::systems::simulate::{Simulation, simulate};
use windrow::systems::world::Scheduler;

/// What has the most inputs first, and of equals what takes the longest.
#[derive(Debug)]
struct JoinsFirst;

impl PolicyPlugin for JoinsFirst {
    fn name(&self) -> &str {
        "joins-first"
    }

    fn plug_in(&self, _: &mut World, systems: &mut PolicySystems) {
        systems.add_to_rank(joins_first);
    }
}

fn joins_first(
    mut scheduler: ResMut<Scheduler>,
    graph: Res<BuildGraph>,
    estimates: Res<Estimates>,
) {
    scheduler.rank(|drv| {
        let inputs = graph.inputs(drv).len() as u64;
        let seconds = (estimates.of(drv) / 1_000_000).min(u64::from(u32::MAX));
        u64::MAX - (inputs << 32 | seconds)
    });
}

fn compare(graph: &str) -> Result<(), Box<dyn std::error::Error>> {
    let graph = graph.parse::<Generator>()?.generate(Limits::default())?;
    for jobs in [4, 16, 64] {
        let own = Policy::Other(Arc::new(JoinsFirst));
        for policy in [Policy::Fifo, Policy::CriticalPath, own] {
            let makespan = simulate(&graph, &Simulation::new(jobs, policy.clone()))?.makespan;
            let ratio = makespan as f64 / graph.stats().lower_bound(jobs.into()) as f64;
            println!("{:<14} {jobs:>3} {ratio:>8.3}", policy.name());
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("makespan over its lower bound, by policy and slots");
    let graph = std::env::args().nth(1);
    compare(&graph.unwrap_or("random:n=5000,degree=3,time=exponential:10s".to_owned()))
}

#[test]
fn it_runs() {
    compare("random:n=200,degree=3,time=exponential:10s,seed=1").unwrap();
}
