//! Has binary caches send what is to come from them, whatever it refers to: only what is registered
//! needs its references. So a chain of them is no chain of downloads.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bevy_ecs::prelude::{NonSendMut, Res, ResMut};
use windrow_components::ids::PathId;
use windrow_net::asker::{AtFault, DownloadError, Left, Wish};
use windrow_net::narinfo::NarInfo;

use crate::helpers::caches::{Caches, token};
use crate::helpers::downloads::Downloads;
use crate::helpers::{Kind, Speeds, Substituters};
use crate::world::{Need, Scheduler};

/// Who has binary caches send archives.
pub trait Carrier: 'static {
    /// Has a cache, by its place in the list of all of them, send a path of which it said that, and
    /// counts the bytes that are here.
    fn download(&mut self, cache: usize, path: PathId, said: (&Arc<NarInfo>, Arc<AtomicU64>));

    /// Ends a download that nobody wants any more.
    fn cancel(&mut self, path: PathId, left: Left);
}

impl Carrier for Caches {
    fn download(
        &mut self,
        cache: usize,
        path: PathId,
        (info, received): (&Arc<NarInfo>, Arc<AtomicU64>),
    ) {
        self.asker().download(Wish {
            token: token(path),
            cache,
            info: Arc::clone(info),
            received,
        });
    }

    fn cancel(&mut self, path: PathId, left: Left) {
        self.asker().cancel(token(path), left);
    }
}

/// Begins what was chosen since the last tick, and what waited for its turn.
pub fn begin_downloads<C: Carrier>(
    mut carrier: NonSendMut<C>,
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
            carrier.cancel(path, Left::Kept);
        }
    }
    for sub in downloads.awaited() {
        if !substituters.is_good(sub, scheduler.now) {
            let error = DownloadError {
                message: format!("'{}' is left out", substituters.name(sub)),
                at_fault: AtFault::Here,
            };
            downloads.fail_waiting(sub, &error);
        }
    }
    while let Some((path, sub, info, received)) = downloads.begin_next() {
        if let Kind::Cache(cache) = substituters.kind(sub) {
            let bytes = info.file_size.unwrap_or(info.nar_size);
            speeds.begin(sub, path, bytes, scheduler.now);
            carrier.download(cache, path, (&info, received));
        }
    }
}

/// Ends downloads for goals that have ended: when requests end, some goals are not needed any more,
/// and others have made what some wanted.
pub fn end_downloads<C: Carrier>(
    mut carrier: NonSendMut<C>,
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
            carrier.cancel(path, left);
        }
    }
}
