//! What was asked for, and how the run stands.

use bevy_ecs::prelude::Entity;
use windrow_components::bit_set::BitSet;
use windrow_components::goal::BuildMode;

use crate::error::Error;
use crate::failure::FailureKinds;

/// The goals that were asked for, without those that ended.
#[derive(Debug, Default)]
pub struct TopGoals {
    /// By the numbers of their entities; goals are never despawned.
    numbers: BitSet,
    left: usize,
}

impl TopGoals {
    /// Adds a goal.
    pub fn insert(&mut self, goal: Entity) {
        self.left += usize::from(self.numbers.insert(goal.index_u32() as usize));
    }

    /// Whether a goal is one of them.
    pub fn contains(&self, goal: Entity) -> bool {
        self.numbers.contains(goal.index_u32() as usize)
    }

    /// Takes out a goal that has ended; tells whether it was one of them.
    #[inline]
    pub fn remove(&mut self, goal: Entity) -> bool {
        let there = self.numbers.remove(goal.index_u32() as usize);
        self.left -= usize::from(there);
        there
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// How the run stands.
#[derive(Debug, Default)]
pub struct RunState {
    /// The goals that were asked for, without those that ended.
    pub top: TopGoals,
    /// What was asked of them.
    pub mode: BuildMode,
    /// A top-level goal failed and the run is not to keep going.
    pub given_up: bool,
    /// Nothing is left that could wake anybody, though goals have not ended.
    pub is_stuck: bool,
    /// An error that ends the run whatever its goals.
    pub fatal: Option<Error>,
    /// The signal that interrupted the run.
    pub interrupted: Option<i32>,
    /// Kinds of failures seen, for the exit status.
    pub failures: FailureKinds,
}

impl RunState {
    /// What is asked of a goal. What is to be repaired may have any of its inputs broken; a check is about what was
    /// asked for.
    #[inline]
    pub fn mode_of(&self, goal: Entity) -> BuildMode {
        match self.mode {
            BuildMode::Check if !self.top.contains(goal) => BuildMode::Normal,
            mode => mode,
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_over(&self) -> bool {
        self.top.is_empty()
            || self.given_up
            || self.is_stuck
            || self.fatal.is_some()
            || self.interrupted.is_some()
    }
}
