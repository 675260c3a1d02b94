//! Takes in what the thread says that asks binary caches and downloads from them.

use bevy_ecs::prelude::{NonSendMut, ResMut};
use windrow_components::graph::BuildGraph;
use windrow_net::asker::Answer;

use crate::helpers::caches::{Caches, note_time, path_of};
use crate::helpers::downloads::Downloads;
use crate::helpers::{Speeds, Substituters};
use crate::report::{Event, Level};
use crate::world::{Scheduler, Services};

/// How many answers a tick takes in. Whoever has more to say is heard in the next.
const ANSWERS_PER_TICK: usize = 1024;

/// Takes in the answers that have come, and wakes the goals that wait for them.
///
/// Nix 1.8: `SubstitutionGoal::gotInfo`.
pub fn take_answers(
    mut caches: NonSendMut<Caches>,
    mut substituters: ResMut<Substituters>,
    mut downloads: ResMut<Downloads>,
    mut speeds: ResMut<Speeds>,
    mut graph: ResMut<BuildGraph>,
    mut scheduler: ResMut<Scheduler>,
    mut services: NonSendMut<Services>,
) {
    let now = scheduler.now;
    for _ in 0..ANSWERS_PER_TICK {
        let Some(answer) = caches.asker().take() else {
            return;
        };
        if let Answer::Downloaded {
            cache,
            token,
            result,
        } = answer
        {
            let sub = substituters.of_cache(cache);
            speeds.end(path_of(token), result.is_ok(), now);
            downloads.end(path_of(token), sub, result);
            continue;
        }
        note_time(&answer, (&substituters, &mut speeds), now);
        let news = caches.hear(answer, (&mut substituters, &mut graph), now);
        scheduler.wake_askers(news.wake);
        if let Some(text) = &news.warning {
            let level = Level::Warn;
            services.reporter.report(&Event::Message { level, text });
        }
    }
    caches.look_again();
}
