//! What is remembered of goals for the results of requests, where somebody wants those.

use bevy_ecs::prelude::Entity;
use hashbrown::HashMap;
use windrow_components::goal::Moment;

use super::Scheduler;
use crate::failure::Failure;

/// Why goals failed, and which were made.
#[derive(Debug, Default)]
pub struct Records {
    failures: HashMap<Entity, Failure>,
    /// When derivations were built and paths fetched.
    made: HashMap<Entity, Moment>,
}

impl Records {
    /// Why a goal failed, if it did.
    pub fn failure(&self, goal: Entity) -> Option<&Failure> {
        self.failures.get(&goal)
    }

    /// Whether a derivation was built, or a path fetched, since that moment.
    pub fn was_made(&self, goal: Entity, since: Moment) -> bool {
        self.made.get(&goal).is_some_and(|&made| made >= since)
    }
}

impl Scheduler {
    /// Begins to remember.
    pub fn keep_records(&mut self) {
        self.records.get_or_insert_default();
    }

    /// What is remembered, if anything is.
    pub fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// A goal has failed, for the last time or until it is tried again.
    pub fn record_failure(&mut self, goal: Entity, failure: Failure) {
        if let Some(records) = &mut self.records {
            records.failures.insert(goal, failure);
        }
    }

    /// A derivation was built, or a path fetched.
    #[inline]
    pub fn record_made(&mut self, goal: Entity) {
        if let Some(records) = &mut self.records {
            records.made.insert(goal, self.ended.now());
        }
    }
}
