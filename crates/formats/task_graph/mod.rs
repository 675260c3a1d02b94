//! Task graphs as other tools write them, and made from a description: readers, writers,
//! generators, durations. The graph itself is [`windrow_components::task_graph::TaskGraph`].

mod belief;
mod distribution;
mod duration_file;
mod estee;
mod generate;
#[cfg(test)]
mod list_schedule;
mod load;
mod ninja;
mod noise;
mod random;
mod stg;
mod tasks_json;
#[cfg(test)]
mod tests;
mod wfformat;
mod write;
mod zipped;

pub use belief::Belief;
pub use distribution::{Distribution, bytes, time};
pub use duration_file::read_durations;
pub use generate::{Generator, LayerEdges, Shape};
pub use load::{Format, load, load_part};
pub(crate) use ninja::read_steps;
pub use noise::{Draws, Noise, exponential};
pub use write::{write_dot, write_ninja, write_wfformat};

use windrow_components::task_graph::{
    Builder, Limits, MAX_DURATION, Place, TaskGraph, TaskGraphError, TaskId, TimeUnit, spelt,
    unspelt,
};
