//! Closes requests that have ended.

use bevy_ecs::prelude::World;

use crate::world::requests;

/// Requests that have ended hear nothing more, and what nobody else needs is cancelled.
pub fn close(world: &mut World) {
    requests::close_ended(world);
}
