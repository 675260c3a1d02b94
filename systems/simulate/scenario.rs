//! The faulty world as a plugin: derivations with substitutes, a hook, and failures of every kind, all in memory. Shows on
//! thousands of graphs that the same systems keep the engine's promises whatever fails, and in whatever order.

pub use super::faults::{Build, Offer};
use crate::world::HookDesk;
use crate::world::Scheduler;
use bevy_ecs::prelude::Entity;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

use windrow_components::building::HashRewrites;
use windrow_components::goal::{DerivationGoal, Outcome, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::outputs::OutputSet;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::failure::FailureKinds;
use crate::helpers::Substituters;
use crate::policy::Policy;
use crate::report::Silent;
use crate::simulate::faults::Faults;
use crate::store::path_lock::OutputLocks;
use crate::world::{NewOutput, Options, Pace, Parts, Store};

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
    /// For how long everything takes.
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
    /// The paths that are valid in the end.
    pub valid: BTreeSet<PathId>,
    /// The kinds of failures seen.
    pub failures: FailureKinds,
    /// What ended the run before its goals had.
    pub fatal: Option<Error>,
}

type Valid = Rc<RefCell<BTreeSet<PathId>>>;

struct MemoryStore {
    valid: Valid,
    shared: bool,
}

impl Store for MemoryStore {
    fn add_temp_roots(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<()> {
        Ok(())
    }

    fn valid(&mut self, _: &BuildGraph, paths: &[PathId]) -> Result<Vec<bool>> {
        let valid = self.valid.borrow();
        Ok(paths.iter().map(|path| valid.contains(path)).collect())
    }

    fn load(&mut self, _: &mut BuildGraph, _: DrvId) -> Result<()> {
        Ok(())
    }

    fn check_output_paths(&mut self, _: &BuildGraph, _: DrvId) -> Result<()> {
        Ok(())
    }

    fn nar_hash(&mut self, _: &BuildGraph, _: PathId) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn try_lock(&mut self, _: &BuildGraph, _: &[PathId]) -> Result<Option<OutputLocks>> {
        Ok(Some(OutputLocks::default()))
    }

    fn scratch_outputs(&mut self, _: &BuildGraph, _: DrvId, _: &[PathId]) -> Result<HashRewrites> {
        Ok(HashRewrites::default())
    }

    fn unlock(&mut self, _: OutputLocks, _: bool) {}

    fn input_closure(&mut self, _: &mut BuildGraph, _: DrvId) -> Result<Vec<PathId>> {
        Ok(Vec::new())
    }

    fn closure(&mut self, _: &mut BuildGraph, paths: &[PathId]) -> Result<Vec<PathId>> {
        Ok(paths.to_vec())
    }

    fn register(&mut self, _: &BuildGraph, outputs: &[NewOutput]) -> Result<()> {
        let mut valid = self.valid.borrow_mut();
        valid.extend(outputs.iter().map(|output| output.path));
        for reference in outputs
            .iter()
            .filter_map(|output| output.built.as_ref())
            .flat_map(|built| &built.references)
        {
            assert!(
                valid.contains(reference),
                "a path is valid only with its references"
            );
        }
        Ok(())
    }
}

/// Runs the engine's own systems through a scenario until all of `wanted` have ended.
///
/// # Panics
/// When a path would become valid without its references, or a build starts before all its inputs are valid: a promise is
/// broken.
pub fn run(scenario: Scenario, wanted: &[Target]) -> Report {
    let valid: Valid = Rc::new(RefCell::new(scenario.valid));
    let mut engine = Engine::new(
        scenario.graph,
        Box::new(MemoryStore {
            valid: Rc::clone(&valid),
            // Locks are taken one way or the other, and nothing may come of that.
            shared: scenario.seed.is_multiple_of(2),
        }),
        Box::new(Silent),
        scenario.options,
        Policy::default(),
    );
    let world = &mut engine.world;
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
        running: BinaryHeap::new(),
        offers: BTreeMap::new(),
        built: BTreeSet::new(),
        random: scenario.seed,
    });
    let mut parts = world.resource_mut::<Parts>();
    (parts.others, parts.faults) = (true, true);
    for &target in wanted {
        engine.want(target, OutputSet::ALL);
    }
    while !engine.is_over() {
        engine.tick();
    }
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
    let built = std::mem::take(&mut world.resource_mut::<Faults>().built);
    Report {
        derivations,
        paths,
        built,
        valid: valid.borrow().clone(),
        failures,
        fatal,
    }
}
