//! What may go on because something has ended.

use bevy_ecs::prelude::ResMut;

use crate::world::Scheduler;

/// Whether something has ended while builds are postponed, or may be by the hook's next answer.
pub fn has_postponed(scheduler: &Scheduler) -> bool {
    scheduler.has_ended() && scheduler.desk.has_postponed()
}

/// Lets postponed builds be offered again, for something has ended.
pub fn wake_postponed(mut scheduler: ResMut<Scheduler>) {
    let now = scheduler.now;
    scheduler.desk.wake_postponed(now);
}
