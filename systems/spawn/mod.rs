//! The third system: starts a builder for every goal that has its locks and a slot.
//!
//! In the real world a child process (the seed's `startBuilder`); other worlds have their own system in
//! the same set.

mod builder;

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, Deadlines, HashRewrites, MissingOutputs};
use windrow_components::goal::{DerivationGoal, Stage};
use windrow_components::graph::BuildGraph;

use crate::failure::Failure;
use crate::process::build_dir::SpareDirs;
use crate::process::log_writer::LogThread;
use crate::process::reactor::Reactor;
use crate::real::{BuilderConfig, PoolHandle};
use crate::report::{BuildRef, Event};
use crate::world::{Failures, Now, ReporterHandle, RunState, Running, Slots, Starting};

/// A goal that has its locks and a slot.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct LockedGoal {
    goal: &'static DerivationGoal,
    missing: &'static MissingOutputs,
    rewrites: Option<&'static HashRewrites>,
    stage: &'static mut Stage,
}

/// What starting builders touches.
#[derive(SystemParam)]
pub struct Spawning<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, LockedGoal>,
    graph: Res<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    now: Res<'w, Now>,
    reactor: NonSendMut<'w, Reactor>,
    pool: NonSendMut<'w, PoolHandle>,
    logs: NonSendMut<'w, LogThread>,
    reporter: NonSendMut<'w, ReporterHandle>,
    slots: ResMut<'w, Slots>,
    dirs: ResMut<'w, SpareDirs>,
}

/// Starts real builders.
pub fn spawn_builders(
    mut starting: ResMut<Starting>,
    mut running: ResMut<Running>,
    mut failures: ResMut<Failures>,
    run: Res<RunState>,
    mut params: Spawning<'_, '_>,
) {
    for goal in starting.0.drain(..) {
        let Ok(mut locked) = params.goals.get_mut(goal) else {
            continue;
        };
        let (known, missing) = (locked.goal, locked.missing);
        let graph = &params.graph;
        let site = builder::Site {
            graph,
            config: &params.config,
            pool: &params.pool.0,
            drv: known.drv,
            missing: &missing.0,
            rewrites: locked.rewrites,
        };
        let started = if run.is_over() {
            Err(Failure::new(
                crate::failure::FailureKind::Other,
                "interrupted before it started",
            ))
        } else {
            builder::start(&site, &mut params.logs, &mut params.dirs)
        };
        let started = started.and_then(|started| {
            let (log, pidfd) = (&started.log_pipe, &started.process.pidfd);
            match params.reactor.watch(goal, log, pidfd) {
                Ok(()) => Ok(started),
                Err(error) => Err(builder::abandon(started, &site, &error)),
            }
        });
        let started = match started {
            Ok(started) => started,
            Err(failure) => {
                params.slots.used -= 1;
                failures.0.push((goal, failure));
                continue;
            }
        };
        *locked.stage = Stage::Running;
        running.0.push(goal);
        let drv_path = graph.full_path(graph.drv_path(known.drv));
        let outputs: Vec<String> = missing
            .0
            .iter()
            .map(|&path| graph.full_path(path))
            .collect();
        let log_file = started
            .log_file
            .as_ref()
            .map(|log| log.path().display().to_string());
        params.reporter.0.report(&Event::Started {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &drv_path,
                name: graph.drv_name(known.drv),
            },
            system: graph.system(known.drv).unwrap_or_default(),
            log_file: log_file.as_deref().unwrap_or_default(),
            outputs: &outputs,
            at: params.now.0,
        });
        let at = params.now.0;
        let mut entity = params.commands.entity(goal);
        entity.insert((
            started.process,
            windrow_components::building::ChildPipes {
                log: Some(started.log_pipe),
            },
            started.build_dir,
            Deadlines {
                started: at,
                last_output: at,
                linger: None,
            },
            BuildLog::default(),
        ));
        if let Some(log) = started.log_file {
            entity.insert(log);
        }
    }
}
