//! Goals that wait for the programs of `pre-build-hook`, which runs while they have a slot already,
//! and of `post-build-hook` and `diff-hook`, which run when their builds are over. A goal gives its
//! slot back before that, and keeps its locks.

use std::collections::VecDeque;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::Stage;
use windrow_components::ids::PathId;

use super::{ReadyGoal, Scheduler};

/// A build whose outputs are valid, and that waits for the post-build hook.
#[derive(Debug)]
pub struct AwaitsHook {
    /// The goal.
    pub built: ReadyGoal,
    /// What was built now.
    pub outputs: Vec<PathId>,
}

/// What the hooks have to do. The post-build hook is called in the order in which builds became
/// valid, for as many at a time as there may be builds (Nix 2.35: `DerivationBuildingGoal`).
#[derive(Debug, Default)]
pub(super) struct Hooks {
    /// Whether there is a post-build hook.
    is_on: bool,
    waiting: VecDeque<AwaitsHook>,
    /// For how many builds it runs, or is about to.
    running: u32,
    /// Builds for which it has ended well, and which end with that.
    passed: Vec<ReadyGoal>,
}

impl Hooks {
    /// Whether the post-build hook is to be called. Without slots builds are done elsewhere, and it
    /// is called for one at a time.
    fn is_due(&self, slots: u32) -> bool {
        !self.waiting.is_empty() && self.running < slots.max(1)
    }

    fn take(&mut self, slots: u32) -> Option<AwaitsHook> {
        if !self.is_due(slots) {
            return None;
        }
        self.running += 1;
        self.waiting.pop_front()
    }
}

impl Scheduler {
    /// From now on the post-build hook is called for each build.
    pub fn have_post_build_hook(&mut self) {
        self.hooks.is_on = true;
    }

    /// Whether there is a post-build hook.
    pub fn has_post_build_hook(&self) -> bool {
        self.hooks.is_on
    }

    /// The pre-build hook has ended well for a build, which has kept its slot: it is to be started.
    ///
    /// # Panics
    /// If it has no slot.
    pub fn end_pre_build(&mut self, ready: ReadyGoal) {
        assert!(self.stage(ready.goal) == Stage::Starting);
        self.starting.push(ready);
    }

    /// A build's outputs are valid: it ends when the post-build hook has ended well.
    ///
    /// # Panics
    /// If its outputs were not looked at.
    pub fn await_post_build(&mut self, goal: AwaitsHook) {
        let from = self.set(goal.built.goal, Stage::PostBuild);
        assert!(from == Stage::Scanning);
        self.hooks.waiting.push_back(goal);
    }

    /// Whether the post-build hook is to be called.
    pub fn has_post_build(&self) -> bool {
        self.hooks.is_due(self.options.max_jobs)
    }

    /// Takes the next build for which it is to be called.
    pub fn take_post_build(&mut self) -> Option<AwaitsHook> {
        self.hooks.take(self.options.max_jobs)
    }

    /// The post-build hook has ended, or could not be called; tells of the build for which that
    /// went well.
    ///
    /// # Panics
    /// If it was called for none.
    pub fn end_post_build(&mut self, passed: Option<ReadyGoal>) {
        self.hooks.running -= 1;
        self.hooks.passed.extend(passed);
    }

    /// Whether there are builds that end because the hook has ended well.
    pub fn has_passed(&self) -> bool {
        !self.hooks.passed.is_empty()
    }

    /// Takes these builds.
    pub fn take_passed(&mut self) -> Vec<ReadyGoal> {
        std::mem::take(&mut self.hooks.passed)
    }

    /// The diff hook is called for a build some of whose outputs came out different.
    ///
    /// # Panics
    /// If they were not looked at.
    pub fn begin_diff(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::PostBuild);
        assert!(from == Stage::Scanning);
    }

    /// The diff hook has ended.
    ///
    /// # Panics
    /// If it did not run.
    pub fn end_diff(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::Scanning);
        assert!(from == Stage::PostBuild);
    }

    /// A hook that a setting names runs.
    pub fn hook_started(&mut self) {
        self.background.hooks += 1;
    }

    /// It has exited.
    ///
    /// # Panics
    /// If none ran.
    pub fn hook_exited(&mut self) {
        self.background.hooks -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::world::World;
    use windrow_components::ids::DrvId;

    #[test]
    fn the_post_build_hook_runs_for_as_many_builds_as_there_are_slots_but_for_one_at_least() {
        let mut world = World::new();
        for (slots, at_once) in [(0, 1), (1, 1), (2, 2), (9, 4)] {
            let mut hooks = Hooks::default();
            hooks.waiting.extend((0..4).map(|_| AwaitsHook {
                built: ReadyGoal {
                    goal: world.spawn_empty().id(),
                    drv: DrvId::from_index(0),
                },
                outputs: Vec::new(),
            }));
            let taken = std::iter::from_fn(|| hooks.take(slots)).count();
            assert_eq!(taken, at_once, "{slots} slots");
            for left in at_once..4 {
                assert!(!hooks.is_due(slots), "{left} of 4, {slots} slots");
                hooks.running -= 1;
                assert!(hooks.take(slots).is_some(), "{left} of 4, {slots} slots");
            }
        }
    }
}
