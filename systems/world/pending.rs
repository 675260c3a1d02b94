//! What is still to be done: whether there is work for the next tick, and what was put off.

use std::time::Duration;

use bevy_ecs::prelude::Component;

use crate::failure::FailureKind;

/// A child that is to be killed, and why.
///
/// Nix 1.8: `Goal::cancel`.
#[derive(Debug, Clone, Component)]
#[component(storage = "SparseSet")]
pub struct Condemned {
    /// What to say of it.
    pub reason: String,
    /// What kind of failure that is.
    pub kind: FailureKind,
}

/// How long what a builder left running may hold its log open after it has exited. Long enough for
/// a `tee` to write its last lines, short enough that a daemon delays nothing.
pub const LINGER: Duration = Duration::from_secs(1);
