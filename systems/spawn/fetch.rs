//! Starts a substituter for every path that has its lock and a slot (Nix 1.8: the second half of
//! `tryToRun`), and reads what it says beside its log.

use std::path::Path;

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, ChildPipes, Deadlines};
use windrow_components::goal::SubstitutionGoal;
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::failure::{Failure, FailureKind};
use crate::helpers::{FetchNews, Fetches, Substituters};
use crate::process::helper;
use crate::process::helper::Pipes;
use crate::world::{FetchPipe, Host, PoolHandle, ReadyFetch, Scheduler, destination};

/// What starting substituters touches.
#[derive(SystemParam)]
pub struct StartingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, (&'static Substitution, &'static SubstitutionGoal)>,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    fetches: NonSendMut<'w, Fetches>,
    host: NonSendMut<'w, Host>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Has the processes made, by a thread that can wait for that.
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
    fn start(&mut self, ReadyFetch { goal, path }: ReadyFetch) {
        let Ok((substitution, known)) = self.goals.get(goal) else {
            return;
        };
        let (host, env) = (&self.host, &self.fetches.env);
        let program = Path::new(self.substituters.program(substitution.sub)).to_owned();
        let store_path = self.graph.full_path(path);
        let place = host.config.layout.real_path(&store_path);
        let real_path = destination(place, known.repair);
        let dest = real_path.to_string_lossy().into_owned();
        let args = ["--substitute", &store_path, &dest];
        let prepared = clear(&real_path, &host.pool)
            .and_then(|()| helper::prepare(&program, &args, env, Pipes::Fetch));
        let (launch, ends) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let text = format!("cannot fetch path '{store_path}': {error}");
                let failure = Failure::new(FailureKind::Other, text);
                return self.scheduler.fail(goal, failure);
            }
        };
        self.scheduler.launch();
        let send = self.fetches.inbox.sender();
        host.launcher.submit(move || {
            let result = launch.run();
            send(FetchNews::Started { goal, result });
            None
        });
        self.commands.entity(goal).insert((
            ChildPipes {
                log: Some(ends.log),
            },
            FetchPipe {
                out: Some(ends.stdout),
                said: Vec::new(),
            },
            Deadlines::new(self.scheduler.now, true),
            BuildLog::default(),
        ));
    }
}

/// Takes what lies at a path's place without being valid out of the way.
fn clear(real_path: &Path, pool: &PoolHandle) -> std::io::Result<()> {
    if std::fs::symlink_metadata(real_path).is_err() {
        return Ok(());
    }
    pool.discard_invalid(real_path)
}
