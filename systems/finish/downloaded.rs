//! Archives from binary caches that are here: their goals may take slots, and those that have them
//! have the pool unpack them.

use std::sync::Arc;

use bevy_ecs::prelude::{Entity, ResMut};
use windrow_components::building::Deadlines;
use windrow_components::ids::PathId;
use windrow_components::substitution::Substitution;
use windrow_net::asker::{AtFault, DownloadError, OpenArchive};
use windrow_net::narinfo::NarInfo;

use super::reap::Reaping;
use crate::helpers::caches::{blame, understand};
use crate::helpers::downloads::Downloads;
use crate::outputs::fetched::NotTaken;
use crate::outputs::unpack::{UnpackJob, unpack};
use crate::report::{Event, Level};
use crate::spawn::fetch::stays_in_the_way;
use crate::world::ReadyFetch;

/// What stands for the wait status of a substituter that failed.
const FAILED: i32 = 1 << 8;

/// Has the pool unpack what goals have their slots for. What has come lets its goal go on; for what
/// can't be had it is the next substituter's turn.
///
/// Nix 1.8: `SubstitutionGoal::finished`.
pub fn take_downloaded(mut params: Reaping<'_, '_>, mut downloads: ResMut<Downloads>) {
    for (goal, path) in downloads.take_over() {
        if downloads.is_here(path) {
            params.scheduler.archive_is_over(goal);
        } else if params.scheduler.awaits_archive(goal) {
            match downloads.take(path) {
                Some((_, Err(error), _)) => {
                    params.blame(goal, &error);
                    params.has_not_come(goal, path, &error);
                }
                // Another goal for the same path has taken it, and said what was wrong.
                _ => params.scheduler.try_next(ReadyFetch { goal, path }),
            }
        }
    }
    for fetch in downloads.take_to_unpack() {
        let taken = downloads.take(fetch.path);
        if let Some((sub, ..)) = taken {
            params.note_sender(fetch.goal, sub);
        }
        let archive = taken.map(|(_, result, info)| {
            let opened = result.and_then(|archive| archive.open().map_err(cannot_open));
            opened.map(|archive| archive.map(|archive| (archive, info)))
        });
        match archive {
            Some(Ok(Some(archive))) => {
                params.scheduler.scan();
                params.unpack(fetch.goal, archive);
            }
            Some(Err(error)) => {
                params.scheduler.exited(fetch.goal);
                params.has_not_come(fetch.goal, fetch.path, &error);
            }
            // Another process has unpacked the file, or goes on with it.
            Some(Ok(None)) | None => {
                params.give_up_locks(fetch.goal);
                params.scheduler.fetch_again(fetch);
            }
        }
    }
}

/// What was downloaded can't be opened.
fn cannot_open(error: std::io::Error) -> DownloadError {
    DownloadError {
        message: format!("cannot open what was downloaded: {error}"),
        at_fault: AtFault::Here,
    }
}

impl Reaping<'_, '_> {
    fn unpack(&mut self, goal: Entity, (archive, nar): (OpenArchive, Arc<NarInfo>)) {
        let known = self.children.get(goal).ok().and_then(|ended| ended.path);
        let Some((known, _)) = known else {
            return;
        };
        let known = *known;
        let info = understand(&mut self.graph, &nar);
        let fetched = self.fetched_path(known, info);
        let host = &mut *self.host;
        let stop = host
            .scans
            .begin(goal, Deadlines::new(self.scheduler.now, false));
        let place = fetched.place().clone();
        let job = UnpackJob {
            is_in_the_way: stays_in_the_way(&fetched.real_path, &host.pool),
            fetched,
            nar,
            stop: stop.clone(),
        };
        self.take_in_by_pool((goal, FAILED), (place, stop), move || unpack(&job, archive));
    }

    /// Whoever sent a path answers for it, be it that a better one has told of it meanwhile.
    fn note_sender(&mut self, goal: Entity, sub: usize) {
        let known = self.children.get(goal).ok().and_then(|ended| ended.path);
        if let Some((_, substitution)) = known
            && substitution.sub != sub
        {
            let substitution = Substitution {
                sub,
                ..*substitution
            };
            self.commands.entity(goal).insert(substitution);
        }
    }

    /// Counts a failure against the cache, if it is at fault as a whole. One that fails too often
    /// is left out.
    fn blame(&mut self, goal: Entity, error: &DownloadError) {
        let known = self.children.get(goal).ok().and_then(|ended| ended.path);
        let Some((_, substitution)) = known else {
            return;
        };
        let (sub, now) = (substitution.sub, self.scheduler.now);
        let Some((owed, text)) = blame(&mut self.substituters, sub, error, now) else {
            return;
        };
        self.scheduler.wake_askers(owed);
        let level = Level::Warn;
        let message = Event::Message { level, text: &text };
        self.services.reporter.report(&message);
    }

    /// A download has failed.
    fn has_not_come(&mut self, goal: Entity, path: PathId, error: &DownloadError) {
        let path = self.graph.full_path(path);
        let failure = NotTaken {
            message: format!("fetching path '{path}' failed: {error}"),
            is_local: error.at_fault == AtFault::Here,
        };
        self.try_next(goal, FAILED, &failure);
    }
}
