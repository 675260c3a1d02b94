//! The systems by which caches that are simulated take part in a tick. What they ask and tell goes
//! through the table of substituters and the downloads of a real build.

use std::path::PathBuf;
use std::time::Duration;

use bevy_ecs::prelude::{NonSendMut, Query, Res, ResMut};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_components::substitution::Substitution;
use windrow_net::asker::{Archive, AtFault, DownloadError, Failing};

use super::{News, SimulatedCaches};
use crate::helpers::caches::{blame, note_failure};
use crate::helpers::downloads::Downloads;
use crate::helpers::{Offer, Speeds, Substituters};
use crate::simulate::children::{SimulatedChildren, end_builds};
use crate::spawn::fetch::unpack_archive;
use crate::world::{NewOutput, ReadyFetch, Scheduler, Services};

/// Asks caches what goals want to know.
pub(crate) fn ask(
    mut substituters: ResMut<Substituters>,
    mut caches: NonSendMut<SimulatedCaches>,
    mut speeds: ResMut<Speeds>,
    scheduler: Res<Scheduler>,
) {
    for (sub, paths) in substituters.take_questions() {
        speeds.ask(sub, &paths, scheduler.now);
        caches.ask(sub, paths);
    }
}

/// Has the archives unpacked whose paths have their locks and slots.
pub(crate) fn start_fetches(
    mut downloads: ResMut<Downloads>,
    mut scheduler: ResMut<Scheduler>,
    mut services: NonSendMut<Services>,
    substituters: Res<Substituters>,
    graph: Res<BuildGraph>,
    goals: Query<&Substitution>,
) {
    for fetch in scheduler.take_starting_fetches() {
        if let Ok(substitution) = goals.get(fetch.goal) {
            unpack_archive(
                (fetch, substitution.sub),
                (&mut scheduler, &mut downloads),
                (&graph, &substituters),
                &mut services.reporter,
            );
        }
    }
}

/// Lets time jump to what happens next: a build ends, a cache says or has sent something, a better
/// one has been waited for long enough.
pub(crate) fn advance(
    mut scheduler: ResMut<Scheduler>,
    mut children: ResMut<SimulatedChildren>,
    mut caches: NonSendMut<SimulatedCaches>,
    mut substituters: ResMut<Substituters>,
    mut downloads: ResMut<Downloads>,
    mut speeds: ResMut<Speeds>,
    graph: Res<BuildGraph>,
) {
    // What is here is taken at this instant.
    if downloads.has_news() {
        return;
    }
    let grace = substituters.next_end_of_grace();
    let grace = grace.map(|at| at.max(scheduler.now).as_micros() as u64);
    let ends = [children.next_end(), caches.next(), grace];
    let Some(instant) = ends.into_iter().flatten().min() else {
        scheduler.run.is_stuck = true;
        return;
    };
    scheduler.now = Duration::from_micros(instant);
    let now = scheduler.now;
    for (sub, news) in caches.take_news(instant) {
        match news {
            News::Downloaded { path, fails } => {
                speeds.end(path, !fails, now);
                let archive = Archive::InPlace(PathBuf::new());
                let result = match fails {
                    true => Err(cut()),
                    false => Ok(archive),
                };
                downloads.end(path, sub, result);
            }
            News::Answered { path, fails } => {
                if let Some(priority) = caches.open(sub) {
                    substituters.set_priority(sub, priority);
                }
                let mut woken = vec![path];
                if fails {
                    speeds.give_up(sub, path);
                    substituters.give_no_answer(sub, path);
                    let failure = (CUT, Failing::Once);
                    woken.extend(note_failure(&mut substituters, sub, failure, now).0);
                } else {
                    speeds.hear(sub, path, false, now);
                    let offer = caches.offer(sub, path, &graph);
                    let offer: Option<(PathId, Offer)> = offer.map(|offer| (path, offer));
                    substituters.answer(sub, &[path], offer, now);
                }
                scheduler.wake_askers(woken);
            }
            News::Silent(mut paths) => {
                for &path in &paths {
                    speeds.give_up(sub, path);
                    substituters.give_no_answer(sub, path);
                }
                let failure = ("it has not answered", Failing::Dead);
                paths.extend(note_failure(&mut substituters, sub, failure, now).0);
                scheduler.wake_askers(paths);
            }
        }
    }
    end_builds(&mut scheduler, &mut children, &graph, instant);
}

/// Takes in the archives that are here; what has not come is the next cache's turn. To unpack one
/// takes no time.
pub(crate) fn take_downloaded(
    mut downloads: ResMut<Downloads>,
    mut scheduler: ResMut<Scheduler>,
    mut substituters: ResMut<Substituters>,
) {
    for (goal, path) in downloads.take_over() {
        if downloads.is_here(path) {
            scheduler.archive_is_over(goal);
        } else if scheduler.awaits_archive(goal) {
            if let Some((sub, Err(error), _)) = downloads.take(path) {
                let now = scheduler.now;
                if let Some((owed, _)) = blame(&mut substituters, sub, &error, now) {
                    scheduler.wake_askers(owed);
                }
                substituters.could_not_deliver(sub, path);
            }
            scheduler.try_next(ReadyFetch { goal, path });
        }
    }
    for ReadyFetch { goal, path } in downloads.take_to_unpack() {
        drop(downloads.take(path));
        scheduler.exited(goal);
        let built = None;
        scheduler.complete(goal, None, [NewOutput { path, built }]);
    }
}

/// What fails in a simulation.
const CUT: &str = "the connection was cut";

fn cut() -> DownloadError {
    DownloadError {
        message: CUT.to_owned(),
        at_fault: AtFault::Cache,
    }
}
