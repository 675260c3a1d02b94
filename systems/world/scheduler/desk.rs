//! Which builds are offered to the build hook, and what becomes of them by its answers. One build
//! is offered at a time (Nix 1.8: `worker.hook`); any number may be under way at hooks that have
//! accepted one.
//!
//! A build that is declined waits for a slot, and is offered again when it gets one. A build that
//! is postponed waits until anything has ended or a while has passed, and with it all others that
//! need the same kind of machine: what they would be told is known.

use std::time::Duration;

use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, NameId};

use crate::world::{ReadyGoal, ReadyQueue};

/// What a derivation needs of a machine: its platform and the features it requires.
type Kind = (Option<NameId>, Option<NameId>);

/// How a hook stands to a build that it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It does it.
    Accept,
    /// It does not; the engine may.
    Decline,
    /// It does not, and won't do any other (since Nix 2.0).
    DeclinePermanently,
    /// Not now, perhaps later.
    Postpone,
}

/// A build to be offered.
#[derive(Debug, Clone, Copy)]
pub struct HookQuestion {
    /// The build.
    pub ready: ReadyGoal,
    /// Whether a local slot is free for it.
    pub willing: bool,
}

#[derive(Debug)]
struct Parked {
    kind: Kind,
    queue: ReadyQueue,
    until: Duration,
}

/// Who waits for the hook.
#[derive(Debug, Default)]
pub struct HookDesk {
    on: bool,
    offered: Option<(ReadyGoal, u64)>,
    /// Whether something has ended since that was offered, of which the hook may not know as it
    /// answers.
    is_outdated: bool,
    question: Option<HookQuestion>,
    reply: Option<Reply>,
    for_slot: ReadyQueue,
    parked: Vec<Parked>,
    accepted: Vec<ReadyGoal>,
}

impl HookDesk {
    /// A desk with a hook behind it.
    pub fn open() -> Self {
        Self {
            on: true,
            ..Self::default()
        }
    }

    /// Whether there is a hook to offer builds to.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Whether a build was offered and not answered.
    pub fn is_asking(&self) -> bool {
        self.offered.is_some()
    }

    /// Whether there is something for the next tick.
    pub fn is_pending(&self) -> bool {
        self.reply.is_some() || self.question.is_some() || !self.accepted.is_empty()
    }

    /// When postponed builds are to be offered again.
    pub fn next_retry(&self) -> Option<Duration> {
        // Whoever is asked now has an answer first.
        if self.is_asking() {
            return None;
        }
        let waiting = self.parked.iter().filter(|parked| !parked.queue.is_empty());
        waiting.map(|parked| parked.until).min()
    }

    /// The next build to look at: declined before and now with a slot, postponed before and due, or
    /// from the queue of those that are ready.
    pub fn next(
        &mut self,
        queue: &mut ReadyQueue,
        free_slot: bool,
        now: Duration,
    ) -> Option<(DrvId, u64)> {
        if free_slot && let Some(next) = self.for_slot.pop_ranked() {
            return Some(next);
        }
        if !self.is_asking() {
            let due = self.parked.iter_mut().filter(|parked| parked.until <= now);
            for parked in due {
                if let Some(next) = parked.queue.pop_ranked() {
                    return Some(next);
                }
            }
        }
        if free_slot || !self.is_asking() {
            return queue.pop_ranked();
        }
        None
    }

    /// Lets a build wait for a slot.
    pub fn wait_for_slot(&mut self, drv: DrvId, rank: u64) {
        self.for_slot.push(drv, rank);
    }

    /// Lets a build wait with the others of its kind, if they have been postponed; tells whether it
    /// does.
    pub fn wait_with_kind(
        &mut self,
        graph: &BuildGraph,
        (drv, rank): (DrvId, u64),
        now: Duration,
    ) -> bool {
        let kind = graph.machine_kind(drv);
        let parked = self.parked.iter_mut().find(|parked| parked.kind == kind);
        match parked {
            Some(parked) if parked.until > now => {
                parked.queue.push(drv, rank);
                true
            }
            _ => false,
        }
    }

    /// Offers a build.
    pub fn offer(&mut self, ready: ReadyGoal, rank: u64, willing: bool) {
        debug_assert!(self.offered.is_none());
        self.offered = Some((ready, rank));
        self.is_outdated = false;
        self.question = Some(HookQuestion { ready, willing });
    }

    /// What the world is to ask its hook now.
    pub fn take_question(&mut self) -> Option<HookQuestion> {
        self.question.take()
    }

    /// Takes in what the hook answered.
    pub fn answer(&mut self, reply: Reply) {
        if self.is_asking() {
            self.reply = Some(reply);
        }
    }

    /// Builds that the hook has accepted and that the world is to hand over.
    pub fn take_accepted(&mut self) -> Vec<ReadyGoal> {
        std::mem::take(&mut self.accepted)
    }

    /// Lets a build that was offered wait until then, or until something ends.
    pub(super) fn park(
        &mut self,
        kind: Kind,
        (drv, rank): (DrvId, u64),
        now: Duration,
        interval: Duration,
    ) {
        let until = match self.is_outdated {
            true => now,
            false => now + interval,
        };
        let index = match self.parked.iter().position(|parked| parked.kind == kind) {
            Some(index) => index,
            None => {
                let queue = ReadyQueue::default();
                self.parked.push(Parked { kind, queue, until });
                self.parked.len() - 1
            }
        };
        self.parked[index].until = until;
        self.parked[index].queue.push(drv, rank);
    }

    /// Whether the hook has answered.
    pub fn has_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// The answer, and the build it is about, with its rank. If nothing is to be offered any more,
    /// everybody goes to `queue`.
    pub(super) fn take_reply(&mut self, queue: &mut ReadyQueue) -> Option<(Reply, ReadyGoal, u64)> {
        self.reply?;
        let (reply, (ready, rank)) = (self.reply.take()?, self.offered.take()?);
        match reply {
            Reply::Accept => self.accepted.push(ready),
            Reply::DeclinePermanently => self.close(queue),
            Reply::Decline | Reply::Postpone => {}
        }
        Some((reply, ready, rank))
    }

    /// Whether builds are postponed, or may be by the hook's next answer.
    pub fn has_postponed(&self) -> bool {
        !self.parked.is_empty() || self.is_asking()
    }

    /// Lets postponed builds be offered again, for something has ended.
    pub fn wake_postponed(&mut self, now: Duration) {
        self.is_outdated = true;
        for parked in &mut self.parked {
            parked.until = parked.until.min(now);
        }
    }

    /// Nothing is offered any more; everybody goes back to the queue.
    pub(super) fn close(&mut self, queue: &mut ReadyQueue) {
        self.on = false;
        let parked = self.parked.drain(..).map(|parked| parked.queue);
        for mut waiting in parked.chain([std::mem::take(&mut self.for_slot)]) {
            while let Some((drv, rank)) = waiting.pop_ranked() {
                queue.push(drv, rank);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::prelude::Entity;
    use windrow_components::store_path::StoreDir;

    fn drv(index: usize) -> DrvId {
        DrvId::from_index(index)
    }

    #[test]
    fn declined_builds_come_first_when_there_is_a_slot_and_not_before() {
        let (mut desk, mut queue) = (HookDesk::open(), ReadyQueue::default());
        let now = Duration::ZERO;
        queue.push(drv(0), 0);
        queue.push(drv(1), 1);
        let (first, rank) = desk.next(&mut queue, false, now).unwrap();
        assert_eq!(first, drv(0));
        let goal = Entity::from_raw_u32(7).unwrap();
        desk.offer(ReadyGoal { goal, drv: first }, rank, false);
        assert!(desk.next(&mut queue, false, now).is_none());
        desk.answer(Reply::Decline);
        assert!(desk.is_pending());
        (desk.offered, desk.reply, desk.question) = (None, None, None);
        desk.wait_for_slot(first, rank);
        assert_eq!(desk.next(&mut queue, false, now), Some((drv(1), 1)));
        assert_eq!(desk.next(&mut queue, false, now), None);
        assert_eq!(desk.next(&mut queue, true, now), Some((drv(0), 0)));
    }

    #[test]
    fn postponed_builds_wait_with_their_kind() {
        let mut graph = BuildGraph::new(StoreDir::new("/s"));
        for n in 0..3 {
            let path = format!("/s/{n}0000000000000000000000000000000-x.drv");
            let path = graph.path(&path).unwrap();
            graph.drv(path);
        }
        let (mut desk, mut queue) = (HookDesk::open(), ReadyQueue::default());
        let second = Duration::from_secs(1);
        let kind = graph.machine_kind(drv(0));
        desk.park(kind, (drv(0), 0), Duration::ZERO, second);
        assert!(desk.wait_with_kind(&graph, (drv(1), 1), Duration::ZERO));
        assert_eq!(desk.next_retry(), Some(second));
        assert_eq!(desk.next(&mut queue, true, Duration::ZERO), None);
        assert_eq!(desk.next(&mut queue, true, second), Some((drv(0), 0)));
        assert!(!desk.wait_with_kind(&graph, (drv(2), 2), second));
        desk.close(&mut queue);
        assert_eq!(queue.pop(), Some(drv(1)));
        assert!(!desk.is_on());
    }
}
