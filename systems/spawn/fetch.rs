//! Starts a substituter for every path that has its lock and a slot (the second half of the seed's `tryToRun`), and
//! reads what it says beside its log.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bevy_ecs::prelude::{Commands, Component, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{BuildLog, BuilderProcess, ChildPipes, Deadlines};
use windrow_components::goal::{Stage, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::substitution::Substitution;

use crate::failure::{Failure, FailureKind};
use crate::helpers::{HelperNews, News};
use crate::lock::fetch::{FetchQueue, ReadyFetch};
use crate::poll_io::HelperEvents;
use crate::process::helper::{self, Pipes};
use crate::process::launch::Spawned;
use crate::process::reactor::{Reactor, Readable};
use crate::real::{BuilderConfig, LauncherHandle, PoolHandle};
use crate::report::{BuildRef, Event};
use crate::sandbox::process::kill::kill_and_reap;
use crate::store::beside::beside;
use crate::substitute::substituters::Substituters;
use crate::world::{Background, Failures, Now, ReporterHandle, RunState, Running, Slots};

/// How much of a substituter's standard output is kept: two lines are expected.
const SAID_MAX: usize = 64 * 1024;

/// What a substituter says on its standard output (the seed's `outPipe`).
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct FetchPipe {
    /// The pipe; `None` after its end.
    pub out: Option<OwnedFd>,
    /// What has come through it.
    pub said: Vec<u8>,
}

impl FetchPipe {
    /// Reads what there is to read now.
    pub fn read(&mut self, buffer: &mut [u8]) {
        while let Some(pipe) = &self.out {
            match nix::unistd::read(pipe, buffer) {
                Ok(count) if count > 0 => {
                    let room = SAID_MAX.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return,
                Ok(_) | Err(_) => self.out = None,
            }
        }
    }
}

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

/// Where a substituter is to put a path: beside it, if there is one that is to be replaced (the seed's `destPath`).
pub(crate) fn destination(real_path: PathBuf, repair: bool) -> PathBuf {
    if !repair {
        return real_path;
    }
    beside(&real_path, ".tmp")
}

/// Takes what lies at a path's place without being valid out of the way.
fn clear(real_path: &Path, pool: &PoolHandle) -> std::io::Result<()> {
    if std::fs::symlink_metadata(real_path).is_err() {
        return Ok(());
    }
    pool.discard_invalid(real_path)
}

/// What watching new processes touches.
#[derive(SystemParam)]
pub struct WatchingFetches<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<
        'w,
        's,
        (
            &'static SubstitutionGoal,
            &'static Substitution,
            &'static ChildPipes,
            &'static FetchPipe,
            &'static mut Deadlines,
            &'static mut Stage,
        ),
    >,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    now: Res<'w, Now>,
    reactor: NonSendMut<'w, Reactor>,
    reporter: NonSendMut<'w, ReporterHandle>,
    slots: ResMut<'w, Slots>,
    background: ResMut<'w, Background>,
}

/// Takes up the processes that have been made, and keeps other news for who registers.
pub fn take_started(
    mut running: ResMut<Running>,
    mut news: NonSendMut<News>,
    mut received: ResMut<crate::finish::fetch::ReceivedQueue>,
    mut params: WatchingFetches<'_, '_>,
) {
    while let Some(news) = news.take_fetch() {
        let (goal, result) = match news {
            HelperNews::Started { goal, result } => (goal, result),
            other => {
                received.0.push(other);
                continue;
            }
        };
        params.background.launching -= 1;
        let Ok((known, substitution, pipes, fetch, mut deadlines, mut stage)) =
            params.goals.get_mut(goal)
        else {
            continue;
        };
        let program = params.substituters.program(substitution.sub);
        let path = params.graph.full_path(known.path);
        let watched = match (result, &pipes.log, &fetch.out) {
            (Err(error), ..) => Err(format!("substituter '{program}': {error}")),
            (Ok(child), Some(log), Some(out)) => {
                let reactor = &params.reactor;
                let watched = reactor
                    .watch(goal, log, &child.pidfd)
                    .and_then(|()| reactor.watch_said(goal, out));
                match watched {
                    Ok(()) => Ok(child),
                    Err(error) => {
                        kill_and_reap(child.pid);
                        Err(format!("cannot watch substituter '{program}': {error}"))
                    }
                }
            }
            (Ok(child), ..) => Ok(child),
        };
        let Spawned { pid, pidfd } = match watched {
            Ok(child) => child,
            Err(message) => {
                params.slots.used -= 1;
                params
                    .commands
                    .entity(goal)
                    .remove::<(ChildPipes, FetchPipe, Deadlines, BuildLog)>();
                // As if it had run and failed: the next substituter may do.
                received.0.push(HelperNews::Received {
                    goal,
                    status: 1 << 8,
                    result: Err(format!("fetching path '{path}' failed: {message}")),
                    warnings: Vec::new(),
                });
                params.background.collecting += 1;
                continue;
            }
        };
        let at = params.now.0;
        (deadlines.started, deadlines.last_output) = (at, at);
        *stage = Stage::Running;
        running.0.push(goal);
        params.reporter.0.report(&Event::FetchStarted {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &path,
                name: params.graph.paths.name(known.path),
            },
            program,
            at,
        });
        params.commands.entity(goal).insert(BuilderProcess {
            pid,
            pidfd,
            exited: false,
        });
    }
}

/// Reads what substituters say on their standard output.
pub fn hear_fetches(
    events: Res<HelperEvents>,
    running: Res<Running>,
    mut pipes: Query<&mut FetchPipe>,
    mut reactor: NonSendMut<Reactor>,
) {
    for event in &events.0 {
        let Readable::Said(index) = *event else {
            continue;
        };
        let Some(&goal) = running.0.iter().find(|goal| goal.index_u32() == index) else {
            continue;
        };
        if let Ok(mut pipe) = pipes.get_mut(goal) {
            pipe.read(&mut reactor.buffer);
        }
    }
}
