//! Hands out what goals want to know of substituters, once a tick, all together.

use crate::helpers::Asking;
use crate::helpers::querier::Question;

/// Hands out what goals want to know, one question for each substituter.
pub fn ask(mut params: Asking<'_>) {
    for (sub, paths) in params.substituters.take_questions() {
        let graph = &params.graph;
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
