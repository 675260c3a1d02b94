//! A path that was fetched is looked at in the pool, whoever brought it.

use std::path::PathBuf;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::SubstitutionGoal;
use windrow_components::substitution::SubstituteInfo;
use windrow_sys::interrupt::Stop;

use super::reap::Reaping;
use crate::helpers::destination;
use crate::outputs::fetched::{FetchedPath, NotTaken};
use crate::world::BuiltOutput;
use crate::world::children::{Scanned, Unfit};

impl Reaping<'_, '_> {
    /// What a goal fetches, of which its substituter says that.
    pub(super) fn fetched_path(
        &self,
        known: SubstitutionGoal,
        info: SubstituteInfo,
    ) -> FetchedPath {
        let (graph, config) = (&self.graph, &self.host.config);
        let store_path = graph.full_path(known.path);
        let place = config.layout.real_path(&store_path);
        let references = info.references.iter();
        FetchedPath {
            path: known.path,
            references: references.map(|&path| graph.full_path(path)).collect(),
            store_path,
            real_path: destination(place.clone(), known.repair),
            replaces: known.repair.then_some(place),
            durability: config.durability,
            store_dir: graph.store_dir.clone(),
            info,
        }
    }

    /// Has the pool do `take_in` under `stop`, which gives what will lie at `place`. A fetch that
    /// fails so counts as one that ended with `status`.
    pub(super) fn take_in_by_pool(
        &self,
        (goal, status): (Entity, i32),
        (place, stop): (PathBuf, Stop),
        take_in: impl FnOnce() -> Result<BuiltOutput, NotTaken> + Send + 'static,
    ) {
        let optimiser = self.host.config.optimiser.clone();
        self.host.pool.0.submit(move || {
            let _entered = stop.enter();
            let result = take_in();
            let warnings = match (optimiser, &result) {
                (Some(optimiser), Ok(_)) => optimiser.optimise_new(&[place]),
                _ => Vec::new(),
            };
            let unfit = |why| Unfit::Fetch { status, why };
            Some(Scanned {
                goal,
                result: result.map(|output| vec![output]).map_err(unfit),
                warnings,
                kept: None,
            })
        });
    }
}
