//! What becomes of a goal that could not be started for want of descriptors, processes or memory.

use windrow_components::building::{HashRewrites, MissingOutputs};
use windrow_components::goal::Target;

use super::Finishing;
use crate::failure::Failure;
use crate::report::{Event, Level};
use crate::world::{Goal, OutputLocks, ReadyFetch, ReadyGoal, Waiting};

impl Finishing<'_, '_> {
    /// Lets a goal that could not be started try again when something else has ended, or in a
    /// moment if threads are to give something back; tells whether it does.
    pub(super) fn wait_for_means(&mut self, goal: Goal, failure: &Failure) -> bool {
        let waiting = match goal.target {
            Target::Derivation(drv) => Waiting::Build(ReadyGoal {
                goal: goal.entity,
                drv,
            }),
            Target::Path(path) | Target::Repair(path) => Waiting::Fetch(ReadyFetch {
                goal: goal.entity,
                path,
            }),
        };
        let scheduler = &mut *self.scheduler;
        let has_others = scheduler.wait_for_means(&self.graph, waiting);
        if !has_others {
            let busy = self.host.as_mut().is_some_and(|host| host.save_means());
            if !scheduler.try_once_more(&self.graph, waiting, busy) {
                return false;
            }
        }
        if let Ok((.., Some(mut locks))) = self.goals.get_mut(goal.entity) {
            let locks = std::mem::take(&mut *locks);
            self.services.store.unlock(locks, false);
        }
        let mut entity = self.commands.entity(goal.entity);
        entity.remove::<(OutputLocks, MissingOutputs, HashRewrites)>();
        if has_others && self.scheduler.tells_of_means() {
            let text = format!(
                "fewer builds run at a time than there are slots: {}",
                failure.message
            );
            let level = Level::Warn;
            let message = Event::Message { level, text: &text };
            self.services.reporter.report(&message);
        }
        true
    }
}
