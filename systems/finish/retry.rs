//! What may go on because something has ended.

use bevy_ecs::prelude::{Res, ResMut};

use crate::world::Scheduler;

/// Whether builds are postponed, or may be by the hook's next answer.
pub fn has_postponed(scheduler: Res<Scheduler>) -> bool {
    scheduler.desk.has_postponed()
}

/// Lets postponed builds be offered again when something has ended.
pub fn wake_postponed(mut scheduler: ResMut<Scheduler>) {
    if !scheduler.ended().is_empty() {
        let now = scheduler.now;
        scheduler.desk.wake_postponed(now);
    }
}
