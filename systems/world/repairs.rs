//! Repair: what is to be looked at, and what was found. Only runs that repair have any.

use std::sync::Arc;

use bevy_ecs::prelude::Entity;
use hashbrown::{HashMap, HashSet};
use windrow_components::goal::Target;
use windrow_components::ids::PathId;
use windrow_components::outputs::OutputSet;
use windrow_store::ops::contents::Contents;

use crate::error::Result;
use crate::process::pool::Pool;

/// What a goal wants to be looked at.
#[derive(Debug)]
pub struct Question {
    /// The goal.
    pub goal: Entity,
    /// The derivation whose outputs these are; `None` for a path by itself.
    pub drv_path: Option<String>,
    /// What is wanted of it now; more may be by the time of the answer.
    pub wanted: OutputSet,
    /// The outputs, and which of them are wanted.
    pub outputs: Vec<(PathId, String, bool)>,
}

/// What is found.
#[derive(Debug)]
pub enum Verdict {
    /// All that is wanted is good, and all that it refers to.
    Good,
    /// Something wanted is corrupt or missing.
    Bad,
    /// Only things it refers to are, and these goals can repair them.
    Closure(Vec<Target>),
    /// It can't be found out.
    Unknown(String),
}

/// Questions, and answers that have not been acted upon.
#[derive(Debug, Default)]
pub struct Repairs {
    /// To be looked at.
    pub questions: Vec<Question>,
    /// What was found, by goal.
    pub verdicts: HashMap<Entity, Verdict>,
    /// For what each goal that waits for its closure was looked at.
    pub judged: HashMap<Entity, OutputSet>,
    /// Valid outputs whose contents are bad.
    pub bad: HashSet<PathId>,
}

/// What comes back from the background.
pub(crate) struct Answer {
    pub(crate) goal: Entity,
    pub(crate) wanted: OutputSet,
    pub(crate) finding: Result<Finding>,
    pub(crate) bad: Vec<PathId>,
}

pub(crate) enum Finding {
    Good,
    Bad,
    /// Bad paths in the closure, and the derivation that makes each, if one is known.
    Closure(Vec<(String, Option<String>)>),
}

/// The thread that looks.
pub(crate) struct Verifier {
    pub(crate) pool: Pool<Answer>,
    pub(crate) contents: Arc<Contents>,
}

impl Verifier {
    /// A thread whose answers `wake` the scheduler.
    ///
    /// # Errors
    /// When there are no threads left.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> std::io::Result<Self> {
        Ok(Self {
            // One question at a time: each is looked at by several threads.
            pool: Pool::new("verifier", 1, wake)?,
            contents: Arc::default(),
        })
    }
}
