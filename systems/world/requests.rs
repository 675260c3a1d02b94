//! What becomes of requests beside the tick: they begin, are followed to the goals that they need,
//! and give those up that nobody else needs when they have ended.

use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut, World};
use bevy_ecs::system::{SystemParam, SystemState};
use windrow_components::goal::{DerivationGoal, Outcome, Stage};
use windrow_components::graph::BuildGraph;
use windrow_components::request::{Request, RequestBegan, RequestEnd, RequestState};

use crate::report::Reporter;
use crate::world::{Asked, Scheduler, Services, goals, used};

/// Adds a request, which begins with the next tick, or when requests of another mode have ended.
/// Its reporter hears of the goals that it needs.
pub fn submit(world: &mut World, request: Request, reporter: Option<Box<dyn Reporter>>) -> Entity {
    let mode = request.mode;
    let request = world.spawn((request, RequestState::Waiting)).id();
    let mut services = world.non_send_mut::<Services>();
    services.reporter.expect(request, reporter);
    world.resource_mut::<Scheduler>().run.enqueue(request, mode);
    request
}

/// Ends a request that is not wanted any more, unless it has ended.
pub fn cancel(world: &mut World, request: Entity) {
    world.resource_mut::<Scheduler>().run.cancel(request);
    close_ended(world);
}

/// Begins all requests that can begin now.
pub fn begin_waiting(world: &mut World) {
    while let Some(request) = world.resource_mut::<Scheduler>().next_request() {
        begin(world, request);
        close_ended(world);
    }
}

fn begin(world: &mut World, request: Entity) {
    let asked = world.get::<Request>(request).cloned();
    let asked = asked.expect("a request that was submitted");
    let began = RequestBegan(world.resource::<Scheduler>().moment());
    world.entity_mut(request).insert(began);
    let mut params = SystemState::<Following>::new(world);
    {
        let mut params = params.get_mut(world).expect("everything of a run is there");
        params.make_room_for(request, &asked);
    }
    let tops: Vec<Entity> = asked
        .targets
        .iter()
        .map(|&(target, wanted)| goals::add_top_goal(world, target, wanted))
        .collect();
    {
        let mut params = params.get_mut(world).expect("everything of a run is there");
        params.need(request, tops);
        params.scheduler.run.end_done();
    }
    world.entity_mut(request).insert(RequestState::Running);
}

/// What it takes to follow requests to the goals that they need.
#[derive(SystemParam)]
pub struct Following<'w, 's> {
    derivations: Query<'w, 's, &'static DerivationGoal>,
    graph: Res<'w, BuildGraph>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
}

impl Following<'_, '_> {
    /// Prepares for the goals of a request. With the second one it begins to matter which needs
    /// what.
    fn make_room_for(&mut self, request: Entity, asked: &Request) {
        let first = self.scheduler.index.is_empty();
        let before = self.scheduler.run.mode();
        if !first {
            self.scheduler.share();
            if let Some(sole) = self.services.reporter.tell_apart() {
                let waits: Vec<_> = self.scheduler.waiters.edges().collect();
                for (goal, waiter) in waits {
                    self.services.reporter.note_wait(waiter, goal);
                }
                let all = self.scheduler.index.all().map(|(_, goal)| goal);
                self.need(sole, all.collect());
            }
            let reporters = &self.services.reporter;
            let needed = |goal| reporters.who_needs(goal).next().is_some();
            self.scheduler.make_ends_stale((before, asked.mode), needed);
        }
        self.scheduler.run.begin(request, asked);
        self.services.reporter.begin(request, first);
    }

    /// A request needs these goals, and all that they wait for. If one has failed for another
    /// request that goes on nevertheless, this one ends if it is not to keep going.
    fn need(&mut self, request: Entity, mut goals: Vec<Entity>) {
        let reporters = &mut self.services.reporter;
        let scheduler = &mut *self.scheduler;
        while let Some(goal) = goals.pop() {
            if !reporters.add(request, goal) {
                continue;
            }
            scheduler.want(goal);
            let limits = reporters.who_needs(goal).map(|it| scheduler.run.limits(it));
            let limits = limits.map(|limits| limits.unwrap_or(scheduler.options.limits));
            if let Some(limits) = limits.reduce(|one, other| one.most(other))
                && limits != scheduler.own_limits(goal)
            {
                scheduler.set_limits(goal, limits);
            }
            let (stage, derivation) = (scheduler.stage(goal), self.derivations.get(goal));
            if let Some(outcome) = stage.outcome() {
                let failed = outcome == Outcome::Failed && derivation.is_ok();
                if failed && scheduler.run.keep_going() && !scheduler.is_stale(goal) {
                    scheduler.run.give_up(|other| other == request);
                }
                continue;
            }
            if stage == Stage::Inputs
                && let Ok(known) = derivation
            {
                let inputs = self.graph.inputs(known.drv);
                goals.extend(inputs.filter_map(|input| scheduler.index.goal(input.drv)));
            }
            goals.extend(reporters.waits_of(goal));
        }
    }

    /// What goals have asked for since this was called last is needed by all requests that need
    /// those goals.
    pub fn follow(&mut self) {
        for (waiter, asked) in self.scheduler.take_asked() {
            let goals = match asked {
                Asked::Goal(goal) => {
                    self.services.reporter.note_wait(waiter, goal);
                    vec![goal]
                }
                Asked::Inputs(drv) => {
                    let inputs = self.graph.inputs(drv);
                    let goals = inputs.filter_map(|input| self.scheduler.index.goal(input.drv));
                    goals.collect()
                }
            };
            let needing: Vec<Entity> = self.services.reporter.who_needs(waiter).collect();
            for request in needing {
                self.need(request, goals.clone());
            }
        }
    }
}

/// Closes requests that have ended: they hear nothing more, and what nobody else needs is
/// cancelled.
pub fn close_ended(world: &mut World) {
    let mut scheduler = world.resource_mut::<Scheduler>();
    let ended = scheduler.run.take_ended();
    scheduler.note_given_up(!ended.is_empty());
    for (request, end) in ended {
        world.entity_mut(request).insert(RequestState::Ended(end));
        let asked = world
            .get::<Request>(request)
            .filter(|_| end == RequestEnd::Done);
        let asked = asked.map(|request| request.targets.clone());
        used::tell(world, &asked.unwrap_or_default());
        let needed = world.non_send_mut::<Services>().reporter.end(request);
        world.resource_scope::<Scheduler, _>(|world, mut scheduler| {
            // If nothing has ended badly, each goal of a sole request has waited for all that it
            // asked for.
            let is_clean = !scheduler.is_shared() && !scheduler.has_ended_badly();
            if end == RequestEnd::Done && is_clean {
                return;
            }
            let reporters = &world.non_send::<Services>().reporter;
            let all = || scheduler.index.all().map(|(_, goal)| goal).collect();
            for goal in needed.unwrap_or_else(all) {
                if reporters.who_needs(goal).next().is_none() {
                    scheduler.unwant(goal);
                }
            }
        });
    }
}
