//! Acts on the answers of the build hook: a build that it takes needs no slot, one that it declines
//! needs one.

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::graph::BuildGraph;

use crate::failure::Failure;
use crate::world::{OutputLocks, Reply, Scheduler, Services};

/// Whether the hook has answered.
pub fn has_reply(scheduler: &Scheduler) -> bool {
    scheduler.desk.has_reply()
}

/// Acts on the hook's answer (Nix 1.8: the second half of `DerivationGoal::tryBuildHook`).
pub fn take_reply(
    mut commands: Commands,
    graph: Res<BuildGraph>,
    mut services: NonSendMut<Services>,
    mut scheduler: ResMut<Scheduler>,
    mut locks: Query<&mut OutputLocks>,
) {
    if scheduler.run.has_stopped() {
        return;
    }
    let Some((reply, ready, rank)) = scheduler.take_reply() else {
        return;
    };
    if reply == Reply::Accept {
        return;
    }
    if scheduler.is_cancelled(ready.goal) {
        return scheduler.fail(ready.goal, Failure::cancelled());
    }
    if reply != Reply::Postpone && scheduler.has_slot_for(ready.goal) {
        scheduler.take_slot(ready);
        return;
    }
    scheduler.give_back(&graph, ready);
    if let Ok(mut locks) = locks.get_mut(ready.goal) {
        services.store.unlock(std::mem::take(&mut *locks), false);
    }
    commands
        .entity(ready.goal)
        .remove::<(OutputLocks, MissingOutputs, HashRewrites)>();
    scheduler.wait_after_reply(&graph, reply, (ready.drv, rank));
}
