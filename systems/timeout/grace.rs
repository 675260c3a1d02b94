//! Paths that have waited long enough for a better substituter than the one that has them.

use bevy_ecs::prelude::ResMut;

use crate::helpers::Substituters;
use crate::world::Scheduler;

/// Lets them go on with whoever has them.
pub fn end_graces(mut substituters: ResMut<Substituters>, mut scheduler: ResMut<Scheduler>) {
    let now = scheduler.now;
    while let Some(path) = substituters.pop_end_of_grace(now) {
        scheduler.wake_askers([path]);
    }
}
