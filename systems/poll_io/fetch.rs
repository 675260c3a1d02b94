//! Takes up the substituters that have been started, and reads what they say beside their logs.

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, BuilderProcess, ChildPipes, Deadlines};
use windrow_components::goal::{Stage, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::helpers::Substituters;
use crate::helpers::{HelperNews, News};
use crate::process::launch::Spawned;
use crate::process::reactor::{Reactor, Readable};
use crate::report::{BuildRef, Event};
use crate::sandbox::process::kill::kill_and_reap;
use crate::world::{
    Background, FetchPipe, HelperEvents, Now, ReceivedQueue, ReporterHandle, Running, Slots,
};

/// What watching new processes touches.
#[derive(SystemParam)]
pub struct WatchingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<
        'w,
        's,
        (
            &'static SubstitutionGoal,
            &'static Substitution,
            &'static ChildPipes,
            &'static FetchPipe,
            &'static mut Deadlines,
            &'static mut Stage,
        ),
    >,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    now: Res<'w, Now>,
    reactor: NonSendMut<'w, Reactor>,
    reporter: NonSendMut<'w, ReporterHandle>,
    slots: ResMut<'w, Slots>,
    background: ResMut<'w, Background>,
}

/// Takes up the processes that have been made, and keeps other news for who registers.
pub fn take_started(
    mut running: ResMut<Running>,
    mut news: NonSendMut<News>,
    mut received: ResMut<ReceivedQueue>,
    mut params: WatchingFetches<'_, '_>,
) {
    while let Some(news) = news.take_fetch() {
        let (goal, result) = match news {
            HelperNews::Started { goal, result } => (goal, result),
            other => {
                received.0.push(other);
                continue;
            }
        };
        params.background.launching -= 1;
        let Ok((known, substitution, pipes, fetch, mut deadlines, mut stage)) =
            params.goals.get_mut(goal)
        else {
            continue;
        };
        let program = params.substituters.program(substitution.sub);
        let path = params.graph.full_path(known.path);
        let watched = match (result, &pipes.log, &fetch.out) {
            (Err(error), ..) => Err(format!("substituter '{program}': {error}")),
            (Ok(child), Some(log), Some(out)) => {
                let reactor = &params.reactor;
                let watched = reactor
                    .watch(goal, log, &child.pidfd)
                    .and_then(|()| reactor.watch_said(goal, out));
                match watched {
                    Ok(()) => Ok(child),
                    Err(error) => {
                        kill_and_reap(child.pid);
                        Err(format!("cannot watch substituter '{program}': {error}"))
                    }
                }
            }
            (Ok(child), ..) => Ok(child),
        };
        let Spawned { pid, pidfd } = match watched {
            Ok(child) => child,
            Err(message) => {
                params.slots.used -= 1;
                params
                    .commands
                    .entity(goal)
                    .remove::<(ChildPipes, FetchPipe, Deadlines, BuildLog)>();
                // As if it had run and failed: the next substituter may do.
                received.0.push(HelperNews::Received {
                    goal,
                    status: 1 << 8,
                    result: Err(format!("fetching path '{path}' failed: {message}")),
                    warnings: Vec::new(),
                });
                params.background.collecting += 1;
                continue;
            }
        };
        let at = params.now.0;
        (deadlines.started, deadlines.last_output) = (at, at);
        *stage = Stage::Running;
        running.0.push(goal);
        params.reporter.0.report(&Event::FetchStarted {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &path,
                name: params.graph.paths.name(known.path),
            },
            program,
            at,
        });
        params.commands.entity(goal).insert(BuilderProcess {
            pid,
            pidfd,
            exited: false,
        });
    }
}

/// Reads what substituters say on their standard output.
pub fn hear_fetches(
    mut events: ResMut<HelperEvents>,
    running: Res<Running>,
    mut pipes: Query<&mut FetchPipe>,
    mut reactor: NonSendMut<Reactor>,
) {
    let HelperEvents { now, unread, .. } = &mut *events;
    for event in now {
        let Readable::Said(index) = *event else {
            continue;
        };
        let Some(&goal) = running.0.iter().find(|goal| goal.index_u32() == index) else {
            continue;
        };
        if let Ok(mut pipe) = pipes.get_mut(goal)
            && pipe.read(&mut reactor.buffer)
        {
            unread.push(*event);
        }
    }
}
