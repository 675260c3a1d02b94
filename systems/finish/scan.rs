//! Has what children made looked at, by the pool or at once: the outputs of a builder, those that a
//! hook made and did not register, and a fetched path. What failed is cleared away or kept.

use bevy_ecs::prelude::Entity;
use windrow_components::building::{BuildDir, BuildLog, MissingOutputs};
use windrow_components::goal::{BuildMode, Outcome};
use windrow_components::ids::PathId;
use windrow_sandbox::BuildEnv;
use windrow_sys::harmless::open_to_all;
use windrow_sys::interrupt::Stop;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::finish::cause::{why_build_failed, why_hook_failed};
use crate::finish::reap::Reaping;
use crate::outputs::compare::Check;
use crate::outputs::receive::{ReceiveJob, receive};
use crate::outputs::{Flawed, ScanJob, scan_outputs};
use crate::process::side_channel::SideChannel;
use crate::report::{BuildRef, Event, Level};
use crate::world::children::{Condemned, Diff, ReapedChild, Scanned, Unfit};
use crate::world::{BuiltOutput, Deleter, Host, OutputLocks, ReadyFetch};

fn unfit(flawed: Flawed) -> Unfit {
    Unfit::Build(flawed.failure, flawed.mismatched)
}

impl Reaping<'_, '_> {
    /// Sees to the outputs of a builder. `here` says whether this thread may look at them itself.
    pub(super) fn scan_build(&mut self, reaped: ReapedChild, here: bool) -> Result<()> {
        let ended = self.children.get_mut(reaped.goal);
        let env = ended.ok().and_then(|ended| ended.env?.0.take());
        if reaped.is_good() {
            return self.scan(reaped, env, here);
        }
        self.fail_build(reaped, env);
        Ok(())
    }

    /// Sends the outputs of a good build to be scanned, or does so at once if that is no more work
    /// than waking another thread.
    fn scan(&mut self, reaped: ReapedChild, env: Option<BuildEnv>, here: bool) -> Result<()> {
        let goal = reaped.goal;
        let Ok(ended) = self.children.get(goal) else {
            return Ok(());
        };
        let (Some(known), Some(dir)) = (ended.derivation, ended.dir) else {
            return Ok(());
        };
        let (host, store) = (&mut *self.host, &mut self.services.store);
        let drv = known.drv;
        let closure = store.input_closure(&mut self.graph, drv)?;
        let missing = MissingOutputs::of(ended.missing, &self.graph, drv);
        let mut job = ScanJob::new(
            &self.graph,
            &host.config,
            drv,
            &missing,
            &closure,
            ended.rewrites.filter(|_| !is_sandbox(env.as_ref())),
            env.as_ref(),
        );
        if reaped.mode == BuildMode::Check {
            let hashes = missing
                .iter()
                .map(|&path| store.nar_hash(&self.graph, path));
            job = job.comparing(Check {
                registered: hashes.collect::<Result<Vec<_>>>()?,
                keep: host.config.keep_failed || host.config.hooks.keep_differing,
            });
        }
        self.scheduler.scan();
        for &output in &missing {
            self.services.reporter.say(Level::Talkative, || {
                let output = self.graph.full_path(output);
                format!("scanning for references inside '{output}'")
            });
        }
        let keep_failed = host.config.keep_failed.then(|| dir.0.clone());
        let limits = self.scheduler.limits_of(goal);
        let plain = host.config.optimiser.is_none() && env.is_none() && keep_failed.is_none();
        if here && plain && job.is_small() {
            host.scanned.push(Scanned {
                goal,
                result: scan_outputs(&job).map_err(|flawed| unfit(*flawed)),
                warnings: Vec::new(),
                kept: None,
            });
            return Ok(());
        }
        let stop = host.begin_scan(limits, &reaped);
        scan_in_pool(host, (goal, stop), job, env, keep_failed);
        Ok(())
    }

    /// Says why a build failed, and clears away or keeps what there is of it.
    fn fail_build(&mut self, reaped: ReapedChild, env: Option<BuildEnv>) {
        let goal = reaped.goal;
        let Ok(ended) = self.children.get(goal) else {
            return;
        };
        let (Some(known), Some(dir), Some(log)) = (ended.derivation, ended.dir, ended.log) else {
            return;
        };
        let host = &*self.host;
        let drv = known.drv;
        let ran = reaped.exec_error.is_none();
        let config = &host.config;
        let failure = why_build_failed(&self.graph, config, reaped, (drv, log), env.as_ref());
        let rewrites = ended.rewrites.filter(|_| !is_sandbox(env.as_ref()));
        // What never ran has left nothing to look at.
        let wanted = !self.scheduler.is_cancelled(goal);
        let keep = host.config.keep_failed && wanted && (ran || env.is_some());
        if env.is_some() || keep {
            let missing = MissingOutputs::of(ended.missing, &self.graph, drv);
            let (graph, config) = (&self.graph, &host.config);
            let job = ScanJob::new(graph, config, drv, &missing, &[], rewrites, env.as_ref());
            self.scheduler.scan();
            let (deleter, keep) = (host.pool.1.clone(), keep.then(|| dir.0.clone()));
            host.pool.0.submit(move || {
                let alone = undisturbed(env.as_ref());
                let keep = keep.filter(|_| alone.is_ok());
                let result = alone.and(Err(Unfit::Build(failure, None)));
                job.discard_scratch();
                let mut warnings = Vec::new();
                let kept = leave(env, &job, keep, &deleter, &mut warnings);
                Some(Scanned {
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
        host.retire(&dir.0);
        self.commands.entity(goal).remove::<(BuildDir, BuildLog)>();
    }

    /// Takes over what a hook registered, and has looked at what it only made.
    pub(super) fn scan_hook(&mut self, reaped: ReapedChild) -> Result<()> {
        let (goal, status) = (reaped.goal, reaped.status);
        let Ok(ended) = self.children.get(goal) else {
            return Ok(());
        };
        let (Some(known), Some(log)) = (ended.derivation, ended.log) else {
            return Ok(());
        };
        let drv = known.drv;
        let missing = MissingOutputs::of(ended.missing, &self.graph, drv);
        let store = &mut self.services.store;
        let valid = store.valid(&self.graph, &missing)?;
        let (registered, missing) = split(&missing, &valid);
        store.end_by_hook(&self.graph, &registered, &missing);
        if !reaped.is_good() {
            let lines = self.host.config.log_lines;
            let failure = why_hook_failed(&self.graph, &reaped, drv, log.last_lines(lines));
            self.scheduler.fail(goal, failure);
            self.commands.entity(goal).remove::<BuildLog>();
            return Ok(());
        }
        if missing.is_empty() {
            let nothing: [BuiltOutput; 0] = [];
            self.scheduler.complete(goal, Some(drv), nothing);
            self.commands.entity(goal).remove::<BuildLog>();
            return Ok(());
        }
        let closure = store.input_closure(&mut self.graph, drv)?;
        let config = &self.host.config;
        let job = ScanJob::new(&self.graph, config, drv, &missing, &closure, None, None);
        self.scheduler.scan();
        let optimiser = config.optimiser.clone();
        let limits = self.scheduler.limits_of(goal);
        let stop = self.host.begin_scan(limits, &reaped);
        self.host.pool.0.submit(move || {
            let _entered = stop.enter();
            let places = optimiser.as_ref().map(|_| job.places());
            let result = scan_outputs(&job).map_err(|mut flawed| {
                // The hook said that all is well, so whatever is wrong is its fault.
                if flawed.failure.kind != FailureKind::HashMismatch {
                    flawed.failure.kind = FailureKind::Hook { status };
                }
                unfit(*flawed)
            });
            let warnings = match (optimiser, places, &result) {
                (Some(optimiser), Some(places), Ok(_)) => optimiser.optimise_new(&places),
                _ => Vec::new(),
            };
            Some(Scanned {
                goal,
                result,
                warnings,
                kept: None,
            })
        });
        Ok(())
    }

    /// Has a fetched path looked at.
    ///
    /// Nix 1.8: `SubstitutionGoal::finished`.
    pub(super) fn scan_fetch(&mut self, reaped: ReapedChild) {
        let (goal, status) = (reaped.goal, reaped.status);
        let Ok(ended) = self.children.get_mut(goal) else {
            return;
        };
        let (Some((known, substitution)), Some(mut channel)) = (ended.path, ended.channel) else {
            return;
        };
        let SideChannel::Fetch(pipe) = &mut *channel else {
            return;
        };
        let said = std::mem::take(&mut pipe.said);
        let path = known.path;
        let info = self.substituters.info(substitution.sub, path);
        let (known, info) = (*known, info.cloned().unwrap_or_default());
        let fetched = self.fetched_path(known, info);
        if self.scheduler.is_cancelled(goal) || reaped.condemned.is_some() {
            self.host.pool.delete(fetched.real_path);
            return self.give_up_fetch(goal, path, reaped.condemned);
        }
        self.scheduler.scan();
        let stop = self
            .host
            .begin_scan(self.scheduler.limits_of(goal), &reaped);
        let place = fetched.place().clone();
        let job = ReceiveJob {
            fetched,
            status,
            said,
        };
        self.take_in_by_pool((goal, status), (place, stop), move || receive(&job));
    }

    /// Ends the goal of a fetch that was killed. Nix 1.8 cancels the whole goal, whatever
    /// substituters are left.
    ///
    /// Nix 1.8: `SubstitutionGoal::cancel`.
    pub(super) fn give_up_fetch(
        &mut self,
        goal: Entity,
        path: PathId,
        condemned: Option<Condemned>,
    ) {
        let mut entity = self.commands.entity(goal);
        entity.remove::<BuildLog>();
        let Ok(ended) = self.children.get_mut(goal) else {
            return;
        };
        let (Some(Condemned { reason, .. }), false) =
            (condemned, self.scheduler.is_cancelled(goal))
        else {
            return self.scheduler.fail(goal, Failure::cancelled());
        };
        let store_path = self.graph.full_path(path);
        let message = format!("fetching path '{store_path}' {reason}");
        let log_lines = self.host.config.log_lines;
        self.services.reporter.report(&Event::FetchFailed {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &store_path,
                name: self.graph.paths.name(path),
            },
            status: None,
            message: &message,
            log_tail: &ended
                .log
                .map(|log| log.last_lines(log_lines))
                .unwrap_or_default(),
            at: self.scheduler.now,
        });
        if let Some(mut locks) = ended.locks {
            let locks = std::mem::take(&mut *locks);
            self.services.store.unlock(locks, false);
        }
        entity.remove::<OutputLocks>();
        let fetch = ReadyFetch { goal, path };
        self.scheduler
            .end(&self.graph, fetch.into(), Outcome::Failed);
    }
}

/// Has the pool scan the outputs of a build, and then leave its environment. With `keep_failed`,
/// that build directory is kept if the outputs are not good.
fn scan_in_pool(
    host: &Host,
    (goal, stop): (Entity, Stop),
    job: ScanJob,
    env: Option<BuildEnv>,
    keep_failed: Option<std::path::PathBuf>,
) {
    let optimiser = host.config.optimiser.clone();
    let deleter = host.pool.1.clone();
    let has_diff_hook = host.config.hooks.diff.is_some();
    host.pool.0.submit(move || {
        let places = optimiser.as_ref().map(|_| job.places());
        let alone = undisturbed(env.as_ref());
        // Nobody may be let in to what somebody still works on.
        let keep_failed = keep_failed.filter(|_| alone.is_ok());
        let entered = stop.enter();
        let result = match alone.map(|()| scan_outputs(&job)) {
            Ok(Err(flawed)) if has_diff_hook && !flawed.differing.is_empty() => {
                let differs = Box::new(Diff {
                    failure: flawed.failure,
                    differing: flawed.differing.into(),
                    job,
                    env,
                    keep: keep_failed,
                });
                return Some(Scanned {
                    goal,
                    result: Err(Unfit::Differs(differs)),
                    warnings: Vec::new(),
                    kept: None,
                });
            }
            Ok(scanned) => scanned.map_err(|flawed| unfit(*flawed)),
            Err(unfit) => Err(unfit),
        };
        let mut warnings = match (optimiser, places, &result) {
            (Some(optimiser), Some(places), Ok(built)) if !built.is_empty() => {
                optimiser.optimise_new(&places)
            }
            _ => Vec::new(),
        };
        drop(entered);
        let keep = keep_failed.filter(|_| result.is_err());
        let kept = leave(env, &job, keep, &deleter, &mut warnings);
        Some(Scanned {
            goal,
            result,
            warnings,
            kept,
        })
    });
}

/// Whether a build ran in a sandbox, where everything has its own name.
fn is_sandbox(env: Option<&BuildEnv>) -> bool {
    env.is_some_and(BuildEnv::is_sandbox)
}

/// Makes sure that nothing the builder left behind can touch its outputs any more (Nix 1.8:
/// `UserLock::kill`).
fn undisturbed(env: Option<&BuildEnv>) -> Result<(), Unfit> {
    let Some(env) = env else { return Ok(()) };
    env.kill_processes().map_err(|error| {
        let uid = env.builder_uid();
        let text = format!("cannot kill the processes of the build user {uid}: {error}");
        Unfit::Build(Failure::new(FailureKind::Other, text), None)
    })
}

/// Leaves the environment of a build, if it had one. With `keep`, the build directory of one that
/// had none, that and what there is of the outputs stay for everybody to look at; returns the
/// directory then.
pub(super) fn leave(
    env: Option<BuildEnv>,
    job: &ScanJob,
    keep: Option<std::path::PathBuf>,
    deleter: &Deleter,
    warnings: &mut Vec<String>,
) -> Option<std::path::PathBuf> {
    let Some(dir) = keep else {
        if let Some(left) = env.map(|env| env.leave_without(&job.sandboxed_names())) {
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

/// Those of the paths that are valid, and the others.
fn split(paths: &[PathId], valid: &[bool]) -> (Vec<PathId>, Vec<PathId>) {
    let of = |wanted: bool| {
        let both = paths.iter().zip(valid);
        both.filter_map(move |(&path, &valid)| (valid == wanted).then_some(path))
            .collect()
    };
    (of(true), of(false))
}
