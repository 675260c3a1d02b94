//! Buries substituters, has what they fetched looked at, and takes up the result (the seed's
//! `SubstitutionGoal::finished`): a path to register, or a failure, and then the next substituter.

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, BuilderProcess, ChildPipes, Deadlines};
use windrow_components::goal::{Outcome, Stage, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::helpers::Substituters;
use crate::helpers::{HelperNews, News};
use crate::process::reactor::Reactor;
use crate::report::{BuildRef, Event, Level};
use crate::sandbox::process::kill::kill_and_reap;
use crate::store::path_lock::OutputLocks;
use crate::store::receive::{ReceiveJob, receive};
use crate::world::{
    Awake, Background, BuilderConfig, Completed, Condemned, Ended, FetchPipe, LockWaiters, Now,
    PoolHandle, ReceivedQueue, ReporterHandle, Running, Slots, StoreHandle, destination, goals,
};

type DeadFetches<'w, 's> = Query<
    'w,
    's,
    (
        &'static BuilderProcess,
        &'static ChildPipes,
        &'static Deadlines,
        &'static SubstitutionGoal,
        &'static Substitution,
        &'static mut FetchPipe,
        &'static mut Stage,
        Option<&'static Condemned>,
    ),
>;

/// What burying a substituter touches.
#[derive(SystemParam)]
pub struct BuryingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    children: DeadFetches<'w, 's>,
    graph: Res<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    substituters: Res<'w, Substituters>,
    now: Res<'w, Now>,
    reactor: NonSendMut<'w, Reactor>,
    pool: NonSendMut<'w, PoolHandle>,
    news: NonSendMut<'w, News>,
    background: ResMut<'w, Background>,
    slots: ResMut<'w, Slots>,
    ending: Ending<'w, 's>,
}

/// What giving a path up touches.
#[derive(SystemParam)]
pub struct Ending<'w, 's> {
    logs: Query<'w, 's, &'static BuildLog>,
    locks: Query<'w, 's, &'static mut OutputLocks>,
    store: NonSendMut<'w, StoreHandle>,
    waiting: ResMut<'w, LockWaiters>,
    ended: ResMut<'w, Ended>,
    awake: ResMut<'w, Awake>,
    reporter: NonSendMut<'w, ReporterHandle>,
}

/// Buries every substituter that has exited and whose pipes are at their end, or were given time enough to be.
pub fn reap_fetches(mut running: ResMut<Running>, mut params: BuryingFetches<'_, '_>) {
    let now = params.now.0;
    let children = &params.children;
    let buried: Vec<Entity> = running
        .0
        .extract_if(.., |goal| {
            children
                .get(*goal)
                .is_ok_and(|(process, pipes, deadlines, ..)| process.is_over(pipes, deadlines, now))
        })
        .collect();
    for goal in buried {
        params.bury(goal);
    }
}

impl BuryingFetches<'_, '_> {
    fn bury(&mut self, goal: Entity) {
        let Ok((process, _, _, known, substitution, mut pipe, mut stage, condemned)) =
            self.children.get_mut(goal)
        else {
            return;
        };
        pipe.read(&mut self.reactor.buffer);
        let status = kill_and_reap(process.pid);
        self.slots.used -= 1;
        let mut entity = self.commands.entity(goal);
        entity.remove::<(BuilderProcess, ChildPipes, Deadlines, FetchPipe, Condemned)>();
        let path = known.path;
        let store_path = self.graph.full_path(path);
        let place = self.config.layout.real_path(&store_path);
        let real_path = destination(place.clone(), known.repair);
        let replaces = known.repair.then(|| place.clone());
        if let Some(condemned) = condemned {
            // The seed cancels the whole goal, whatever substituters are left.
            let message = format!("fetching path '{store_path}' {}", condemned.reason);
            let build = BuildRef {
                id: goal.to_bits(),
                drv_path: &store_path,
                name: self.graph.paths.name(path),
            };
            let log = self.ending.logs.get(goal);
            let log_tail = log.map_or_else(|_| Vec::new(), |l| l.last_lines(self.config.log_lines));
            self.ending.reporter.0.report(&Event::FetchFailed {
                build,
                status: None,
                message: &message,
                log_tail: &log_tail,
                at: self.now.0,
            });
            self.ending.unlock(goal, path);
            let ended = &mut self.ending.ended;
            goals::end(&mut stage, ended, (goal, None), Outcome::Failed);
            self.commands
                .entity(goal)
                .remove::<(OutputLocks, BuildLog)>();
            self.pool.delete(real_path);
            return;
        }
        *stage = Stage::Collecting;
        self.background.collecting += 1;
        let info = self
            .substituters
            .info(substitution.sub, path)
            .cloned()
            .unwrap_or_default();
        let references = info
            .references
            .iter()
            .map(|&reference| self.graph.full_path(reference));
        let job = ReceiveJob {
            path,
            references: references.collect(),
            store_path,
            real_path,
            replaces,
            store_dir: self.graph.store_dir.clone(),
            status,
            said: std::mem::take(&mut pipe.said),
            info,
        };
        let tell = self.news.teller();
        let optimiser = self.config.optimiser.clone();
        self.pool.0.submit(move || {
            let result = receive(&job);
            let warnings = match (optimiser, &result) {
                (Some(optimiser), Ok(_)) => optimiser.optimise_new(&[place]),
                _ => Vec::new(),
            };
            tell(HelperNews::Received {
                goal,
                status,
                result,
                warnings,
            });
            None
        });
    }
}

impl Ending<'_, '_> {
    fn unlock(&mut self, goal: Entity, path: windrow_components::ids::PathId) {
        self.waiting.held.remove(path);
        if let Ok(mut locks) = self.locks.get_mut(goal) {
            self.store.0.unlock(std::mem::take(&mut *locks), false);
        }
    }
}

/// Takes up what was looked at: a path to register, or the next substituter's turn.
pub fn take_received(
    mut received: ResMut<ReceivedQueue>,
    mut completed: ResMut<Completed>,
    mut commands: Commands,
    mut goals: Query<(&SubstitutionGoal, &mut Substitution, &mut Stage)>,
    mut background: ResMut<Background>,
    mut ending: Ending<'_, '_>,
    (graph, config, now): (Res<BuildGraph>, Res<BuilderConfig>, Res<Now>),
) {
    for news in received.0.drain(..) {
        let HelperNews::Received {
            goal,
            status,
            result,
            warnings,
        } = news
        else {
            continue;
        };
        background.collecting -= 1;
        for text in &warnings {
            let level = Level::Warn;
            ending.reporter.0.report(&Event::Message { level, text });
        }
        let message = match result {
            Ok(output) => {
                ending.reporter.0.say(Level::Chatty, || {
                    let path = graph.full_path(output.path);
                    format!("substitution of path '{path}' succeeded")
                });
                completed.push(goal, None, [output]);
                commands.entity(goal).remove::<BuildLog>();
                continue;
            }
            Err(message) => message,
        };
        let Ok((known, mut substitution, mut stage)) = goals.get_mut(goal) else {
            continue;
        };
        let log = ending.logs.get(goal);
        let log_tail = log.map_or_else(|_| Vec::new(), |log| log.last_lines(config.log_lines));
        ending.reporter.0.report(&Event::FetchFailed {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &graph.full_path(known.path),
                name: graph.paths.name(known.path),
            },
            status: Some(status),
            message: &message,
            log_tail: &log_tail,
            at: now.0,
        });
        ending.unlock(goal, known.path);
        commands.entity(goal).remove::<(OutputLocks, BuildLog)>();
        substitution.sub += 1;
        *stage = Stage::Info;
        ending.awake.goals.push(goal);
    }
}
