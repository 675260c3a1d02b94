//! The third system: starts a builder for every goal that has its locks and a slot.
//!
//! In the real world a child process (the seed's `startBuilder`); other worlds have their own system in
//! the same set.

mod attributes;
mod builder;
pub mod fetch;
pub mod hook;
mod program;

pub use builder::Aloft;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, BuilderProcess, ChildPipes, Deadlines, HashRewrites, MissingOutputs,
};
use windrow_components::goal::{DerivationGoal, Stage};
use windrow_components::graph::BuildGraph;

use crate::failure::{Failure, FailureKind};
use crate::poll_io::Clock;
use crate::process::BuildDirs;
use crate::process::launch::Spawned;
use crate::process::log_writer::{LogFile, LogThread};
use crate::process::reactor::Reactor;
use crate::real::{
    BuilderConfig, Departures, Launched, LauncherHandle, Lodging, PoolHandle, WorkshopHandle,
};
use crate::report::{BuildRef, Event, Level};
use crate::sandbox::process::kill::kill_and_reap;
use crate::sandbox::users::{UserLock, UserPool};
use crate::store::path_lock::OutputLocks;
use crate::world::{
    Background, Failures, ForeignLock, LockWaiters, Now, Options, ReadyGoal, ReporterHandle,
    RunState, Running, Slots, Starting, StoreHandle,
};

/// A goal that has its locks and a slot.
#[derive(QueryData)]
pub struct LockedGoal {
    missing: Option<&'static MissingOutputs>,
    rewrites: Option<&'static HashRewrites>,
}

/// What starting builders touches.
#[derive(SystemParam)]
pub struct Spawning<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, LockedGoal>,
    graph: ResMut<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    now: Res<'w, Now>,
    store: NonSendMut<'w, StoreHandle>,
    pool: NonSendMut<'w, PoolHandle>,
    launcher: NonSendMut<'w, LauncherHandle>,
    departures: ResMut<'w, Departures>,
    workshop: NonSendMut<'w, WorkshopHandle>,
    slots: ResMut<'w, Slots>,
    background: ResMut<'w, Background>,
    dirs: Res<'w, BuildDirs>,
    locks: Query<'w, 's, &'static mut OutputLocks>,
    stages: Query<'w, 's, &'static mut Stage>,
    waiting: ResMut<'w, LockWaiters>,
    options: Res<'w, Options>,
    reporter: NonSendMut<'w, ReporterHandle>,
}

/// How long a goal waits for a build user that this run will free itself.
const OWN_USER: Duration = Duration::from_millis(20);

impl Spawning<'_, '_> {
    /// A user for a builder: none of its own where there are no build users, `None` where all are in use.
    fn build_user(&self) -> Result<Option<Option<UserLock>>, String> {
        match &self.config.users {
            Some(pool) => Ok(pool.acquire()?.map(Some)),
            None => Ok(Some(None)),
        }
    }

    /// Lets a goal give up its locks and try again later, when a build user may be free.
    fn wait_for_user(&mut self, ready: ReadyGoal) {
        let ReadyGoal { goal, drv } = ready;
        if let Ok(mut held) = self.locks.get_mut(goal) {
            let locks = std::mem::take(&mut *held);
            for row in self.graph.outputs(drv) {
                self.waiting.held.remove(row.path);
            }
            self.store.0.unlock(locks, false);
        }
        let mut entity = self.commands.entity(goal);
        entity.remove::<(OutputLocks, MissingOutputs, HashRewrites)>();
        self.slots.used -= 1;
        if let Ok(mut stage) = self.stages.get_mut(goal) {
            *stage = Stage::Locked;
        }
        let pool = self.config.users.as_ref();
        let ours = pool.is_some_and(UserPool::is_used_by_us);
        let wait = match self.waiting.waits.get(&goal) {
            _ if ours => OWN_USER,
            Some(&last) => (last * 2).min(self.options.lock_poll_interval),
            None => OWN_USER,
        };
        if self.waiting.waits.insert(goal, wait).is_none() && !ours {
            let origin = pool.map_or("", UserPool::origin);
            let text = format!("waiting for a free build user in {origin}...");
            self.reporter.0.report(&Event::Message {
                level: Level::Info,
                text: &text,
            });
        }
        self.waiting.foreign.push(ForeignLock {
            ready,
            retry_at: self.now.0 + wait,
        });
    }
}

/// Prepares real builders and makes their processes. Those that need more than a process are made by a thread that can wait:
/// until such a process runs its program, whoever made it stands still.
pub fn spawn_builders(
    mut starting: ResMut<Starting>,
    mut failures: ResMut<Failures>,
    mut run: ResMut<RunState>,
    mut params: Spawning<'_, '_>,
) {
    for ReadyGoal { goal, drv } in starting.0.drain(..) {
        let Ok(locked) = params.goals.get(goal) else {
            continue;
        };
        let user = match params.build_user() {
            Ok(Some(user)) => user,
            Ok(None) => {
                params.wait_for_user(ReadyGoal { goal, drv });
                continue;
            }
            Err(problem) => {
                params.slots.used -= 1;
                let failure = Failure::new(FailureKind::Other, problem);
                failures.0.push((goal, failure));
                continue;
            }
        };
        let closure = match &params.config.sandbox {
            Some(_) => match params.store.0.input_closure(&mut params.graph, drv) {
                Ok(closure) => closure,
                Err(error) => {
                    run.fatal = Some(error);
                    return;
                }
            },
            None => Vec::new(),
        };
        let missing = MissingOutputs::of(locked.missing, &params.graph, drv);
        let mut site = builder::Site {
            graph: &params.graph,
            config: &params.config,
            pool: &params.pool,
            drv,
            missing: &missing,
            rewrites: locked.rewrites,
            user,
            closure: &closure,
        };
        let prepared = if run.is_over() {
            Err(Failure::new(
                FailureKind::Other,
                "interrupted before it started",
            ))
        } else {
            builder::prepare(&mut site, &params.dirs.0)
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                params.slots.used -= 1;
                failures.0.push((goal, failure));
                continue;
            }
        };
        params.background.launching += 1;
        let (launch, ends) = (prepared.launch, prepared.ends);
        let reporter = &mut params.reporter.0;
        if launch.wants_sandbox() {
            reporter.say(Level::Chatty, || {
                format!("setting up a sandbox for '{}'", launch.drv_path())
            });
        }
        reporter.say(Level::Chatty, || {
            format!("executing builder '{}'", launch.program().display())
        });
        if launch.may_depart() {
            params.departures.0.push(Launched {
                goal,
                began: Instant::now(),
                result: launch
                    .depart(&ends)
                    .map(|(child, aloft)| (child, Some(aloft))),
                room: None,
            });
        } else {
            let launcher = match launch.wants_workshop() {
                true => &params.workshop.pool,
                false => &params.launcher.0,
            };
            let workshop = Arc::clone(&params.workshop.workshop);
            let make = move |launch: builder::Launch| {
                let began = Instant::now();
                let (result, room) = launch.run(&ends, &workshop);
                Some(Launched {
                    goal,
                    began,
                    result: result.map(|child| (child, None)),
                    room,
                })
            };
            if launch.wants_graphs() {
                let launcher = launcher.remote();
                params.pool.0.submit(move || {
                    let launch = launch.with_graphs();
                    launcher.submit(move || make(launch));
                    None
                });
            } else {
                launcher.submit(move || make(launch));
            }
        }
        let at = params.now.0;
        let mut entity = params.commands.entity(goal);
        entity.insert((
            ChildPipes {
                log: Some(prepared.log_pipe),
            },
            Deadlines::new(at, true),
            BuildLog::default(),
        ));
        if let Some(dir) = prepared.build_dir {
            entity.insert(dir);
        }
    }
}

/// A goal whose process has been made, or could not be.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct LaunchedGoal {
    goal: &'static DerivationGoal,
    missing: Option<&'static MissingOutputs>,
    pipes: &'static ChildPipes,
    dir: Option<&'static BuildDir>,
    deadlines: &'static mut Deadlines,
    stage: &'static mut Stage,
}

/// What watching new processes touches.
#[derive(SystemParam)]
pub struct Launching<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, LaunchedGoal>,
    graph: Res<'w, BuildGraph>,
    clock: Res<'w, Clock>,
    config: Res<'w, BuilderConfig>,
    reactor: NonSendMut<'w, Reactor>,
    pool: NonSendMut<'w, PoolHandle>,
    launcher: NonSendMut<'w, LauncherHandle>,
    departures: ResMut<'w, Departures>,
    workshop: NonSendMut<'w, WorkshopHandle>,
    logs: NonSendMut<'w, LogThread>,
    reporter: NonSendMut<'w, ReporterHandle>,
    slots: ResMut<'w, Slots>,
    background: ResMut<'w, Background>,
    dirs: Res<'w, BuildDirs>,
}

/// Makes the log file of a build, if logs are kept.
fn open_log(
    config: &BuilderConfig,
    graph: &BuildGraph,
    goal: &DerivationGoal,
    logs: &mut LogThread,
) -> Result<Option<LogFile>, String> {
    let Some(log_dir) = &config.log_dir else {
        return Ok(None);
    };
    let base_name = graph.paths.base_name(graph.drv_path(goal.drv));
    let log = logs.open(log_dir, base_name, config.compress_log);
    log.map(Some).map_err(|error| error.to_string())
}

/// Takes up the processes that have been made: from now on they are watched and their time counts.
pub fn take_launched(
    mut running: ResMut<Running>,
    mut failures: ResMut<Failures>,
    run: Res<RunState>,
    mut params: Launching<'_, '_>,
) {
    let mut launched = std::mem::take(&mut params.departures.0);
    launched.extend(std::iter::from_fn(|| params.launcher.0.take()));
    launched.extend(std::iter::from_fn(|| params.workshop.pool.take()));
    for launched in launched {
        let Launched {
            goal,
            began,
            result,
            room,
        } = launched;
        params.background.launching -= 1;
        let Ok(mut child) = params.goals.get_mut(goal) else {
            continue;
        };
        let mut log = None;
        let watched = result.and_then(|(spawned, aloft)| {
            let opened = open_log(&params.config, &params.graph, child.goal, &mut params.logs);
            let watched = opened.and_then(|opened| {
                log = opened;
                let pipe = child.pipes.log.as_ref();
                let watch = |pipe| params.reactor.watch(goal, pipe, &spawned.pidfd);
                let watched = pipe.map_or(Ok(()), watch);
                watched.map_err(|error| format!("cannot watch the builder's output: {error}"))
            });
            match watched {
                Ok(()) => Ok((spawned, aloft)),
                Err(problem) => {
                    kill_and_reap(spawned.pid);
                    Err(Failure::new(FailureKind::Other, problem))
                }
            }
        });
        let (spawned, aloft) = match watched {
            Ok(child) => child,
            Err(failure) => {
                params.slots.used -= 1;
                failures.0.push((goal, failure));
                if let Some(log) = &mut log {
                    params.logs.close(log);
                }
                if let Some(dir) = child.dir {
                    params.pool.retire(&dir.0, &params.dirs.0);
                }
                params.pool.leave(room);
                let mut entity = params.commands.entity(goal);
                entity.remove::<(ChildPipes, BuildDir, Deadlines, BuildLog)>();
                continue;
            }
        };
        let at = began.saturating_duration_since(params.clock.0);
        (child.deadlines.started, child.deadlines.last_output) = (at, at);
        *child.stage = Stage::Running;
        running.0.push(goal);
        let graph = &params.graph;
        let drv_path = graph.full_path(graph.drv_path(child.goal.drv));
        let outputs: Vec<String> = MissingOutputs::of(child.missing, graph, child.goal.drv)
            .into_iter()
            .map(|path| graph.full_path(path))
            .collect();
        let log_file = log.as_ref().map(|log| log.path().display().to_string());
        params.reporter.0.report(&Event::Started {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &drv_path,
                name: graph.drv_name(child.goal.drv),
            },
            system: graph.system(child.goal.drv).unwrap_or_default(),
            log_file: log_file.as_deref().unwrap_or_default(),
            outputs: &outputs,
            mode: run.mode_of(goal),
            at,
        });
        let Spawned { pid, pidfd } = spawned;
        let mut entity = params.commands.entity(goal);
        entity.insert(BuilderProcess {
            pid,
            pidfd,
            exited: false,
        });
        if let Some(aloft) = aloft {
            entity.insert(aloft);
        }
        if let Some(log) = log {
            entity.insert(log);
        }
        if let Some(room) = room {
            entity.insert((BuildDir(room.build_dir()), Lodging(Some(room))));
        }
    }
}
