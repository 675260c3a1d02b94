//! Offers builds to the hook, and leaves hooks to the builds that they have accepted.

use std::os::fd::{AsFd as _, OwnedFd};

use bevy_ecs::prelude::{Commands, Entity, Query};
use windrow_components::building::{
    BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::BuildMode;
use windrow_components::ids::PathId;
use windrow_sandbox::process::kill::kill_group;
use windrow_sandbox::process::launch::Spawned;

use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::helpers::hook::instance::{Instance, Talk, dismiss};
use crate::helpers::hook::talk::{HookBuild, Talking};
use crate::process::log_writer::LogFile;
use crate::report::{BuildRef, Event, Level};
use crate::world::{ReadyGoal, Scheduler};

/// Whether a build is to be offered, or was accepted.
pub fn is_due(scheduler: &Scheduler) -> bool {
    scheduler.desk.is_pending()
}

/// Offers the hook what is to be offered, and starts it if need be.
pub fn offer_builds(mut params: Talking<'_>) {
    let Some(question) = params.scheduler.desk.take_question() else {
        return;
    };
    params.hook.offered = Some(question);
    params.hook.since = params.scheduler.now;
    if params.hook.instance.is_some() {
        params.tell_offer();
    } else if !params.hook.starting {
        params.start();
    }
}

/// Leaves hooks to the builds that they have accepted: tells them the inputs and the outputs, and
/// watches them.
///
/// Nix 1.8: `DerivationGoal::tryBuildHook`.
pub fn hand_over(mut params: Talking<'_>, mut commands: Commands, missing: Query<&MissingOutputs>) {
    for ready in params.scheduler.desk.take_accepted() {
        params.hook.accepted = false;
        let Some(instance) = params.hook.instance.take() else {
            let failure = Failure::new(FailureKind::Other, "the build hook is gone");
            params.scheduler.fail(ready.goal, failure);
            continue;
        };
        let missing = missing.get(ready.goal).ok();
        if let Err(error) = params.begin(ready, instance, missing, &mut commands) {
            params.scheduler.abort(error);
        }
    }
}

impl Talking<'_> {
    fn begin(
        &mut self,
        ready: ReadyGoal,
        instance: Instance,
        missing: Option<&MissingOutputs>,
        commands: &mut Commands,
    ) -> Result<(), Error> {
        let ReadyGoal { goal, drv } = ready;
        let drv_file = self.graph.drv_path(drv);
        // The derivation's own closure too, so that the store far away stays whole (Nix 1.8 has a
        // note that it should).
        let graph = &mut self.graph;
        let mut inputs = self.services.store.input_closure(graph, drv)?;
        inputs.extend(self.services.store.closure(graph, &[drv_file])?);
        let full = |paths: Vec<_>| {
            let paths = paths.into_iter().map(|path| self.graph.full_path(path));
            let mut paths: Vec<String> = paths.collect();
            paths.sort_unstable();
            paths.dedup();
            paths
        };
        let inputs = full(inputs);
        let outputs = full(MissingOutputs::of(missing, &self.graph, drv));

        let (child, mut talk, builder_out) = instance.into_parts();
        if let Some(pipe) = &talk.from_hook {
            self.host.reactor.forget(pipe.as_fd());
        }
        self.host.reactor.forget(child.pidfd.as_fd());
        talk.tell(inputs);
        talk.tell(outputs.iter().cloned());
        talk.send();
        let log_file = match self.watch(goal, drv_file, &child, &talk, &builder_out) {
            Ok(log_file) => log_file,
            Err(error) => {
                dismiss(&child);
                let drv_path = self.graph.full_path(drv_file);
                let text = format!("cannot watch the build hook for '{drv_path}': {error}");
                let failure = Failure::new(FailureKind::Other, text);
                self.scheduler.fail(goal, failure);
                return Ok(());
            }
        };
        self.scheduler.start(goal);
        if self.scheduler.is_cancelled(goal) {
            kill_group(child.pid);
        }
        self.report_start(ready, &outputs, log_file.as_ref());
        let mut entity = commands.entity(goal);
        entity.insert((
            BuilderProcess::new(child.pid, child.pidfd),
            ChildPipes {
                log: Some(builder_out),
            },
            Deadlines::new(self.scheduler.now, false),
            BuildLog::default(),
            HookBuild(talk),
        ));
        if let Some(log) = log_file {
            entity.insert(log);
        }
        Ok(())
    }

    /// Watches a hook that builds; the build's log file, if logs are kept.
    fn watch(
        &mut self,
        goal: Entity,
        drv_file: PathId,
        child: &Spawned,
        talk: &Talk,
        builder_out: &OwnedFd,
    ) -> Result<Option<LogFile>, String> {
        let host = &mut *self.host;
        let mut watched = host.reactor.watch(goal, builder_out, &child.pidfd);
        if let Some(pipe) = &talk.from_hook {
            watched = watched.and_then(|()| host.reactor.watch_said(goal, pipe));
        }
        if let Some(pipe) = &talk.to_hook {
            watched = watched.and_then(|()| host.reactor.watch_told(goal, pipe));
        }
        watched.map_err(|error| error.to_string())?;
        let Some(log_dir) = &host.config.log_dir else {
            return Ok(None);
        };
        let base_name = self.graph.paths.base_name(drv_file);
        let compress = host.config.compress_log;
        let log = host.logs.open(log_dir, base_name, compress);
        log.map(Some).map_err(|error| error.to_string())
    }

    fn report_start(&mut self, ready: ReadyGoal, outputs: &[String], log: Option<&LogFile>) {
        let (graph, reporter) = (&self.graph, &mut self.services.reporter);
        reporter.say(Level::Talkative, || {
            format!("using hook to build path(s) '{}'", outputs.join("', '"))
        });
        let log_file = log.map(|log| log.path().display().to_string());
        reporter.report(&Event::Started {
            build: BuildRef {
                id: ready.goal.to_bits(),
                drv_path: &graph.full_path(graph.drv_path(ready.drv)),
                name: graph.drv_name(ready.drv),
            },
            system: graph.system(ready.drv).unwrap_or_default(),
            log_file: &log_file.unwrap_or_default(),
            outputs,
            mode: BuildMode::Normal,
            at: self.scheduler.now,
        });
    }
}
