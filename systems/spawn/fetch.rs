//! Starts a substituter for every path that has its lock and a slot (the second half of the seed's `tryToRun`), and
//! reads what it says beside its log.

use std::path::Path;

use bevy_ecs::prelude::{Commands, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, ChildPipes, Deadlines};
use windrow_components::goal::SubstitutionGoal;
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::failure::{Failure, FailureKind};
use crate::helpers::Substituters;
use crate::helpers::{HelperNews, News};
use crate::process::helper::{self, Pipes};
use crate::world::{
    Background, BuilderConfig, Failures, FetchPipe, FetchQueue, LauncherHandle, Now, PoolHandle,
    ReadyFetch, RunState, Slots, destination,
};

/// What starting substituters touches.
#[derive(SystemParam)]
pub struct StartingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, (&'static Substitution, &'static SubstitutionGoal)>,
    graph: Res<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    substituters: Res<'w, Substituters>,
    now: Res<'w, Now>,
    pool: NonSendMut<'w, PoolHandle>,
    launcher: NonSendMut<'w, LauncherHandle>,
    news: NonSendMut<'w, News>,
    background: ResMut<'w, Background>,
    slots: ResMut<'w, Slots>,
    failures: ResMut<'w, Failures>,
}

/// Has the processes made, by a thread that can wait for that.
pub fn start_fetches(
    mut queue: ResMut<FetchQueue>,
    run: Res<RunState>,
    mut params: StartingFetches<'_, '_>,
) {
    for ReadyFetch { goal, path } in queue.starting.drain(..) {
        if run.is_over() {
            continue;
        }
        let Ok((substitution, known)) = params.goals.get(goal) else {
            continue;
        };
        let program = Path::new(params.substituters.program(substitution.sub)).to_owned();
        let store_path = params.graph.full_path(path);
        let real_path = destination(params.config.layout.real_path(&store_path), known.repair);
        let dest = real_path.to_string_lossy().into_owned();
        let args = ["--substitute", &store_path, &dest];
        let prepared = clear(&real_path, &params.pool)
            .and_then(|()| helper::prepare(&program, &args, &params.news.env, Pipes::Fetch));
        let (launch, ends) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                params.slots.used -= 1;
                let text = format!("cannot fetch path '{store_path}': {error}");
                let failure = Failure::new(FailureKind::Other, text);
                params.failures.0.push((goal, failure));
                continue;
            }
        };
        params.background.launching += 1;
        let tell = params.news.teller();
        params.launcher.0.submit(move || {
            let result = launch.run();
            tell(HelperNews::Started { goal, result });
            None
        });
        let at = params.now.0;
        params.commands.entity(goal).insert((
            ChildPipes {
                log: Some(ends.log),
            },
            FetchPipe {
                out: Some(ends.stdout),
                said: Vec::new(),
            },
            Deadlines::new(at, true),
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
