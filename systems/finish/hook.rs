//! Buries hooks that were left to a build: takes over what they registered, has looked at what they only made, and
//! tells what failed there from what failed on the way (the hook's share of the seed's `buildDone`).

use bevy_ecs::prelude::{Commands, Entity, NonSendMut, Query, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::{
    BuildLog, BuilderProcess, ChildPipes, Deadlines, MissingOutputs,
};
use windrow_components::goal::{DerivationGoal, Stage};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;

use crate::error::Result;
use crate::failure::{Failure, FailureKind, describe_status};
use crate::helpers::hook::talk::{HookBuild, HookHandle, say};
use crate::process::log_writer::{LogFile, LogThread};
use crate::process::reactor::Reactor;
use crate::sandbox::process::kill::kill_and_reap;
use crate::store::collect::{CollectJob, collect};
use crate::world::{
    Background, BuilderConfig, BuiltOutput, Collected, Completed, Condemned, Failures, Now,
    PoolHandle, ReporterHandle, RunState, Running, StoreHandle,
};

/// The exit code of a hook whose build failed.
const BUILD_FAILED: i32 = 100;
/// The exit code of a hook whose build took too long.
const TIMED_OUT: i32 = 101;

type DeadHooks<'w, 's> = Query<
    'w,
    's,
    (
        &'static BuilderProcess,
        &'static ChildPipes,
        &'static Deadlines,
        &'static BuildLog,
        &'static DerivationGoal,
        &'static mut HookBuild,
        &'static mut Stage,
        Option<&'static MissingOutputs>,
        Option<&'static Condemned>,
    ),
>;

/// What burying a hook touches.
#[derive(SystemParam)]
pub struct BuryingHooks<'w, 's> {
    commands: Commands<'w, 's>,
    children: DeadHooks<'w, 's>,
    log_files: Query<'w, 's, &'static mut LogFile>,
    graph: ResMut<'w, BuildGraph>,
    config: Res<'w, BuilderConfig>,
    now: Res<'w, Now>,
    hook: NonSendMut<'w, HookHandle>,
    reactor: NonSendMut<'w, Reactor>,
    store: NonSendMut<'w, StoreHandle>,
    pool: NonSendMut<'w, PoolHandle>,
    logs: NonSendMut<'w, LogThread>,
    reporter: NonSendMut<'w, ReporterHandle>,
    background: ResMut<'w, Background>,
    failures: ResMut<'w, Failures>,
    completed: ResMut<'w, Completed>,
}

/// Buries every hook that has exited and whose log is complete, or was given time enough to be.
pub fn reap_hooks(
    mut running: ResMut<Running>,
    mut run: ResMut<RunState>,
    mut params: BuryingHooks<'_, '_>,
) {
    let now = params.now.0;
    let children = &params.children;
    let buried: Vec<Entity> = running
        .0
        .extract_if(.., |goal| {
            children
                .get(*goal)
                .is_ok_and(|(process, pipes, deadlines, ..)| process.is_over(pipes, deadlines, now))
        })
        .collect();
    for goal in buried {
        if let Err(error) = params.bury(goal) {
            run.fatal = Some(error);
        }
    }
}

impl BuryingHooks<'_, '_> {
    fn bury(&mut self, goal: Entity) -> Result<()> {
        if let Ok(mut file) = self.log_files.get_mut(goal) {
            self.logs.close(&mut file);
        }
        let Ok((process, _, _, log, known, mut build, mut stage, missing, condemned)) =
            self.children.get_mut(goal)
        else {
            return Ok(());
        };
        let drv = known.drv;
        for line in build.0.listen(&mut self.reactor.buffer) {
            say(&mut *self.reporter.0, self.hook.program(), &line);
        }
        let status = kill_and_reap(process.pid);
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
            let path = self.graph.full_path(self.graph.drv_path(drv));
            let fixed = self.graph.traits(drv).fixed;
            let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            let how = describe_status(status);
            let (kind, message) = match (condemned, code) {
                (Some(Condemned { reason, kind }), _) => {
                    (*kind, format!("builder for '{path}' {reason}"))
                }
                (None, Some(BUILD_FAILED)) if fixed => {
                    (FailureKind::Other, format!("builder for '{path}' {how}"))
                }
                (None, Some(BUILD_FAILED)) => (
                    FailureKind::Permanent,
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
            };
            let log_tail = log.last_lines(self.config.log_lines);
            self.failures.0.push((
                goal,
                Failure {
                    kind,
                    message,
                    log_tail,
                },
            ));
            return Ok(());
        }
        *stage = Stage::Collecting;
        let missing = MissingOutputs::of(missing, &self.graph, drv);
        let valid = self.store.0.valid(&self.graph, &missing)?;
        let missing: Vec<PathId> = missing
            .into_iter()
            .zip(valid)
            .filter_map(|(path, valid)| (!valid).then_some(path))
            .collect();
        if missing.is_empty() {
            self.completed.push(goal, Some(drv), [] as [BuiltOutput; 0]);
            return Ok(());
        }
        let closure = self.store.0.input_closure(&mut self.graph, drv)?;
        let job = CollectJob::new(
            &self.graph,
            &self.config,
            drv,
            &missing,
            &closure,
            None,
            None,
        );
        self.background.collecting += 1;
        let optimiser = self.config.optimiser.clone();
        self.pool.0.submit(move || {
            let places = optimiser.as_ref().map(|_| job.places());
            let result = collect(&job).map_err(|mut failure| {
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
