//! Has binary caches send what is to come from them, whatever it refers to: only what is registered
//! needs its references. So a chain of them is no chain of downloads.

use bevy_ecs::prelude::{NonSend, Res, ResMut};
use windrow_net::asker::{Left, Wish};

use crate::helpers::caches::{Caches, token};
use crate::helpers::downloads::Downloads;
use crate::helpers::{Kind, Speeds, Substituters};
use crate::world::{Need, Scheduler};

/// Begins what was chosen since the last tick, and what waited for its turn.
pub fn begin_downloads(
    caches: NonSend<Caches>,
    mut substituters: ResMut<Substituters>,
    mut downloads: ResMut<Downloads>,
    mut speeds: ResMut<Speeds>,
    scheduler: Res<Scheduler>,
) {
    for (sub, path) in substituters.take_chosen() {
        let offer = substituters.offer(sub, path);
        if let Some(info) = offer.and_then(|offer| offer.nar.as_ref())
            && downloads.want(path, sub, info)
        {
            caches.asker().cancel(token(path), Left::Kept);
        }
    }
    while let Some((path, sub, info)) = downloads.begin_next() {
        if let Kind::Cache(cache) = substituters.kind(sub) {
            let bytes = info.file_size.unwrap_or(info.nar_size);
            speeds.begin(sub, path, bytes, scheduler.now);
            let token = token(path);
            caches.asker().download(Wish { token, cache, info });
        }
    }
}

/// Ends downloads for goals that have ended: when requests end, some goals are not needed any more,
/// and others have made what some wanted.
pub fn end_downloads(
    caches: NonSend<Caches>,
    mut downloads: ResMut<Downloads>,
    mut speeds: ResMut<Speeds>,
    mut scheduler: ResMut<Scheduler>,
) {
    scheduler.note_given_up(false);
    for path in downloads.paths() {
        let left = match scheduler.need_of(path) {
            Need::Wanted => continue,
            Need::Met => Left::Discarded,
            Need::Dropped => Left::Kept,
        };
        speeds.end(path, false, scheduler.now);
        if downloads.forget(path, left) {
            caches.asker().cancel(token(path), left);
        }
    }
}
