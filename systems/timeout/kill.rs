//! Kills the children that were condemned.

use bevy_ecs::prelude::Query;
use windrow_components::building::BuilderProcess;

use crate::sandbox::process::kill::kill_group;
use crate::world::Condemned;

/// Kills the children that were condemned; their exit is noticed as any other.
pub fn kill_condemned(
    added: Query<(&BuilderProcess, &Condemned), bevy_ecs::query::Added<Condemned>>,
) {
    for (process, _) in &added {
        kill_group(process.pid);
    }
}
