//! One substituter: what it is, and what it has said of each path.

use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use windrow_components::ids::PathId;

use super::Offer;
use super::health::Health;

/// What a substituter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program that speaks the protocol of Nix 1.8.
    Program,
    /// A binary cache, by its place in the list of all of them.
    Cache(usize),
}

/// What a substituter has said of a path.
#[derive(Debug)]
enum Said {
    /// That it has it.
    Has(Offer),
    /// When it said that it has it not.
    Lacks(Duration),
    /// Nothing that could be understood, or nothing at all.
    Nothing,
}

/// How a substituter stands to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// It was not asked.
    Unasked,
    /// It was asked and has not answered.
    Asked,
    /// It has it.
    Has,
    /// It has it, and could not deliver it.
    Failed,
    /// It has it not, as far as is known.
    Lacks,
}

/// A substituter.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// The program, or the URL as it was written.
    pub(super) name: String,
    /// The smallest comes first; not known of a cache before it has answered. Programs come before
    /// all caches.
    pub(super) priority: Option<i64>,
    pub(super) health: Health,
    /// It is not asked any more.
    pub(super) disabled: bool,
    /// It was waited for in vain, and has said nothing since.
    pub(super) is_late: bool,
    /// How long it is believed that it lacks a path; for good if nothing is said.
    pub(super) lacks_for: Option<Duration>,
    said: HashMap<PathId, Said>,
    to_ask: Vec<PathId>,
    /// Asked, or about to be, and not answered.
    open: HashSet<PathId>,
}

impl Row {
    pub(super) fn new(kind: Kind, name: String) -> Self {
        Self {
            kind,
            name,
            priority: (kind == Kind::Program).then_some(i64::MIN),
            health: Health::default(),
            disabled: false,
            is_late: false,
            lacks_for: None,
            said: HashMap::new(),
            to_ask: Vec::new(),
            open: HashSet::new(),
        }
    }

    /// Whether it may be asked, and fetched from, at that moment.
    pub(super) fn is_good(&self, now: Duration) -> bool {
        !self.disabled && self.health.is_good(now)
    }

    /// How it stands to a path.
    pub(super) fn stand(&self, path: PathId) -> Stand {
        match self.said.get(&path) {
            Some(Said::Has(offer)) if offer.failed => Stand::Failed,
            Some(Said::Has(_)) => Stand::Has,
            Some(Said::Lacks(_) | Said::Nothing) => Stand::Lacks,
            None if self.open.contains(&path) => Stand::Asked,
            None => Stand::Unasked,
        }
    }

    /// Whether it was asked for a path, or is about to be, and has not answered.
    pub(super) fn is_asked(&self, path: PathId) -> bool {
        self.open.contains(&path)
    }

    pub(super) fn offer(&self, path: PathId) -> Option<&Offer> {
        match self.said.get(&path)? {
            Said::Has(offer) => Some(offer),
            Said::Lacks(_) | Said::Nothing => None,
        }
    }

    /// Has it asked for a path.
    pub(super) fn ask(&mut self, path: PathId) {
        if self.open.insert(path) {
            self.to_ask.push(path);
        }
    }

    pub(super) fn take_questions(&mut self) -> Vec<PathId> {
        std::mem::take(&mut self.to_ask)
    }

    pub(super) fn has(&mut self, path: PathId, offer: Offer) {
        self.open.remove(&path);
        self.said.insert(path, Said::Has(offer));
    }

    /// It has answered, and does not have the path unless it said so.
    pub(super) fn answered(&mut self, path: PathId, now: Duration) {
        if self.open.remove(&path) {
            let said = self.said.entry(path).or_insert(Said::Lacks(now));
            if !matches!(said, Said::Has(_)) {
                *said = Said::Lacks(now);
            }
        }
    }

    /// It could not answer.
    pub(super) fn gave_no_answer(&mut self, path: PathId) {
        if self.open.remove(&path) {
            self.said.insert(path, Said::Nothing);
        }
    }

    /// It could not deliver a path that it has.
    pub(super) fn could_not_deliver(&mut self, path: PathId) {
        if let Some(Said::Has(offer)) = self.said.get_mut(&path) {
            offer.failed = true;
        }
    }

    /// What it said of a path is not believed any more.
    pub(super) fn forget(&mut self, path: PathId) {
        self.said.remove(&path);
    }

    /// Forgets what went wrong with a path, which is asked for anew, and that it was lacking too
    /// long ago. Only then: who looks for a path is to have an answer, however short that is
    /// believed.
    pub(super) fn retry(&mut self, path: PathId, now: Duration) {
        let is_old = |at: Duration| {
            self.lacks_for
                .is_some_and(|time| now.saturating_sub(at) >= time)
        };
        match self.said.get_mut(&path) {
            Some(Said::Has(offer)) => offer.failed = false,
            Some(Said::Lacks(at)) if !is_old(*at) => {}
            Some(Said::Lacks(_) | Said::Nothing) => drop(self.said.remove(&path)),
            None => {}
        }
    }

    /// How many answers it owes.
    pub(super) fn owes(&self) -> usize {
        self.open.len()
    }

    /// Expects none of them any more; the paths, in the order of their ids.
    pub(super) fn stop_waiting(&mut self) -> Vec<PathId> {
        self.to_ask.clear();
        let mut owed: Vec<PathId> = self.open.drain().collect();
        owed.sort_unstable();
        owed
    }
}
