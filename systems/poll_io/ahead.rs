//! While builders run and nothing else can be started, makes ready what the next one will need: its
//! process, and all that does not hang on the inputs that it waits for, up to its program's first
//! instruction. A critical path is made of what is left between the end of one builder and the
//! start of the next.

use bevy_ecs::prelude::{Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::{BuildMode, DerivationGoal, Waitees};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use crate::spawn::ahead::{Place, execute_ahead};
use crate::world::{Host, Scheduler, Services};

/// How many of those that wait for a goal are looked at.
const LOOKED_AT: usize = 16;

/// What making ready touches.
#[derive(SystemParam)]
pub struct Ahead<'w, 's> {
    goals: Query<'w, 's, &'static DerivationGoal>,
    waitees: Query<'w, 's, &'static Waitees>,
    graph: Res<'w, BuildGraph>,
    services: NonSendMut<'w, Services>,
    host: NonSendMut<'w, Host>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Makes a process for the next builder, and prepares those that wait for nothing but a builder
/// that has just been started.
pub fn prepare_next(mut params: Ahead<'_, '_>) {
    let started = params.scheduler.take_started();
    // What it takes is what another build would take, if there is enough for one.
    if params.scheduler.expects_starts() && params.scheduler.may_hold_more() {
        let Host { spare, config, .. } = &mut *params.host;
        spare.refill(&config.limits, config.cgroups.as_ref());
    }
    if params.scheduler.has_successors() || params.scheduler.desk.is_on() {
        return;
    }
    for goal in started {
        if let Some((awaited, next)) = params.sole_waiter(goal) {
            params.services.store.prepare(&params.graph, next);
            let Host {
                ahead,
                config,
                dirs,
                spare,
                ..
            } = &mut *params.host;
            ahead.prepare(&params.graph, config, dirs, next);
            let place = Place {
                graph: &params.graph,
                config,
                dirs,
                spare,
            };
            let next = ahead.take_to_execute(next);
            let next = next.and_then(|next| execute_ahead(place, awaited, next));
            if let Some(next) = next {
                ahead.put_back(next);
            }
        }
    }
}

impl Ahead<'_, '_> {
    /// What this goal builds, and a derivation that waits for this goal and nothing else.
    fn sole_waiter(&self, goal: Entity) -> Option<(DrvId, DrvId)> {
        if self.scheduler.mode_of(goal) != BuildMode::Normal {
            return None;
        }
        let drv = self.goals.get(goal).ok()?.drv;
        let mut dependents = self.graph.dependents(drv).take(LOOKED_AT);
        let next = dependents.find(|&drv| {
            let waiter = self.scheduler.index.goal_and_row(drv);
            let waitees = waiter.and_then(|(waiter, _)| self.waitees.get(waiter).ok());
            waitees.is_some_and(|waitees| waitees.left == 1 && waitees.failed == 0)
        });
        next.map(|next| (drv, next))
    }
}
