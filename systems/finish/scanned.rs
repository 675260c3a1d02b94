//! Takes up what was scanned, of whatever kind: outputs to register, or why there are none.

use std::path::Path;

use bevy_ecs::prelude::Entity;
use windrow_components::building::{BuildDir, BuildLog, MissingOutputs};
use windrow_components::count::count;
use windrow_components::goal::{BuildMode, Stage};
use windrow_components::ids::{DrvId, PathId};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::finish::mismatched;
use crate::finish::reap::Reaping;
use crate::helpers::Kind;
use crate::helpers::caches::note_undelivered;
use crate::outputs::MismatchedOutput;
use crate::outputs::fetched::NotTaken;
use crate::report::{BuildRef, Event, Level};
use crate::world::children::{ChildEnv, Condemned, Scanned, Unfit};
use crate::world::{OutputLocks, ReadyFetch};

/// Takes back what has been scanned: outputs to register, a reason why the build failed after all,
/// or the next substituter's turn.
///
/// Nix 1.8: `SubstitutionGoal::finished`.
pub fn take_scanned(mut params: Reaping<'_, '_>) {
    let mut scanned = std::mem::take(&mut params.host.scanned);
    for scanned in scanned.drain(..) {
        params.take(scanned);
    }
    params.host.scanned = scanned;
}

impl Reaping<'_, '_> {
    fn take(&mut self, scanned: Scanned) {
        let Scanned {
            goal,
            result,
            warnings,
            kept,
        } = scanned;
        self.scheduler.scanned();
        if self.scheduler.stage(goal) == Stage::Fetching {
            // It has been unpacked, for which it had a slot.
            self.scheduler.exited(goal);
        }
        let timed_out = self.host.scans.end(goal);
        for text in &warnings {
            let level = Level::Warn;
            self.services
                .reporter
                .report(&Event::Message { level, text });
        }
        match result {
            Ok(outputs) => {
                let ended = self.children.get(goal).ok();
                let path = ended.as_ref().and_then(|ended| ended.path.as_ref());
                if let Some((known, substitution)) = path {
                    self.substituters.deliver(substitution.sub);
                    self.services.reporter.say(Level::Chatty, || {
                        let path = self.graph.full_path(known.path);
                        format!("substitution of path '{path}' succeeded")
                    });
                }
                let drv = ended.and_then(|ended| Some(ended.derivation?.drv));
                if let Some(drv) = drv
                    && let Err(error) = self.trust_checked(goal, drv)
                {
                    return self.scheduler.abort(error);
                }
                self.scheduler.complete(goal, drv, outputs);
            }
            Err(unfit) if let Some(seconds) = timed_out => {
                self.time_out(goal, unfit, (seconds, kept.as_deref()));
            }
            Err(Unfit::Build(mut failure, mismatched)) => {
                failure.kept.clone_from(&kept);
                self.fail_scanned(goal, failure, mismatched);
            }
            Err(Unfit::Differs(diff)) => return self.begin_diff(goal, diff),
            Err(Unfit::Fetch { status, why }) => self.try_next(goal, status, &why),
        }
        if let Some(kept) = kept {
            self.host.dirs.keep(&kept);
            let text = format!("note: keeping build directory '{}'", kept.display());
            self.services.reporter.report(&Event::Message {
                level: Level::Error,
                text: &text,
            });
        } else if let Ok(ended) = self.children.get(goal)
            && let (Some(dir), None) = (ended.dir, ended.env)
        {
            self.host.retire(&dir.0);
        }
        let mut entity = self.commands.entity(goal);
        entity.remove::<(BuildDir, BuildLog, ChildEnv)>();
    }

    /// What was built again and came out the same is as good as built here.
    fn trust_checked(&mut self, goal: Entity, drv: DrvId) -> Result<()> {
        if self.scheduler.mode_of(goal) != BuildMode::Check {
            return Ok(());
        }
        let missing = self.children.get(goal).ok();
        let missing = missing.and_then(|ended| ended.missing);
        let outputs = MissingOutputs::of(missing, &self.graph, drv);
        self.services.store.trust(&self.graph, &outputs)
    }

    /// What was made could not be looked at in the time that its making had.
    fn time_out(&mut self, goal: Entity, unfit: Unfit, (seconds, kept): (u64, Option<&Path>)) {
        let (kind, limit) = (
            FailureKind::TimedOut,
            format!("timed out after {}", count(seconds, "second")),
        );
        let reason = format!("{limit}, while what it made was being looked at");
        let Ok(ended) = self.children.get(goal) else {
            return;
        };
        match (unfit, ended.derivation, &ended.path) {
            (Unfit::Fetch { .. }, _, Some((known, _))) => {
                let path = known.path;
                self.give_up_fetch(goal, path, Some(Condemned { reason, kind }));
            }
            (_, Some(known), _) => {
                let drv_path = self.graph.full_path(self.graph.drv_path(known.drv));
                let text = format!("builder for '{drv_path}' {reason}");
                let failure = Failure {
                    kept: kept.map(Path::to_owned),
                    ..Failure::new(kind, text)
                };
                self.fail_scanned(goal, failure, None);
            }
            _ => {}
        }
    }

    fn fail_scanned(
        &mut self,
        goal: Entity,
        mut failure: Failure,
        mismatched: Option<Box<MismatchedOutput>>,
    ) {
        if let Some(mismatched) = mismatched {
            let store = &mut *self.services.store;
            let world = (&mut *self.graph, store);
            let kept = mismatched::keep(*mismatched, world, &self.host.config, &self.host.pool);
            failure.message.push_str(&kept);
        }
        self.scheduler.fail(goal, failure);
    }

    /// A substituter could not deliver a path. What a cache said in an earlier run may not be true
    /// any more: it is asked once more. Whoever is good is not blamed for what fails here.
    fn give_up_substitute(&mut self, sub: usize, path: PathId, is_local: bool) {
        if is_local {
            return self.substituters.could_not_deliver(sub, path);
        }
        let offer = self.substituters.offer(sub, path);
        let was_remembered = offer.is_some_and(|offer| offer.remembered);
        let kind = self.substituters.kind(sub);
        let now = self.scheduler.now;
        if kind != Kind::Program
            && let Some((owed, text)) = note_undelivered(&mut self.substituters, sub, now)
        {
            self.scheduler.wake_askers(owed);
            let level = Level::Warn;
            let message = Event::Message { level, text: &text };
            self.services.reporter.report(&message);
        }
        if let (Kind::Cache(cache), Some(caches), true) = (kind, &self.caches, was_remembered) {
            let store_path = self.graph.paths.store_path(path);
            caches.asker().forget(cache, store_path);
            self.substituters.forget(sub, path);
        } else {
            self.substituters.could_not_deliver(sub, path);
        }
    }

    /// A goal goes on without its locks, if it has any.
    pub(super) fn give_up_locks(&mut self, goal: Entity) {
        let ended = self.children.get_mut(goal).ok();
        if let Some(mut locks) = ended.and_then(|ended| ended.locks) {
            let locks = std::mem::take(&mut *locks);
            self.services.store.unlock(locks, false);
        }
        self.commands.entity(goal).remove::<OutputLocks>();
    }

    /// Reports that a substituter could not deliver a path, and lets its goal go to the next one.
    pub(super) fn try_next(&mut self, goal: Entity, status: i32, why: &NotTaken) {
        if self.scheduler.is_cancelled(goal) {
            return self.scheduler.fail(goal, Failure::cancelled());
        }
        let Ok(ended) = self.children.get_mut(goal) else {
            return;
        };
        let Some((known, substitution)) = ended.path else {
            return;
        };
        let log_lines = self.host.config.log_lines;
        let log_tail = ended.log.map(|log| log.last_lines(log_lines));
        self.services.reporter.report(&Event::FetchFailed {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &self.graph.full_path(known.path),
                name: self.graph.paths.name(known.path),
            },
            status: Some(status),
            message: &why.message,
            log_tail: &log_tail.unwrap_or_default(),
            at: self.scheduler.now,
        });
        let path = known.path;
        let sub = substitution.sub;
        self.give_up_locks(goal);
        self.give_up_substitute(sub, path, why.is_local);
        self.scheduler.try_next(ReadyFetch { goal, path });
    }
}
