//! Takes up the children whose processes have been made, of whatever kind.

use std::fmt::Display;
use std::time::Duration;

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, Child, ChildKind, Deadlines, MissingOutputs,
};
use windrow_components::goal::{DerivationGoal, Stage, SubstitutionGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_components::substitution::Substitution;
use windrow_sandbox::BuildEnv;
use windrow_sandbox::cgroups::Cgroup;
use windrow_sandbox::process::launch::Spawned;

use crate::failure::{Failure, FailureKind};
use crate::helpers::Substituters;
use crate::outputs::fetched::NotTaken;
use crate::policy::Estimates;
use crate::policy::forecast::Forecast;
use crate::process::kill;
use crate::process::log_writer::LogFile;
use crate::report::{BuildRef, Event, Level, Outlook};
use crate::world::children::{
    ChildCgroup, ChildEnv, ChildSetup, HookLines, Launched, Made, PendingStart, ReapedChild,
    Scanned, Unfit,
};
use crate::world::{Host, Scheduler, Services};

/// How many of the derivations that wait for a build are named when it starts.
const NEEDED_BY_NAMED: usize = 3;

/// What a goal whose child's process has been made, or could not be, is for.
type LaunchedGoal = (
    Option<&'static DerivationGoal>,
    Option<&'static MissingOutputs>,
    Option<(&'static SubstitutionGoal, &'static Substitution)>,
);

/// What watching new processes touches.
#[derive(SystemParam)]
pub struct Launching<'w, 's> {
    commands: Commands<'w, 's>,
    goals: Query<'w, 's, LaunchedGoal>,
    graph: Res<'w, BuildGraph>,
    substituters: Res<'w, Substituters>,
    services: NonSendMut<'w, Services>,
    host: NonSendMut<'w, Host>,
    scheduler: ResMut<'w, Scheduler>,
    estimates: Option<Res<'w, Estimates>>,
    forecast: Option<Res<'w, Forecast>>,
}

/// Takes up the processes that have been made: from now on they are watched and their time counts.
///
/// Nix 1.8: `Worker::childStarted`.
pub fn take_launched(mut params: Launching<'_, '_>) {
    let host = &mut *params.host;
    let launched = &mut host.launched;
    launched.extend(std::iter::from_fn(|| host.launcher.take()));
    launched.extend(std::iter::from_fn(|| host.template.pool.take()));
    // One by one: the others are the host's, should one lead to a panic.
    while let Some(launched) = params.host.launched.pop_front() {
        params.scheduler.launched();
        params.take(launched);
    }
}

/// What a goal's child works on.
enum Work {
    /// These outputs of a derivation.
    Build(DrvId, Vec<PathId>),
    /// A path, which that substituter has.
    Fetch(PathId, usize),
}

/// What a child may have beside its process.
type Belongings = (
    Option<PendingStart>,
    Option<Cgroup>,
    Option<BuildEnv>,
    Option<LogFile>,
);

impl Launching<'_, '_> {
    fn take(&mut self, launched: Launched) {
        let Launched { setup, began, made } = launched;
        let Made {
            process,
            pending,
            cgroup,
            env,
        } = made;
        let Some(work) = self.work_of(setup.goal) else {
            return;
        };
        let watched = process.and_then(|process| match self.watch(&setup, &work, &process) {
            Ok(file) => Ok((process, file)),
            Err(failure) => {
                kill::end_all(&[(setup.kind, process)]);
                Err(failure)
            }
        });
        match watched {
            Ok((process, file)) => {
                let goal = setup.goal;
                let log_file = file.as_ref().map(|log| log.path().display().to_string());
                let at = began.saturating_duration_since(self.host.began);
                let is_build = setup.kind.setting().is_none();
                self.begin(setup, process, (pending, cgroup, env, file), at);
                if is_build {
                    self.report(goal, &work, &log_file.unwrap_or_default(), at);
                }
            }
            Err(failure) => {
                self.host.pool.leave(env);
                self.give_up(setup, &work, failure);
            }
        }
    }

    fn work_of(&self, goal: Entity) -> Option<Work> {
        let (derivation, missing, path) = self.goals.get(goal).ok()?;
        if let Some(&DerivationGoal { drv, .. }) = derivation {
            let missing = MissingOutputs::of(missing, &self.graph, drv);
            return Some(Work::Build(drv, missing));
        }
        path.map(|(known, at)| Work::Fetch(known.path, at.sub))
    }

    /// Watches a child; gives the log file of a build, if logs are kept.
    ///
    /// # Errors
    /// When the file can't be made or the system refuses to watch.
    fn watch(
        &mut self,
        setup: &ChildSetup,
        work: &Work,
        process: &Spawned,
    ) -> Result<Option<LogFile>, Failure> {
        let host = &mut *self.host;
        let mut file = None;
        if let (Work::Build(drv, _), Some(log_dir), None) =
            (work, &host.config.log_dir, setup.kind.setting())
        {
            let base_name = self.graph.paths.base_name(self.graph.drv_path(*drv));
            let opened = host.logs.open(log_dir, base_name, host.config.compress_log);
            match opened {
                Ok(opened) => file = Some(opened),
                Err(error) => {
                    let failure = Failure::of_error(&error);
                    // A log that can't be kept costs nobody their build.
                    if failure.kind == FailureKind::Means && setup.kind == ChildKind::Builder {
                        return Err(failure);
                    }
                    host.logs.note_problem(&error);
                }
            }
        }
        let host = &mut *self.host;
        let (log, channel) = (&setup.log, setup.channel.as_ref());
        let watched = host
            .reactor
            .watch(setup.goal, (log, &process.pidfd), channel);
        match watched {
            Ok(()) => Ok(file),
            Err(error) => {
                if let Some(file) = &mut file {
                    host.logs.close(file);
                }
                let text = self.unwatchable(work, setup.kind, &error);
                Err(Failure::to_start(&error, text))
            }
        }
    }

    fn unwatchable(&self, work: &Work, kind: ChildKind, error: &dyn Display) -> String {
        match (work, kind) {
            (Work::Fetch(_, sub), _) => {
                let program = self.substituters.name(*sub);
                format!("cannot watch substituter '{program}': {error}")
            }
            (Work::Build(drv, _), ChildKind::Hook) => {
                let drv_path = self.graph.full_path(self.graph.drv_path(*drv));
                format!("cannot watch the build hook for '{drv_path}': {error}")
            }
            (Work::Build(..), _) => {
                let what = kind.setting().unwrap_or("builder");
                format!("cannot watch the {what}'s output: {error}")
            }
        }
    }

    /// Has a goal carry its child, which runs.
    fn begin(
        &mut self,
        setup: ChildSetup,
        process: Spawned,
        (pending, cgroup, env, file): Belongings,
        at: Duration,
    ) {
        let ChildSetup {
            goal,
            kind,
            log,
            channel,
            dir,
        } = setup;
        let Spawned { pid, pidfd } = process;
        let child = Child {
            kind,
            pid,
            pidfd,
            log: Some(log),
            deadlines: Deadlines::new(at, kind.has_time_limits()),
            is_listed: false,
            over: false,
        };
        let scheduler = &mut *self.scheduler;
        match kind.setting() {
            Some(_) => scheduler.hook_started(),
            None => {
                scheduler.start(goal);
                scheduler.note_started(goal);
            }
        }
        self.host
            .watch_time(scheduler.limits_of(goal), goal, &child.deadlines);
        if scheduler.is_cancelled(goal) {
            let killed = (&child, cgroup.as_ref());
            self.host.cancel(goal, killed, scheduler.now);
        }
        let mut entity = self.commands.entity(goal);
        entity.insert((child, BuildLog::default()));
        if kind.setting().is_some() {
            entity.insert(HookLines::default());
        }
        if let Some(channel) = channel {
            entity.insert(channel);
        }
        if let Some(dir) = dir {
            entity.insert(BuildDir(dir));
        }
        if let Some(pending) = pending {
            entity.insert(pending);
        }
        if let Some(file) = file {
            entity.insert(file);
        }
        if let Some(cgroup) = cgroup {
            entity.insert(ChildCgroup(Some(cgroup)));
        }
        if let Some(env) = env {
            entity.insert((BuildDir(env.build_dir()), ChildEnv(Some(env))));
        }
    }

    /// What had no process, or one that can't be watched, fails; but a fetch as if it had run and
    /// failed, for the next substituter may do.
    fn give_up(&mut self, setup: ChildSetup, work: &Work, failure: Failure) {
        let goal = setup.goal;
        if setup.kind.setting().is_some() {
            let mode = self.scheduler.mode_of(goal);
            let reaped =
                ReapedChild::without_process(goal, setup.kind, mode, (failure, self.scheduler.now));
            return self.host.deferred.push(reaped);
        }
        let puts_off = failure.kind == FailureKind::Means && self.scheduler.may_try_again(goal);
        if let (Work::Fetch(path, _), false) = (work, puts_off) {
            let path = self.graph.full_path(*path);
            let why = NotTaken {
                message: format!("fetching path '{path}' failed: {}", failure.message),
                is_local: true,
            };
            self.host.scanned.push(Scanned {
                goal,
                result: Err(Unfit::Fetch {
                    status: 1 << 8,
                    why,
                }),
                warnings: Vec::new(),
                kept: None,
            });
            return self.scheduler.scan();
        }
        self.scheduler.fail(goal, failure);
        if let Some(dir) = &setup.dir {
            self.host.retire(dir);
        }
    }

    fn report(&mut self, goal: Entity, work: &Work, log_file: &str, at: Duration) {
        let (graph, reporter) = (&self.graph, &mut self.services.reporter);
        let id = goal.to_bits();
        let (drv, outputs) = match work {
            Work::Fetch(path, sub) => {
                return reporter.report(&Event::FetchStarted {
                    build: BuildRef {
                        id,
                        drv_path: &graph.full_path(*path),
                        name: graph.paths.name(*path),
                    },
                    program: self.substituters.name(*sub),
                    transfer: None,
                    at,
                });
            }
            Work::Build(drv, outputs) => (*drv, outputs),
        };
        let outputs = outputs.iter().map(|&path| graph.full_path(path));
        let mut outputs: Vec<String> = outputs.collect();
        let by_hook = self.scheduler.stage(goal) == Stage::Away;
        if by_hook {
            outputs.sort_unstable();
            outputs.dedup();
            reporter.say(Level::Talkative, || {
                format!("using hook to build path(s) '{}'", outputs.join("', '"))
            });
        }
        let dependents = graph.dependents(drv).filter(|&after| {
            let goal = self.scheduler.index.goal(after);
            goal.is_some_and(|goal| self.scheduler.stage(goal).is_expected())
        });
        let needed_by: Vec<&str> = (dependents.take(NEEDED_BY_NAMED))
            .map(|after| graph.drv_name(after))
            .collect();
        let expected = self.estimates.as_ref().and_then(|known| known.known(drv));
        let chain = self.forecast.as_ref().and_then(|known| known.chain(drv));
        reporter.report(&Event::Started {
            build: BuildRef {
                id,
                drv_path: &graph.full_path(graph.drv_path(drv)),
                name: graph.drv_name(drv),
            },
            system: graph.system(drv).unwrap_or_default(),
            log_file,
            outputs: &outputs,
            mode: self.scheduler.mode_of(goal),
            outlook: Outlook {
                expected: expected.map(Duration::from_micros),
                chain,
                needed_by: &needed_by,
            },
            by_hook,
            at,
        });
    }
}
