//! What happens to a build: the tick, the whole tick and nothing but the tick.
//!
//! A run is a bevy_ecs world whose entities are goals ([`windrow_components::goal`]), and a list of
//! systems that is run again and again: a tick. [`tick`] lists all systems of a tick in their
//! order, [`TickSystems`](world::TickSystems) runs them. They run in sets, always in this order,
//! and each set's systems are in the module of its name:
//!
//! 1. [`substitute`](mod@substitute): what is missing? Takes goals from being asked for to having
//!    all their inputs.
//! 2. The policy ([`policy`]) ranks the goals that have become ready, and [`lock`](mod@lock) takes
//!    the output locks of the best, as many as there are slots.
//! 3. [`spawn`] starts a builder, a substituter or a hook for each.
//! 4. [`poll_io`] sleeps until something happens, and takes in what has happened; nothing else
//!    sleeps.
//! 5. [`timeout`] looks for what should have happened by now.
//! 6. [`finish`] reaps children, registers what is complete in one transaction, and tells the
//!    waiters, who are awake in the next tick.
//!
//! Below these lies what systems share ([`world`], [`helpers`]); above them the worlds, which
//! differ in children, store and clock ([`real`], [`simulate`](mod@simulate)), and the [`engine`].
//! Systems hand goals on through queues; a tick costs in proportion to what is in them, never to
//! the goals that exist.

pub mod builtin;
pub mod engine;
mod error;
pub mod failure;
pub mod finish;
pub mod helpers;
pub mod host_store;
pub mod instantiate;
pub mod lock;
pub mod machines;
pub mod outputs;
pub mod plan;
pub mod policy;
pub mod poll_io;
pub mod process;
pub mod real;
pub mod real_store;
pub mod report;
pub mod results;
pub mod simulate;
pub mod spawn;
pub mod substitute;
pub mod tick;
pub mod timeout;
pub mod world;

pub use bevy_ecs as ecs;
pub use error::{Error, Result};
