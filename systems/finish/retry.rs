//! What may go on because something has ended, or because it is time to try again.

use bevy_ecs::prelude::{Query, Res, ResMut};
use windrow_components::goal::Stage;

use crate::helpers::hook::desk::HookDesk;
use crate::world::{Ended, FetchQueue, Now, ReadyFetch};

/// Whether builds are postponed, or may be by the hook's next answer.
pub fn has_postponed(desk: Res<HookDesk>) -> bool {
    !desk.parked.is_empty() || desk.is_asking()
}

/// Lets postponed builds be offered again when something has ended.
pub fn wake_postponed(mut desk: ResMut<HookDesk>, ended: Res<Ended>, now: Res<Now>) {
    if !ended.is_empty() {
        desk.is_outdated = true;
        for parked in &mut desk.parked {
            parked.until = parked.until.min(now.0);
        }
    }
}

/// Whether paths wait for locks or for other goals.
pub fn has_waiting(queue: Res<FetchQueue>) -> bool {
    !queue.foreign.is_empty() || !queue.any_goal.is_empty()
}

/// Makes goals ready again whose locks are due for another try, and those that wait for any goal when one has ended.
pub fn retry_paths(
    mut stages: Query<&mut Stage>,
    mut queue: ResMut<FetchQueue>,
    ended: Res<Ended>,
    now: Res<Now>,
) {
    let queue = &mut *queue;
    let due = queue.foreign.extract_if(.., |(_, at)| *at <= now.0);
    let mut due: Vec<ReadyFetch> = due.map(|(ready, _)| ready).collect();
    if !ended.is_empty() {
        due.append(&mut queue.any_goal);
    }
    for ready in due {
        if let Ok(mut stage) = stages.get_mut(ready.goal) {
            *stage = Stage::Ready;
        }
        queue.ready.push_back(ready);
    }
}
