//! Outputs that are about to be registered are good.

use bevy_ecs::prelude::{NonSendMut, Res, ResMut};
use windrow_components::graph::BuildGraph;

use crate::world::{Completed, Repairs, Verifier};

/// Outputs that are about to be registered are good.
pub(crate) fn remember(
    completed: Res<Completed>,
    mut repairs: ResMut<Repairs>,
    graph: Res<BuildGraph>,
    verifier: NonSendMut<Verifier>,
) {
    for output in completed.outputs() {
        repairs.bad.remove(&output.path);
        verifier.contents.mark_good(graph.full_path(output.path));
    }
}
