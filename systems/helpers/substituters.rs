//! What the substituters of a run are known to have, and what they are still to be asked. Who asks
//! them, and how, is the world's matter: a process each, binary caches, or a table.
//!
//! All of them are asked for a path at once, and the best that has it gives it: a program before
//! all binary caches, these by their priority, and among equals the one that was named first. A
//! cache that is better and slow is waited for no longer than [`GRACE`], and then not at all until
//! it has answered something.

mod health;
mod row;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::prelude::Resource;
use hashbrown::HashMap;
use smallvec::SmallVec;
use windrow_components::ids::PathId;
use windrow_components::substitution::SubstituteInfo;
use windrow_net::narinfo::NarInfo;

use crate::helpers::HelperConfig;

pub use row::Kind;
use row::{Row, Stand};

/// How long a path that a cache has waits for the answer of a better one.
const GRACE: Duration = Duration::from_millis(100);

/// Who can give a path, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// This substituter has it.
    At(usize),
    /// Substituters were asked and have not answered yet.
    Asked,
    /// No substituter has it.
    Nobody,
    /// Those that have it could not deliver it.
    Failed {
        /// Whether one of them is a program, which Nix 1.8 does not forgive.
        program: bool,
    },
}

/// A path at a substituter.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// What the substituter says of it.
    pub info: SubstituteInfo,
    /// All that a binary cache says of it.
    pub nar: Option<Arc<NarInfo>>,
    /// Whether it said so in an earlier run.
    pub remembered: bool,
    /// Whether it could not deliver it.
    failed: bool,
}

impl Offer {
    /// A path in a binary cache.
    pub fn of_cache(info: SubstituteInfo, nar: Arc<NarInfo>, remembered: bool) -> Self {
        Self {
            info,
            nar: Some(nar),
            remembered,
            failed: false,
        }
    }
}

impl From<SubstituteInfo> for Offer {
    fn from(info: SubstituteInfo) -> Self {
        Self {
            info,
            ..Self::default()
        }
    }
}

/// All substituters, in the order in which they were named.
#[derive(Debug, Default, Resource)]
pub struct Substituters {
    rows: Vec<Row>,
    /// Until when paths wait for a better substituter, at most.
    graces: HashMap<PathId, Duration>,
    /// The same, for paths that wait now or did.
    ends: BinaryHeap<Reverse<(Duration, PathId)>>,
    /// What caches are to give, since it was last asked for that.
    chosen: Vec<(usize, PathId)>,
}

impl Substituters {
    /// Substituters of which nothing is known yet: programs, and then binary caches by their URLs.
    pub fn new(
        programs: impl IntoIterator<Item = String>,
        caches: impl IntoIterator<Item = String>,
    ) -> Self {
        let programs = programs.into_iter();
        let programs = programs.map(|program| Row::new(Kind::Program, program));
        let caches = caches.into_iter().enumerate();
        let caches = caches.map(|(nth, url)| Row::new(Kind::Cache(nth), url));
        Self {
            rows: programs.chain(caches).collect(),
            ..Self::default()
        }
    }

    /// The substituters of a run with that configuration.
    pub fn of_config(config: &HelperConfig) -> Self {
        let programs = config.substituters.iter();
        let programs = programs.map(|program| program.to_string_lossy().into_owned());
        let urls = config.caches.urls.iter().map(ToString::to_string);
        Self::new(programs, urls).lacking_for(config.caches.lacks_for)
    }

    /// What is known of binary caches, for a run that begins at that moment. Programs are begun
    /// with anew.
    #[must_use]
    pub(crate) fn for_run_from(mut self, start: Duration) -> Self {
        for row in &mut self.rows {
            match row.kind {
                Kind::Program => *row = Row::new(row.kind, std::mem::take(&mut row.name)),
                Kind::Cache(_) => row.health.count_from(start),
            }
        }
        Self {
            rows: self.rows,
            ..Self::default()
        }
    }

    /// Believes for so long that a binary cache lacks a path.
    #[must_use]
    fn lacking_for(mut self, time: Duration) -> Self {
        for row in &mut self.rows {
            row.lacks_for = (row.kind != Kind::Program).then_some(time);
        }
        self
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether an answer is still to come.
    pub fn is_waiting(&self) -> bool {
        self.rows.iter().any(|row| row.owes() > 0)
    }

    /// The program of a substituter, or the URL of a binary cache.
    pub fn name(&self, sub: usize) -> &str {
        &self.rows[sub].name
    }

    /// What a substituter is.
    pub fn kind(&self, sub: usize) -> Kind {
        self.rows[sub].kind
    }

    /// The substituter that is a binary cache, by the place of that in the list of all caches.
    ///
    /// # Panics
    /// If there are not so many caches.
    pub fn of_cache(&self, cache: usize) -> usize {
        let place = |row: &Row| row.kind == Kind::Cache(cache);
        self.rows.iter().position(place).expect("a cache")
    }

    /// The best substituter that has `path`; those of which that is not known are asked.
    ///
    /// Nix 1.8: `SubstitutionGoal::tryNext`.
    pub fn find(&mut self, path: PathId, now: Duration) -> Find {
        let (mut best, mut failed) = (None, None);
        for (sub, row) in self.rows.iter_mut().enumerate() {
            let program = row.kind == Kind::Program;
            match row.stand(path) {
                Stand::Has if row.is_good(now) => {
                    let rank = (row.priority.unwrap_or_default(), sub);
                    best = Some(best.map_or(rank, |best: (i64, usize)| best.min(rank)));
                }
                Stand::Failed => *failed.get_or_insert(false) |= program,
                Stand::Unasked if row.is_good(now) => row.ask(path),
                Stand::Unasked | Stand::Asked | Stand::Has | Stand::Lacks => {}
            }
        }
        let Some(best) = best else {
            let waits = self.rows.iter().any(|row| row.is_asked(path));
            return match failed {
                _ if waits => Find::Asked,
                Some(program) => Find::Failed { program },
                None => Find::Nobody,
            };
        };
        match self.waits_for_better(path, best, now) {
            true => Find::Asked,
            false => Find::At(best.1),
        }
    }

    /// Whether a path that is to be had waits for one who may be better than who has it.
    fn waits_for_better(&mut self, path: PathId, best: (i64, usize), now: Duration) -> bool {
        let rows = self.rows.iter().enumerate();
        let asked = rows.filter(|(_, row)| !row.is_late && row.is_asked(path));
        let better = asked
            .filter(|&(sub, row)| (row.priority.unwrap_or(i64::MIN), sub) < best)
            .map(|(sub, _)| sub);
        let better: SmallVec<[usize; 4]> = better.collect();
        if better.is_empty() {
            return false;
        }
        // Programs were named in the order in which they are to be tried, and end by themselves or
        // are given up when they are silent.
        if (better.iter()).any(|&sub| self.rows[sub].kind == Kind::Program) {
            return true;
        }
        let until = *self.graces.entry(path).or_insert_with(|| {
            let until = now + GRACE;
            self.ends.push(Reverse((until, path)));
            until
        });
        if now < until {
            return true;
        }
        better
            .into_iter()
            .for_each(|sub| self.rows[sub].is_late = true);
        false
    }

    /// A path is to come from a substituter. A cache may send it from now on, whatever else it
    /// waits for.
    pub fn choose(&mut self, sub: usize, path: PathId) {
        if self.rows[sub].kind != Kind::Program {
            self.chosen.push((sub, path));
        }
    }

    /// What caches are to give, since this was last asked.
    pub fn take_chosen(&mut self) -> Vec<(usize, PathId)> {
        std::mem::take(&mut self.chosen)
    }

    /// When a path has waited long enough, next.
    pub fn next_end_of_grace(&self) -> Option<Duration> {
        self.ends.peek().map(|Reverse((at, _))| *at)
    }

    /// A path that has waited long enough by now.
    pub fn pop_end_of_grace(&mut self, now: Duration) -> Option<PathId> {
        let Reverse((at, path)) = *self.ends.peek()?;
        if at > now {
            return None;
        }
        self.ends.pop();
        Some(path)
    }

    /// What a substituter said of a path that it has.
    pub fn info(&self, sub: usize, path: PathId) -> Option<&SubstituteInfo> {
        self.offer(sub, path).map(|offer| &offer.info)
    }

    /// A path at a substituter that has it.
    pub fn offer(&self, sub: usize, path: PathId) -> Option<&Offer> {
        self.rows[sub].offer(path)
    }

    /// What is to be asked now, by substituter. It counts as asked from here on.
    pub fn take_questions(&mut self) -> Vec<(usize, Vec<PathId>)> {
        let rows = self.rows.iter_mut().enumerate();
        rows.map(|(sub, row)| (sub, row.take_questions()))
            .filter(|(_, paths)| !paths.is_empty())
            .collect()
    }

    /// Takes in what a substituter said when it was asked for `asked`: what it has; the others it
    /// has not.
    pub fn answer(
        &mut self,
        sub: usize,
        asked: &[PathId],
        offers: impl IntoIterator<Item = (PathId, impl Into<Offer>)>,
        now: Duration,
    ) {
        let row = &mut self.rows[sub];
        row.health.succeed();
        row.is_late = false;
        for (path, offer) in offers {
            row.has(path, offer.into());
        }
        for &path in asked {
            row.answered(path, now);
        }
    }

    /// A binary cache is open and has told its priority: the smallest comes first.
    pub fn set_priority(&mut self, sub: usize, priority: i64) {
        let row = &mut self.rows[sub];
        (row.priority, row.is_late) = (Some(priority), false);
    }

    /// A binary cache could not tell whether it has a path.
    pub fn give_no_answer(&mut self, sub: usize, path: PathId) {
        self.rows[sub].gave_no_answer(path);
    }

    /// A substituter could not deliver a path. It is not tried again for it.
    pub fn could_not_deliver(&mut self, sub: usize, path: PathId) {
        self.rows[sub].could_not_deliver(path);
    }

    /// A binary cache failed to do what was asked of it, or is dead. If that was once too often, it
    /// is left out for the time that is returned.
    pub fn note_failure(&mut self, sub: usize, dead: bool, now: Duration) -> Option<Duration> {
        self.rows[sub].health.fail(dead, now)
    }

    /// A substituter has delivered a path.
    pub fn deliver(&mut self, sub: usize) {
        self.rows[sub].health.deliver();
    }

    /// A binary cache has not delivered a path that it has. If it has delivered none of the last
    /// ones, it is left out for the time that is returned.
    pub fn fail_to_deliver(&mut self, sub: usize, now: Duration) -> Option<Duration> {
        self.rows[sub].health.fail_to_deliver(now)
    }

    /// A binary cache wants to be left alone for so long. It is left out for the time that is
    /// returned, if it was not before.
    pub fn leave_alone(&mut self, sub: usize, time: Duration, now: Duration) -> Option<Duration> {
        self.rows[sub].health.leave_alone(time, now)
    }

    /// Whether a substituter may be asked, and fetched from, at that moment.
    pub fn is_good(&self, sub: usize, now: Duration) -> bool {
        self.rows[sub].is_good(now)
    }

    /// What a substituter said of a path is not true any more: it is asked again when it is next
    /// looked for.
    pub fn forget(&mut self, sub: usize, path: PathId) {
        self.rows[sub].forget(path);
    }

    /// A path is looked for from the beginning, whatever went wrong with it before.
    pub fn retry(&mut self, path: PathId, now: Duration) {
        self.graces.remove(&path);
        self.rows.iter_mut().for_each(|row| row.retry(path, now));
    }

    /// Waits for no answer of a substituter. Gives the paths that it still owes one for.
    pub fn stop_waiting(&mut self, sub: usize) -> Vec<PathId> {
        self.rows[sub].stop_waiting()
    }

    /// Asks nobody for anything any more.
    pub fn disable_all(&mut self) {
        (0..self.rows.len()).for_each(|sub| drop(self.disable(sub)));
    }

    /// Asks a substituter for nothing more. Gives the paths that it still owes an answer for.
    pub fn disable(&mut self, sub: usize) -> Vec<PathId> {
        self.rows[sub].disabled = true;
        self.stop_waiting(sub)
    }
}
