//! Offers builds to the hook, and leaves hooks to the builds that they have accepted.

use std::os::fd::AsFd as _;

use bevy_ecs::prelude::Query;
use windrow_components::building::{ChildKind, MissingOutputs};

use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::helpers::hook::instance::Instance;
use crate::helpers::hook::talk::Talking;
use crate::process::side_channel::SideChannel;
use crate::world::children::{ChildSetup, Made, Maker};
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

/// Leaves hooks to the builds that they have accepted, as the children of these: tells them the
/// inputs and the outputs.
///
/// Nix 1.8: `DerivationGoal::tryBuildHook`.
pub fn hand_over(mut params: Talking<'_>, missing: Query<&MissingOutputs>) {
    for ready in params.scheduler.desk.take_accepted() {
        params.hook.accepted = false;
        let Some(instance) = params.hook.instance.take() else {
            let failure = Failure::new(FailureKind::Other, "the build hook is gone");
            params.scheduler.fail(ready.goal, failure);
            continue;
        };
        let missing = missing.get(ready.goal).ok();
        if let Err(error) = params.begin(ready, instance, missing) {
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
        let outputs = MissingOutputs::of(missing, &self.graph, drv);
        self.services.store.begin_by_hook(&self.graph, &outputs);
        let outputs = full(outputs);

        let (process, mut talk, log) = instance.into_parts();
        let host = &mut *self.host;
        if let Some(pipe) = &talk.from_hook {
            host.reactor.forget(pipe.as_fd());
        }
        host.reactor.forget(process.pidfd.as_fd());
        talk.tell(inputs);
        talk.tell(outputs);
        talk.send();
        let setup = ChildSetup {
            goal,
            kind: ChildKind::Hook,
            log,
            channel: Some(SideChannel::Hook(talk)),
            dir: None,
        };
        // The process is there: it has told that it accepts the build.
        let maker = (Maker::Here, None);
        host.launch(&mut self.scheduler, setup, maker, process, |process| {
            Made::new(Ok(process))
        });
        Ok(())
    }
}
