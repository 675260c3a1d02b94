//! What happens to a build: the six systems of a tick, and the things they act on.
//!
//! A run is a bevy_ecs world whose entities are goals ([`windrow_components::goal`]) and a [`Schedule`] that is run
//! again and again: a tick. [`engine::TickSet`] names its sets, always in this order:
//!
//! 1. [`substitute`](mod@substitute): what is missing? Takes goals from being asked for to having all their inputs.
//! 2. The policy ([`policy`]) ranks the goals that have come to be ready, and [`lock`](mod@lock) takes the output locks
//!    of the best, as many as there are slots.
//! 3. [`spawn`] starts a builder for each.
//! 4. [`poll_io`] sleeps until a builder says something or exits; nothing else sleeps.
//! 5. [`timeout`] looks for what should have happened by now.
//! 6. [`finish`] buries children, registers what is complete in one transaction, and tells the waiters, who are
//!    awake in the next tick.
//!
//! Systems hand goals on through the queues in [`world`]; a tick costs in proportion to what is in them, never to the
//! goals that exist. What differs between worlds (children, store, clock) is plugged in: [`real`], [`simulate`](mod@simulate).
//!
//! [`Schedule`]: bevy_ecs::schedule::Schedule

pub mod builtin;
pub mod columns;
pub mod engine;
mod error;
pub mod failure;
pub mod failure_cache;
pub mod finish;
pub mod goals;
pub mod helpers;
pub mod host_store;
pub mod instantiate;
pub mod lock;
pub mod outputs;
pub mod plan;
pub mod policy;
pub mod poll_io;
pub mod process;
pub mod real;
pub mod real_store;
pub mod repair;
pub mod report;
pub mod sandbox;
pub mod simulate;
pub mod spawn;
pub mod store;
pub mod substitute;
pub mod timeout;
pub mod world;

pub use bevy_ecs as ecs;
pub use error::{Error, Result};
