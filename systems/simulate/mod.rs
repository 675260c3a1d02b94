//! The simulated world as a plugin: children are durations, the store is memory, time jumps to the
//! next event.
//!
//! Everything else, from finding out what is missing to telling the waiters, is done by the same
//! systems as in a real build.

pub(crate) mod arrivals;
pub(crate) mod caches;
pub(crate) mod children;
pub(crate) mod faults;
mod flow;
pub(crate) mod machines;
mod measure;
mod memory;
pub mod mishaps;
pub mod scenario;
mod store;

use std::sync::Arc;

use bevy_ecs::prelude::World;
use windrow_components::goal::Target;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_components::machine::Cluster;
use windrow_components::outputs::OutputSet;
use windrow_components::request::Request;
use windrow_components::task_graph::{Attributes, TaskGraph};

use crate::engine::{Engine, default_options};
use crate::error::{Error, Result};
use crate::policy::{Estimates, Policy, Seed, TaskNames, TaskPriorities};
use crate::report::Silent;
use crate::world::{Options, Pace, Parts, Scheduler};

pub use caches::{ALL, Cache, CacheSet, Fetch, Fetched};
pub use children::{Faults, SimulatedChildren};
pub use flow::Flow;
pub use machines::{Delays, MachineOutcome, MachineRun, Sent};
pub use measure::{PARTS, Run, Utilisation, Waits, peak_outputs};

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Build slots.
    pub jobs: u32,
    /// Which goal comes first.
    pub policy: Policy,
    /// For what is drawn by chance: the random policy, and failures.
    pub seed: u64,
    /// Go on with what does not depend on a failure.
    pub keep_going: bool,
    /// Which tasks fail.
    pub faults: Faults,
    /// Keep when and where each task ran.
    pub record_runs: bool,
    /// The binary caches that have outputs, if there are any. The graph is then in microseconds.
    pub caches: Option<CacheSet>,
    /// The machines that run tasks, instead of slots, if there are any. A policy that chooses
    /// machines, or decides slowly, has, without them, as many of one core as there are slots.
    /// There are no caches then.
    pub cluster: Option<Arc<Cluster>>,
    /// The same graph in which tasks take what the policy believes, if that is not what they take.
    pub believed: Option<Arc<TaskGraph>>,
    /// How slow decisions are.
    pub delays: Delays,
}

impl Simulation {
    /// A simulation without failures and caches, from seed 0, that keeps no runs.
    pub fn new(jobs: u32, policy: Policy) -> Self {
        Self {
            jobs,
            policy,
            seed: 0,
            keep_going: false,
            faults: Faults::default(),
            record_runs: false,
            caches: None,
            cluster: None,
            believed: None,
            delays: Delays::default(),
        }
    }

    /// What came of it without runs, if these are not asked for.
    fn trim(&self, mut outcome: MachineOutcome) -> MachineOutcome {
        if !self.record_runs {
            outcome.runs.clear();
            outcome.sent.clear();
        }
        outcome
    }

    /// Whether slots have to be machines.
    pub fn needs_machines(&self) -> bool {
        self.policy.places() || self.delays.are_given()
    }
}

/// How a simulation went.
#[derive(Debug)]
pub struct Outcome {
    /// When the last task ended, in the graph's unit.
    pub makespan: u64,
    /// How long all tasks that ran took together.
    pub busy: u64,
    /// How long tasks were ready before they ran.
    pub waits: Waits,
    /// How busy the slots were when.
    pub utilisation: Utilisation,
    /// How many tasks ran to a good end.
    pub succeeded: u64,
    /// How many failed, for themselves or for a task they needed.
    pub failed: u64,
    /// How many ticks it took.
    pub ticks: u64,
    /// When and where each task ran, if that was asked for.
    pub runs: Vec<Run>,
    /// How often tasks that failed were tried again.
    pub retried: u64,
    /// How long jobs took from their arrivals on, if tasks come later than at the beginning.
    pub flow: Option<Flow>,
    /// What came from caches.
    pub fetched: Fetched,
    /// What came of it on machines, if there were any.
    pub machines: Option<MachineOutcome>,
}

/// An estimate of the bytes that simulating a graph of that size takes with that number of caches,
/// the loaded graph not counted.
pub fn memory_needed(tasks: u64, edges: u64, caches: u64) -> u64 {
    const BYTES_PER_TASK: u64 = 240;
    const BYTES_PER_EDGE: u64 = 8;
    const BYTES_PER_PATH: u64 = 900;
    const BYTES_PER_ANSWER: u64 = 450;
    let of_caches = match caches {
        0 => 0,
        _ => caches.saturating_mul(BYTES_PER_ANSWER) + BYTES_PER_PATH,
    };
    tasks
        .saturating_mul(of_caches.saturating_add(BYTES_PER_TASK))
        .saturating_add(edges.saturating_mul(BYTES_PER_EDGE))
}

/// Runs the engine's own systems over `tasks`, in simulated time.
///
/// # Errors
/// When a task fits no machine, or the run gets stuck, which is a bug.
///
/// # Panics
/// If there are caches, and not a size for each task; if what is believed is of another number of
/// tasks.
pub fn simulate(tasks: &TaskGraph, simulation: &Simulation) -> Result<Outcome> {
    let cluster = match &simulation.cluster {
        Some(cluster) => Some(Arc::clone(cluster)),
        None if simulation.needs_machines() => Some(Arc::new(Cluster::of_slots(simulation.jobs))),
        None => None,
    };
    let mut engine = engine(tasks, simulation);
    if let Some(cluster) = &cluster {
        let graphs = (tasks, simulation.believed.as_deref());
        let record = simulation.record_runs || arrivals::are_given(tasks);
        let how = (simulation.delays, record, simulation.seed);
        machines::plug_in(&mut engine.world, graphs, cluster, how)?;
    }
    let mut ticks = 0;
    while !engine.is_over() {
        engine.tick();
        ticks += 1;
    }
    engine.check().map_err(|error| match (&error, &cluster) {
        (Error::Stuck, Some(cluster)) => {
            machines::why_stuck(&engine.world, tasks, cluster, &simulation.policy).unwrap_or(error)
        }
        _ => error,
    })?;
    let counts = engine.world.resource::<Scheduler>().counts();
    let mut fetched = caches::take_fetched(&mut engine.world);
    fetched.0.paths = u64::from(counts.fetched);
    let on_machines = cluster
        .and_then(|cluster| machines::take_outcome(&mut engine.world, tasks, &cluster))
        .map(|(outcome, flow)| (simulation.trim(outcome), flow));
    let (on_machines, flow) = on_machines.unzip();
    let children = engine
        .world
        .resource_mut::<SimulatedChildren>()
        .into_inner();
    let (waits, utilisation) = children.measured();
    let flow =
        arrivals::are_given(tasks).then(|| flow.unwrap_or_else(|| flow_of(tasks, &children.runs)));
    if !simulation.record_runs {
        children.runs.clear();
    }
    Ok(Outcome {
        retried: children.retried,
        flow,
        makespan: children.last_end.max(fetched.1),
        busy: children.busy,
        waits,
        utilisation,
        succeeded: u64::from(counts.built),
        failed: u64::from(counts.failed + counts.not_built),
        ticks,
        runs: std::mem::take(&mut children.runs),
        fetched: fetched.0,
        machines: on_machines,
    })
}

/// How long jobs took in slots.
fn flow_of(tasks: &TaskGraph, runs: &[Run]) -> Flow {
    let units = crate::machines::seconds(tasks.unit());
    let runs = runs
        .iter()
        .map(|run| (run.task, run.end as f64 / units, !run.failed));
    let ends = flow::ends(tasks.len(), runs);
    Flow::of(tasks, &ends, |task| tasks.duration(task) as f64 / units)
}

/// What a graph says of its tasks beside what they need.
fn plug_in_attributes(world: &mut World, tasks: &TaskGraph, attributes: &Attributes) {
    if arrivals::are_given(tasks) {
        arrivals::plug_in(world, tasks, attributes);
    }
    if !attributes.priorities.is_empty() {
        world.insert_resource(TaskPriorities(attributes.priorities.clone()));
    }
}

/// The engine for that, with the request for all that no other task needs.
fn engine(tasks: &TaskGraph, simulation: &Simulation) -> Engine {
    let graph = BuildGraph::from_tasks(tasks);
    let drvs = (0..tasks.len()).map(DrvId::from_index);
    let top: Vec<DrvId> = drvs.filter(|&drv| !graph.is_needed(drv)).collect();
    let store = store::SimulatedStore::new(tasks.len());
    let options = Options {
        max_jobs: simulation.jobs,
        // Tasks say nothing of that.
        always_allow_substitutes: simulation.caches.is_some(),
        ..default_options()
    };
    let mut engine = Engine::new(
        graph,
        Box::new(store),
        Box::new(Silent),
        options,
        simulation.policy.clone(),
    );
    let world = &mut engine.world;
    // At each instant everything is handled before anything starts, whatever that costs in real
    // time.
    world.resource_mut::<Scheduler>().pace = Pace {
        goals_per_tick: usize::MAX,
        slots_before_paperwork: false,
    };
    let durations = |tasks: &TaskGraph| tasks.tasks().map(|task| tasks.duration(task)).collect();
    let believed = simulation.believed.as_deref();
    assert!(believed.is_none_or(|believed| believed.len() == tasks.len()));
    if tasks.has_durations() || believed.is_some() {
        world.insert_resource(Estimates(durations(believed.unwrap_or(tasks))));
    }
    let mut faults = simulation.faults.clone();
    if faults.retries.is_empty()
        && let Some(attributes) = tasks.attributes()
    {
        faults.retries.clone_from(&attributes.retries);
    }
    world.insert_resource(Seed(simulation.seed));
    if simulation.policy.wants_names() {
        world.insert_resource(TaskNames::of(tasks));
    }
    world.insert_resource(SimulatedChildren::new(
        simulation.seed,
        faults,
        simulation.record_runs || arrivals::are_given(tasks),
        believed.map(|_| durations(tasks)),
    ));
    world.resource_mut::<Parts>().simulated = true;
    if let Some(attributes) = tasks.attributes() {
        plug_in_attributes(world, tasks, attributes);
    }
    if let Some(set) = &simulation.caches {
        let of_runs = (simulation.seed, simulation.record_runs);
        caches::plug_in(world, set, of_runs, tasks);
    }

    let targets = top.into_iter();
    let targets = targets.map(|drv| (Target::Derivation(drv), OutputSet::ALL));
    let request = Request {
        keep_going: simulation.keep_going,
        ..Request::new(targets)
    };
    engine.submit(request, None);
    engine
}
