//! The first system: what is missing? Takes goals from being asked for to having all their inputs.
//!
//! Goals come here when they are made and when all they waited for has ended. Each pass takes a batch of
//! them, so that temporary roots, validity and the making of sub-goals are shared by the whole batch:
//! derivations are loaded, wanted outputs looked up, substitutes preferred, inputs asked for.

mod pass;

use bevy_ecs::prelude::World;

use crate::world::{Awake, RunState};

/// How many goals one tick looks at before it turns to what children say.
const GOALS_PER_TICK: usize = 8192;

/// Looks at every goal that is awake, and at those that this wakes, up to a bound.
pub fn substitute(world: &mut World) {
    let mut seen = 0;
    while seen < GOALS_PER_TICK && !world.resource::<RunState>().is_over() {
        let mut awake = std::mem::take(&mut world.resource_mut::<Awake>().0);
        if awake.is_empty() {
            return;
        }
        if awake.len() > GOALS_PER_TICK {
            let rest = awake.split_off(GOALS_PER_TICK);
            world.resource_mut::<Awake>().0.extend(rest);
        }
        seen += awake.len();
        if let Err(error) = pass::run(world, &awake) {
            world.resource_mut::<RunState>().fatal = Some(error);
        }
    }
}
