//! A collection that knows what is alive: lists what is asked for, or deletes it, and brings the
//! notes of last uses up to date.

use hashbrown::HashSet;

use super::by_use::{ByUse, Queue, enough};
use super::liveness::Liveness;
use super::noted::Noted;
use super::survey::Survey;
use super::sweep::{Entry, Sweep};
use super::{Action, Event, GcOptions, entries};
use crate::Layout;
use crate::db::{Keep, StoreGraph};
use crate::error::{Error, Result};

pub(super) struct Collection<'a, 't> {
    pub(super) options: &'a GcOptions,
    pub(super) noted: &'a Noted,
    pub(super) whole: &'a StoreGraph,
    pub(super) keep: Keep,
    pub(super) live: &'a Liveness<'a>,
    pub(super) sweep: Sweep<'a, 't>,
}

impl Collection<'_, '_> {
    /// Does what the options say.
    pub(super) fn run(mut self) -> Result<()> {
        let layout = self.sweep.layout;
        match &self.options.action {
            Action::ListLive => {
                self.sweep.collected.paths = self.live.list(layout, &entries(layout)?);
                Ok(())
            }
            Action::ListDead | Action::DeleteDead => {
                let (valid, unknown) = self.live.dead(layout, &entries(layout)?);
                match self.options.by_use {
                    Some(by_use) => self.oldest(by_use, &valid, unknown),
                    None => self.all_dead(&valid, unknown),
                }
            }
            Action::Delete(paths) => {
                let deleted = self.delete_paths(paths);
                self.end(None);
                deleted
            }
        }
    }

    /// All of the dead, whenever they were used.
    fn all_dead(mut self, valid: &[u32], unknown: Vec<Entry>) -> Result<()> {
        let layout = self.sweep.layout;
        if self.options.action == Action::ListDead {
            let mut paths: Vec<String> = unknown.iter().map(|entry| entry.path(layout)).collect();
            let valid = valid.iter().map(|&at| self.whole.graph.path(at).to_owned());
            paths.extend(valid);
            paths.sort_unstable();
            self.sweep.collected.paths = paths;
            return Ok(());
        }
        if self.options.max_freed == 0 {
            return Ok(());
        }
        (self.sweep.tell)(Event::Step("deleting garbage..."));
        let valid = self.live.referrers_first(valid)?;
        let valid = self.entries_at(&valid);
        let deleted = self
            .sweep
            .delete(unknown.into_iter().chain(valid).collect());
        self.end(None);
        deleted
    }

    /// What is no path, and then of the dead what was not used for longest.
    fn oldest(mut self, by_use: ByUse, valid: &[u32], unknown: Vec<Entry>) -> Result<()> {
        let (layout, whole) = (self.sweep.layout, self.whole);
        let own = self.noted.own_uses(whole);
        let queue = Queue::new((whole, self.keep), valid, &own, by_use.used_before)?;
        let survey = Survey::new(whole, self.live, self.keep, &queue);
        let excess = by_use
            .max_size
            .map(|most| survey.valid.bytes.saturating_sub(most));
        self.sweep.collected.survey = Some(survey);
        let done = if self.options.action == Action::ListDead {
            let sizes = queue.places.iter();
            let sizes = sizes.map(|&at| whole.facts[at as usize].nar_size);
            let count = excess.map_or(queue.places.len(), |excess| enough(sizes, excess));
            self.sweep.gone = queue.places[..count].to_vec();
            let paths = unknown.iter().map(|entry| entry.path(layout));
            let valid = self.sweep.gone.iter();
            let valid = valid.map(|&at| whole.graph.path(at).to_owned());
            self.sweep.collected.paths = paths.chain(valid).collect();
            Ok(())
        } else {
            (self.sweep.tell)(Event::Step("deleting garbage..."));
            let valid = self.entries_at(&queue.places);
            let deleted = self.sweep.delete(unknown).and_then(|()| {
                self.sweep.excess = excess;
                self.sweep.delete(valid)
            });
            self.end(Some(&queue));
            deleted
        };
        if let Some(survey) = &mut self.sweep.collected.survey {
            survey.note_gone(whole, self.live, self.keep, &self.sweep.gone);
        }
        done
    }

    fn entries_at(&self, places: &[u32]) -> Vec<Entry> {
        let entries = places.iter();
        let entries = entries.map(|&at| Entry::at(self.sweep.layout, self.whole, at));
        entries.collect()
    }

    /// Notes uses after a deletion, however that went. What can't be noted is no reason for it to
    /// fail.
    fn end(&mut self, queue: Option<&Queue>) {
        let store = (self.live, self.whole, self.keep);
        let (layout, gone) = (self.sweep.layout, &*self.sweep.gone);
        let written = self.noted.write(layout, self.options, store, (gone, queue));
        if let Err(error) = written {
            (self.sweep.tell)(Event::NotNoted(&error));
        }
    }

    /// Deletes the given paths and what can go only with them, as far as nothing uses it.
    fn delete_paths(&mut self, paths: &[String]) -> Result<()> {
        let layout = self.sweep.layout;
        let mut targets = paths.to_vec();
        targets.sort_unstable();
        targets.dedup();
        let mut done = HashSet::new();
        for target in &targets {
            let doomed = self.live.closure_within(layout, target, &targets)?;
            let doomed = doomed.ok_or_else(|| still_alive(target))?;
            let new = doomed.into_iter().filter(|path| done.insert(path.clone()));
            let entries = new.map(|path| self.entry_of(layout, &path)).collect();
            self.sweep.delete(entries)?;
            // Somebody may have begun to use it since it was looked at.
            if self.sweep.database.is_valid(target)? {
                return Err(still_alive(target));
            }
        }
        Ok(())
    }

    fn entry_of(&self, layout: &Layout, path: &str) -> Entry {
        match self.whole.graph.find(path) {
            Some(at) => Entry::at(layout, self.whole, at),
            None => Entry::valid(layout, path),
        }
    }
}

fn still_alive(path: &str) -> Error {
    Error::StillAlive {
        path: path.to_owned(),
    }
}
