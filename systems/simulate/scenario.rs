//! The faulty world as a plugin: derivations with substitutes, a hook, and failures of every kind,
//! all in memory. Shows on thousands of graphs that the same systems keep the engine's promises
//! whatever fails, and in whatever order.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{DerivationGoal, Outcome, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;
use windrow_components::request::{Request, RequestEnd, RequestState};

use crate::engine::Engine;
use crate::error::Error;
use crate::failure::FailureKinds;
use crate::helpers::Substituters;
use crate::policy::{Policy, Seed};
use crate::report::Silent;
use crate::simulate::faults::Faults;
use crate::simulate::memory::{MemoryStore, SharedDisk};
use crate::simulate::mishaps::{Chance, Mishaps};
use crate::world::{HookDesk, Options, Pace, Parts, Scheduler};

pub use super::faults::{Build, Offer};

/// After how many ticks a run is taken to be one that never ends; the longest of a million took a
/// few hundred.
const ENDLESS: u64 = 100_000;

/// A world with its faults.
#[derive(Debug)]
pub struct Scenario {
    /// All derivations, loaded.
    pub graph: BuildGraph,
    /// The paths that are valid in the beginning.
    pub valid: BTreeSet<PathId>,
    /// What each substituter has, those that are programs first.
    pub substituters: Vec<BTreeMap<PathId, Offer>>,
    /// How many of them are binary caches.
    pub caches: usize,
    /// What becomes of derivations; one that is not named is built without trouble.
    pub builds: BTreeMap<DrvId, Build>,
    /// Whether there is a hook.
    pub hook: bool,
    /// How the run is to go about it.
    pub options: Options,
    /// Whether it is to go on with what does not depend on a failure.
    pub keep_going: bool,
    /// Requests beside the first.
    pub later: Vec<Later>,
    /// What else goes wrong.
    pub mishaps: Mishaps,
    /// For how long everything takes, and what is drawn by chance.
    pub seed: u64,
}

/// A request that comes while others are under way, or have ended.
#[derive(Debug, Clone)]
pub struct Later {
    /// Before which tick it comes, counted from 0, if the engine has not stopped by then.
    pub tick: u64,
    /// What it asks for.
    pub wanted: Vec<Target>,
    /// Whether it is to go on with what does not depend on a failure.
    pub keep_going: bool,
    /// Before which tick it is cancelled, if it is.
    pub cancel: Option<u64>,
}

/// How a request ended, if it did, and how each of its targets had by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub end: Option<RequestEnd>,
    /// How its targets had ended, in their order.
    pub targets: Vec<Option<Outcome>>,
}

/// How a run through a scenario ended.
#[derive(Debug)]
pub struct Report {
    /// How the requests ended, in the order of the scenario.
    pub requests: Vec<Ended>,
    /// How each derivation's goal ended; one that was never asked for is not named.
    pub derivations: BTreeMap<DrvId, Option<Outcome>>,
    /// How each path's goal ended.
    pub paths: BTreeMap<PathId, Option<Outcome>>,
    /// The derivations that were built.
    pub built: BTreeSet<DrvId>,
    /// The paths that are valid in the end: what a restart finds.
    pub valid: BTreeSet<PathId>,
    /// Those of them that other processes made.
    pub made_by_others: BTreeSet<PathId>,
    /// The kinds of failures seen.
    pub failures: FailureKinds,
    /// What ended the run before its goals had.
    pub fatal: Option<Error>,
    /// Whether the store failed in a way that may do so.
    pub has_store_failed: bool,
    /// Whether it failed in a way that must.
    pub is_store_broken: bool,
    /// Whether the engine was killed before its end.
    pub crashed: bool,
    /// How many ticks it took.
    pub ticks: u64,
}

/// The requests of a scenario, as they come and go.
struct Requests {
    all: Vec<Later>,
    /// Those that have come, as far as they are.
    made: Vec<Option<Entity>>,
    ended: Vec<Ended>,
}

impl Requests {
    fn new(all: Vec<Later>) -> Self {
        let not_ended = |later: &Later| Ended {
            end: None,
            targets: vec![None; later.wanted.len()],
        };
        Self {
            made: vec![None; all.len()],
            ended: all.iter().map(not_ended).collect(),
            all,
        }
    }

    /// Does what is to be done before that tick, and notes which have ended.
    fn turn(&mut self, engine: &mut Engine, tick: u64) {
        for (nth, later) in self.all.iter().enumerate() {
            if later.tick == tick {
                let targets = later.wanted.iter().map(|&target| (target, OutputSet::ALL));
                let request = Request {
                    keep_going: later.keep_going,
                    ..Request::new(targets)
                };
                self.made[nth] = Some(engine.submit(request, None));
            }
            let Some(request) = self.made[nth] else {
                continue;
            };
            if later.cancel == Some(tick) {
                engine.cancel(request);
            }
            if self.ended[nth].end.is_none()
                && let RequestState::Ended(end) = engine.state(request)
            {
                let scheduler = engine.world.resource::<Scheduler>();
                let goals = later
                    .wanted
                    .iter()
                    .map(|&target| scheduler.index.get(target));
                let outcome = |goal: Option<Entity>| scheduler.stage(goal?).outcome();
                self.ended[nth] = Ended {
                    end: Some(end),
                    targets: goals.map(outcome).collect(),
                };
            }
        }
    }

    /// Whether one is still to come.
    fn has_more(&self, tick: u64) -> bool {
        self.all.iter().any(|later| later.tick >= tick)
    }
}

/// Runs the engine's own systems through a scenario until all that was asked for has ended, first
/// of all `wanted`, or it is killed.
///
/// # Panics
/// When a promise is broken: a path would become valid without its references, or is built although
/// it is valid; a build starts before all its inputs are valid; slots, held paths or locks are not
/// given back; the run does not end.
pub fn run(mut scenario: Scenario, wanted: &[Target]) -> Report {
    let disk = SharedDisk::new(scenario.valid.clone());
    let crash = scenario.mishaps.crash;
    let mut all = vec![Later {
        tick: 0,
        wanted: wanted.to_vec(),
        keep_going: scenario.keep_going,
        cancel: None,
    }];
    all.append(&mut scenario.later);
    let mut requests = Requests::new(all);
    let mut engine = engine(scenario, &disk);
    let mut ticks = 0;
    let crashed = loop {
        requests.turn(&mut engine, ticks);
        let has_stopped = engine.world.resource::<Scheduler>().run.has_stopped();
        if engine.is_idle() && (has_stopped || !requests.has_more(ticks + 1)) {
            break false;
        }
        if crash == Some(ticks) {
            break true;
        }
        assert!(ticks < ENDLESS, "the run does not end");
        if !engine.is_idle() {
            engine.tick();
        }
        ticks += 1;
        let scheduler = engine.world.resource::<Scheduler>();
        // An error that ends the run leaves its tick in the middle.
        if scheduler.run.fatal.is_none() {
            scheduler.assert_sound(engine.world.resource::<BuildGraph>());
        }
    };
    let is_stuck = engine.world.resource::<Scheduler>().run.is_stuck;
    let fatal = engine.check().err();
    let world = &mut engine.world;
    let (mut derivations, mut paths) = (BTreeMap::new(), BTreeMap::new());
    let mut goals = world.query::<(Entity, Option<&DerivationGoal>, Option<&SubstitutionGoal>)>();
    let scheduler = world.resource::<Scheduler>();
    for (goal, derivation, path) in goals.iter(world) {
        if let Some(known) = derivation {
            derivations.insert(known.drv, scheduler.stage(goal).outcome());
        }
        if let Some(known) = path {
            paths.insert(known.path, scheduler.stage(goal).outcome());
        }
    }
    let failures = scheduler.run.failures;
    let disk = std::mem::take(&mut *disk.look());
    if fatal.is_none() && !crashed && !is_stuck {
        scheduler.assert_settled(world.resource::<BuildGraph>());
        assert!(disk.locked.is_empty(), "locks are kept: {:?}", disk.locked);
    }
    let built = std::mem::take(&mut world.resource_mut::<Faults>().built);
    Report {
        requests: requests.ended,
        derivations,
        paths,
        built,
        valid: disk.valid,
        made_by_others: disk.made_by_others,
        failures,
        fatal,
        has_store_failed: disk.has_failed,
        is_store_broken: disk.is_broken,
        crashed,
        ticks,
    }
}

fn engine(scenario: Scenario, disk: &SharedDisk) -> Engine {
    let Scenario {
        mishaps,
        seed,
        options,
        ..
    } = scenario;
    let store = MemoryStore::new(
        disk.clone(),
        // Locks are taken one way or the other, and nothing may come of that.
        seed.is_multiple_of(2),
        mishaps.clone(),
        Chance::new(!seed),
    );
    let policy = match mishaps.shuffle && seed % 3 == 0 {
        true => Policy::Random,
        false => Policy::default(),
    };
    let (store, reporter) = (Box::new(store), Box::new(Silent));
    let mut engine = Engine::new(scenario.graph, store, reporter, options, policy);
    let world = &mut engine.world;
    world.insert_resource(Seed(seed));
    world.resource_mut::<Scheduler>().pace = Pace {
        goals_per_tick: usize::MAX,
        slots_before_paperwork: false,
    };
    let programs = scenario.substituters.len() - scenario.caches;
    let mut names = (0..scenario.substituters.len()).map(|n| n.to_string());
    let programs: Vec<String> = names.by_ref().take(programs).collect();
    world.insert_resource(Substituters::new(programs, names));
    if scenario.hook {
        world.resource_mut::<Scheduler>().desk = HookDesk::open();
    }
    world.insert_resource(Faults {
        substituters: scenario.substituters,
        builds: scenario.builds,
        mishaps,
        running: BinaryHeap::new(),
        offers: BTreeMap::new(),
        late: BinaryHeap::new(),
        built: BTreeSet::new(),
        disk: disk.clone(),
        chance: Chance::new(seed),
        order: Chance::new(seed ^ 0x5eed),
        answers: 0,
        hook_failures: 0,
        without_user: BTreeMap::new(),
    });
    let mut parts = world.resource_mut::<Parts>();
    (parts.others, parts.faults) = (true, true);
    engine
}
