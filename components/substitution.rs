//! What goals carry while substitutes are looked for: which substituter is asked for a path, and
//! how often a derivation's outputs were asked for. Comes and goes, so sparse.

use bevy_ecs::prelude::Component;

use crate::goal::Moment;
use crate::ids::PathId;
use crate::outputs::OutputSet;

/// What a substituter knows of a path that it has (`SubstitutablePathInfo`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubstituteInfo {
    /// The derivation that made it, if that is known.
    pub deriver: Option<PathId>,
    /// The paths it refers to, itself perhaps among them.
    pub references: Box<[PathId]>,
    /// How many bytes are to be fetched; 0 if not known.
    pub download_size: u64,
    /// How long its NAR is, in bytes; 0 if not known.
    pub nar_size: u64,
}

/// Which substituter the goal for a path has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Component)]
#[component(storage = "SparseSet")]
pub struct Substitution {
    /// The substituter that gives it, by its place in the list (Nix 1.8: `sub`).
    pub sub: usize,
    /// The moment after it was found to lack references: as long as no other goal has ended since,
    /// it still does.
    pub ended_at: Moment,
}

/// Whether substituters should be asked again for a derivation's outputs once its inputs are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// No: no substitute failed for want of a reference.
    #[default]
    NoNeed,
    /// Yes: what a substitute refers to may be built as an input (`retrySubstitution`).
    AfterInputs,
    /// No: that has been done.
    Done,
}

/// What a derivation's goal has asked substituters for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
#[component(storage = "SparseSet")]
pub struct OutputSubstitution {
    /// The outputs that were wanted then; more wanted since are still to be asked for
    /// (`needRestart`).
    pub asked: OutputSet,
    /// Whether to ask again.
    pub retry: Retry,
}
