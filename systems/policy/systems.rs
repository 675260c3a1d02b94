//! What a policy adds to the systems of a tick.

use bevy_ecs::prelude::IntoSystem;

use crate::world::{Scheduler, Step};

/// The systems of a policy, which [`tick`](crate::tick) has at their places.
#[derive(Debug, Default)]
pub struct PolicySystems {
    pub(crate) rank: Vec<Step>,
    pub(crate) place: Vec<Step>,
    pub(crate) at_ends: Vec<Step>,
}

impl PolicySystems {
    /// Adds a system that runs in [`TickSet::Rank`](crate::world::TickSet::Rank), in every tick in
    /// which goals have become ready.
    pub fn add_to_rank<M>(&mut self, system: impl IntoSystem<(), (), M>) {
        let step = Step::new(system).due(Scheduler::has_newly_ready);
        self.rank.push(step);
    }

    /// Adds a system that runs in [`TickSet::Lock`](crate::world::TickSet::Lock) of every tick in
    /// worlds with machines, and places goals on them (see [`machines`](crate::machines)). Without
    /// one, each goal takes the machine on which it ends first.
    pub fn add_to_place<M>(&mut self, system: impl IntoSystem<(), (), M>) {
        self.place.push(Step::new(system));
    }

    /// Adds a system that runs in [`TickSet::Finish`](crate::world::TickSet::Finish), in every tick
    /// in which goals have ended, before those that wait for them are told.
    pub fn add_at_ends<M>(&mut self, system: impl IntoSystem<(), (), M>) {
        let step = Step::new(system).due(Scheduler::has_ended);
        self.at_ends.push(step);
    }
}
