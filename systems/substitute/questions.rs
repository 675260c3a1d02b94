//! Hands out what goals want to know of substituters, once a tick, all together.

use bevy_ecs::prelude::{NonSend, ResMut};

use crate::helpers::caches::Caches;
use crate::helpers::querier::Question;
use crate::helpers::{Asking, Kind, Speeds};

/// Hands out what goals want to know, one question for each substituter.
pub fn ask(mut params: Asking<'_>, caches: Option<NonSend<Caches>>, mut speeds: ResMut<Speeds>) {
    for (sub, paths) in params.substituters.take_questions() {
        let graph = &params.graph;
        if let Kind::Cache(cache) = params.substituters.kind(sub) {
            if let Some(caches) = &caches {
                caches.ask(cache, graph, &paths);
                speeds.ask(sub, &paths, params.scheduler.now);
            }
            continue;
        }
        let questions: Vec<Question> = paths
            .into_iter()
            .map(|path| (path, graph.full_path(path)))
            .collect();
        if let Err(error) = params.queriers.ask(sub, questions) {
            let reason = format!("it can't be asked: {error}");
            params.disable(sub, Some(&reason));
        }
    }
}
