//! Takes up the substituters that have been started, and reads what they say beside their logs.

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, BuilderProcess, ChildPipes, Deadlines};
use windrow_components::goal::SubstitutionGoal;
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;
use windrow_sandbox::process::kill::{kill_and_reap, kill_group};
use windrow_sandbox::process::launch::{SpawnError, Spawned};

use crate::helpers::{FetchNews, Fetches, Received, Substituters};
use crate::poll_io::goal_of;
use crate::process::reactor::{Reactor, Readable};
use crate::report::{BuildRef, Event};
use crate::world::{FetchPipe, Host, Scheduler, Services};

/// What a path's goal whose substituter was started carries.
type StartedFetch = (
    &'static SubstitutionGoal,
    &'static Substitution,
    &'static ChildPipes,
    &'static FetchPipe,
    &'static mut Deadlines,
);

/// What watching new processes touches.
#[derive(SystemParam)]
pub struct WatchingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, StartedFetch>,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    fetches: NonSendMut<'w, Fetches>,
    host: NonSendMut<'w, Host>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Takes up the processes that have been made, and keeps what was received for the system that
/// registers it.
pub fn take_started(mut params: WatchingFetches<'_, '_>) {
    while let Some(news) = params.fetches.inbox.take() {
        match news {
            FetchNews::Started { goal, result } => {
                params.scheduler.launched();
                params.take(goal, result);
            }
            FetchNews::Received(received) => params.fetches.received.push(received),
        }
    }
}

impl WatchingFetches<'_, '_> {
    fn take(&mut self, goal: Entity, result: Result<Spawned, SpawnError>) {
        let Ok((known, substitution, pipes, fetch, mut deadlines)) = self.goals.get_mut(goal)
        else {
            return;
        };
        let program = self.substituters.program(substitution.sub);
        let path = self.graph.full_path(known.path);
        let watched = watch(&self.host.reactor, goal, result, program, (pipes, fetch));
        let Spawned { pid, pidfd } = match watched {
            Ok(child) => child,
            Err(message) => {
                let mut entity = self.commands.entity(goal);
                entity.remove::<(ChildPipes, FetchPipe, Deadlines, BuildLog)>();
                // As if it had run and failed: the next substituter may do.
                self.fetches.received.push(Received {
                    goal,
                    status: 1 << 8,
                    result: Err(format!("fetching path '{path}' failed: {message}")),
                    warnings: Vec::new(),
                });
                return self.scheduler.scan();
            }
        };
        if self.scheduler.is_cancelled(goal) {
            kill_group(pid);
        }
        let at = self.scheduler.now;
        (deadlines.started, deadlines.last_output) = (at, at);
        self.scheduler.start(goal);
        self.host
            .watch_time(self.scheduler.limits_of(goal), goal, &deadlines);
        self.services.reporter.report(&Event::FetchStarted {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &path,
                name: self.graph.paths.name(known.path),
            },
            program,
            at,
        });
        self.commands
            .entity(goal)
            .insert(BuilderProcess::new(pid, pidfd));
    }
}

/// Watches what a substituter says, and its exit.
fn watch(
    reactor: &Reactor,
    goal: Entity,
    result: Result<Spawned, SpawnError>,
    program: &str,
    (pipes, fetch): (&ChildPipes, &FetchPipe),
) -> Result<Spawned, String> {
    let child = result.map_err(|error| format!("substituter '{program}': {error}"))?;
    let (Some(log), Some(out)) = (&pipes.log, &fetch.out) else {
        return Ok(child);
    };
    let watched = reactor.watch(goal, log, &child.pidfd);
    match watched.and_then(|()| reactor.watch_said(goal, out)) {
        Ok(()) => Ok(child),
        Err(error) => {
            kill_and_reap(child.pid);
            Err(format!("cannot watch substituter '{program}': {error}"))
        }
    }
}

/// Reads what substituters say on their standard output.
///
/// Nix 1.8: `SubstitutionGoal::handleChildOutput`, `SubstitutionGoal::handleEOF`.
pub fn hear_fetches(mut host: NonSendMut<Host>, mut pipes: Query<&mut FetchPipe>) {
    let Host {
        events, reactor, ..
    } = &mut *host;
    for event in &events.now {
        if let Readable::Said(index) = *event
            && let Ok(mut pipe) = pipes.get_mut(goal_of(index))
            && pipe.read(&mut reactor.buffer)
        {
            events.unread.push(*event);
        }
    }
}
