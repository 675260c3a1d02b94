//! Takes up the processes that have been made.

use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::DerivationGoal;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::process::kill::kill_and_reap;
use windrow_sandbox::process::launch::Spawned;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::process::log_writer::{LogFile, LogThread};
use crate::report::{BuildRef, Event};
use crate::world::{BuilderConfig, ChildEnv, Host, Launched, Scheduler, Services};

/// What a goal whose process has been made, or could not be, carries.
type LaunchedGoal = (
    &'static DerivationGoal,
    Option<&'static MissingOutputs>,
    &'static ChildPipes,
    Option<&'static BuildDir>,
    &'static mut Deadlines,
);

/// What watching new processes touches.
#[derive(SystemParam)]
pub struct Launching<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, LaunchedGoal>,
    graph: Res<'w, BuildGraph>,
    services: NonSendMut<'w, Services>,
    host: NonSendMut<'w, Host>,
    scheduler: ResMut<'w, Scheduler>,
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
///
/// Nix 1.8: `Worker::childStarted`.
pub fn take_launched(mut params: Launching<'_, '_>) {
    let host = &mut *params.host;
    let mut launched = std::mem::take(&mut host.launched);
    launched.extend(std::iter::from_fn(|| host.launcher.take()));
    launched.extend(std::iter::from_fn(|| host.template.pool.take()));
    for launched in launched.drain(..) {
        params.scheduler.launched();
        params.take(launched);
    }
    params.host.launched = launched;
}

impl Launching<'_, '_> {
    fn take(&mut self, launched: Launched) {
        let Launched {
            goal,
            began,
            result,
            env,
        } = launched;
        let Ok((known, missing, pipes, dir, mut deadlines)) = self.goals.get_mut(goal) else {
            return;
        };
        let (drv, host) = (known.drv, &mut *self.host);
        let mut log = None;
        let watched = result.and_then(|(spawned, pending)| {
            let opened = open_log(&host.config, &self.graph, known, &mut host.logs);
            let watched = opened.and_then(|opened| {
                log = opened;
                let watch = |pipe| host.reactor.watch(goal, pipe, &spawned.pidfd);
                let watched = pipes.log.as_ref().map_or(Ok(()), watch);
                watched.map_err(|error| format!("cannot watch the builder's output: {error}"))
            });
            match watched {
                Ok(()) if self.scheduler.is_cancelled(goal) => {
                    kill_and_reap(spawned.pid);
                    Err(Failure::cancelled())
                }
                Ok(()) => Ok((spawned, pending)),
                Err(problem) => {
                    kill_and_reap(spawned.pid);
                    Err(Failure::new(FailureKind::Other, problem))
                }
            }
        });
        let mut entity = self.commands.entity(goal);
        let (Spawned { pid, pidfd }, pending) = match watched {
            Ok(child) => child,
            Err(failure) => {
                self.scheduler.fail(goal, failure);
                if let Some(log) = &mut log {
                    host.logs.close(log);
                }
                if let Some(dir) = dir {
                    host.retire(&dir.0);
                }
                host.pool.leave(env);
                entity.remove::<(ChildPipes, BuildDir, Deadlines, BuildLog)>();
                return;
            }
        };
        let at = began.saturating_duration_since(host.began);
        (deadlines.started, deadlines.last_output) = (at, at);
        self.scheduler.start(goal);
        host.watch_time(self.scheduler.limits_of(goal), goal, &deadlines);
        let outputs = MissingOutputs::of(missing, &self.graph, drv);
        let log_file = log.as_ref().map(|log| log.path().display().to_string());
        entity.insert(BuilderProcess::new(pid, pidfd));
        if let Some(pending) = pending {
            entity.insert(pending);
        }
        if let Some(log) = log {
            entity.insert(log);
        }
        if let Some(env) = env {
            entity.insert((BuildDir(env.build_dir()), ChildEnv(Some(env))));
        }
        self.report(goal, drv, &outputs, &log_file.unwrap_or_default(), at);
    }

    fn report(
        &mut self,
        goal: Entity,
        drv: DrvId,
        outputs: &[PathId],
        log_file: &str,
        at: Duration,
    ) {
        let graph = &self.graph;
        let outputs: Vec<String> = outputs.iter().map(|&path| graph.full_path(path)).collect();
        self.services.reporter.report(&Event::Started {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &graph.full_path(graph.drv_path(drv)),
                name: graph.drv_name(drv),
            },
            system: graph.system(drv).unwrap_or_default(),
            log_file,
            outputs: &outputs,
            mode: self.scheduler.mode_of(goal),
            at,
        });
    }
}
