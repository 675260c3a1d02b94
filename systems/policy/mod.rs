//! Which of the ready goals comes first. A policy is a system that ranks goals; the queue keeps
//! them in that order.

mod critical_path;
mod file;
pub mod forecast;
mod memory;
mod names;
mod order;
mod placing;
mod priority;
mod program;
mod rank;
mod registry;
mod systems;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bevy_ecs::prelude::{Resource, World};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

pub use critical_path::{RemainingPaths, critical_path};
pub use memory::{Releases, depth_first_by_memory};
pub use names::TaskNames;
pub(crate) use placing::greedy::place as place_greedily;
pub use priority::TaskPriorities;
pub(crate) use rank::draw;
pub use rank::{Dependents, fifo, longest_first, most_dependents, random, shortest_first};
pub use registry::register;
pub use systems::PolicySystems;

/// How long derivations are thought to take, by derivation id, in microseconds. Where nothing is
/// known, one.
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

/// How far the graph was loaded when something was worked out from all of it, which is done again
/// only when it has grown by a tenth, or is loaded as far as it will be for now: all times together
/// cost as much as a few.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    drvs: usize,
    edges: usize,
}

impl Extent {
    /// Whether to work it out again. `settled` says that no goal is about to load more of the
    /// graph.
    fn outgrown(&mut self, graph: &BuildGraph, settled: bool) -> bool {
        let (drvs, edges) = (graph.drv_count(), graph.edge_count());
        let grown = |now: usize, then: usize| {
            if settled {
                now > then
            } else {
                now > then + then / 10
            }
        };
        let outgrown = grown(drvs, self.drvs) || grown(edges, self.edges);
        if outgrown {
            *self = Self { drvs, edges };
        }
        outgrown
    }
}

/// A policy from outside the engine. What it is a plugin for stays the same while it is plugged in,
/// so its fields are its parameters.
pub trait PolicyPlugin: fmt::Debug + Send + Sync {
    /// What reports call it, its parameters included.
    fn name(&self) -> &str;

    /// Whether it chooses machines, so that a world without them can't have it.
    fn places(&self) -> bool {
        false
    }

    /// Whether it wants to know what tasks of a simulation are called ([`TaskNames`]).
    fn wants_names(&self) -> bool {
        false
    }

    /// Adds a system that ranks all goals that have become ready ([`PolicySystems::add_to_rank`],
    /// [`Scheduler::rank`](crate::world::Scheduler::rank)), and to the world the resources it
    /// needs. [`Estimates`] and [`Seed`] are there already.
    fn plug_in(&self, world: &mut World, systems: &mut PolicySystems);
}

/// Which ready goal comes first.
#[derive(Debug, Clone, Default)]
pub enum Policy {
    /// First come, first served: the order of Nix 1.8.
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
    /// What is the last to need the most inputs, then what comes first in a depth-first order that
    /// needs little memory.
    DepthFirstByMemory,
    /// One that does not come with the engine.
    Other(Arc<dyn PolicyPlugin>),
}

/// Two that come with the engine are told apart by their kind, others by their names.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        let kind = std::mem::discriminant;
        kind(self) == kind(other) && self.name() == other.name()
    }
}

impl Eq for Policy {}

impl Policy {
    /// Those that come with the engine.
    pub const ALL: [Self; 7] = [
        Self::Fifo,
        Self::Random,
        Self::ShortestFirst,
        Self::LongestFirst,
        Self::CriticalPath,
        Self::MostDependents,
        Self::DepthFirstByMemory,
    ];

    /// What it is called on the command line.
    pub fn name(&self) -> &str {
        match self {
            Self::Fifo => "fifo",
            Self::Random => "random",
            Self::ShortestFirst => "shortest-first",
            Self::LongestFirst => "longest-first",
            Self::CriticalPath => "critical-path",
            Self::MostDependents => "most-dependents",
            Self::DepthFirstByMemory => "depth-first-by-memory",
            Self::Other(plugin) => plugin.name(),
        }
    }

    /// Whether it chooses machines, and a world without them can't have it.
    pub fn places(&self) -> bool {
        matches!(self, Self::Other(plugin) if plugin.places())
    }

    /// Whether it wants to know what tasks of a simulation are called.
    pub(crate) fn wants_names(&self) -> bool {
        matches!(self, Self::Other(plugin) if plugin.wants_names())
    }

    /// Whether it looks at how long derivations are thought to take, as one from outside may.
    pub const fn uses_estimates(&self) -> bool {
        matches!(
            self,
            Self::ShortestFirst | Self::LongestFirst | Self::CriticalPath | Self::Other(_)
        )
    }

    /// The policy's systems. What they keep is added to the world.
    pub fn plug_in(&self, world: &mut World) -> PolicySystems {
        world.init_resource::<Estimates>();
        world.init_resource::<Seed>();
        let mut systems = PolicySystems::default();
        match self {
            Self::Fifo => systems.add_to_rank(fifo),
            Self::Random => systems.add_to_rank(random),
            Self::ShortestFirst => systems.add_to_rank(shortest_first),
            Self::LongestFirst => systems.add_to_rank(longest_first),
            Self::CriticalPath => systems.add_to_rank(critical_path),
            Self::MostDependents => {
                world.init_resource::<Dependents>();
                systems.add_to_rank(most_dependents);
            }
            Self::DepthFirstByMemory => memory::plug_in(world, &mut systems),
            Self::Other(plugin) => plugin.plug_in(world, &mut systems),
        }
        systems
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
        if let Some(placing) = placing::parse(name, parameters) {
            return placing.map(Self::Other);
        }
        match name {
            priority::NAME => return priority::parse(parameters).map(Self::Other),
            file::NAME => return file::parse(parameters).map(Self::Other),
            program::NAME => return program::parse(parameters).map(Self::Other),
            _ => {}
        }
        let known = Self::ALL.into_iter().find(|policy| policy.name() == name);
        match known {
            Some(_) if text.contains(':') => Err(format!("the policy {name} has no parameters")),
            Some(policy) => Ok(policy),
            None => registry::parse(name, parameters).unwrap_or_else(|| {
                let names = Self::ALL.iter().map(|policy| policy.name().to_owned());
                let placing = placing::names().map(str::to_owned);
                let outside = [priority::NAME, "file:FILE", "program:PROGRAM"].map(str::to_owned);
                let all = names.chain(placing).chain(outside).chain(registry::names());
                let all: Vec<String> = all.collect();
                Err(format!(
                    "there is no policy '{name}'; there are {}",
                    all.join(", ")
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
