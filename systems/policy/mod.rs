//! Which of the ready goals comes first. A policy is a system that ranks goals; the queue keeps them in that order.

mod critical_path;
pub mod forecast;
mod rank;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::str::FromStr;

use bevy_ecs::prelude::{Entity, IntoScheduleConfigs as _, Resource, Schedule, World};
use windrow_components::ids::DrvId;

use crate::engine::TickSet;
use crate::world::ReadyGoal;

pub use critical_path::{RemainingPaths, critical_path};
pub(crate) use rank::draw;
pub use rank::{
    Dependents, fifo, longest_first, most_dependents, random, rank_all, shortest_first,
};

/// Goals that only lack a slot, best first. Adding one and taking the best are logarithmic.
#[derive(Debug, Default, Resource)]
pub struct ReadyQueue {
    /// Rank, derivation and entity of each as one number, so that comparing two is one comparison.
    heap: BinaryHeap<Reverse<u128>>,
}

impl ReadyQueue {
    /// Adds a goal with its rank: the smaller comes first, and of equals the derivation that was met first.
    pub fn push(&mut self, ReadyGoal { goal, drv }: ReadyGoal, rank: u64) {
        let key =
            u128::from(rank) << 64 | (drv.index() as u128) << 32 | u128::from(goal.index_u32());
        self.heap.push(Reverse(key));
    }

    /// Takes the best goal.
    pub fn pop(&mut self) -> Option<ReadyGoal> {
        let Reverse(key) = self.heap.pop()?;
        // Goals are never despawned, so that their index is all there is to know of an entity.
        let goal = Entity::from_raw_u32(key as u32)?;
        let drv = DrvId::from_index((key >> 32) as u32 as usize);
        Some(ReadyGoal { goal, drv })
    }

    /// Whether no goal is ready.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

/// How long derivations are thought to take, by derivation id, in microseconds. Where nothing is known, one.
#[derive(Debug, Default, Resource)]
pub struct Estimates(pub Vec<u64>);

impl Estimates {
    /// How long `drv` is thought to take.
    pub fn of(&self, drv: DrvId) -> u64 {
        self.0.get(drv.index()).copied().unwrap_or(1)
    }
}

/// The seed of what is drawn by chance.
#[derive(Debug, Clone, Copy, Default, Resource)]
pub struct Seed(pub u64);

/// The policies that come with the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// First come, first served: the seed's order.
    #[default]
    Fifo,
    /// In an order drawn by chance.
    Random,
    /// What takes the least time.
    ShortestFirst,
    /// What takes the most time.
    LongestFirst,
    /// What has the longest path to the end of the graph, its own time included.
    CriticalPath,
    /// What the most others wait for directly.
    MostDependents,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Fifo,
        Self::Random,
        Self::ShortestFirst,
        Self::LongestFirst,
        Self::CriticalPath,
        Self::MostDependents,
    ];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Random => "random",
            Self::ShortestFirst => "shortest-first",
            Self::LongestFirst => "longest-first",
            Self::CriticalPath => "critical-path",
            Self::MostDependents => "most-dependents",
        }
    }

    /// Whether it looks at how long derivations are thought to take.
    pub const fn uses_estimates(self) -> bool {
        matches!(
            self,
            Self::ShortestFirst | Self::LongestFirst | Self::CriticalPath
        )
    }

    /// Adds the policy's system, and what it keeps, to a run.
    pub fn plug_in(self, world: &mut World, schedule: &mut Schedule) {
        world.init_resource::<Estimates>();
        world.init_resource::<Seed>();
        match self {
            Self::Fifo => schedule.add_systems(fifo.in_set(TickSet::Rank)),
            Self::Random => schedule.add_systems(random.in_set(TickSet::Rank)),
            Self::ShortestFirst => schedule.add_systems(shortest_first.in_set(TickSet::Rank)),
            Self::LongestFirst => schedule.add_systems(longest_first.in_set(TickSet::Rank)),
            Self::CriticalPath => {
                world.init_resource::<RemainingPaths>();
                schedule.add_systems(critical_path.in_set(TickSet::Rank))
            }
            Self::MostDependents => {
                world.init_resource::<Dependents>();
                schedule.add_systems(most_dependents.in_set(TickSet::Rank))
            }
        };
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|policy| policy.name()).collect();
                format!(
                    "there is no policy '{name}'; there are {}",
                    names.join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_rank_first_then_first_met() {
        let mut queue = ReadyQueue::default();
        let goal = |index| Entity::from_raw_u32(index).unwrap();
        for (index, rank) in [(3, 5), (2, 3), (1, 5), (0, 3)] {
            let drv = DrvId::from_index(index as usize);
            let goal = goal(index);
            queue.push(ReadyGoal { goal, drv }, rank);
        }
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop())
            .map(|ready| ready.goal.index_u32())
            .collect();
        assert_eq!(order, [0, 2, 1, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn policies_are_found_by_name() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert!(
            "best"
                .parse::<Policy>()
                .unwrap_err()
                .contains("critical-path")
        );
    }
}
