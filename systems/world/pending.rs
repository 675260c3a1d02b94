//! What is still to be done: whether there is work for the next tick, and what was put off.

use std::time::{Duration, Instant};

use bevy_ecs::prelude::{Component, Entity, Res, Resource};
use bevy_ecs::system::SystemParam;
use windrow_components::goal::BuildMode;

use crate::failure::{Failure, FailureKind};
use crate::helpers::hook::desk::HookDesk;
use crate::process::reactor::Readable;
use crate::world::{
    Awake, Completed, Ended, Failures, FetchQueue, NewlyReady, Options, Pace, ReadyQueue, Slots,
    Starting, free_slot as free_slot_to_fetch,
};

/// When the run began.
#[derive(Debug, Clone, Copy, Resource)]
pub struct Clock(pub Instant);

/// Whether a system has something to do in the next tick, so that there is no sleeping now.
#[derive(SystemParam)]
pub struct PendingGoals<'w> {
    pub(crate) awake: Res<'w, Awake>,
    pub(crate) newly_ready: Res<'w, NewlyReady>,
    pub(crate) queue: Res<'w, ReadyQueue>,
    pub(crate) starting: Res<'w, Starting>,
    pub(crate) completed: Res<'w, Completed>,
    pub(crate) failures: Res<'w, Failures>,
    pub(crate) ended: Res<'w, Ended>,
    pub(crate) fetches: Res<'w, FetchQueue>,
    pub(crate) desk: Res<'w, HookDesk>,
    pub(crate) slots: Res<'w, Slots>,
    pub(crate) options: Res<'w, Options>,
}

impl PendingGoals<'_> {
    /// Whether a system has something to do.
    pub fn any(&self) -> bool {
        let free_slot = self.slots.used < self.options.max_jobs;
        // Whoever could be offered to the hook has been.
        let startable = !self.desk.is_on() && free_slot && !self.queue.is_empty();
        !self.awake.is_empty()
            || !self.newly_ready.0.is_empty()
            || startable
            || self.desk.is_pending()
            || self
                .fetches
                .is_pending(free_slot_to_fetch(&self.slots, &self.options))
            || !self.starting.0.is_empty()
            || (!self.completed.is_empty() && self.completed.held_until.is_none())
            || !self.failures.0.is_empty()
            || !self.ended.is_empty()
    }
}

/// What is readable or writable of helpers beside their logs, for who talks with them.
#[derive(Debug, Default, Resource)]
pub struct HelperEvents {
    /// What is to be looked at in this tick.
    pub now: Vec<Readable>,
    /// What was not read to its end, for the poll tells of changes only.
    pub unread: Vec<Readable>,
    /// What is not read just now, for nobody takes what it says.
    pub held_back: Vec<Readable>,
}

impl HelperEvents {
    /// Ends a tick: what was not read to its end is looked at in the next one.
    pub fn turn(&mut self) {
        self.now.clear();
        self.now.append(&mut self.unread);
    }
}

/// A child that was waited for, whose build is still to be looked after.
#[derive(Debug)]
pub struct Buried {
    pub(crate) goal: Entity,
    pub(crate) mode: BuildMode,
    pub(crate) status: i32,
    /// Why it could not run its builder, if that is so.
    pub(crate) grounded: Option<Failure>,
    pub(crate) condemned: Option<Condemned>,
}

impl Buried {
    pub(crate) fn is_good(&self) -> bool {
        self.status == 0 && self.grounded.is_none() && self.condemned.is_none()
    }
}

/// Children that ended well while something else could start: their slots were given away first.
#[derive(Debug, Default, Resource)]
pub struct Estates(pub Vec<Buried>);

/// Whether something can take a slot that becomes free.
#[derive(SystemParam)]
pub struct Successors<'w> {
    pub(crate) queue: Res<'w, ReadyQueue>,
    pub(crate) newly_ready: Res<'w, NewlyReady>,
    pub(crate) desk: Res<'w, HookDesk>,
    pub(crate) pace: Res<'w, Pace>,
}

impl Successors<'_> {
    pub(crate) fn any(&self) -> bool {
        self.pace.slots_before_paperwork
            && !self.desk.is_asking()
            && !(self.queue.is_empty() && self.newly_ready.0.is_empty())
    }
}

/// A child that is to be killed, and why.
#[derive(Debug, Clone, Component)]
#[component(storage = "SparseSet")]
pub struct Condemned {
    /// What to say of it.
    pub reason: String,
    /// What kind of failure that is.
    pub kind: FailureKind,
}

/// How long what a builder left running may hold its log open after it has exited. Long enough for a
/// `tee` to write its last lines, short enough that a daemon delays nothing.
pub const LINGER: Duration = Duration::from_secs(1);
