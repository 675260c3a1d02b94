//! What comes of the programs of `post-build-hook` and `diff-hook`: the first decides how a build
//! ends whose outputs are valid, the second is told of outputs that came out different.

use std::ffi::OsStr;
use std::path::PathBuf;

use bevy_ecs::prelude::Entity;
use windrow_components::building::{BuildLog, ChildKind, MissingOutputs};
use windrow_components::goal::{Outcome, Target};

use crate::failure::{Failure, FailureKind, describe_status};
use crate::finish::Finishing;
use crate::finish::reap::Reaping;
use crate::finish::scan::leave;
use crate::process::hook::{Call, Launch};
use crate::report::{Event, Level};
use crate::world::children::{
    ChildSetup, Diff, Made, Maker, PendingDiff, ReapedChild, Scanned, Unfit,
};
use crate::world::{AwaitsHook, Goal, ReadyGoal};

impl Finishing<'_, '_> {
    /// Ends a goal whose outputs are valid.
    pub(super) fn succeed(&mut self, goal: Goal, reported: bool) {
        self.scheduler.count_success(goal.drv().is_some());
        self.scheduler.record_made(goal.entity);
        if reported {
            self.report_success(goal);
        }
        self.settle(goal, Outcome::Success);
    }

    /// Lets a build whose outputs are valid wait for the post-build hook, if there is one.
    pub(super) fn await_hook(&mut self, goal: Goal) -> bool {
        if !self.scheduler.has_post_build_hook() {
            return false;
        }
        let Some(drv) = goal.drv() else {
            return false;
        };
        let missing = self.missing.get(goal.entity).ok();
        self.scheduler.await_post_build(AwaitsHook {
            built: ReadyGoal {
                goal: goal.entity,
                drv,
            },
            outputs: MissingOutputs::of(missing, &self.graph, drv),
        });
        true
    }
}

/// Ends the builds for which the post-build hook has ended well.
pub fn pass(mut params: Finishing<'_, '_>) {
    let reported = params.services.reporter.wants_builds();
    for ReadyGoal { goal, drv } in params.scheduler.take_passed() {
        let goal = Goal {
            entity: goal,
            target: Target::Derivation(drv),
        };
        params.succeed(goal, reported);
    }
}

/// Why a hook did not end well, if it did not.
pub(super) fn trouble(reaped: &ReapedChild) -> Option<String> {
    if let Some(failure) = &reaped.exec_error {
        return Some(failure.message.clone());
    }
    match &reaped.condemned {
        Some(condemned) => Some(condemned.reason.clone()),
        None if reaped.status == 0 => None,
        None => Some(describe_status(reaped.status)),
    }
}

impl Reaping<'_, '_> {
    /// The post-build hook has ended.
    pub(super) fn end_post_build(&mut self, reaped: ReapedChild) {
        let goal = reaped.goal;
        self.commands.entity(goal).remove::<BuildLog>();
        let known = self.children.get(goal).ok();
        let Some(drv) = known.and_then(|ended| Some(ended.derivation?.drv)) else {
            return;
        };
        let Some(reason) = trouble(&reaped) else {
            return (self.scheduler).end_post_build(Some(ReadyGoal { goal, drv }));
        };
        self.scheduler.end_post_build(None);
        let program = self.host.config.hooks.post_build.as_deref();
        let program = program.unwrap_or("".as_ref()).display();
        let drv_path = self.graph.full_path(self.graph.drv_path(drv));
        let message = match &reaped.exec_error {
            Some(_) => reason,
            None => format!(
                "the post-build-hook '{program}' for '{drv_path}' {reason}; the outputs are valid all the same"
            ),
        };
        let condemned = reaped.condemned.as_ref();
        let kind = condemned.map_or(FailureKind::Other, |condemned| condemned.kind);
        self.scheduler.fail(goal, Failure::new(kind, message));
    }

    /// Outputs came out different, of which the diff hook is told.
    pub(super) fn begin_diff(&mut self, goal: Entity, mut diff: Box<Diff>) {
        if let Ok(mut ended) = self.children.get_mut(goal)
            && let Some(env) = &mut ended.env
        {
            env.0 = diff.env.take();
        }
        self.scheduler.begin_diff(goal);
        self.tell_next(goal, diff);
    }

    /// Tells the diff hook of the next output, or ends the build if there is none left.
    fn tell_next(&mut self, goal: Entity, mut diff: Box<Diff>) {
        while !self.scheduler.is_cancelled(goal)
            && let Some((path, other)) = diff.differing.pop_front()
        {
            match self.tell_diff(goal, &path, other.as_os_str()) {
                Ok(()) => {
                    let mut entity = self.commands.entity(goal);
                    entity.insert(PendingDiff(Some(diff)));
                    return;
                }
                Err(error) => self.complain(&error.to_string()),
            }
        }
        self.leave_diff(goal, *diff);
    }

    fn tell_diff(&mut self, goal: Entity, path: &str, other: &OsStr) -> std::io::Result<()> {
        let hooks = &self.host.config.hooks;
        let Some(program) = &hooks.diff else {
            return Ok(());
        };
        let Ok(ended) = self.children.get(goal) else {
            return Ok(());
        };
        let user = ended.env.and_then(|env| env.0.as_ref()?.build_user());
        let build_dir = ended.dir.map_or_else(PathBuf::new, |dir| dir.0.clone());
        let drv_path = ended.derivation.map(|known| self.graph.drv_path(known.drv));
        let drv_path = drv_path.map_or_else(String::new, |path| self.graph.full_path(path));
        let real = self.host.config.layout.real_path(path);
        let call = Call {
            program,
            args: &[
                real.as_os_str(),
                other,
                OsStr::new(&drv_path),
                build_dir.as_os_str(),
            ],
            env: &hooks.env,
            variables: &[],
            cwd: c"/",
            user,
        };
        let (launch, log) = call.prepare()?;
        let setup = ChildSetup {
            goal,
            kind: ChildKind::DiffHook,
            log,
            channel: None,
            dir: None,
        };
        let make = |launch: Launch| {
            let failure = |error| Failure::new(FailureKind::Other, format!("{error}"));
            Made::new(launch.run().map_err(failure))
        };
        let maker = (Maker::Thread, None);
        self.host
            .launch(&mut self.scheduler, setup, maker, launch, make);
        Ok(())
    }

    /// The diff hook has ended. However it did, the build has failed already.
    pub(super) fn end_diff(&mut self, reaped: ReapedChild) {
        let goal = reaped.goal;
        if let Some(reason) = trouble(&reaped)
            && !self.scheduler.is_cancelled(goal)
        {
            self.complain(&reason);
        }
        let pending = self.children.get_mut(goal).ok();
        let pending = pending.and_then(|ended| ended.diff?.0.take());
        if let Some(diff) = pending {
            self.tell_next(goal, diff);
        }
    }

    fn complain(&mut self, reason: &str) {
        let program = self.host.config.hooks.diff.as_deref();
        let program = program.unwrap_or("".as_ref()).display();
        self.services.reporter.report(&Event::Message {
            level: Level::Error,
            text: &format!(
                "error: diff hook execution failed: the diff-hook '{program}': {reason}"
            ),
        });
    }

    /// Gives up what was kept for the diff hook to look at, and fails the build.
    fn leave_diff(&mut self, goal: Entity, diff: Diff) {
        let mut entity = self.commands.entity(goal);
        entity.remove::<(PendingDiff, BuildLog)>();
        let ended = self.children.get_mut(goal).ok();
        let env = ended.and_then(|ended| ended.env?.0.take());
        self.scheduler.end_diff(goal);
        self.scheduler.scan();
        let deleter = self.host.pool.1.clone();
        self.host.pool.0.submit(move || {
            let mut warnings = Vec::new();
            // It was a build user's process.
            let killed = env.as_ref().map_or(Ok(()), |env| env.kill_build_user());
            if let Err(error) = &killed {
                let text = format!("cannot kill what the diff-hook left running: {error}");
                warnings.push(text);
            }
            let keep = diff.keep.filter(|_| killed.is_ok());
            let kept = leave(env, &diff.job, keep, &deleter, &mut warnings);
            Some(Scanned {
                goal,
                result: Err(Unfit::Build(diff.failure, None)),
                warnings,
                kept,
            })
        });
    }
}
