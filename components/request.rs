//! What somebody asked for: targets, how to go about them, and how it ended.

use bevy_ecs::prelude::Component;

use crate::goal::{BuildMode, Moment, Target};
use crate::outputs::OutputSet;

/// After how long, and after how much log, a child is killed; 0 for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildLimits {
    /// Seconds of silence.
    pub max_silent_time_s: u64,
    /// Seconds in all.
    pub timeout_s: u64,
    /// Bytes of log.
    pub max_log_size: u64,
}

impl ChildLimits {
    /// What a child may do that is needed by two who set limits: the more, of each.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        let most = |a: u64, b: u64| if a == 0 || b == 0 { 0 } else { a.max(b) };
        Self {
            max_silent_time_s: most(self.max_silent_time_s, other.max_silent_time_s),
            timeout_s: most(self.timeout_s, other.timeout_s),
            max_log_size: most(self.max_log_size, other.max_log_size),
        }
    }
}

/// What is asked of an engine, as an entity of its own. Goals are shared by all requests that need
/// them.
#[derive(Debug, Clone, Default, Component)]
pub struct Request {
    /// What is to be valid in the end.
    pub targets: Vec<(Target, OutputSet)>,
    /// What to do about outputs that are valid.
    pub mode: BuildMode,
    /// Whether to go on with what does not depend on a failure.
    pub keep_going: bool,
    /// When to kill its children; `None` for when the engine does.
    pub limits: Option<ChildLimits>,
}

impl Request {
    /// Asks for these targets, to be built if they are not valid.
    pub fn new(targets: impl IntoIterator<Item = (Target, OutputSet)>) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// When a request began: what was made before that was there for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
pub struct RequestBegan(pub Moment);

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Component)]
pub enum RequestState {
    /// Requests of another mode are under way, and this one begins when they have ended.
    Waiting,
    /// Its goals are under way.
    Running,
    /// It has ended so.
    Ended(RequestEnd),
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// All its targets have ended, well or not.
    Done,
    /// One has failed, and it was not to keep going.
    GivenUp,
    /// Whoever made it does not want it any more.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_the_most() {
        let some = |max_silent_time_s, timeout_s, max_log_size| ChildLimits {
            max_silent_time_s,
            timeout_s,
            max_log_size,
        };
        assert_eq!(some(1, 5, 0).most(some(2, 3, 7)), some(2, 5, 0));
        assert_eq!(some(0, 5, 1).most(some(2, 0, 7)), some(0, 0, 7));
    }
}
