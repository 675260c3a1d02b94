//! Outputs that are about to be registered are good.

use bevy_ecs::prelude::{NonSendMut, Res, ResMut};
use windrow_components::graph::BuildGraph;

use crate::world::{Scheduler, Verifier};

/// Outputs that are about to be registered are good.
pub(crate) fn remember(
    mut scheduler: ResMut<Scheduler>,
    graph: Res<BuildGraph>,
    verifier: NonSendMut<Verifier>,
) {
    for path in scheduler.mark_completed_good() {
        verifier.contents.mark_good(graph.full_path(path));
    }
}
