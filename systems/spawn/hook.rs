//! Offers builds to the hook, and leaves hooks to the builds that they have accepted.

use bevy_ecs::prelude::{NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::{BuildMode, Stage};

use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::helpers::hook::instance::{Instance, dismiss};
use crate::helpers::hook::talk::{HookBuild, Talking};
use crate::process::log_writer::LogThread;
use crate::report::{BuildRef, Event, Level};
use crate::world::{BuilderConfig, Failures, ReadyGoal, RunState, Running, StoreHandle};

/// Offers the hook what is to be offered, and starts it if need be.
pub fn offer_builds(mut params: Talking<'_, '_>) {
    let Some(question) = params.desk.take_question() else {
        return;
    };
    params.hook.offered = Some(question);
    params.hook.since = params.now.0;
    if params.hook.instance.is_some() {
        params.tell_offer();
    } else if !params.hook.starting {
        params.start();
    }
}

/// What handing a build over touches, beside the talk itself.
#[derive(SystemParam)]
pub struct HandingOver<'w, 's> {
    goals: Query<'w, 's, (&'static mut Stage, Option<&'static MissingOutputs>)>,
    store: NonSendMut<'w, StoreHandle>,
    logs: NonSendMut<'w, LogThread>,
    config: Res<'w, BuilderConfig>,
    running: ResMut<'w, Running>,
    failures: ResMut<'w, Failures>,
    run: ResMut<'w, RunState>,
}

/// Leaves hooks to the builds that they have accepted: tells them the inputs and the outputs, and watches them.
pub fn hand_over(mut params: Talking<'_, '_>, mut over: HandingOver<'_, '_>) {
    for ready in params.desk.take_accepted() {
        params.hook.accepted = false;
        let Some(instance) = params.hook.instance.take() else {
            let failure = Failure::new(FailureKind::Other, "the build hook is gone");
            over.failures.0.push((ready.goal, failure));
            continue;
        };
        if let Err(error) = params.begin(ready, instance, &mut over) {
            over.run.fatal = Some(error);
        }
    }
}

impl Talking<'_, '_> {
    fn begin(
        &mut self,
        ReadyGoal { goal, drv }: ReadyGoal,
        instance: Instance,
        over: &mut HandingOver<'_, '_>,
    ) -> Result<(), Error> {
        let drv_file = self.graph.drv_path(drv);
        let drv_path = self.graph.full_path(drv_file);
        // The derivation's own closure too, so that the store far away stays whole (the seed's complaint).
        let graph = &mut self.graph;
        let mut inputs = over.store.0.input_closure(graph, drv)?;
        inputs.extend(over.store.0.closure(graph, &[drv_file])?);
        let full = |paths: Vec<_>| {
            let mut paths: Vec<String> =
                paths.into_iter().map(|p| self.graph.full_path(p)).collect();
            paths.sort_unstable();
            paths.dedup();
            paths
        };
        let inputs = full(inputs);
        let Ok((mut stage, missing)) = over.goals.get_mut(goal) else {
            return Ok(());
        };
        let outputs = full(MissingOutputs::of(missing, &self.graph, drv));

        let (child, mut talk, builder_out) = instance.into_parts();
        if let Some(pipe) = &talk.from_hook {
            self.reactor.forget(std::os::fd::AsFd::as_fd(pipe));
        }
        self.reactor.forget(std::os::fd::AsFd::as_fd(&child.pidfd));
        talk.tell(inputs);
        talk.tell(outputs.iter().cloned());
        talk.send();
        let mut log_file = None;
        let mut watched = self.reactor.watch(goal, &builder_out, &child.pidfd);
        if let Some(pipe) = &talk.from_hook {
            watched = watched.and_then(|()| self.reactor.watch_said(goal, pipe));
        }
        if let Some(pipe) = &talk.to_hook {
            watched = watched.and_then(|()| self.reactor.watch_told(goal, pipe));
        }
        let mut ready_to_go = watched.map_err(|error| error.to_string());
        if ready_to_go.is_ok()
            && let Some(log_dir) = &over.config.log_dir
        {
            let base_name = self.graph.paths.base_name(drv_file);
            match over.logs.open(log_dir, base_name, over.config.compress_log) {
                Ok(log) => log_file = Some(log),
                Err(error) => ready_to_go = Err(error.to_string()),
            }
        }
        if let Err(error) = ready_to_go {
            dismiss(&child);
            let text = format!("cannot watch the build hook for '{drv_path}': {error}");
            let failure = Failure::new(FailureKind::Other, text);
            over.failures.0.push((goal, failure));
            return Ok(());
        }
        *stage = Stage::Running;
        over.running.0.push(goal);
        let at = self.now.0;
        self.reporter.0.say(Level::Talkative, || {
            format!("using hook to build path(s) '{}'", outputs.join("', '"))
        });
        self.reporter.0.report(&Event::Started {
            build: BuildRef {
                id: goal.to_bits(),
                drv_path: &drv_path,
                name: self.graph.drv_name(drv),
            },
            system: self.graph.system(drv).unwrap_or_default(),
            log_file: &log_file
                .as_ref()
                .map(|log| log.path().display().to_string())
                .unwrap_or_default(),
            outputs: &outputs,
            mode: BuildMode::Normal,
            at,
        });
        let mut entity = self.commands.entity(goal);
        entity.insert((
            BuilderProcess {
                pid: child.pid,
                pidfd: child.pidfd,
                exited: false,
            },
            ChildPipes {
                log: Some(builder_out),
            },
            Deadlines::new(at, false),
            BuildLog::default(),
            HookBuild(talk),
        ));
        if let Some(log) = log_file {
            entity.insert(log);
        }
        Ok(())
    }
}
