//! Puts a run together: the world, the systems of a tick, the goals asked for, and the loop of
//! ticks.

use std::time::Duration;

use bevy_ecs::prelude::{Entity, World};
use hashbrown::HashSet;
use windrow_components::goal::{DerivationGoal, Outcome, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::request::{ChildLimits, Request, RequestState};

use crate::error::{Error, Result};
use crate::failure::FailureKinds;
use crate::helpers::downloads::Downloads;
use crate::helpers::{Speeds, Substituters};
use crate::policy::Policy;
use crate::real;
use crate::report::Reporter;
use crate::results::{self, GoalResult};
use crate::tick;
use crate::world::{
    Host, Options, Parts, Reporters, Scheduler, Services, Store, TickSystems, requests,
};

/// Options of a run that nobody has set.
pub fn default_options() -> Options {
    Options {
        max_jobs: 1,
        max_substitution_jobs: 16,
        fallback: false,
        always_allow_substitutes: false,
        platforms: Vec::new(),
        system_features: Vec::new(),
        limits: ChildLimits::default(),
        finish_running: false,
        lock_poll_interval: Duration::from_secs(5),
    }
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Summary {
    /// The top-level goals that failed, by full path.
    pub failed: Vec<String>,
    /// Paths that nobody could provide: neither valid nor substitutable.
    pub missing: Vec<String>,
    /// Paths that a substituter has, but not all of what they refer to.
    pub incomplete: Vec<String>,
    /// Paths that binary caches have, and that none of them could deliver.
    pub undelivered: Vec<String>,
    /// How many derivations were built.
    pub built: u32,
    /// How many paths were fetched from substituters.
    pub fetched: u32,
    /// The kinds of failures seen.
    pub failures: FailureKinds,
    /// The signal that interrupted it.
    pub interrupted: Option<i32>,
}

/// A run: requests, their goals, and the systems that take them to their end.
pub struct Engine {
    /// The world all state lives in.
    pub world: World,
    /// The tick, once the world has all its parts.
    systems: Option<TickSystems>,
    policy: Policy,
}

/// Children are killed, locks and build directories given up: also if a panic ends the engine.
impl Drop for Engine {
    fn drop(&mut self) {
        real::clean_up(&mut self.world);
    }
}

impl Summary {
    /// Whether something that was asked for is not valid.
    pub fn lacks_something(&self) -> bool {
        let lacking = [
            &self.failed,
            &self.missing,
            &self.incomplete,
            &self.undelivered,
        ];
        lacking.iter().any(|paths| !paths.is_empty())
    }
}

impl Engine {
    /// A run over `graph` and `store`, whose reporter hears of all that happens. A world's systems
    /// are still to be plugged in.
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
        let reporter = Reporters::new(reporter);
        world.insert_resource(graph);
        world.insert_non_send(Services { store, reporter });
        world.insert_resource(Scheduler::new(options));
        world.init_resource::<Substituters>();
        world.init_resource::<Downloads>();
        world.init_resource::<Speeds>();
        world.init_resource::<Parts>();
        Self {
            world,
            systems: None,
            policy,
        }
    }

    /// Something that ends the sleep of a tick, from any thread.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let waker = self.world.get_non_send::<Host>();
        let waker = waker.map(|host| host.reactor.waker());
        // Should the kernel refuse to wake, the next event or heartbeat does.
        move || drop(waker.as_ref().map(|waker| waker.wake()))
    }

    /// From now on the failures of goals are remembered, and which of them were made, for
    /// [`Engine::results`].
    pub fn keep_records(&mut self) {
        self.world.resource_mut::<Scheduler>().keep_records();
    }

    /// What became of each derivation and path that a request needed, those it asked for itself
    /// first; needs [`Engine::keep_records`].
    ///
    /// # Panics
    /// If it is no request.
    pub fn results(&self, request: Entity) -> Vec<GoalResult> {
        results::of(&self.world, request)
    }

    /// Takes a request, at any time. It begins with the next tick, or when requests of another mode
    /// have ended: those that check or repair run alone. `reporter` hears of the goals that it
    /// needs.
    pub fn submit(&mut self, request: Request, reporter: Option<Box<dyn Reporter>>) -> Entity {
        requests::submit(&mut self.world, request, reporter)
    }

    /// Ends a request, unless it has ended: what no other needs is cancelled, and its children are
    /// killed in the ticks that follow.
    pub fn cancel(&mut self, request: Entity) {
        requests::cancel(&mut self.world, request);
    }

    /// How far a request is.
    ///
    /// # Panics
    /// If it is none.
    pub fn state(&self, request: Entity) -> RequestState {
        let state = self.world.get::<RequestState>(request);
        *state.expect("a request that was submitted")
    }

    /// Whether nothing more is to be done for any request. Children of goals that were cancelled
    /// may still run.
    pub fn is_over(&self) -> bool {
        self.world.resource::<Scheduler>().run.is_over()
    }

    /// Whether nothing is under way any more either.
    pub fn is_idle(&self) -> bool {
        let scheduler = self.world.resource::<Scheduler>();
        let works = scheduler.is_busy() || scheduler.has_work() || scheduler.has_cancelled();
        let works = works || scheduler.desk.is_asking();
        scheduler.run.has_stopped() || (scheduler.run.is_over() && !works)
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
            .get_or_insert_with(|| tick::systems(&mut self.world, &self.policy));
        requests::begin_waiting(&mut self.world);
        systems.run(&mut self.world);
    }

    /// Ticks until all requests have ended.
    ///
    /// # Errors
    /// An error that concerns the store or the machine as a whole. What the run held is to be given
    /// up by the world's `clean_up` in any case.
    ///
    /// Nix 1.8: `Worker::run`.
    pub fn run(&mut self) -> Result<(), Error> {
        while !self.is_over() {
            self.tick();
        }
        self.check()
    }

    /// How what a request asked for has ended.
    ///
    /// # Panics
    /// If it is no request.
    pub fn summary(&self, request: Entity) -> Summary {
        let scheduler = self.world.resource::<Scheduler>();
        let asked = self.world.get::<Request>(request);
        let asked = asked.expect("a request that was submitted");
        let mut summary = Summary {
            built: scheduler.counts().built,
            fetched: scheduler.counts().fetched,
            failures: scheduler.run.failures,
            interrupted: scheduler.run.interrupted,
            ..Summary::default()
        };
        let mut seen = HashSet::new();
        for goal in asked
            .targets
            .iter()
            .filter_map(|(target, _)| scheduler.index.get(*target))
        {
            if !seen.insert(goal) {
                continue;
            }
            let list = match scheduler.stage(goal).outcome() {
                Some(Outcome::Failed) => &mut summary.failed,
                Some(Outcome::NoSubstituters) => &mut summary.missing,
                Some(Outcome::IncompleteClosure) => &mut summary.incomplete,
                Some(Outcome::NotDelivered) => &mut summary.undelivered,
                _ => continue,
            };
            list.push(self.goal_path(goal));
        }
        summary
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
