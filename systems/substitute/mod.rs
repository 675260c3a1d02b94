//! The first system: what is missing? Takes goals from being asked for to having all their inputs.
//!
//! Goals come here when they are made and when all they waited for has ended. Each pass takes a batch of
//! them, so that temporary roots, validity and the making of sub-goals are shared by the whole batch:
//! derivations are loaded, wanted outputs looked up, substitutes preferred, inputs asked for.

pub mod questions;
pub mod repair;

mod pass;

use bevy_ecs::prelude::{Local, World};
use bevy_ecs::system::SystemState;
use pass::{Batch, Looking};

use crate::world::{Awake, Pace, RunState, Tying};

/// Looks at every goal that is awake, and at those that this wakes, up to a bound.
pub fn substitute(
    world: &mut World,
    looking: &mut SystemState<Looking<'static, 'static>>,
    tying: &mut SystemState<Tying<'static, 'static>>,
    mut batch: Local<Batch>,
) {
    let goals_per_tick = world.resource::<Pace>().goals_per_tick;
    let mut seen = 0;
    while seen < goals_per_tick {
        if world.resource::<Awake>().is_empty() || world.resource::<RunState>().is_over() {
            return;
        }
        let mut awake = batch.take_awake();
        world
            .resource_mut::<Awake>()
            .take(goals_per_tick, &mut awake);
        seen += awake.len();
        let done = pass::run(world, looking, tying, &awake, &mut batch);
        batch.keep_awake(awake);
        if let Err(error) = done {
            world.resource_mut::<RunState>().fatal = Some(error);
        }
    }
}
