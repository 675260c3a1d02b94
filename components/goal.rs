//! What every goal carries: what it is for, how far it is, whom it waits for and who waits for it.

use bevy_ecs::entity::EntityIndex;
use bevy_ecs::prelude::{Component, Entity, Resource};

use crate::ids::{DrvId, PathId};
use crate::outputs::OutputSet;

/// A goal to realise outputs of a derivation (the seed's `DerivationGoal`).
#[derive(Debug, Clone, Copy, Component)]
pub struct DerivationGoal {
    /// The derivation.
    pub drv: DrvId,
    /// The outputs asked for so far.
    pub wanted: OutputSet,
}

/// What a derivation's goal does about outputs that are valid already (the seed's `BuildMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildMode {
    /// Nothing: what is valid is done.
    #[default]
    Normal,
    /// Build them again, beside those that are there, and compare.
    Check,
    /// Look at their contents, and replace those that are corrupt or gone.
    Repair,
}

/// A goal to get one store path from a substituter (the seed's `SubstitutionGoal`).
#[derive(Debug, Clone, Copy, Component)]
pub struct SubstitutionGoal {
    /// The path.
    pub path: PathId,
    /// Whether it is got anew although it is valid, because it is corrupt.
    pub repair: bool,
}

/// How far a goal is. Each stage says what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
pub enum Stage {
    /// Nothing has been looked at yet (the seed's `init`).
    New,
    /// For its `.drv` file, which was missing (`haveDerivation`).
    Derivation,
    /// For the contents of its outputs to be looked at (`checkPathValidity` with `checkHash`).
    Verifying,
    /// For paths that its outputs refer to to be repaired (`closureRepaired`).
    Closure,
    /// For substitutes of its outputs (`outputsSubstituted`).
    Outputs,
    /// For a substituter to say whether it has the path (`tryNext`).
    Info,
    /// For its input derivations and sources (`inputsRealised`), or for the references of its path
    /// (`referencesValid`).
    Inputs,
    /// For a build slot: all inputs are there (`tryToBuild`).
    Ready,
    /// For a lock that someone else holds (`waitForAWhile`), or a path that another goal works on
    /// (`waitForAnyGoal`).
    Locked,
    /// For its process to be made. From here to its end it holds its locks.
    Starting,
    /// For its child to exit (`buildDone`).
    Running,
    /// For its outputs to be hashed and scanned.
    Collecting,
    /// For nothing: its outcome is known.
    Done,
}

/// How a goal ended (the seed's `ExitCode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
pub enum Outcome {
    /// It has not ended.
    Busy,
    /// Everything wanted is valid.
    Success,
    /// It could not be made.
    Failed,
    /// No substituter has the path; whoever asked should build it.
    NoSubstituters,
    /// A substituter has the path but not all of its references.
    IncompleteClosure,
}

/// Whom a goal waits for, as counts (the seed's `waitees`, `nrFailed` and its sisters).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Component)]
pub struct Waitees {
    /// How many have not ended.
    pub left: u32,
    /// How many ended in any way but success.
    pub failed: u32,
    /// How many of those had no substituters.
    pub no_substituters: u32,
    /// How many of those had an incomplete closure.
    pub incomplete_closure: u32,
    /// Which round of waiting this is: news for an earlier round, whose waitees were dropped, is ignored.
    pub round: u32,
}

impl Waitees {
    /// Takes note that a waitee ended so. Tells whether the goal is to be woken: when none is left, or
    /// at the first failure unless `keep_going` (the seed's `waiteeDone`).
    pub fn waitee_done(&mut self, outcome: Outcome, keep_going: bool) -> bool {
        debug_assert!(self.left > 0 && outcome != Outcome::Busy);
        self.left -= 1;
        match outcome {
            Outcome::Busy | Outcome::Success => {}
            Outcome::Failed => self.failed += 1,
            Outcome::NoSubstituters => {
                self.failed += 1;
                self.no_substituters += 1;
            }
            Outcome::IncompleteClosure => {
                self.failed += 1;
                self.incomplete_closure += 1;
            }
        }
        if outcome == Outcome::Failed && !keep_going {
            self.left = 0;
        }
        self.left == 0
    }

    /// Starts a round of waiting for `count` goals.
    pub fn wait_for(&mut self, count: u32) {
        *self = Self {
            left: count,
            round: self.round.wrapping_add(1),
            ..Self::default()
        };
    }
}

const NONE: u32 = u32::MAX;

/// Who waits for a goal: a list in [`WaiterLists`], named by its last edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
pub struct Waiters {
    tail: u32,
}

impl Default for Waiters {
    fn default() -> Self {
        Self { tail: NONE }
    }
}

/// One goal waiting for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// The goal that waits.
    pub goal: Entity,
    /// In which of its rounds.
    pub round: u32,
}

/// A graph has several times more edges than goals, so an edge holds the index of an entity and not its generation:
/// goals are never despawned.
#[derive(Debug, Clone, Copy)]
struct Edge {
    goal: EntityIndex,
    round: u32,
    /// The next of the list; of its last edge the first, so that one number names both ends.
    next: u32,
}

/// All waiting, as circular lists in one array: adding one and giving a whole list's room back cost the same
/// however many there are.
#[derive(Debug, Resource)]
pub struct WaiterLists {
    edges: Vec<Edge>,
    /// The first free edge; each names the next.
    free: u32,
}

impl Default for WaiterLists {
    fn default() -> Self {
        Self {
            edges: Vec::new(),
            free: NONE,
        }
    }
}

impl WaiterLists {
    /// Adds a waiter to the end of a list.
    ///
    /// # Panics
    /// With 2^32 edges; the memory for them is refused long before.
    pub fn add(&mut self, waiters: &mut Waiters, waiter: Waiter) {
        let mut edge = Edge {
            goal: waiter.goal.index(),
            round: waiter.round,
            next: NONE,
        };
        let index = if self.free == NONE {
            u32::try_from(self.edges.len()).expect("fewer than 2^32 waiters")
        } else {
            self.free
        };
        edge.next = match waiters.tail {
            NONE => index,
            tail => std::mem::replace(&mut self.edges[tail as usize].next, index),
        };
        if index == self.free {
            self.free = std::mem::replace(&mut self.edges[index as usize], edge).next;
        } else {
            self.edges.push(edge);
        }
        waiters.tail = index;
    }

    /// Empties a list, calling `tell` for each of its waiters in the order in which they were added.
    pub fn take(&mut self, waiters: &mut Waiters, mut tell: impl FnMut(Waiter)) {
        let tail = std::mem::replace(&mut waiters.tail, NONE);
        if tail == NONE {
            return;
        }
        let head = std::mem::replace(&mut self.edges[tail as usize].next, self.free);
        self.free = head;
        let mut at = head;
        loop {
            let edge = self.edges[at as usize];
            tell(Waiter {
                goal: Entity::from_index(edge.goal),
                round: edge.round,
            });
            if at == tail {
                return;
            }
            at = edge.next;
        }
    }
}

/// What a goal can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Outputs of a derivation.
    Derivation(DrvId),
    /// A store path.
    Path(PathId),
    /// A store path, in place of one that may be corrupt.
    Repair(PathId),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(index: u32) -> Entity {
        Entity::from_raw_u32(index).unwrap()
    }

    #[test]
    fn counts_are_those_of_the_seed() {
        let mut waitees = Waitees::default();
        waitees.wait_for(4);
        assert!(!waitees.waitee_done(Outcome::Success, false));
        assert!(!waitees.waitee_done(Outcome::NoSubstituters, false));
        assert!(!waitees.waitee_done(Outcome::IncompleteClosure, false));
        assert!(waitees.waitee_done(Outcome::Success, false));
        assert_eq!(
            (
                waitees.failed,
                waitees.no_substituters,
                waitees.incomplete_closure
            ),
            (2, 1, 1)
        );
    }

    #[test]
    fn the_first_failure_wakes_unless_told_to_keep_going() {
        let mut waitees = Waitees::default();
        waitees.wait_for(3);
        let round = waitees.round;
        assert!(waitees.waitee_done(Outcome::Failed, false));
        waitees.wait_for(3);
        assert_ne!(waitees.round, round);
        assert!(!waitees.waitee_done(Outcome::Failed, true));
        assert!(!waitees.waitee_done(Outcome::Failed, true));
        assert!(waitees.waitee_done(Outcome::Success, true));
        assert_eq!(waitees.failed, 2);
    }

    #[test]
    fn lists_keep_their_order_and_reuse_their_room() {
        let mut lists = WaiterLists::default();
        let taken = |lists: &mut WaiterLists, waiters: &mut Waiters| {
            let mut out = Vec::new();
            lists.take(waiters, |waiter| out.push(waiter));
            out
        };
        for _ in 0..3 {
            let (mut one, mut other) = (Waiters::default(), Waiters::default());
            for n in 0..10 {
                let waiter = |goal, round| Waiter { goal, round };
                lists.add(&mut one, waiter(entity(n), n));
                lists.add(&mut other, waiter(entity(100 + n), 0));
            }
            let out = taken(&mut lists, &mut one);
            assert_eq!(
                out.iter().map(|w| (w.goal, w.round)).collect::<Vec<_>>(),
                (0..10).map(|n| (entity(n), n)).collect::<Vec<_>>()
            );
            assert!(taken(&mut lists, &mut one).is_empty());
            assert_eq!(taken(&mut lists, &mut other).len(), 10);
        }
        assert_eq!(lists.edges.len(), 20);
    }
}
