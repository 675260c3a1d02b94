//! Buries substituters, has what they fetched looked at, and takes up the result (Nix 1.8:
//! `SubstitutionGoal::finished`): a path to register, or a failure, and then the next substituter.

use std::path::PathBuf;

use bevy_ecs::prelude::{Commands, Entity, NonSend, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, BuilderProcess, ChildPipes, Deadlines};
use windrow_components::goal::{Outcome, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;
use windrow_sandbox::process::kill::kill_and_reap;

use crate::failure::Failure;
use crate::helpers::{FetchNews, Fetches, Received, Substituters};
use crate::outputs::receive::{ReceiveJob, receive};
use crate::report::{BuildRef, Event, Level};
use crate::world::{
    Condemned, FetchPipe, Host, OutputLocks, ReadyFetch, Scheduler, Services, destination,
};

/// What a path's goal whose substituter is over carries.
type DeadFetch = (
    &'static BuilderProcess,
    &'static SubstitutionGoal,
    &'static Substitution,
    &'static mut FetchPipe,
    &'static BuildLog,
    Option<&'static mut OutputLocks>,
    Option<&'static Condemned>,
);

/// What reaping a substituter touches.
#[derive(SystemParam)]
pub struct ReapingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    children: Query<'w, 's, DeadFetch>,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    fetches: NonSend<'w, Fetches>,
    host: NonSendMut<'w, Host>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Reaps every substituter that is over.
///
/// Nix 1.8: `SubstitutionGoal::finished`, `SubstitutionGoal::cancel`.
pub fn reap_fetches(mut params: ReapingFetches<'_, '_>) {
    let children = &params.children;
    let over = params
        .host
        .over
        .extract_if(.., |goal| children.contains(*goal));
    for goal in over.collect::<Vec<_>>() {
        params.reap(goal);
    }
}

impl ReapingFetches<'_, '_> {
    fn reap(&mut self, goal: Entity) {
        let host = &mut *self.host;
        let Ok((process, known, substitution, mut pipe, log, locks, condemned)) =
            self.children.get_mut(goal)
        else {
            return;
        };
        pipe.read(&mut host.reactor.buffer);
        let status = kill_and_reap(process.pid);
        self.scheduler.exited(goal);
        let mut entity = self.commands.entity(goal);
        entity.remove::<(BuilderProcess, ChildPipes, Deadlines, FetchPipe, Condemned)>();
        let path = known.path;
        let store_path = self.graph.full_path(path);
        let place = host.config.layout.real_path(&store_path);
        let real_path = destination(place.clone(), known.repair);
        if self.scheduler.is_cancelled(goal) {
            entity.remove::<BuildLog>();
            host.pool.delete(real_path);
            return self.scheduler.fail(goal, Failure::cancelled());
        }
        if let Some(condemned) = condemned {
            // Nix 1.8 cancels the whole goal, whatever substituters are left.
            let message = format!("fetching path '{store_path}' {}", condemned.reason);
            self.services.reporter.report(&Event::FetchFailed {
                build: BuildRef {
                    id: goal.to_bits(),
                    drv_path: &store_path,
                    name: self.graph.paths.name(path),
                },
                status: None,
                message: &message,
                log_tail: &log.last_lines(host.config.log_lines),
                at: self.scheduler.now,
            });
            if let Some(mut locks) = locks {
                self.services
                    .store
                    .unlock(std::mem::take(&mut *locks), false);
            }
            let fetch = ReadyFetch { goal, path };
            self.scheduler
                .end(&self.graph, fetch.into(), Outcome::Failed);
            entity.remove::<(OutputLocks, BuildLog)>();
            host.pool.delete(real_path);
            return;
        }
        let info = self.substituters.info(substitution.sub, path);
        let info = info.cloned().unwrap_or_default();
        let references = info.references.iter();
        let job = ReceiveJob {
            path,
            references: references.map(|&path| self.graph.full_path(path)).collect(),
            store_path,
            real_path,
            replaces: known.repair.then(|| place.clone()),
            store_dir: self.graph.store_dir.clone(),
            status,
            said: std::mem::take(&mut pipe.said),
            info,
        };
        self.look_at(goal, job, place);
    }

    /// Has a thread look at what was fetched.
    fn look_at(&mut self, goal: Entity, job: ReceiveJob, place: PathBuf) {
        self.scheduler.scan();
        let send = self.fetches.inbox.sender();
        let optimiser = self.host.config.optimiser.clone();
        self.host.pool.0.submit(move || {
            let result = receive(&job);
            let warnings = match (optimiser, &result) {
                (Some(optimiser), Ok(_)) => optimiser.optimise_new(&[place]),
                _ => Vec::new(),
            };
            send(FetchNews::Received(Received {
                goal,
                status: job.status,
                result,
                warnings,
            }));
            None
        });
    }
}

/// What a path's goal carries whose fetched path was looked at.
type ReceivedFetch = (
    &'static SubstitutionGoal,
    &'static mut Substitution,
    Option<&'static BuildLog>,
    Option<&'static mut OutputLocks>,
);

/// Takes up what was looked at: a path to register, or the next substituter's turn.
///
/// Nix 1.8: `SubstitutionGoal::finished`.
pub fn take_received(
    mut commands: Commands,
    mut goals: Query<ReceivedFetch>,
    graph: Res<BuildGraph>,
    mut fetches: NonSendMut<Fetches>,
    host: NonSend<Host>,
    mut services: NonSendMut<Services>,
    mut scheduler: ResMut<Scheduler>,
) {
    for received in fetches.received.drain(..) {
        let goal = received.goal;
        scheduler.scanned();
        for text in &received.warnings {
            let level = Level::Warn;
            services.reporter.report(&Event::Message { level, text });
        }
        let Ok((known, mut substitution, log, locks)) = goals.get_mut(goal) else {
            continue;
        };
        let message = match received.result {
            Ok(output) => {
                services.reporter.say(Level::Chatty, || {
                    let path = graph.full_path(output.path);
                    format!("substitution of path '{path}' succeeded")
                });
                scheduler.complete(goal, None, [output]);
                commands.entity(goal).remove::<BuildLog>();
                continue;
            }
            Err(_) if scheduler.is_cancelled(goal) => {
                scheduler.fail(goal, Failure::cancelled());
                commands.entity(goal).remove::<BuildLog>();
                continue;
            }
            Err(message) => message,
        };
        let log_tail = log.map(|log| log.last_lines(host.config.log_lines));
        services.reporter.report(&Event::FetchFailed {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &graph.full_path(known.path),
                name: graph.paths.name(known.path),
            },
            status: Some(received.status),
            message: &message,
            log_tail: &log_tail.unwrap_or_default(),
            at: scheduler.now,
        });
        if let Some(mut locks) = locks {
            services.store.unlock(std::mem::take(&mut *locks), false);
        }
        commands.entity(goal).remove::<(OutputLocks, BuildLog)>();
        substitution.sub += 1;
        let path = known.path;
        scheduler.try_next(ReadyFetch { goal, path });
    }
}
