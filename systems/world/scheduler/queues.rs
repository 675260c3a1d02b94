//! The lists that systems hand goals on in: awake, ready, complete, ended.

use std::time::Duration;

use bevy_ecs::entity::EntityIndex;
use bevy_ecs::prelude::Entity;
use windrow_components::goal::{Moment, Outcome, Target};
use windrow_components::ids::{DrvId, PathId};

use crate::world::NewOutput;

/// Goals that have something to look at in the next `substitute` (Nix 1.8: `awake`).
///
/// Nix 1.8: `Worker::wakeUp`.
#[derive(Debug, Default)]
pub struct Awake {
    /// Goals of either kind.
    pub goals: Vec<Entity>,
    /// Goals of derivations, by what they are for.
    pub derivations: Vec<DrvId>,
}

impl Awake {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.goals.is_empty() && self.derivations.is_empty()
    }

    /// Moves at most `most` of them to `other`, which has none.
    pub fn take(&mut self, most: usize, other: &mut Self) {
        std::mem::swap(self, other);
        let goals = other.goals.len().min(most);
        self.goals.extend(other.goals.drain(goals..));
        let derivations = other.derivations.len().min(most - goals);
        let rest = other.derivations.drain(derivations..);
        self.derivations.extend(rest);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.goals.len() + self.derivations.len()
    }

    /// Forgets all of them and keeps the memory.
    pub fn clear(&mut self) {
        self.goals.clear();
        self.derivations.clear();
    }
}

/// A derivation's goal that only lacks a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyGoal {
    /// The goal.
    pub goal: Entity,
    /// What it is to build.
    pub drv: DrvId,
}

impl From<ReadyGoal> for Goal {
    fn from(ready: ReadyGoal) -> Self {
        Self {
            entity: ready.goal,
            target: Target::Derivation(ready.drv),
        }
    }
}

/// A path's goal that only lacks a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyFetch {
    /// The goal.
    pub goal: Entity,
    /// What it is to fetch.
    pub path: PathId,
}

impl From<ReadyFetch> for Goal {
    fn from(fetch: ReadyFetch) -> Self {
        Self {
            entity: fetch.goal,
            target: Target::Path(fetch.path),
        }
    }
}

/// A goal, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The goal.
    pub entity: Entity,
    /// What it is for.
    pub target: Target,
}

impl Goal {
    /// The derivation it is for, unless it is a path's.
    #[inline]
    pub fn drv(&self) -> Option<DrvId> {
        match self.target {
            Target::Derivation(drv) => Some(drv),
            Target::Path(_) | Target::Repair(_) => None,
        }
    }
}

/// A goal that waits for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// To build.
    Build(ReadyGoal),
    /// To fetch.
    Fetch(ReadyFetch),
}

impl Waiting {
    /// The goal.
    pub fn goal(self) -> Entity {
        match self {
            Self::Build(ready) => ready.goal,
            Self::Fetch(fetch) => fetch.goal,
        }
    }
}

impl From<Waiting> for Goal {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Build(ready) => ready.into(),
            Waiting::Fetch(fetch) => fetch.into(),
        }
    }
}

/// A goal that waits for a lock which another process holds.
#[derive(Debug, Clone, Copy)]
pub struct Parked {
    /// The goal.
    pub waiting: Waiting,
    /// When to try again.
    pub retry_at: Duration,
}

/// A goal whose outputs are complete.
#[derive(Debug, Clone, Copy)]
pub struct CompleteGoal {
    /// The goal.
    pub goal: Entity,
    /// The derivation it is for, unless it is a path's.
    pub drv: Option<DrvId>,
    /// Where its outputs end in the list of all; they begin where those of the one before end.
    end: usize,
}

/// Goals whose outputs are complete, for one transaction in this tick.
#[derive(Debug, Default)]
pub struct Completed {
    goals: Vec<CompleteGoal>,
    outputs: Vec<NewOutput>,
    /// Until when they wait for more to be registered with, if they do.
    pub held_until: Option<Duration>,
}

impl Completed {
    /// Adds a goal with its outputs, and what derivation it is for, unless it is a path's.
    pub fn push(
        &mut self,
        goal: Entity,
        drv: Option<DrvId>,
        outputs: impl IntoIterator<Item = impl Into<NewOutput>>,
    ) {
        self.outputs.extend(outputs.into_iter().map(Into::into));
        let end = self.outputs.len();
        self.goals.push(CompleteGoal { goal, drv, end });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.goals.is_empty()
    }

    /// How many goals there are.
    pub fn len(&self) -> usize {
        self.goals.len()
    }

    /// Whether none of them is a derivation's.
    pub(super) fn are_fetched(&self) -> bool {
        self.goals.iter().all(|complete| complete.drv.is_none())
    }

    /// The outputs of all goals.
    pub fn outputs(&self) -> &[NewOutput] {
        &self.outputs
    }

    /// Each goal and its outputs.
    pub fn builds(&self) -> impl Iterator<Item = (CompleteGoal, &[NewOutput])> {
        let mut start = 0;
        self.goals.iter().map(move |complete| {
            let outputs = &self.outputs[start..complete.end];
            start = complete.end;
            (*complete, outputs)
        })
    }

    /// Puts the goals into another order, with their outputs.
    pub(super) fn reorder(
        &mut self,
        reorder: impl FnOnce(&mut Vec<(CompleteGoal, Vec<NewOutput>)>),
    ) {
        let builds = self.builds();
        let mut builds = builds
            .map(|(goal, outputs)| (goal, outputs.to_vec()))
            .collect();
        reorder(&mut builds);
        self.goals.clear();
        self.outputs.clear();
        for (CompleteGoal { goal, drv, .. }, outputs) in builds {
            self.push(goal, drv, outputs);
        }
    }

    /// Forgets all of them and keeps the memory.
    pub fn clear(&mut self) {
        self.goals.clear();
        self.outputs.clear();
        self.held_until = None;
    }
}

/// The `drv` of an end that is a path's.
const NONE: u32 = u32::MAX;

/// The end of a goal.
#[derive(Debug, Clone, Copy)]
pub struct End {
    goal: EntityIndex,
    /// The derivation it is for, or `NONE`.
    drv: u32,
    /// When it ended.
    pub at: Moment,
    /// How it ended.
    pub outcome: Outcome,
}

impl End {
    /// The goal.
    #[inline]
    pub fn goal(&self) -> Entity {
        Entity::from_index(self.goal)
    }

    /// The derivation it is for, unless it is a path's.
    #[inline]
    pub fn drv(&self) -> Option<DrvId> {
        (self.drv != NONE).then(|| DrvId::from_index(self.drv as usize))
    }
}

/// Goals that have ended since the waiters were last told.
#[derive(Debug, Default)]
pub struct Ended {
    ends: Vec<End>,
    now: Moment,
}

impl Ended {
    /// Adds a goal, and what derivation it is for, unless it is a path's.
    #[inline]
    pub fn push(&mut self, goal: Entity, drv: Option<DrvId>, outcome: Outcome) {
        let at = self.tick();
        self.ends.push(End {
            goal: goal.index(),
            drv: drv.map_or(NONE, |drv| drv.index() as u32),
            at,
            outcome,
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &End> {
        self.ends.iter()
    }

    /// Takes all of them.
    pub fn take(&mut self) -> Vec<End> {
        std::mem::take(&mut self.ends)
    }

    /// Gives the list back, for its capacity.
    pub fn keep(&mut self, mut ends: Vec<End>) {
        ends.clear();
        ends.append(&mut self.ends);
        self.ends = ends;
    }

    /// The moment before the next end.
    #[inline]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The same, which is over with that.
    #[inline]
    pub fn tick(&mut self) -> Moment {
        let now = self.now;
        self.now = now.next();
        now
    }
}
