//! Starts to fetch every path that has its lock and a slot (Nix 1.8: the second half of
//! `tryToRun`): a substituter's process, or what unpacks the archive from a binary cache.

use std::path::Path;

use bevy_ecs::prelude::{NonSend, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::ChildKind;
use windrow_components::goal::SubstitutionGoal;
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;
use windrow_sys::tree::delete_path;

use crate::failure::{Failure, FailureKind};
use crate::helpers::downloads::Downloads;
use crate::helpers::{FetchEnv, Kind, Substituters, destination};
use crate::lock::archives::report_start;
use crate::process::helper;
use crate::process::helper::Pipes;
use crate::process::side_channel::{FetchPipe, SideChannel};
use crate::world::children::{ChildSetup, Made, Maker};
use crate::world::{Host, PoolHandle, ReadyFetch, Reporters, Scheduler, Services};

/// What starting substituters touches.
#[derive(SystemParam)]
pub struct StartingFetches<'w, 's> {
    goals: Query<'w, 's, (&'static Substitution, &'static SubstitutionGoal)>,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    env: NonSend<'w, FetchEnv>,
    host: NonSendMut<'w, Host>,
    services: NonSendMut<'w, Services>,
    downloads: ResMut<'w, Downloads>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Has the processes made, by a thread that can wait for that; has what comes from a binary cache
/// unpacked.
///
/// Nix 1.8: `SubstitutionGoal::tryToRun`.
pub fn start_fetches(mut params: StartingFetches<'_, '_>) {
    for fetch in params.scheduler.take_starting_fetches() {
        if !params.scheduler.run.has_stopped() {
            params.start(fetch);
        }
    }
}

impl StartingFetches<'_, '_> {
    fn start(&mut self, fetch: ReadyFetch) {
        let ReadyFetch { goal, path } = fetch;
        let Ok((substitution, known)) = self.goals.get(goal) else {
            return;
        };
        if let Kind::Cache(_) = self.substituters.kind(substitution.sub) {
            return unpack_archive(
                (fetch, substitution.sub),
                (&mut self.scheduler, &mut self.downloads),
                (&self.graph, &self.substituters),
                &mut self.services.reporter,
            );
        }
        let (host, env) = (&mut *self.host, &self.env.0);
        let program = self.substituters.name(substitution.sub).to_owned();
        let store_path = self.graph.full_path(path);
        let place = host.config.layout.real_path(&store_path);
        let real_path = destination(place, known.repair);
        let dest = real_path.to_string_lossy().into_owned();
        let args = ["--substitute", &store_path, &dest];
        let in_the_way = stays_in_the_way(&real_path, &host.pool).then(|| real_path.clone());
        let prepared = helper::prepare(Path::new(&program), &args, env, Pipes::Fetch);
        let (launch, ends) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let text = format!("cannot fetch path '{store_path}': {error}");
                return self.scheduler.fail(goal, Failure::to_start(&error, text));
            }
        };
        let setup = ChildSetup {
            goal,
            kind: ChildKind::Fetch,
            log: ends.log,
            channel: Some(SideChannel::Fetch(FetchPipe {
                out: Some(ends.stdout),
                said: Vec::new(),
                hangs_up: false,
            })),
            dir: None,
        };
        let make = move |launch: helper::Launch| {
            if let Some(path) = in_the_way
                && let Err(error) = delete_path(&path)
            {
                let text = format!("cannot fetch path '{store_path}': {error}");
                return Made::new(Err(Failure::new(FailureKind::Other, text)));
            }
            Made::new(launch.run().map_err(|error| {
                let text = format!("substituter '{program}': {error}");
                Failure::to_start(&error.source, text)
            }))
        };
        let maker = (Maker::Thread, None);
        host.launch(&mut self.scheduler, setup, maker, launch, make);
    }
}

/// A path's archive, which comes from that substituter, is here and can be unpacked.
pub(crate) fn unpack_archive(
    (fetch, sub): (ReadyFetch, usize),
    (scheduler, downloads): (&mut Scheduler, &mut Downloads),
    (graph, substituters): (&BuildGraph, &Substituters),
    reporter: &mut Reporters,
) {
    if scheduler.is_cancelled(fetch.goal) {
        return scheduler.fail(fetch.goal, Failure::cancelled());
    }
    scheduler.start(fetch.goal);
    if downloads.announce(fetch.path) {
        let transfer = downloads.transfer(fetch.path);
        let from = (substituters.name(sub), transfer.as_ref());
        report_start(fetch, (graph, reporter), from, scheduler.now);
    }
    downloads.unpack(fetch);
}

/// Takes what lies at a path's place without being valid out of the way. Whether it must be deleted
/// for that.
pub(crate) fn stays_in_the_way(real_path: &Path, pool: &PoolHandle) -> bool {
    std::fs::symlink_metadata(real_path).is_ok() && !pool.put_aside(real_path)
}
