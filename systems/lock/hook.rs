//! Acts on the answers of the build hook: a build that it takes needs no slot, one that it declines needs one.

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::goal::Stage;
use windrow_components::graph::BuildGraph;

use crate::helpers::hook::desk::HookDesk;
use crate::helpers::hook::instance::Reply;
use crate::store::path_lock::OutputLocks;
use crate::world::{LockWaiters, Now, Options, ReadyQueue, RunState, Slots, Starting, StoreHandle};

/// Whether the hook has answered.
pub fn has_reply(desk: Res<HookDesk>) -> bool {
    desk.reply.is_some()
}

/// Acts on the hook's answer: a build that it takes needs no slot, one that it declines needs one.
#[expect(clippy::too_many_arguments, reason = "one system, many queues")]
pub fn take_reply(
    mut commands: Commands,
    mut desk: ResMut<HookDesk>,
    mut queue: ResMut<ReadyQueue>,
    mut slots: ResMut<Slots>,
    mut starting: ResMut<Starting>,
    mut waiting: ResMut<LockWaiters>,
    mut store: NonSendMut<StoreHandle>,
    mut goals: Query<(&mut Stage, Option<&mut OutputLocks>)>,
    (graph, options, now, run): (Res<BuildGraph>, Res<Options>, Res<Now>, Res<RunState>),
) {
    if desk.reply.is_none() || run.is_over() {
        return;
    }
    let (Some(reply), Some((ready, rank))) = (desk.reply.take(), desk.offered.take()) else {
        return;
    };
    match reply {
        Reply::Accept => return desk.accepted.push(ready),
        Reply::DeclinePermanently => desk.close(&mut queue),
        Reply::Decline | Reply::Postpone => {}
    }
    if reply != Reply::Postpone && slots.used < options.max_jobs {
        slots.used += 1;
        starting.0.push(ready);
        return;
    }
    // It holds nothing while it waits.
    for row in graph.outputs(ready.drv) {
        waiting.held.remove(row.path);
    }
    if let Ok((mut stage, locks)) = goals.get_mut(ready.goal) {
        *stage = Stage::Ready;
        if let Some(mut locks) = locks {
            store.0.unlock(std::mem::take(&mut *locks), false);
        }
    }
    commands
        .entity(ready.goal)
        .remove::<(OutputLocks, MissingOutputs, HashRewrites)>();
    match reply {
        Reply::Postpone => {
            let kind = graph.machine_kind(ready.drv);
            let interval = options.lock_poll_interval;
            desk.park(kind, (ready.drv, rank), now.0, interval);
        }
        Reply::DeclinePermanently => queue.push(ready.drv, rank),
        Reply::Accept | Reply::Decline => desk.for_slot.push(ready.drv, rank),
    }
}
