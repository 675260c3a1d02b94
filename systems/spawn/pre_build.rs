//! Calls the pre-build hook for builds that will have a sandbox, while they have their slot: how it
//! ends decides whether a build is started, and what its sandbox shows.

use std::ffi::{OsStr, OsString};

use bevy_ecs::prelude::Entity;
use windrow_components::building::ChildKind;
use windrow_sandbox::process::launch::Step;

use super::{GiveUp, Spawning, builder};
use crate::failure::{Failure, FailureKind};
use crate::process::hook::{Call, Launch};
use crate::process::side_channel::{FetchPipe, SideChannel};
use crate::report::Level;
use crate::world::children::{ChildSetup, Made, Maker, PreBuilt};
use crate::world::{BuilderConfig, ReadyGoal};

impl Spawning<'_, '_> {
    /// Calls the hook for a build, if there is one and it has not answered already; tells whether
    /// the build waits for it.
    pub(super) fn call_pre_build(&mut self, ready: ReadyGoal) -> Result<bool, GiveUp> {
        let ReadyGoal { goal, drv } = ready;
        let config = &self.host.config;
        let Some(program) = config.hooks.pre_build.clone() else {
            return Ok(false);
        };
        let has_answered = matches!(self.goals.get(goal), Ok((.., Some(_))));
        if has_answered
            || self.scheduler.run.has_stopped()
            || !builder::has_sandbox(&self.graph, config, drv)
        {
            return Ok(false);
        }
        if self.scheduler.is_cancelled(goal) {
            return Err(GiveUp::Goal(Failure::cancelled()));
        }
        let drv_path = self.graph.full_path(self.graph.drv_path(drv));
        let root = root_of(config, &drv_path);
        let call = Call {
            program: &program,
            args: &[OsStr::new(&drv_path), &root],
            env: &config.hooks.env,
            variables: &[],
            cwd: c".",
            user: None,
        };
        let failed = format!(
            "cannot call the pre-build-hook '{}' for '{drv_path}'",
            program.display()
        );
        let (launch, log, answer) = call.prepare_to_hear().map_err(|error| {
            GiveUp::Goal(Failure::to_start(&error, format!("{failed}: {error}")))
        })?;
        self.services.reporter.say(Level::Chatty, || {
            format!("executing pre-build hook '{}'", program.display())
        });
        let setup = ChildSetup {
            goal,
            kind: ChildKind::PreBuildHook,
            log,
            channel: Some(SideChannel::Fetch(FetchPipe {
                out: Some(answer),
                said: Vec::new(),
                hangs_up: true,
            })),
            dir: None,
        };
        let make = move |launch: Launch| {
            Made::new(launch.run().map_err(|error| {
                let text = format!("{failed}: {error}");
                match error.step {
                    Step::Execute => Failure::new(FailureKind::Other, text),
                    _ => Failure::to_start(&error.source, text),
                }
            }))
        };
        let maker = (Maker::Thread, None);
        self.host
            .launch(&mut self.scheduler, setup, maker, launch, make);
        Ok(true)
    }

    /// Takes what the hook has answered for a build, which is started now.
    pub(super) fn take_pre_built(&mut self, goal: Entity) -> PreBuilt {
        match self.goals.get_mut(goal) {
            Ok((.., Some(mut pre_built))) => {
                self.commands.entity(goal).remove::<PreBuilt>();
                std::mem::take(&mut *pre_built)
            }
            _ => PreBuilt::default(),
        }
    }
}

/// What the hook is told of where a sandbox will be, for which Nix had a directory in the store.
pub(super) fn root_of(config: &BuilderConfig, drv_path: &str) -> OsString {
    let mut root = config.layout.real_path(drv_path).into_os_string();
    root.push(".chroot");
    root
}
