//! The sets of a tick. Which systems run in them, and in which order, is in [`tick`](crate::tick).

use bevy_ecs::prelude::Resource;

/// The six sets of a tick, always in this order, with the policy's ranking between the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TickSet {
    /// What is missing?
    Substitute,
    /// Which ready goal comes first?
    Rank,
    /// Who may build it?
    Lock,
    /// Start it.
    Spawn,
    /// Sleep until something happens.
    PollIo,
    /// What should have happened by now?
    Timeout,
    /// Register, report, tell the waiters.
    Finish,
}

/// What a world has beside what all have: which systems run in its ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Resource)]
pub struct Parts {
    /// Others that use its store, and children that may take too long.
    pub others: bool,
    /// Children that are processes.
    pub processes: bool,
    /// Substituters, programs or binary caches.
    pub substituters: bool,
    /// Binary caches.
    pub caches: bool,
    /// A build hook's program.
    pub hook: bool,
    /// A pre-build hook, which answers on its standard output.
    pub pre_build: bool,
    /// Contents to be looked at, because goals repair.
    pub repair: bool,
    /// Estimates from the history of builds.
    pub forecast: bool,
    /// Children that are durations.
    pub simulated: bool,
    /// Machines that run them.
    pub machines: bool,
    /// Tasks that come later than at the beginning.
    pub arrivals: bool,
    /// Binary caches beside them that are simulated, too.
    pub simulated_caches: bool,
    /// Children, substituters and a hook that fail.
    pub faults: bool,
}

impl Parts {
    /// Whether children are durations in slots, and nothing else takes time.
    pub(crate) fn has_slots_alone(&self) -> bool {
        self.simulated && !self.simulated_caches && !self.machines && !self.arrivals
    }
}
