//! Takes up the processes that have been made.

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::{DerivationGoal, Stage};
use windrow_components::graph::BuildGraph;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::process::BuildDirs;
use crate::process::launch::Spawned;
use crate::process::log_writer::{LogFile, LogThread};
use crate::process::reactor::Reactor;
use crate::report::{BuildRef, Event};
use crate::sandbox::process::kill::kill_and_reap;
use crate::world::{
    Background, BuilderConfig, Clock, Departures, Failures, Launched, LauncherHandle, Lodging,
    PoolHandle, ReporterHandle, RunState, Running, Slots, WorkshopHandle,
};

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
