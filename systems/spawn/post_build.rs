//! Calls the post-build hook for builds whose outputs are valid.
//!
//! It runs as a child of the build's goal, which ends with it; others go on meanwhile. (So it is
//! since Nix 2.35; before that Nix waited for it within its loop.)

use std::ffi::CStr;

use bevy_ecs::prelude::{NonSendMut, Res, ResMut};
use bevy_ecs::system::SystemParam;
use windrow_components::building::ChildKind;
use windrow_components::graph::BuildGraph;

use crate::failure::{Failure, FailureKind};
use crate::process::hook::{Call, Launch};
use crate::report::{Event, Level};
use crate::world::children::{ChildSetup, Made, Maker};
use crate::world::{AwaitsHook, Host, Scheduler, Services};

/// Where the engine runs.
const HERE: &CStr = c".";

/// What calling the hook touches.
#[derive(SystemParam)]
pub struct Calling<'w> {
    graph: Res<'w, BuildGraph>,
    services: NonSendMut<'w, Services>,
    host: NonSendMut<'w, Host>,
    scheduler: ResMut<'w, Scheduler>,
}

/// Calls the hook for the next builds, as long as it may run for one more.
pub fn call(mut params: Calling<'_>) {
    if params.scheduler.run.has_stopped() {
        return;
    }
    while let Some(AwaitsHook { built, outputs }) = params.scheduler.take_post_build() {
        let graph = &params.graph;
        let drv_path = graph.full_path(graph.drv_path(built.drv));
        let mut outputs: Vec<String> = outputs.iter().map(|&path| graph.full_path(path)).collect();
        outputs.sort_unstable();
        outputs.dedup();
        if let Err(failure) = params.start(built.goal, &drv_path, &outputs) {
            params.scheduler.end_post_build(None);
            params.scheduler.fail(built.goal, failure);
        }
    }
}

impl Calling<'_> {
    fn start(
        &mut self,
        goal: bevy_ecs::prelude::Entity,
        drv_path: &str,
        outputs: &[String],
    ) -> Result<(), Failure> {
        if self.scheduler.is_cancelled(goal) {
            return Err(Failure::cancelled());
        }
        let hooks = &self.host.config.hooks;
        let Some(program) = hooks.post_build.clone() else {
            return Ok(());
        };
        let call = Call {
            program: &program,
            args: &[],
            env: &hooks.env,
            variables: &[
                ("DRV_PATH", drv_path.to_owned()),
                ("OUT_PATHS", outputs.join(" ")),
            ],
            cwd: HERE,
            user: None,
        };
        let failed = format!(
            "cannot call the post-build-hook '{}' for '{drv_path}'",
            program.display()
        );
        let failure = |error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Other, format!("{failed}: {error}"))
        };
        let (launch, log) = call.prepare().map_err(|error| failure(&error))?;
        self.services.reporter.report(&Event::Message {
            level: Level::Info,
            text: &format!("running post-build-hook '{}'...", program.display()),
        });
        let setup = ChildSetup {
            goal,
            kind: ChildKind::PostBuildHook,
            log,
            channel: None,
            dir: None,
        };
        let make =
            move |launch: Launch| {
                Made::new(launch.run().map_err(|error| {
                    Failure::new(FailureKind::Other, format!("{failed}: {error}"))
                }))
            };
        let maker = (Maker::Thread, None);
        self.host
            .launch(&mut self.scheduler, setup, maker, launch, make);
        Ok(())
    }
}
