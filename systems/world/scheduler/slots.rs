//! How goals that hold their locks get a slot or go to the hook, have their children run, and give
//! the slots back; and what other threads do for them.

use bevy_ecs::prelude::Entity;
use windrow_components::goal::Stage;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;

use super::{ReadyFetch, ReadyGoal, Reply, Scheduler};

impl Scheduler {
    /// Gives a slot to a build that holds its locks.
    ///
    /// # Panics
    /// If it does not.
    #[inline]
    pub fn take_slot(&mut self, ready: ReadyGoal) {
        let from = self.set(ready.goal, Stage::Starting);
        assert!(from == Stage::Held);
        self.starting.push(ready);
    }

    /// Gives a slot for fetches to a path that has its lock.
    ///
    /// # Panics
    /// If it has not.
    pub fn take_fetch_slot(&mut self, fetch: ReadyFetch) {
        let from = self.set(fetch.goal, Stage::StartingFetch);
        assert!(from == Stage::Held);
        self.starting_fetches.push(fetch);
    }

    /// Builds that were given a slot and are to be started.
    pub fn take_starting(&mut self) -> Vec<ReadyGoal> {
        std::mem::take(&mut self.starting)
    }

    /// Gives back the empty list, for its capacity.
    pub fn keep_starting(&mut self, list: Vec<ReadyGoal>) {
        debug_assert!(list.is_empty() && self.starting.is_empty());
        self.starting = list;
    }

    /// Fetches that were given a slot and are to be started.
    pub fn take_starting_fetches(&mut self) -> Vec<ReadyFetch> {
        std::mem::take(&mut self.starting_fetches)
    }

    /// What the hook answered, to which build with which rank, if it has. What it accepted is
    /// handed over to it.
    pub fn take_reply(&mut self) -> Option<(Reply, ReadyGoal, u64)> {
        self.desk.take_reply(&mut self.queue)
    }

    /// Lets a build that the hook did not take, and that holds nothing any more, wait for a slot,
    /// or for the hook.
    pub fn wait_after_reply(
        &mut self,
        graph: &BuildGraph,
        reply: Reply,
        (drv, rank): (DrvId, u64),
    ) {
        match reply {
            Reply::Postpone => {
                let kind = graph.machine_kind(drv);
                let until = self.now + self.options.lock_poll_interval;
                self.desk.park(kind, (drv, rank), self.now, until);
            }
            Reply::DeclinePermanently => self.queue.push(drv, rank),
            Reply::Accept | Reply::Decline => self.desk.wait_for_slot(drv, rank),
        }
    }

    /// A goal's process is made by another thread.
    pub fn launch(&mut self) {
        self.background.launching += 1;
    }

    /// That thread is done.
    ///
    /// # Panics
    /// If nothing was to come from one.
    pub fn launched(&mut self) {
        self.background.launching -= 1;
    }

    /// A goal's child runs (Nix 1.8: `Worker::childStarted`): one that has a slot, or a hook that
    /// builds elsewhere. Or its path is fetched without a child.
    ///
    /// # Panics
    /// If it was not about to start.
    #[inline]
    pub fn start(&mut self, goal: Entity) {
        let to = match self.stage(goal) {
            Stage::Held => Stage::Away,
            Stage::StartingFetch => Stage::Fetching,
            _ => Stage::Running,
        };
        let from = self.set(goal, to);
        let was_about_to = [Stage::Held, Stage::Starting, Stage::StartingFetch];
        assert!(was_about_to.contains(&from));
        self.bound.note_start();
    }

    /// A goal's child, which runs, is among those of [`take_started`](Self::take_started).
    pub fn note_started(&mut self, goal: Entity) {
        self.started.push(goal);
    }

    /// Goals whose children have been started since this was last asked.
    pub fn take_started(&mut self) -> Vec<Entity> {
        std::mem::take(&mut self.started)
    }

    /// A goal's child has exited (Nix 1.8: `Worker::childTerminated`), or its path is here, which
    /// gives its slot back.
    /// What it made is to be scanned.
    ///
    /// # Panics
    /// If it had none.
    #[inline]
    pub fn exited(&mut self, goal: Entity) {
        let from = self.set(goal, Stage::Scanning);
        assert!(from.is_running());
    }

    /// A goal's outputs are scanned by another thread.
    pub fn scan(&mut self) {
        self.background.scanning += 1;
    }

    /// That thread is done.
    ///
    /// # Panics
    /// If nothing was to come from one.
    pub fn scanned(&mut self) {
        self.background.scanning -= 1;
    }

    /// What is valid is looked at by another thread.
    pub fn verify(&mut self) {
        self.background.verifying += 1;
    }

    /// That thread is done.
    ///
    /// # Panics
    /// If nothing was to come from one.
    pub fn verified(&mut self) {
        self.background.verifying -= 1;
    }

    /// A substituter could not deliver a path: the next one is tried (Nix 1.8:
    /// `SubstitutionGoal::tryNext`).
    ///
    /// # Panics
    /// If it had not been started.
    pub fn try_next(&mut self, fetch: ReadyFetch) {
        let from = self.set(fetch.goal, Stage::Info);
        let was_started = [Stage::Archive, Stage::StartingFetch, Stage::Scanning];
        assert!(was_started.contains(&from));
        if from.holds_paths() {
            self.held.remove(fetch.path);
        }
        self.awaiting.remove(&fetch.goal);
        self.awaken(fetch.goal);
    }
}
