//! When a policy is asked, and when what it decides comes into effect: at once, or as late as was
//! said.

use hashbrown::HashMap;

use super::agenda::{Agenda, What};
use crate::machines::Placement;

/// How slow decisions are, in seconds, or in units for graphs that count in those.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Delays {
    /// The least time from one question to the next. What happens in between is asked about
    /// together.
    pub interval: f64,
    /// The time from a question until what the policy decides comes into effect. It is not asked
    /// anew before that.
    pub time: f64,
}

impl Delays {
    /// Whether there are any.
    pub fn are_given(&self) -> bool {
        *self != Self::default()
    }
}

/// What has been asked and decided.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    delays: Delays,
    /// When it was asked last; the first time is the beginning.
    asked: f64,
    /// Whether the next question is on the agenda.
    is_foreseen: bool,
    /// What has been decided and is not in effect, by the number of the decision.
    made: HashMap<u64, Vec<Placement>>,
    count: u64,
    /// What has come into effect.
    due: Vec<Placement>,
}

impl Decisions {
    pub(super) fn new(delays: Delays) -> Self {
        Self {
            delays,
            ..Self::default()
        }
    }

    /// Something has happened that the policy should decide about: tells whether it is asked at
    /// this instant. Else it will be.
    pub(super) fn may_ask(&mut self, now: f64, agenda: &mut Agenda) -> bool {
        let next = self.asked + self.delays.interval.max(self.delays.time);
        let may_ask = now == self.asked || now >= next;
        if may_ask {
            self.asked = now;
        } else if !std::mem::replace(&mut self.is_foreseen, true) {
            agenda.add(next, What::PolicyIsAsked);
        }
        may_ask
    }

    /// The instant has come at which it is asked.
    pub(super) fn ask(&mut self, now: f64) {
        self.is_foreseen = false;
        self.asked = now;
    }

    /// Takes what has just been decided, and gives what is in effect now.
    pub(super) fn take_in_effect(
        &mut self,
        new: Vec<Placement>,
        now: f64,
        agenda: &mut Agenda,
    ) -> Vec<Placement> {
        if self.delays.time == 0.0 {
            return new;
        }
        if !new.is_empty() {
            agenda.add(now + self.delays.time, What::DecisionIsDue(self.count));
            self.made.insert(self.count, new);
            self.count += 1;
        }
        std::mem::take(&mut self.due)
    }

    /// A decision comes into effect.
    pub(super) fn come_into_effect(&mut self, number: u64) {
        self.due
            .extend(self.made.remove(&number).unwrap_or_default());
    }
}
