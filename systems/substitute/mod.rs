//! The first system: what is missing? Takes goals from being asked for to having all their inputs.
//!
//! Goals come here when they are made and when all they waited for has ended. Each pass takes a
//! batch of them, so that temporary roots, validity and the making of sub-goals are shared by the
//! whole batch: derivations are loaded, wanted outputs looked up, substitutes preferred, inputs
//! asked for.

pub mod questions;
pub mod repair;
pub mod requests;

mod pass;

use bevy_ecs::prelude::{Local, World};
use bevy_ecs::system::SystemState;
use pass::Batch;

use crate::substitute::pass::Params;
use crate::world::{AddWaitees, Scheduler};

/// Looks at every goal that is awake, and at those that this wakes, up to a bound.
pub fn substitute(
    world: &mut World,
    params: &mut SystemState<Params<'static, 'static>>,
    waitees: &mut SystemState<AddWaitees<'static, 'static>>,
    mut batch: Local<Batch>,
) {
    let mut scheduler = world.resource_mut::<Scheduler>();
    let goals_per_tick = scheduler.pace.goals_per_tick;
    let mut seen = 0;
    while seen < goals_per_tick {
        if !scheduler.is_awake() || scheduler.run.has_stopped() {
            return;
        }
        let mut awake = batch.take_awake();
        scheduler.take_awake(goals_per_tick, &mut awake);
        seen += awake.len();
        let done = pass::run(world, params, waitees, &awake, &mut batch);
        batch.keep_awake(awake);
        scheduler = world.resource_mut::<Scheduler>();
        if let Err(error) = done {
            scheduler.abort(error);
        }
    }
}
