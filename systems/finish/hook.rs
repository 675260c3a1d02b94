//! Buries hooks that were left to a build: takes over what they registered, has looked at what they
//! only made, and tells what failed there from what failed on the way (the hook's share of
//! `buildDone` in Nix 1.8).

use bevy_ecs::prelude::{Commands, Entity, NonSend, NonSendMut, Query, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::DerivationGoal;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::process::kill::kill_and_reap;

use crate::error::Result;
use crate::failure::{Failure, FailureKind, describe_status};
use crate::helpers::hook::talk::{HookBuild, HookHandle, say};
use crate::outputs::{ScanJob, scan_outputs};
use crate::process::log_writer::LogFile;
use crate::world::{BuiltOutput, Collected, Condemned, Host, ReadyGoal, Scheduler, Services};

/// The exit code of a hook whose build failed.
const BUILD_FAILED: i32 = 100;
/// The exit code of a hook whose build took too long.
const TIMED_OUT: i32 = 101;

/// What a goal carries whose hook is over.
type DeadHook = (
    &'static BuilderProcess,
    &'static BuildLog,
    &'static DerivationGoal,
    &'static mut HookBuild,
    Option<&'static mut LogFile>,
    Option<&'static MissingOutputs>,
    Option<&'static Condemned>,
);

/// What reaping a hook touches.
#[derive(SystemParam)]
pub struct ReapingHooks<'w, 's> {
    commands: Commands<'w, 's>,
    children: Query<'w, 's, DeadHook>,
    graph: ResMut<'w, BuildGraph>,
    hook: NonSend<'w, HookHandle>,
    host: NonSendMut<'w, Host>,
    services: NonSendMut<'w, Services>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Reaps every hook that is over.
pub fn reap_hooks(mut params: ReapingHooks<'_, '_>) {
    let children = &params.children;
    let over = params
        .host
        .over
        .extract_if(.., |goal| children.contains(*goal));
    for goal in over.collect::<Vec<_>>() {
        if let Err(error) = params.reap(goal) {
            params.scheduler.abort(error);
        }
    }
}

impl ReapingHooks<'_, '_> {
    fn reap(&mut self, goal: Entity) -> Result<()> {
        let host = &mut *self.host;
        let Ok((process, log, known, mut build, file, missing, condemned)) =
            self.children.get_mut(goal)
        else {
            return Ok(());
        };
        if let Some(mut file) = file {
            host.logs.close(&mut file);
        }
        let drv = known.drv;
        for line in build.0.listen(&mut host.reactor.buffer) {
            say(&mut self.services.reporter, self.hook.program(), &line);
        }
        let status = kill_and_reap(process.pid);
        self.scheduler.exited(goal);
        let mut entity = self.commands.entity(goal);
        entity.remove::<(
            BuilderProcess,
            ChildPipes,
            Deadlines,
            LogFile,
            HookBuild,
            Condemned,
            BuildLog,
        )>();
        if status != 0 || condemned.is_some() {
            let (kind, message) = why_it_failed(&self.graph, drv, status, condemned);
            let log_tail = log.last_lines(host.config.log_lines);
            let failure = Failure {
                kind,
                message,
                log_tail,
            };
            self.scheduler.fail(goal, failure);
            return Ok(());
        }
        let missing = MissingOutputs::of(missing, &self.graph, drv);
        self.take_over(ReadyGoal { goal, drv }, missing, status)
    }

    /// Takes over what a hook registered, and has looked at what it only made.
    fn take_over(&mut self, ready: ReadyGoal, missing: Vec<PathId>, status: i32) -> Result<()> {
        let ReadyGoal { goal, drv } = ready;
        let store = &mut self.services.store;
        let valid = store.valid(&self.graph, &missing)?;
        let missing = missing.into_iter().zip(valid);
        let missing: Vec<PathId> = missing
            .filter_map(|(path, valid)| (!valid).then_some(path))
            .collect();
        if missing.is_empty() {
            let nothing: [BuiltOutput; 0] = [];
            self.scheduler.complete(goal, Some(drv), nothing);
            return Ok(());
        }
        let closure = store.input_closure(&mut self.graph, drv)?;
        let config = &self.host.config;
        let job = ScanJob::new(&self.graph, config, drv, &missing, &closure, None, None);
        self.scheduler.scan();
        let optimiser = config.optimiser.clone();
        self.host.pool.0.submit(move || {
            let places = optimiser.as_ref().map(|_| job.places());
            let result = scan_outputs(&job).map_err(|mut failure| {
                // The hook said that all is well, so whatever is wrong is its fault.
                if failure.0.kind != FailureKind::HashMismatch {
                    failure.0.kind = FailureKind::Hook { status };
                }
                failure
            });
            let warnings = match (optimiser, places, &result) {
                (Some(optimiser), Some(places), Ok(_)) => optimiser.optimise_new(&places),
                _ => Vec::new(),
            };
            Some(Collected {
                goal,
                result,
                warnings,
                kept: None,
            })
        });
        Ok(())
    }
}

fn why_it_failed(
    graph: &BuildGraph,
    drv: DrvId,
    status: i32,
    condemned: Option<&Condemned>,
) -> (FailureKind, String) {
    let path = graph.full_path(graph.drv_path(drv));
    let fixed = graph.traits(drv).fixed;
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    let how = describe_status(status);
    match (condemned, code) {
        (Some(Condemned { reason, kind }), _) => (*kind, format!("builder for '{path}' {reason}")),
        (None, Some(BUILD_FAILED)) => (
            match fixed {
                true => FailureKind::Other,
                false => FailureKind::Permanent,
            },
            format!("builder for '{path}' {how}"),
        ),
        (None, Some(TIMED_OUT)) => (
            FailureKind::TimedOut,
            format!("builder for '{path}' timed out, as the build hook says"),
        ),
        (None, _) => (
            FailureKind::Hook { status },
            format!("the build hook for '{path}' {how}"),
        ),
    }
}
