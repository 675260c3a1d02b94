//! Simulated children: each is a duration on a heap. When nothing is left to do at an instant, time
//! jumps to the next end, and all that end then are handled before anything starts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bevy_ecs::prelude::{Entity, Res, ResMut, Resource};
use hashbrown::HashSet;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use crate::failure::{Failure, FailureKind};
use crate::policy::{Estimates, draw};
use crate::simulate::measure::{Run, Utilisation, WaitTimes, Waits};
use crate::world::{NewOutput, ReadyGoal, Scheduler};

/// Which tasks fail, after their whole duration.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// These.
    pub tasks: HashSet<u32>,
    /// How many of a million others, drawn by the seed.
    pub per_million: u32,
    /// How often each task is tried again, by task; one that is not named is not.
    pub retries: Vec<u32>,
}

/// A child in its slot.
#[derive(Debug, Clone, Copy)]
struct Child {
    goal: Entity,
    drv: DrvId,
    /// The slot of another that ends at the same instant, or `NONE`.
    next: u32,
    start: u64,
}

const NONE: u32 = u32::MAX;

/// Children that began one after the other and end at one instant: a list through their slots.
#[derive(Debug, Clone, Copy)]
struct Group {
    end: u64,
    last: u32,
}

/// The ends to come, as the first slot of each group. Where all slots end at one instant, as with
/// tasks that take the same time, this is one group.
#[derive(Debug, Default)]
struct Ends {
    /// The instant and the first slot as one number, so that comparing two is one comparison.
    heap: BinaryHeap<Reverse<u128>>,
    /// The group that was added to last.
    open: Option<Group>,
}

impl Ends {
    /// Adds a child that ends then, which stands in that slot.
    #[inline]
    fn push(&mut self, end: u64, slot: u32, slots: &mut [Child]) {
        match &mut self.open {
            Some(group) if group.end == end => {
                slots[group.last as usize].next = slot;
                group.last = slot;
            }
            open => {
                *open = Some(Group { end, last: slot });
                self.heap
                    .push(Reverse(u128::from(end) << 64 | u128::from(slot)));
            }
        }
    }

    fn next_end(&self) -> Option<u64> {
        let Reverse(next) = self.heap.peek()?;
        Some((next >> 64) as u64)
    }

    /// Takes the first slot of a group that ends then, if there is one.
    fn pop_at(&mut self, end: u64) -> Option<u32> {
        if self.next_end()? != end {
            return None;
        }
        self.open.take_if(|group| group.end == end);
        self.heap.pop().map(|Reverse(next)| next as u32)
    }
}

/// The slots, of which the first free one is taken.
#[derive(Debug, Default)]
struct FreeSlots {
    /// A bit for each that is free.
    words: Vec<u64>,
    made: u32,
}

impl FreeSlots {
    fn take(&mut self) -> u32 {
        let free = self
            .words
            .iter_mut()
            .enumerate()
            .find(|(_, word)| **word != 0);
        match free {
            Some((at, word)) => {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                at as u32 * u64::BITS + bit
            }
            None => {
                self.made += 1;
                self.made - 1
            }
        }
    }

    fn give_back(&mut self, slot: u32) {
        let at = (slot / u64::BITS) as usize;
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (slot % u64::BITS);
    }
}

/// The children, and sums over those that have ended.
#[derive(Debug, Resource)]
pub struct SimulatedChildren {
    running: Ends,
    /// By slot; what stands in a free one is over.
    slots: Vec<Child>,
    free: FreeSlots,
    seed: u64,
    faults: Faults,
    record: bool,
    /// How long tasks take, if policies believe something else.
    durations: Option<Vec<u64>>,
    /// How often each task was tried again, if that was so for any.
    tried: Vec<u32>,
    pub(super) retried: u64,
    waits: WaitTimes,
    pub(super) last_end: u64,
    pub(super) busy: u64,
    utilisation: Utilisation,
    pub(super) runs: Vec<Run>,
}

impl SimulatedChildren {
    pub(super) fn new(
        seed: u64,
        faults: Faults,
        record: bool,
        durations: Option<Vec<u64>>,
    ) -> Self {
        Self {
            running: Ends::default(),
            slots: Vec::new(),
            free: FreeSlots::default(),
            seed,
            faults,
            record,
            durations,
            tried: Vec::new(),
            retried: 0,
            waits: WaitTimes::default(),
            last_end: 0,
            busy: 0,
            utilisation: Utilisation::default(),
            runs: Vec::new(),
        }
    }

    /// What was measured, once the run is over.
    pub(super) fn measured(&mut self) -> (Waits, Utilisation) {
        let waits = std::mem::take(&mut self.waits);
        (waits.finish(), std::mem::take(&mut self.utilisation))
    }

    /// When the next ends.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.running.next_end()
    }

    /// A goal's child starts elsewhere than in a slot.
    pub(super) fn note_start(&mut self, drv: DrvId, now: Duration) {
        self.waits.start(drv.index(), units(now));
    }

    /// That many cores were busy.
    pub(super) fn note_busy(&mut self, start: u64, end: u64, cores: u64) {
        self.last_end = self.last_end.max(end);
        self.busy += (end - start) * cores;
        self.utilisation.add_many(start, end, cores);
    }

    pub(super) fn fails(&self, drv: DrvId) -> bool {
        let faults = &self.faults;
        // Another stream than the random policy draws from, and another number for each try.
        let drawn = || {
            let tried = self.tried.get(drv.index()).copied().unwrap_or(0);
            let seed = (!self.seed).wrapping_add(u64::from(tried).wrapping_mul(TRIES));
            draw(seed, drv) % 1_000_000 < u64::from(faults.per_million)
        };
        faults.per_million > 0 && drawn()
            || !faults.tasks.is_empty() && faults.tasks.contains(&(drv.index() as u32))
    }
}

/// How far the streams are apart that successive tries of a task draw from.
const TRIES: u64 = 0xd1b5_4a32_d192_ed03;

impl SimulatedChildren {
    /// Whether a task that has failed is to be tried again, which is noted.
    pub(super) fn try_again(&mut self, drv: DrvId) -> bool {
        let index = drv.index();
        let most = self.faults.retries.get(index).copied().unwrap_or(0);
        if most == 0 {
            return false;
        }
        self.tried.resize(self.faults.retries.len(), 0);
        let may = self.tried[index] < most;
        self.tried[index] += u32::from(may);
        self.retried += u64::from(may);
        may
    }
}

/// Notes when goals come to be ready, for the time they wait.
pub(crate) fn note_ready(
    mut children: ResMut<SimulatedChildren>,
    scheduler: Res<Scheduler>,
    graph: Res<BuildGraph>,
) {
    let instant = units(scheduler.now);
    children.waits.resize(graph.drv_count());
    for drv in scheduler.newly_ready() {
        children.waits.ready(drv.index(), instant);
    }
}

/// Starts a simulated child for every goal that has a slot.
pub(crate) fn start(
    mut scheduler: ResMut<Scheduler>,
    mut children: ResMut<SimulatedChildren>,
    estimates: Res<Estimates>,
) {
    let mut starting = scheduler.take_starting();
    let children = &mut *children;
    let start = units(scheduler.now);
    let durations = children.durations.as_ref().unwrap_or(&estimates.0);
    let duration = |drv: DrvId| durations.get(drv.index()).copied().unwrap_or(1);
    for ReadyGoal { goal, drv } in starting.drain(..) {
        scheduler.start(goal);
        let slot = children.free.take();
        let next = NONE;
        let child = Child {
            goal,
            drv,
            next,
            start,
        };
        match children.slots.get_mut(slot as usize) {
            Some(place) => *place = child,
            None => children.slots.push(child),
        }
        let end = start + duration(drv);
        children.waits.start(drv.index(), start);
        children.running.push(end, slot, &mut children.slots);
    }
    scheduler.keep_starting(starting);
}

/// Whether nothing is left to be done at this instant.
pub(crate) fn idle(scheduler: &Scheduler) -> bool {
    !scheduler.has_work() && (!scheduler.run.is_over() || scheduler.is_busy())
}

/// Lets time jump to the next end.
pub(crate) fn advance(
    mut scheduler: ResMut<Scheduler>,
    mut children: ResMut<SimulatedChildren>,
    graph: Res<BuildGraph>,
) {
    let Some(end) = children.next_end() else {
        scheduler.run.is_stuck = true;
        return;
    };
    scheduler.now = Duration::from_micros(end);
    end_builds(&mut scheduler, &mut children, &graph, end);
}

/// Ends what ends at that instant, if anything does.
#[inline]
pub(super) fn end_builds(
    scheduler: &mut Scheduler,
    children: &mut SimulatedChildren,
    graph: &BuildGraph,
    end: u64,
) {
    // Children that began together are counted together.
    let mut alike = (end, 0);
    let mut next = children.running.pop_at(end);
    if next.is_some() {
        children.last_end = end;
    }
    while let Some(slot) = next {
        let child = children.slots[slot as usize];
        next = match child.next {
            NONE => children.running.pop_at(end),
            other => Some(other),
        };
        children.free.give_back(slot);
        children.busy += end - child.start;
        if child.start == alike.0 {
            alike.1 += 1;
        } else {
            children.utilisation.add_many(alike.0, end, alike.1);
            alike = (child.start, 1);
        }
        let failed = children.fails(child.drv);
        if children.record {
            let task = child.drv.index() as u32;
            children.runs.push(Run {
                task,
                slot,
                start: child.start,
                end,
                failed,
            });
        }
        if failed && children.try_again(child.drv) {
            let Child { goal, drv, .. } = child;
            scheduler.lose(graph, ReadyGoal { goal, drv });
            continue;
        }
        scheduler.exited(child.goal);
        if failed {
            let failure = Failure::new(FailureKind::Permanent, "the simulated builder failed");
            scheduler.fail(child.goal, failure);
            continue;
        }
        // In this world nothing is valid before it is built.
        let outputs = graph.outputs(child.drv).iter().map(|row| NewOutput {
            path: row.path,
            built: None,
        });
        scheduler.complete(child.goal, Some(child.drv), outputs);
    }
    children.utilisation.add_many(alike.0, end, alike.1);
}

fn units(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Slots are taken and given back, and each comes out when its child ends, the earliest
        /// first.
        #[test]
        fn ends_come_in_their_order(steps in proptest::collection::vec((0..6_u64, any::<bool>()), 1..80)) {
            let (mut ends, mut free, mut slots) = (Ends::default(), FreeSlots::default(), Vec::new());
            let mut plain: Vec<(u64, u32)> = Vec::new();
            let mut now = 0;
            for (duration, advances) in steps {
                let slot = free.take();
                let child = Child {
                    goal: Entity::PLACEHOLDER,
                    drv: DrvId::from_index(0),
                    next: NONE,
                    start: now,
                };
                match slots.get_mut(slot as usize) {
                    Some(place) => *place = child,
                    None => slots.push(child),
                }
                prop_assert!(plain.iter().all(|&(_, taken)| taken != slot));
                ends.push(now + duration, slot, &mut slots);
                plain.push((now + duration, slot));
                prop_assert_eq!(ends.next_end(), plain.iter().map(|&(end, _)| end).min());
                if !advances {
                    continue;
                }
                now = ends.next_end().unwrap();
                let mut ended = Vec::new();
                while let Some(first) = ends.pop_at(now) {
                    let mut slot = first;
                    while slot != NONE {
                        ended.push(slot);
                        slot = slots[slot as usize].next;
                    }
                }
                ended.iter().for_each(|&slot| free.give_back(slot));
                ended.sort_unstable();
                let mut expected: Vec<u32> =
                    plain.extract_if(.., |(end, _)| *end == now).map(|(_, slot)| slot).collect();
                expected.sort_unstable();
                prop_assert_eq!(ended, expected);
            }
        }
    }
}
