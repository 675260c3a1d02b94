//! The first system: what is missing? Takes goals from being asked for to having all their inputs.
//!
//! Goals come here when they are made and when all they waited for has ended. Each pass takes a batch of
//! them, so that temporary roots, validity and the making of sub-goals are shared by the whole batch:
//! derivations are loaded, wanted outputs looked up, substitutes preferred, inputs asked for.

mod pass;
pub mod querier;
pub mod query;
pub mod substituters;

use bevy_ecs::prelude::World;

use crate::world::{Awake, Pace, RunState};

/// Looks at every goal that is awake, and at those that this wakes, up to a bound.
pub fn substitute(world: &mut World) {
    let goals_per_tick = world.resource::<Pace>().goals_per_tick;
    let mut seen = 0;
    while seen < goals_per_tick && !world.resource::<RunState>().is_over() {
        let mut awake = std::mem::take(&mut world.resource_mut::<Awake>().0);
        if awake.is_empty() {
            return;
        }
        if awake.len() > goals_per_tick {
            let rest = awake.split_off(goals_per_tick);
            world.resource_mut::<Awake>().0.extend(rest);
        }
        seen += awake.len();
        if let Err(error) = pass::run(world, &awake) {
            world.resource_mut::<RunState>().fatal = Some(error);
        }
    }
}
