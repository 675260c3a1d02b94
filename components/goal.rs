//! What every goal carries: what it is for, how far it is, whom it waits for and who waits for it.

use bevy_ecs::entity::EntityIndex;
use bevy_ecs::prelude::{Component, Entity, Resource};
use hashbrown::HashMap;

use crate::ids::{DrvId, PathId, dense_id};
use crate::outputs::OutputSet;

/// A goal to realise outputs of a derivation.
///
/// Nix 1.8: `DerivationGoal::DerivationGoal`, `DerivationGoal::~DerivationGoal`.
#[derive(Debug, Clone, Copy, Component)]
pub struct DerivationGoal {
    /// The derivation.
    pub drv: DrvId,
    /// The outputs asked for so far.
    pub wanted: OutputSet,
}

/// What a derivation's goal does about outputs that are valid already (Nix 1.8: `BuildMode`).
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

/// A goal to get one store path from a substituter.
///
/// Nix 1.8: `SubstitutionGoal::SubstitutionGoal`, `SubstitutionGoal::~SubstitutionGoal`.
/// Nix 1.8: `SubstitutionGoal::work`, `SubstitutionGoal::getStorePath`.
#[derive(Debug, Clone, Copy, Component)]
pub struct SubstitutionGoal {
    /// The path.
    pub path: PathId,
    /// Whether a valid but corrupt path is fetched again.
    pub repair: bool,
}

/// How far a goal is. Each stage says what it waits for. The scheduler alone changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing has been done yet (Nix 1.8: `init`).
    New,
    /// For its `.drv` file, which was missing (`haveDerivation`).
    Derivation,
    /// For the contents of its outputs to be checked (Nix 1.8: `checkPathValidity`, `checkHash`).
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
    /// For its archive to come from a binary cache. It holds nothing.
    Archive,
    /// For a lock that someone else holds (`waitForAWhile`), or a path that another goal works on
    /// (`waitForAnyGoal`).
    Parked,
    /// For a slot, or for the build hook to take it. From here to its end it holds its locks.
    Held,
    /// For its process to be made. It has a slot.
    Starting,
    /// For its child to exit (`buildDone`). It has a slot.
    Running,
    /// For a hook that builds it elsewhere, which takes no slot.
    Away,
    /// For the fetch of its path to begin. It has a slot for fetches.
    StartingFetch,
    /// For its path to be fetched: for the child of a substituter to exit, or for its archive to be
    /// unpacked. It has a slot for fetches.
    Fetching,
    /// For its outputs to be hashed and scanned.
    Scanning,
    /// For the program of `post-build-hook` or `diff-hook` to end.
    PostBuild,
    /// For nothing: it has ended so.
    Done(Outcome),
}

impl Stage {
    /// Whether it waits for something that comes before being ready.
    #[inline]
    pub const fn is_before_ready(self) -> bool {
        matches!(
            self,
            Self::New
                | Self::Derivation
                | Self::Verifying
                | Self::Closure
                | Self::Outputs
                | Self::Info
                | Self::Inputs
        )
    }

    /// Whether it must be built, as far as is known, and has not ended.
    #[inline]
    pub const fn is_expected(self) -> bool {
        matches!(
            self,
            Self::Inputs
                | Self::Ready
                | Self::Parked
                | Self::Held
                | Self::Starting
                | Self::Running
                | Self::Away
                | Self::Scanning
                | Self::PostBuild
        )
    }

    /// Whether a child of this run has made what it is for.
    #[inline]
    pub const fn is_made(self) -> bool {
        matches!(self, Self::Scanning | Self::PostBuild)
    }

    /// Whether it has a slot for builds.
    #[inline]
    pub const fn has_slot(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }

    /// Whether it has a slot for fetches.
    #[inline]
    pub const fn has_fetch_slot(self) -> bool {
        matches!(self, Self::StartingFetch | Self::Fetching)
    }

    /// Whether it is built or fetched just now.
    #[inline]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Away | Self::Fetching)
    }

    /// Whether it holds its paths, and their locks.
    #[inline]
    pub const fn holds_paths(self) -> bool {
        matches!(
            self,
            Self::Held
                | Self::Starting
                | Self::Running
                | Self::Away
                | Self::StartingFetch
                | Self::Fetching
                | Self::Scanning
                | Self::PostBuild
        )
    }

    /// Whether its builder, or its fetch, was started.
    #[inline]
    pub const fn was_started(self) -> bool {
        matches!(
            self,
            Self::Running | Self::Away | Self::Fetching | Self::Scanning | Self::PostBuild
        )
    }

    /// How the goal ended, once it has.
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Done(outcome) => Some(outcome),
            _ => None,
        }
    }
}

/// How a goal ended (Nix 1.8: `ExitCode`).
///
/// Nix 1.8: `Goal::trace`, `Goal::getName`, `Goal::getExitCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything wanted is valid.
    Success,
    /// It could not be made.
    Failed,
    /// No substituter has the path; the waiting goal should build it.
    NoSubstituters,
    /// A substituter has the path but not all of its references.
    IncompleteClosure,
    /// Binary caches have the path, and none of them could deliver it; the waiting goal should
    /// build it.
    NotDelivered,
    /// No request needed it any more. Whoever asks for it again has it taken up again.
    Cancelled,
}

/// In which ways waitees ended, other than well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shortfalls(u8);

impl Shortfalls {
    /// Whether one has ended in this way. Nothing falls short by success.
    pub const fn has(self, outcome: Outcome) -> bool {
        self.0 & Self::bit(outcome) != 0
    }

    const fn bit(outcome: Outcome) -> u8 {
        match outcome {
            Outcome::Success => 0,
            Outcome::Failed => 1,
            Outcome::NoSubstituters => 2,
            Outcome::IncompleteClosure => 4,
            Outcome::Cancelled => 8,
            Outcome::NotDelivered => 16,
        }
    }
}

/// Whom a goal waits for, as counts (Nix 1.8: `waitees`, `nrFailed`, …).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Component)]
pub struct Waitees {
    /// How many have not ended.
    pub left: u32,
    /// How many ended in any way but success.
    pub failed: u32,
    /// Since when it waits for its inputs; those that had ended by then were counted.
    /// [`Moment::NEVER`] if it does not.
    pub since: Moment,
    /// Which round of waiting this is: news for an earlier round, whose waitees were dropped, is
    /// ignored.
    pub round: u16,
    /// In which ways those that failed did.
    pub shortfalls: Shortfalls,
}

impl Waitees {
    /// Takes note that a waitee ended so. Tells whether the goal is to be woken: when none is left,
    /// or at the first failure unless `keep_going`. One that was cancelled is asked for again, or
    /// else the goal is not needed itself.
    ///
    /// Nix 1.8: `Goal::waiteeDone`.
    #[inline]
    pub fn waitee_done(&mut self, outcome: Outcome, keep_going: bool) -> bool {
        debug_assert!(self.left > 0);
        self.left -= 1;
        self.note(outcome);
        if outcome == Outcome::Failed && !keep_going || outcome == Outcome::Cancelled {
            self.left = 0;
        }
        self.left == 0
    }

    /// Takes note of how a waitee ended.
    #[inline]
    pub fn note(&mut self, outcome: Outcome) {
        if outcome != Outcome::Success {
            self.failed += 1;
            self.shortfalls.0 |= Shortfalls::bit(outcome);
        }
    }

    /// Whether it waits for an input that ended `at` that moment, and had been busy since `begun`.
    #[inline]
    pub fn waits_for(&self, begun: Moment, at: Moment) -> bool {
        // Who began to wait when it had ended already, or before it was last taken up again, does
        // not.
        self.left > 0 && begun.0 <= self.since.0 && self.since.0 <= at.0
    }

    /// Starts a round of waiting for `count` goals: for inputs, none of which has been looked at
    /// before `since`, or for others, and that since [`Moment::NEVER`].
    #[inline]
    pub fn wait_for(&mut self, count: u32, since: Moment) {
        *self = Self {
            left: count,
            since,
            round: self.round.wrapping_add(1),
            ..Self::default()
        };
    }
}

/// A moment of a run, as the number of ends and beginnings of goals before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u32);

impl Moment {
    /// After all others.
    pub const NEVER: Self = Self(u32::MAX);

    /// The one that comes after this.
    ///
    /// # Panics
    /// In debug builds, after 2^32 of them; memory ends long before.
    #[must_use]
    #[inline]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One goal waiting for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// The goal that waits.
    pub goal: Entity,
    /// In which of its rounds.
    pub round: u16,
}

dense_id! {
    /// A place in the array of all lists.
    pub(crate) EdgeId
}

/// An edge holds the index of an entity and not its generation: goals are never despawned.
#[derive(Debug, Clone, Copy)]
struct Edge {
    goal: EntityIndex,
    round: u16,
    /// The next of the list; of its last edge the first, so that one number names both ends. Of the
    /// last free edge none.
    next: Option<EdgeId>,
}

/// Who waits for which goal, as circular lists in one array: adding one and giving a whole list's
/// room back cost the same however many there are. That derivations wait for their inputs is not
/// kept here, for the graph knows it.
#[derive(Debug, Default, Resource)]
pub struct WaiterLists {
    /// The last edge of every list that is not empty.
    tails: HashMap<EntityIndex, EdgeId>,
    edges: Vec<Edge>,
    /// The first free edge; each names the next.
    free: Option<EdgeId>,
}

impl WaiterLists {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// Adds a waiter to the end of a goal's list.
    ///
    /// # Panics
    /// With 2^32 - 1 edges; the memory for them is refused long before.
    ///
    /// Nix 1.8: `addToWeakGoals`.
    pub fn add(&mut self, goal: Entity, waiter: Waiter) {
        let mut edge = Edge {
            goal: waiter.goal.index(),
            round: waiter.round,
            next: None,
        };
        let index = self
            .free
            .unwrap_or_else(|| EdgeId::from_index(self.edges.len()));
        let tail = self.tails.insert(goal.index(), index);
        edge.next = match tail {
            None => Some(index),
            Some(tail) => self.edges[tail.index()].next.replace(index),
        };
        if self.free == Some(index) {
            self.free = std::mem::replace(&mut self.edges[index.index()], edge).next;
        } else {
            self.edges.push(edge);
        }
    }

    /// Each goal that somebody waits for, and who waits, in no order.
    pub fn edges(&self) -> impl Iterator<Item = (Entity, Entity)> {
        self.tails.iter().flat_map(move |(&goal, &tail)| {
            let mut next = self.edges[tail.index()].next;
            std::iter::from_fn(move || {
                let at = next?;
                let edge = self.edges[at.index()];
                next = if at == tail { None } else { edge.next };
                Some((Entity::from_index(goal), Entity::from_index(edge.goal)))
            })
        })
    }

    /// Empties a goal's list, calling `tell` for each of its waiters in the order in which they
    /// were added.
    pub fn take(&mut self, goal: Entity, mut tell: impl FnMut(Waiter)) {
        let Some(tail) = self.tails.remove(&goal.index()) else {
            return;
        };
        let head = std::mem::replace(&mut self.edges[tail.index()].next, self.free);
        self.free = head;
        let mut next = head;
        while let Some(at) = next {
            let edge = self.edges[at.index()];
            tell(Waiter {
                goal: Entity::from_index(edge.goal),
                round: edge.round,
            });
            if at == tail {
                return;
            }
            next = edge.next;
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
    fn counts_are_those_of_nix_1_8() {
        let mut waitees = Waitees::default();
        waitees.wait_for(4, Moment::default());
        assert!(!waitees.waitee_done(Outcome::Success, false));
        assert!(!waitees.waitee_done(Outcome::NoSubstituters, false));
        assert!(!waitees.waitee_done(Outcome::IncompleteClosure, false));
        assert!(waitees.waitee_done(Outcome::Success, false));
        assert_eq!(waitees.failed, 2);
        let has = |outcome| waitees.shortfalls.has(outcome);
        assert!(has(Outcome::NoSubstituters) && has(Outcome::IncompleteClosure));
        assert!(!has(Outcome::Failed) && !has(Outcome::Success));
    }

    #[test]
    fn the_first_failure_wakes_unless_told_to_keep_going() {
        let mut waitees = Waitees::default();
        waitees.wait_for(3, Moment::default());
        let round = waitees.round;
        assert!(waitees.waitee_done(Outcome::Failed, false));
        assert!(waitees.shortfalls.has(Outcome::Failed));
        waitees.wait_for(3, Moment::default());
        assert_ne!(waitees.round, round);
        assert!(!waitees.shortfalls.has(Outcome::Failed));
        assert!(!waitees.waitee_done(Outcome::Failed, true));
        assert!(!waitees.waitee_done(Outcome::Failed, true));
        assert!(waitees.waitee_done(Outcome::Success, true));
        assert_eq!(waitees.failed, 2);
    }

    #[test]
    fn lists_keep_their_order_and_reuse_their_room() {
        let mut lists = WaiterLists::default();
        let taken = |lists: &mut WaiterLists, goal: u32| {
            let mut out = Vec::new();
            lists.take(entity(goal), |waiter| out.push(waiter));
            out
        };
        for _ in 0..3 {
            let (one, other) = (1000, 2000);
            for n in 0..10 {
                let waiter = |goal, round| Waiter { goal, round };
                lists.add(entity(one), waiter(entity(n), n as u16));
                lists.add(entity(other), waiter(entity(100 + n), 0));
            }
            let out = taken(&mut lists, one);
            assert_eq!(
                out.iter().map(|w| (w.goal, w.round)).collect::<Vec<_>>(),
                (0..10).map(|n| (entity(n), n as u16)).collect::<Vec<_>>()
            );
            assert!(taken(&mut lists, one).is_empty());
            assert_eq!(taken(&mut lists, other).len(), 10);
            assert!(lists.is_empty());
        }
        assert_eq!(lists.edges.len(), 20);
    }

    #[test]
    fn a_stage_takes_one_byte() {
        assert_eq!(size_of::<Stage>(), 1);
        assert_eq!(size_of::<Waitees>(), 16);
    }
}
