//! Follows requests to the goals that theirs ask for.

use crate::world::requests::Following;

/// What a goal asks for is needed by all requests that need the goal.
pub fn follow(mut following: Following<'_, '_>) {
    following.follow();
}
