//! Puts a run together: the world, the systems of a tick, the goals asked for, and the loop of
//! ticks.

use std::time::Duration;

use bevy_ecs::prelude::{Entity, World};
use hashbrown::HashSet;
use windrow_components::goal::{BuildMode, DerivationGoal, Outcome, SubstitutionGoal, Target};
use windrow_components::graph::BuildGraph;
use windrow_components::outputs::OutputSet;

use crate::error::{Error, Result};
use crate::failure::FailureKinds;
use crate::helpers::Substituters;
use crate::policy::Policy;
use crate::report::Reporter;
use crate::tick;
use crate::world::{Options, Parts, Scheduler, Services, Store, TickSystems, goals};

/// Options of a run that nobody has set.
pub fn default_options() -> Options {
    Options {
        mode: BuildMode::Normal,
        max_jobs: 1,
        keep_going: false,
        fallback: false,
        always_allow_substitutes: false,
        platforms: Vec::new(),
        max_silent_time_s: 0,
        timeout_s: 0,
        max_log_size: 0,
        lock_poll_interval: Duration::from_secs(5),
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Summary {
    /// The top-level goals that failed, by full path.
    pub failed: Vec<String>,
    /// Paths that nobody could provide: neither valid nor substitutable.
    pub missing: Vec<String>,
    /// Paths that a substituter has, but not all of what they refer to.
    pub incomplete: Vec<String>,
    /// How many derivations were built.
    pub built: u32,
    /// The kinds of failures seen.
    pub failures: FailureKinds,
    /// The signal that interrupted it.
    pub interrupted: Option<i32>,
}

/// A run: goals, and the systems that take them to their end.
pub struct Engine {
    /// The world all state lives in.
    pub world: World,
    /// The tick, once the world has all its parts.
    systems: Option<TickSystems>,
    policy: Policy,
    /// What was asked for, in that order, each once.
    top: Vec<Entity>,
    known: HashSet<Entity>,
}

impl Engine {
    /// A run over `graph` and `store`. A world's systems are still to be plugged in.
    ///
    /// Nix 1.8: `Worker::Worker`, `Worker::~Worker`.
    pub fn new(
        graph: BuildGraph,
        store: Box<dyn Store>,
        reporter: Box<dyn Reporter>,
        options: Options,
        policy: Policy,
    ) -> Self {
        let mut world = World::new();
        world.insert_resource(graph);
        world.insert_non_send(Services { store, reporter });
        world.insert_resource(Scheduler::new(options));
        world.init_resource::<Substituters>();
        world.init_resource::<Parts>();
        Self {
            world,
            systems: None,
            policy,
            top: Vec::new(),
            known: HashSet::new(),
        }
    }

    /// Asks for a target.
    pub fn want(&mut self, target: Target, wanted: OutputSet) {
        let goal = goals::add_top_goal(&mut self.world, target, wanted);
        if self.known.insert(goal) {
            self.top.push(goal);
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_over(&self) -> bool {
        self.world.resource::<Scheduler>().run.is_over()
    }

    /// What ended the run before its goals had.
    ///
    /// # Errors
    /// That, if there is anything.
    pub fn check(&mut self) -> Result<(), Error> {
        let mut scheduler = self.world.resource_mut::<Scheduler>();
        if let Some(error) = scheduler.run.fatal.take() {
            return Err(error);
        }
        match scheduler.run.is_stuck {
            true if scheduler.options.max_jobs == 0 => Err(Error::NoSlots),
            true => Err(Error::Stuck),
            false => Ok(()),
        }
    }

    /// Runs one tick. With the first one the parts of the world are settled.
    pub fn tick(&mut self) {
        let systems = self
            .systems
            .get_or_insert_with(|| tick::systems(&mut self.world, self.policy));
        systems.run(&mut self.world);
    }

    /// Ticks until all targets have ended, or one has failed and the run is not to keep going.
    ///
    /// # Errors
    /// An error that concerns the store or the machine as a whole. What the run held is to be given
    /// up by the world's `clean_up` in any case.
    ///
    /// Nix 1.8: `Worker::run`.
    pub fn run(&mut self) -> Result<Summary, Error> {
        while !self.is_over() {
            self.tick();
        }
        self.check()?;
        let mut failed = Vec::new();
        let mut missing = Vec::new();
        let mut incomplete = Vec::new();
        for &goal in &self.top {
            let path = self.goal_path(goal);
            let scheduler = self.world.resource::<Scheduler>();
            match scheduler.stage(goal).outcome() {
                Some(Outcome::Failed) => failed.push(path),
                Some(Outcome::NoSubstituters) => missing.push(path),
                Some(Outcome::IncompleteClosure) => incomplete.push(path),
                _ => {}
            }
        }
        let scheduler = self.world.resource::<Scheduler>();
        Ok(Summary {
            failed,
            missing,
            incomplete,
            built: scheduler.counts().built,
            failures: scheduler.run.failures,
            interrupted: scheduler.run.interrupted,
        })
    }

    /// The path of what a goal is for, in full, for reports.
    ///
    /// Nix 1.8: `DerivationGoal::getDrvPath`.
    fn goal_path(&self, goal: Entity) -> String {
        let graph = self.world.resource::<BuildGraph>();
        if let Some(known) = self.world.get::<DerivationGoal>(goal) {
            return graph.full_path(graph.drv_path(known.drv));
        }
        self.world
            .get::<SubstitutionGoal>(goal)
            .map(|known| graph.full_path(known.path))
            .unwrap_or_default()
    }
}
