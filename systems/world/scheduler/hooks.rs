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

/// What the hooks have to do. The post-build hook runs for one build at a time, in the order in
/// which they became valid, as in Nix: hooks are written without a thought of another.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    /// Whether there is a post-build hook.
    is_on: bool,
    waiting: VecDeque<AwaitsHook>,
    /// Whether it runs.
    is_running: bool,
    /// Builds for which it has ended well, and which end with that.
    passed: Vec<ReadyGoal>,
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
        !self.hooks.is_running && !self.hooks.waiting.is_empty()
    }

    /// Takes the build for which it is called next.
    pub fn take_post_build(&mut self) -> Option<AwaitsHook> {
        let next = self.hooks.waiting.pop_front();
        self.hooks.is_running |= next.is_some();
        next
    }

    /// The post-build hook has ended, or could not be called; tells whether that went well.
    pub fn end_post_build(&mut self, passed: Option<ReadyGoal>) {
        self.hooks.is_running = false;
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
