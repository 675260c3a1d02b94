//! The faulty world as a plugin: derivations with substitutes, a hook, and failures of every kind,
//! all in memory. Shows on thousands of graphs that the same systems keep the engine's promises
//! whatever fails, and in whatever order.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{DerivationGoal, Outcome, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;

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
    /// What each substituter has.
    pub substituters: Vec<BTreeMap<PathId, Offer>>,
    /// What becomes of derivations; one that is not named is built without trouble.
    pub builds: BTreeMap<DrvId, Build>,
    /// Whether there is a hook.
    pub hook: bool,
    /// How the run is to go about it.
    pub options: Options,
    /// What else goes wrong.
    pub mishaps: Mishaps,
    /// For how long everything takes, and what is drawn by chance.
    pub seed: u64,
}

/// How a run through a scenario ended.
#[derive(Debug)]
pub struct Report {
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

/// Runs the engine's own systems through a scenario until all of `wanted` have ended, or it is
/// killed.
///
/// # Panics
/// When a promise is broken: a path would become valid without its references, or is built although
/// it is valid; a build starts before all its inputs are valid; slots, held paths or locks are not
/// given back; the run does not end.
pub fn run(scenario: Scenario, wanted: &[Target]) -> Report {
    let disk = SharedDisk::new(scenario.valid.clone());
    let crash = scenario.mishaps.crash;
    let mut engine = engine(scenario, &disk);
    for &target in wanted {
        engine.want(target, OutputSet::ALL);
    }
    let mut ticks = 0;
    while !engine.is_over() && crash != Some(ticks) {
        assert!(ticks < ENDLESS, "the run does not end");
        engine.tick();
        ticks += 1;
        let scheduler = engine.world.resource::<Scheduler>();
        // An error that ends the run leaves its tick in the middle.
        if scheduler.run.fatal.is_none() {
            scheduler.assert_sound(engine.world.resource::<BuildGraph>());
        }
    }
    let crashed = !engine.is_over();
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
    // A failure may end the run, or a goal's waiting, while others are under way.
    let mut outcomes = derivations.values().chain(paths.values());
    let any_failure = outcomes.any(|&how| how == Some(Outcome::Failed));
    let undisturbed = scheduler.options.keep_going || !any_failure;
    if fatal.is_none() && !crashed && !is_stuck && undisturbed {
        scheduler.assert_settled(world.resource::<BuildGraph>());
        assert!(disk.locked.is_empty(), "locks are kept: {:?}", disk.locked);
    }
    let built = std::mem::take(&mut world.resource_mut::<Faults>().built);
    Report {
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
    let names = (0..scenario.substituters.len()).map(|n| n.to_string());
    world.insert_resource(Substituters::new(names));
    if scenario.hook {
        world.resource_mut::<Scheduler>().desk = HookDesk::open();
    }
    world.insert_resource(Faults {
        substituters: scenario.substituters,
        builds: scenario.builds,
        mishaps,
        running: BinaryHeap::new(),
        offers: BTreeMap::new(),
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
