//! How far what happens is from what was measured, and what policies believe.

use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use windrow_components::task_graph::TaskGraph;
use windrow_formats::task_graph::{Belief, Draws, Noise};

use super::GraphSource;
use crate::error::Result;
use crate::task_graph::Loaded;

#[derive(Debug, Args)]
pub(super) struct UncertaintyArgs {
    /// Let each task take as long as measured times a factor of mean 1, drawn from the seed:
    /// lognormal:0.3, normal:0.1 or uniform:0.2
    #[arg(long, value_name = "NOISE", conflicts_with = "caches")]
    noise: Option<Noise>,

    /// How long policies believe that tasks take: exact (what happens), measured (before noise),
    /// file (its estimates), kind-mean (the mean of all tasks of a kind), noise:NOISE (as measured,
    /// times a factor), history (of the store) or blind (nothing) [default: measured]
    #[arg(long, value_name = "BELIEF", conflicts_with = "caches")]
    belief: Option<Belief>,
}

impl UncertaintyArgs {
    /// The graph as it is, and as policies believe it to be, if they are mistaken.
    pub(super) fn apply(
        &self,
        source: &GraphSource,
        loaded: Loaded,
        seed: u64,
    ) -> Result<(TaskGraph, Option<Arc<TaskGraph>>)> {
        let measured = &loaded.graph;
        let belief = self.belief.unwrap_or(Belief::Measured);
        let believed = match belief {
            // Then both are the same.
            Belief::Measured if self.noise.is_none() => None,
            Belief::History => Some(source.by_history(&loaded)?),
            belief => belief.of(measured, seed)?,
        };
        let graph = match self.noise {
            Some(noise) => noise.apply(measured, seed, Draws::Truth)?,
            None => loaded.graph,
        };
        Ok((graph, believed.map(Arc::new)))
    }

    /// What results say of it.
    pub(super) fn said(&self) -> Vec<(&'static str, Value)> {
        let noise = self.noise.map(|noise| ("noise", noise.to_string().into()));
        let belief = self
            .belief
            .map(|belief| ("belief", belief.to_string().into()));
        noise.into_iter().chain(belief).collect()
    }
}
