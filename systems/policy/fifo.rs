//! First come, first served: the seed's order.

use bevy_ecs::prelude::ResMut;

use super::ReadyQueue;
use crate::world::NewlyReady;

/// Ranks all goals the same, so that the one that was ready first comes first.
pub fn fifo(mut newly: ResMut<NewlyReady>, mut queue: ResMut<ReadyQueue>) {
    for goal in newly.0.drain(..) {
        queue.push(goal, 0);
    }
}
