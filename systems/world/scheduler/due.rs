//! Whether there is something to do for a system, asked before each of its turns: a look at one or
//! two lists. What depends on more than the scheduler's state, systems find out for themselves.

use super::Scheduler;

impl Scheduler {
    /// Whether goals have become ready since the policy last ranked goals.
    pub fn has_newly_ready(&self) -> bool {
        !self.newly_ready.is_empty()
    }

    /// Whether a build could take a slot, or be offered to the hook, which may be asked at any
    /// time.
    pub fn has_lockable(&self) -> bool {
        !self.run.is_closing() && (self.desk.is_on() || self.has_startable())
    }

    /// Whether a build that only lacks a slot could have one.
    pub(super) fn has_startable(&self) -> bool {
        let is_empty = match &self.may_start {
            None => self.queue.is_empty(),
            Some(goals) => goals.is_empty(),
        };
        self.free_slots() > 0 && !is_empty && !self.run.is_closing()
    }

    /// Whether builds have a slot and are to be started in it.
    pub fn has_starting(&self) -> bool {
        !self.starting.is_empty()
    }

    /// Whether fetches have a slot and are to be started in it.
    pub fn has_starting_fetches(&self) -> bool {
        !self.starting_fetches.is_empty()
    }

    /// Whether children are to be looked at although nothing happens to them.
    pub fn has_alarms(&self) -> bool {
        self.alarms_due
    }

    /// Whether the time has come for the next alarm, as the host's list of them says.
    pub fn note_alarms(&mut self, due: bool) {
        self.alarms_due = due;
    }

    /// Whether the counts are others than those that were told last.
    pub fn has_progress(&self) -> bool {
        self.told != Some(self.counts)
    }

    /// Whether children have been started since it was last asked which.
    pub fn has_started(&self) -> bool {
        !self.started.is_empty()
    }

    /// Whether processes are being made.
    pub fn is_launching(&self) -> bool {
        self.background.launching > 0
    }

    /// Whether outputs are being scanned.
    pub fn is_scanning(&self) -> bool {
        self.background.scanning > 0
    }

    /// Whether contents are to be looked at for repair.
    pub fn has_repair_questions(&self) -> bool {
        !self.repairs.questions.is_empty()
    }

    /// Whether other threads look for goals at what is valid.
    pub fn is_verifying(&self) -> bool {
        self.background.verifying > 0
    }

    /// Whether outputs are complete.
    pub fn has_completed(&self) -> bool {
        !self.completed.is_empty()
    }

    /// Whether goals have failed in this tick.
    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Whether goals have ended of which their waiters have not been told.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }
}
