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
use windrow_components::building::{BuildLog, ChildPipes, Deadlines, HashRewrites, MissingOutputs};
use windrow_components::goal::Stage;
use windrow_components::graph::BuildGraph;

use crate::failure::{Failure, FailureKind};
use crate::process::BuildDirs;
use crate::report::{Event, Level};
use crate::sandbox::users::{UserLock, UserPool};
use crate::store::path_lock::OutputLocks;
use crate::world::{
    Background, BuilderConfig, Departures, Failures, ForeignLock, Launched, LauncherHandle,
    LockWaiters, Now, Options, PoolHandle, ReadyGoal, ReporterHandle, RunState, Slots, Starting,
    StoreHandle, WorkshopHandle,
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
