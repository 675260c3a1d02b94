//! What a store holds and why, in numbers, for whoever collects by last use to know what keeps the
//! rest.

use super::by_use::Queue;
use super::liveness::Liveness;
use crate::db::{Keep, StoreGraph};

/// Some paths, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub paths: u64,
    /// The size of their NARs, in bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.paths += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The paths at places.
    pub(super) fn of(whole: &StoreGraph, places: impl IntoIterator<Item = u32>) -> Self {
        let mut amount = Self::default();
        places
            .into_iter()
            .for_each(|at| amount.add(whole.facts[at as usize].nar_size));
        amount
    }
}

/// What was found when a collection began, and what of it went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Survey {
    /// The valid paths.
    pub valid: Amount,
    /// Those that are alive.
    pub alive: Amount,
    /// Those of them that only derivations keep, as `keep-outputs` says.
    pub by_outputs: Amount,
    /// Those that are dead, but were used too recently to go.
    pub recent: Amount,
    /// Those that went, or would go.
    pub gone: Amount,
    /// Those of them that `keep-outputs` would have kept.
    pub outputs_gone: Amount,
}

impl Survey {
    /// Before anything goes.
    pub(super) fn new(whole: &StoreGraph, live: &Liveness<'_>, keep: Keep, queue: &Queue) -> Self {
        let all = 0..whole.graph.len() as u32;
        let alive = all.clone().filter(|&at| live.alive()[at as usize]);
        let outputs = false;
        let without = keep
            .outputs
            .then(|| live.alive_with(Keep { outputs, ..keep }));
        let by_outputs = |at: &u32| without.as_ref().is_some_and(|it| !it[*at as usize]);
        Self {
            valid: Amount::of(whole, all),
            alive: Amount::of(whole, alive.clone()),
            by_outputs: Amount::of(whole, alive.filter(by_outputs)),
            recent: Amount::of(whole, queue.recent.iter().copied()),
            ..Self::default()
        }
    }

    /// Notes what goes, by place.
    pub(super) fn note_gone(
        &mut self,
        whole: &StoreGraph,
        live: &Liveness<'_>,
        keep: Keep,
        gone: &[u32],
    ) {
        self.gone = Amount::of(whole, gone.iter().copied());
        if !keep.outputs {
            let outputs = true;
            let kept = live.alive_with(Keep { outputs, ..keep });
            let outputs = gone.iter().copied().filter(|&at| kept[at as usize]);
            self.outputs_gone = Amount::of(whole, outputs);
        }
    }
}
