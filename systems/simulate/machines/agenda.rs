//! What is to happen to simulated machines, and when.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use bevy_ecs::prelude::Entity;
use windrow_components::ids::DrvId;

/// What happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A goal's child exits that was started as the goal's nth, from 0.
    TaskEnds(Entity, DrvId, u32),
    /// The first byte of a transfer comes.
    TransferBegins(u64),
    /// The last byte of a transfer has come.
    TransferEnds(u64),
    /// The policy is asked about what has happened since it was last.
    PolicyIsAsked,
    /// What it decided comes into effect.
    DecisionIsDue(u64),
    /// A task comes.
    TaskArrives(DrvId),
    /// A machine fails.
    MachineFails(usize),
    /// It is back.
    MachineIsBack(usize),
}

/// An instant at which something happens; what was foreseen first comes first.
#[derive(Debug, Clone, Copy)]
struct Event {
    time: f64,
    number: u64,
    what: What,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = self.time.total_cmp(&other.time);
        by_time.then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

/// What is to happen.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Event>>,
    foreseen: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, time: f64, what: What) {
        let number = self.foreseen;
        self.foreseen += 1;
        self.heap.push(Reverse(Event { time, number, what }));
    }

    pub(super) fn next(&self) -> Option<f64> {
        self.heap.peek().map(|Reverse(event)| event.time)
    }

    /// What happens next.
    pub(super) fn first(&self) -> Option<What> {
        self.heap.peek().map(|Reverse(event)| event.what)
    }

    pub(super) fn pop(&mut self) -> Option<What> {
        self.heap.pop().map(|Reverse(event)| event.what)
    }
}
