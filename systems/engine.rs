//! Puts a run together: the world, the schedule of six sets, the goals asked for, and the loop of ticks.

use std::time::Duration;

use bevy_ecs::prelude::{Entity, IntoScheduleConfigs as _, Schedule, SystemSet, World};
use bevy_ecs::schedule::{LogLevel, ScheduleBuildSettings, SingleThreadedExecutor};
use hashbrown::HashSet;
use windrow_components::goal::{
    BuildMode, DerivationGoal, Outcome, Stage, SubstitutionGoal, Target, WaiterLists,
};
use windrow_components::graph::BuildGraph;
use windrow_components::outputs::OutputSet;

use crate::error::{Error, Result};
use crate::failure::FailureKinds;
use crate::lock::fetch::FetchQueue;
use crate::policy::{Policy, ReadyQueue};
use crate::repair::Repairs;
use crate::report::Reporter;
use crate::spawn::hook::desk::{self, HookDesk};
use crate::substitute::substituters::Substituters;
use crate::world::{
    Awake, Background, Completed, Ended, Failures, GoalIndex, LockWaiters, NewlyReady, Now,
    Options, Pace, ReporterHandle, RunState, Running, Slots, Starting, Store, StoreHandle, Tally,
};
use crate::{failure_cache, finish, goals, lock, substitute, timeout};

/// The six sets of a tick, always in this order, with the policy's ranking between the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, SystemSet)]
pub enum TickSet {
    /// What is missing?
    Substitute,
    /// Which ready goal comes first?
    Rank,
    /// Who may build it?
    Lock,
    /// Start it.
    Spawn,
    /// Sleep until something happens.
    PollIo,
    /// What should have happened by now?
    Timeout,
    /// Register, report, tell the waiters.
    Finish,
}

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

/// The schedule of one tick, without the systems that a world plugs in.
///
/// # Panics
/// Never: the order of the sets is fixed here.
pub fn tick_schedule() -> Schedule {
    let mut schedule = Schedule::default();
    schedule.set_executor(SingleThreadedExecutor::new());
    schedule.set_build_settings(ScheduleBuildSettings {
        ambiguity_detection: LogLevel::Error,
        ..ScheduleBuildSettings::default()
    });
    schedule.configure_sets(
        (
            TickSet::Substitute,
            TickSet::Rank,
            TickSet::Lock,
            TickSet::Spawn,
            TickSet::PollIo,
            TickSet::Timeout,
            TickSet::Finish,
        )
            .chain(),
    );
    // To look whether a system has anything to do costs less than to bring everything it touches.
    schedule.add_systems((
        substitute::substitute.in_set(TickSet::Substitute),
        lock::lock.in_set(TickSet::Lock),
        (
            finish::register,
            finish::fail.run_if(finish::has_failures),
            finish::tell_waiters,
            finish::report_progress,
        )
            .chain()
            .in_set(TickSet::Finish),
    ));
    schedule
}

/// Adds the systems of a world that is not alone: others use its store, substituters and a hook do work for it, children may
/// take too long.
pub fn plug_in_others(schedule: &mut Schedule) {
    // To look whether a system has anything to do costs less than to bring everything it touches.
    schedule.add_systems((
        (
            desk::take_reply.run_if(desk::has_reply),
            lock::fetch::lock_paths.run_if(lock::fetch::has_ready),
        )
            .chain()
            .in_set(TickSet::Lock)
            .before(lock::lock),
        (
            timeout::condemn.run_if(timeout::is_watching),
            timeout::retry_locks.run_if(timeout::is_waiting_for_locks),
        )
            .chain()
            .in_set(TickSet::Timeout),
        failure_cache::remember
            .run_if(finish::has_failures)
            .in_set(TickSet::Finish)
            .after(finish::register)
            .before(finish::fail),
        (
            lock::fetch::retry_paths.run_if(lock::fetch::has_waiting),
            desk::wake_postponed.run_if(desk::has_postponed),
        )
            .chain()
            .in_set(TickSet::Finish)
            .after(finish::fail)
            .before(finish::tell_waiters),
    ));
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
    /// The tick.
    pub schedule: Schedule,
    /// What was asked for, in that order, each once.
    top: Vec<Entity>,
    known: HashSet<Entity>,
}

impl Engine {
    /// A run over `graph` and `store`. A world's systems are still to be plugged in.
    pub fn new(
        graph: BuildGraph,
        store: Box<dyn Store>,
        reporter: Box<dyn Reporter>,
        options: Options,
        policy: Policy,
    ) -> Self {
        let mut world = World::new();
        world.insert_resource(graph);
        let mode = options.mode;
        world.insert_resource(options);
        world.insert_non_send(StoreHandle(store));
        world.insert_non_send(ReporterHandle(reporter));
        world.init_resource::<Now>();
        world.init_resource::<GoalIndex>();
        world.init_resource::<WaiterLists>();
        world.init_resource::<Awake>();
        world.init_resource::<NewlyReady>();
        world.init_resource::<ReadyQueue>();
        world.init_resource::<Starting>();
        world.init_resource::<Running>();
        world.init_resource::<Completed>();
        world.init_resource::<Failures>();
        world.init_resource::<Ended>();
        world.init_resource::<Slots>();
        world.init_resource::<Substituters>();
        world.init_resource::<FetchQueue>();
        world.init_resource::<HookDesk>();
        world.init_resource::<LockWaiters>();
        world.init_resource::<Tally>();
        world.init_resource::<Background>();
        world.init_resource::<Pace>();
        world.insert_resource(RunState {
            mode,
            ..RunState::default()
        });
        world.init_resource::<Repairs>();
        let mut schedule = tick_schedule();
        policy.plug_in(&mut world, &mut schedule);
        Self {
            world,
            schedule,
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

    /// Ticks until all targets have ended, or one has failed and the run is not to keep going (the seed's
    /// `Worker::run`).
    ///
    /// # Errors
    /// An error that concerns the store or the machine as a whole. What the run held is to be given up by the
    /// world's `clean_up` in any case.
    pub fn run(&mut self) -> Result<Summary, Error> {
        while !self.world.resource::<RunState>().is_over() {
            self.schedule.run(&mut self.world);
        }
        let mut state = self.world.resource_mut::<RunState>();
        if let Some(error) = state.fatal.take() {
            return Err(error);
        }
        let (failures, interrupted) = (state.failures, state.interrupted);
        let mut failed = Vec::new();
        let mut missing = Vec::new();
        let mut incomplete = Vec::new();
        for &goal in &self.top {
            let path = self.goal_path(goal);
            let stage = self.world.get::<Stage>(goal);
            match stage.and_then(|stage| stage.outcome()) {
                Some(Outcome::Failed) => failed.push(path),
                Some(Outcome::NoSubstituters) => missing.push(path),
                Some(Outcome::IncompleteClosure) => incomplete.push(path),
                _ => {}
            }
        }
        let built = self.world.resource::<Tally>().counts.built;
        Ok(Summary {
            failed,
            missing,
            incomplete,
            built,
            failures,
            interrupted,
        })
    }

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
