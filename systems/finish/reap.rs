//! Buries real children: kills what they left behind, closes their logs, sends their outputs to be
//! hashed.

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, ResMut};
use bevy_ecs::query::QueryData;
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildDir, BuildLog, BuilderProcess, ChildPipes, Deadlines, HashRewrites, MissingOutputs,
};
use windrow_components::goal::{BuildMode, DerivationGoal};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::DrvId;
use windrow_sandbox::BuildEnv;
use windrow_sandbox::process::kill::{Reaped, kill_and_measure};
use windrow_sys::harmless::open_to_all;

use crate::error::Result;
use crate::failure::{Failure, FailureKind, describe_status};
use crate::finish::mismatched;
use crate::outputs::compare::Check;
use crate::outputs::{MismatchedOutput, ScanJob, scan_outputs};
use crate::process::log_writer::LogFile;
use crate::report::{BuildRef, Event, Level, Usage};
use crate::spawn::PendingStart;
use crate::world::{
    BuilderConfig, ChildEnv, Collected, Condemned, Deleter, Host, ReapedBuild, Scheduler, Services,
};

/// What a goal carries whose builder is over.
#[derive(QueryData)]
#[query_data(mutable)]
pub struct DeadBuilder {
    goal: &'static DerivationGoal,
    dir: &'static BuildDir,
    log: &'static BuildLog,
    process: Option<&'static BuilderProcess>,
    deadlines: Option<&'static Deadlines>,
    file: Option<&'static mut LogFile>,
    missing: Option<&'static MissingOutputs>,
    rewrites: Option<&'static HashRewrites>,
    condemned: Option<&'static Condemned>,
    env: Option<&'static mut ChildEnv>,
    pending: Option<&'static mut PendingStart>,
}

/// What reaping builders touches.
#[derive(SystemParam)]
pub struct Reaping<'w, 's> {
    commands: Commands<'w, 's>,
    builders: Query<'w, 's, DeadBuilder>,
    goals: Query<'w, 's, &'static DerivationGoal>,
    graph: ResMut<'w, BuildGraph>,
    host: NonSendMut<'w, Host>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Reaps every builder that is over (Nix 1.8: the first half of `DerivationGoal::buildDone`). What
/// became of the outputs of those that were deferred in the last tick is looked at first.
///
/// Nix 1.8: `Worker::childTerminated`.
pub fn reap(mut params: Reaping<'_, '_>) {
    let mut deferred = std::mem::take(&mut params.host.deferred);
    let last = deferred.pop();
    for reaped in deferred {
        params.look_after(reaped, false);
    }
    if let Some(last) = last {
        params.look_after(last, true);
    }
    let builders = &params.builders;
    let over = params
        .host
        .over
        .extract_if(.., |goal| builders.contains(*goal));
    for goal in over.collect::<Vec<_>>() {
        let Some((reaped, has_env)) = params.reap(goal) else {
            continue;
        };
        let may_wait = reaped.is_good() && reaped.mode == BuildMode::Normal && !has_env;
        if may_wait && params.scheduler.has_successors() {
            params.host.deferred.push(reaped);
        } else {
            params.look_after(reaped, true);
        }
    }
}

impl Reaping<'_, '_> {
    /// Takes the exit status of a child, and kills what it left behind. Tells whether it has
    /// an environment of its own, too.
    fn reap(&mut self, goal: Entity) -> Option<(ReapedBuild, bool)> {
        let mut child = self.builders.get_mut(goal).ok()?;
        let drv = child.goal.drv;
        let Reaped {
            status,
            cpu,
            peak_memory,
        } = kill_and_measure(child.process?.pid);
        self.scheduler.exited(goal);
        // Its number may be another's from now on.
        self.commands.entity(goal).remove::<BuilderProcess>();
        let reaped = ReapedBuild {
            goal,
            mode: self.scheduler.mode_of(goal),
            status,
            exec_error: child
                .pending
                .as_mut()
                .and_then(|pending| pending.exec_error()),
            condemned: child.condemned.cloned(),
        };
        let deadlines = child.deadlines?;
        let at = deadlines.exited.unwrap_or(self.scheduler.now);
        self.services.reporter.report(&Event::Exited {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &self.graph.full_path(self.graph.drv_path(drv)),
                name: self.graph.drv_name(drv),
            },
            system: self.graph.system(drv).unwrap_or_default(),
            usage: Usage {
                wall: at.saturating_sub(deadlines.started),
                cpu,
                peak_memory,
            },
            good: reaped.is_good(),
            at,
        });
        Some((reaped, child.env.is_some()))
    }

    /// Sees to the outputs of a build, or says why it failed. `here` says whether this thread may
    /// look at them itself.
    fn look_after(&mut self, reaped: ReapedBuild, here: bool) {
        let goal = reaped.goal;
        let Ok(mut child) = self.builders.get_mut(goal) else {
            return;
        };
        if let Some(file) = &mut child.file {
            match reaped.exec_error {
                None => self.host.logs.close(file),
                Some(_) => self.host.logs.discard(file),
            }
        }
        let env = child.env.as_mut().and_then(|env| env.0.take());
        let done = match reaped.is_good() {
            true => self.scan(reaped, env, here),
            false => {
                self.fail(reaped, env);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.scheduler.abort(error);
        }
        // What only a running child needs.
        let mut entity = self.commands.entity(goal);
        entity.remove::<(
            BuilderProcess,
            PendingStart,
            ChildPipes,
            Deadlines,
            LogFile,
            Condemned,
        )>();
    }

    /// Sends the outputs of a good build to be scanned, or does so at once if that is no more work
    /// than waking another thread.
    fn scan(&mut self, reaped: ReapedBuild, env: Option<BuildEnv>, here: bool) -> Result<()> {
        let goal = reaped.goal;
        let Ok(child) = self.builders.get(goal) else {
            return Ok(());
        };
        let (host, store) = (&mut *self.host, &mut self.services.store);
        let drv = child.goal.drv;
        let closure = store.input_closure(&mut self.graph, drv)?;
        let missing = MissingOutputs::of(child.missing, &self.graph, drv);
        let mut job = ScanJob::new(
            &self.graph,
            &host.config,
            drv,
            &missing,
            &closure,
            child.rewrites.filter(|_| !is_sandbox(env.as_ref())),
            env.as_ref(),
        );
        if reaped.mode == BuildMode::Check {
            let hashes = missing
                .iter()
                .map(|&path| store.nar_hash(&self.graph, path));
            job = job.comparing(Check {
                registered: hashes.collect::<Result<Vec<_>>>()?,
                keep: host.config.keep_failed,
            });
        }
        self.scheduler.scan();
        for &output in &missing {
            self.services.reporter.say(Level::Talkative, || {
                let output = self.graph.full_path(output);
                format!("scanning for references inside '{output}'")
            });
        }
        let keep_failed = host.config.keep_failed.then(|| child.dir.0.clone());
        let optimiser = host.config.optimiser.clone();
        let plain = optimiser.is_none() && env.is_none() && keep_failed.is_none();
        if here && plain && job.is_small() {
            host.scanned.push(Collected {
                goal,
                result: scan_outputs(&job),
                warnings: Vec::new(),
                kept: None,
            });
            return Ok(());
        }
        let deleter = host.pool.1.clone();
        host.pool.0.submit(move || {
            let places = optimiser.as_ref().map(|_| job.places());
            let alone = undisturbed(env.as_ref());
            // Nobody may be let in to what somebody still works on.
            let keep_failed = keep_failed.filter(|_| alone.is_ok());
            let result = alone.and_then(|()| scan_outputs(&job));
            let mut warnings = match (optimiser, places, &result) {
                (Some(optimiser), Some(places), Ok(built)) if !built.is_empty() => {
                    optimiser.optimise_new(&places)
                }
                _ => Vec::new(),
            };
            let keep = keep_failed.filter(|_| result.is_err());
            let kept = leave(env, &job, keep, &deleter, &mut warnings);
            Some(Collected {
                goal,
                result,
                warnings,
                kept,
            })
        });
        Ok(())
    }

    /// Says why a build failed, and clears away or keeps what there is of it.
    fn fail(&mut self, reaped: ReapedBuild, env: Option<BuildEnv>) {
        let goal = reaped.goal;
        let Ok(child) = self.builders.get(goal) else {
            return;
        };
        let host = &*self.host;
        let drv = child.goal.drv;
        let ran = reaped.exec_error.is_none();
        let failure = why_it_failed(
            &self.graph,
            &host.config,
            reaped,
            (drv, child.dir, child.log),
        );
        let rewrites = child.rewrites.filter(|_| !is_sandbox(env.as_ref()));
        // What never ran has left nothing to look at.
        let wanted = !self.scheduler.is_cancelled(goal);
        let keep = host.config.keep_failed && wanted && (ran || env.is_some());
        if env.is_some() || keep {
            let missing = MissingOutputs::of(child.missing, &self.graph, drv);
            let (graph, config) = (&self.graph, &host.config);
            let job = ScanJob::new(graph, config, drv, &missing, &[], rewrites, env.as_ref());
            self.scheduler.scan();
            let (deleter, keep) = (host.pool.1.clone(), keep.then(|| child.dir.0.clone()));
            host.pool.0.submit(move || {
                let alone = undisturbed(env.as_ref());
                let keep = keep.filter(|_| alone.is_ok());
                let result = alone.and(Err((failure, None)));
                job.discard_scratch();
                let mut warnings = Vec::new();
                let kept = leave(env, &job, keep, &deleter, &mut warnings);
                Some(Collected {
                    goal,
                    result,
                    warnings,
                    kept,
                })
            });
            return;
        }
        self.scheduler.fail(goal, failure);
        let scratch = rewrites.into_iter().flat_map(|rewrites| &rewrites.scratch);
        for scratch in scratch {
            let path = host.config.layout.real_path(&scratch.scratch_path);
            host.pool.delete(path);
        }
        // Most builders leave it as it was, ready for the next.
        host.retire(&child.dir.0);
        self.commands.entity(goal).remove::<(BuildDir, BuildLog)>();
    }
}

/// Whether a build ran in a sandbox, where everything has its own name.
fn is_sandbox(env: Option<&BuildEnv>) -> bool {
    env.is_some_and(BuildEnv::is_sandbox)
}

/// Why a build failed.
fn why_it_failed(
    graph: &BuildGraph,
    config: &BuilderConfig,
    reaped: ReapedBuild,
    (drv, dir, log): (DrvId, &BuildDir, &BuildLog),
) -> Failure {
    if let Some(exec_error) = reaped.exec_error {
        return exec_error;
    }
    let path = graph.full_path(graph.drv_path(drv));
    let fixed = graph.traits(drv).fixed;
    let disk_full = is_disk_nearly_full(config, &dir.0);
    let how = describe_status(reaped.status);
    let (kind, what) = match reaped.condemned {
        Some(Condemned { reason, kind }) => (kind, reason),
        None if fixed || disk_full => (FailureKind::Other, how),
        None => (FailureKind::Permanent, how),
    };
    let note = if disk_full {
        "; the disk is nearly full, which may be the reason: free some space and try again"
    } else {
        ""
    };
    Failure {
        kind,
        message: format!("builder for '{path}' {what}{note}"),
        log_tail: log.last_lines(config.log_lines),
    }
}

/// Takes back what has been scanned: outputs to register, or a reason why the build failed after
/// all.
pub fn take_collected(mut params: Reaping<'_, '_>) {
    let mut scanned = std::mem::take(&mut params.host.scanned);
    for collected in scanned.drain(..) {
        params.take(collected);
    }
    params.host.scanned = scanned;
}

impl Reaping<'_, '_> {
    fn take(&mut self, collected: Collected) {
        let Collected {
            goal,
            result,
            warnings,
            kept,
        } = collected;
        self.scheduler.scanned();
        for text in &warnings {
            let level = Level::Warn;
            self.services
                .reporter
                .report(&Event::Message { level, text });
        }
        let child = self.builders.get(goal).ok();
        match result {
            Ok(outputs) => {
                self.scheduler.complete(
                    goal,
                    self.goals.get(goal).ok().map(|known| known.drv),
                    outputs,
                );
            }
            Err((mut failure, mismatched)) => {
                if failure.kind == FailureKind::Rejected
                    && let Some(child) = &child
                    && is_disk_nearly_full(&self.host.config, &child.dir.0)
                {
                    // Many programs don't notice that they could not write.
                    failure.kind = FailureKind::Other;
                }
                if let Some(mismatched) = mismatched {
                    let store = &mut *self.services.store;
                    let world = (&mut *self.graph, store);
                    let kept =
                        mismatched::keep(*mismatched, world, &self.host.config, &self.host.pool);
                    failure.message.push_str(&kept);
                }
                self.scheduler.fail(goal, failure);
            }
        }
        if let Some(kept) = kept {
            self.host.dirs.keep(&kept);
            let text = format!("note: keeping build directory '{}'", kept.display());
            self.services.reporter.report(&Event::Message {
                level: Level::Error,
                text: &text,
            });
        } else if let Some(child) = child
            && child.env.is_none()
        {
            self.host.retire(&child.dir.0);
        }
        let mut entity = self.commands.entity(goal);
        entity.remove::<(BuildDir, BuildLog, ChildEnv)>();
    }
}

/// Makes sure that nothing the builder left behind can touch its outputs any more (Nix 1.8:
/// `UserLock::kill`).
fn undisturbed(env: Option<&BuildEnv>) -> Result<(), (Failure, Option<Box<MismatchedOutput>>)> {
    let Some(env) = env else { return Ok(()) };
    env.kill_processes().map_err(|error| {
        let uid = env.builder_uid();
        let text = format!("cannot kill the processes of the build user {uid}: {error}");
        (Failure::new(FailureKind::Other, text), None)
    })
}

/// Leaves the environment of a build, if it had one. With `keep`, the build directory of one that
/// had none, that and what there is of the outputs stay for everybody to look at; returns the
/// directory then.
fn leave(
    env: Option<BuildEnv>,
    job: &ScanJob,
    keep: Option<std::path::PathBuf>,
    deleter: &Deleter,
    warnings: &mut Vec<String>,
) -> Option<std::path::PathBuf> {
    let Some(dir) = keep else {
        if let Some(left) = env.map(BuildEnv::leave) {
            deleter.run(|| left.delete());
        }
        return None;
    };
    job.keep_outputs();
    let (kept, opened) = match env {
        Some(env) => {
            let (mut left, opened) = env.leave_open();
            let kept = left.kept.take();
            deleter.run(|| left.delete());
            (kept, opened)
        }
        None => {
            let opened = open_to_all(&[&dir], nix::unistd::geteuid().as_raw());
            (Some(dir), opened)
        }
    };
    if let (Err(error), Some(dir)) = (opened, &kept) {
        warnings.push(format!(
            "the build directory '{}' stays closed to others, for it can't be made harmless: {error}",
            dir.display()
        ));
    }
    kept
}

/// Whether a failed build may have failed for want of space (as Nix 1.8 guesses: less than 8 MiB).
fn is_disk_nearly_full(config: &BuilderConfig, build_dir: &std::path::Path) -> bool {
    const REQUIRED_BYTES: u64 = 8 * 1024 * 1024;
    [config.layout.real_store_dir.as_path(), build_dir]
        .into_iter()
        .any(|path| {
            nix::sys::statvfs::statvfs(path)
                .is_ok_and(|stat| stat.blocks_available() * stat.fragment_size() < REQUIRED_BYTES)
        })
}
