//! What comes of the program of `pre-build-hook`: its build is started, with a sandbox that shows
//! what it named, or fails.

use windrow_components::building::BuildLog;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::finish::hooks::trouble;
use crate::finish::reap::Reaping;
use crate::process::hook_answer;
use crate::process::side_channel::{SAID_MAX, SideChannel};
use crate::world::ReadyGoal;
use crate::world::children::{PreBuilt, ReapedChild};

impl Reaping<'_, '_> {
    /// The pre-build hook has ended.
    ///
    /// # Errors
    /// When the database can't be read, or the roots not be written.
    pub(super) fn end_pre_build(&mut self, mut reaped: ReapedChild) -> Result<()> {
        let goal = reaped.goal;
        self.commands.entity(goal).remove::<BuildLog>();
        let Ok(ended) = self.children.get_mut(goal) else {
            return Ok(());
        };
        let Some(drv) = ended.derivation.map(|known| known.drv) else {
            return Ok(());
        };
        let said = match ended.channel.map(|channel| channel.into_inner()) {
            Some(SideChannel::Fetch(pipe)) => std::mem::take(&mut pipe.said),
            _ => Vec::new(),
        };
        if self.scheduler.is_cancelled(goal) {
            self.scheduler.fail(goal, Failure::cancelled());
            return Ok(());
        }
        if let Some(failure) = reaped.exec_error.take() {
            self.scheduler.fail(goal, failure);
            return Ok(());
        }
        let (condemned, answer) = match trouble(&reaped) {
            Some(reason) if said.len() < SAID_MAX => (reaped.condemned.as_ref(), Err(reason)),
            // It was hung up on.
            _ => (None, hook_answer::read(&said)),
        };
        let taken = match answer {
            Ok(paths) => {
                let store = &mut *self.services.store;
                let layout = &self.host.config.layout;
                PreBuilt::showing(&paths, &mut self.graph, store, layout)?
            }
            Err(reason) => Err(reason),
        };
        match taken {
            Ok(pre_built) => {
                self.commands.entity(goal).insert(pre_built);
                self.scheduler.end_pre_build(ReadyGoal { goal, drv });
            }
            Err(reason) => {
                let program = self.host.config.hooks.pre_build.as_deref();
                let program = program.unwrap_or("".as_ref()).display();
                let drv_path = self.graph.full_path(self.graph.drv_path(drv));
                let kind = condemned.map_or(FailureKind::Other, |condemned| condemned.kind);
                let text = format!("the pre-build-hook '{program}' for '{drv_path}' {reason}");
                self.scheduler.fail(goal, Failure::new(kind, text));
            }
        }
        Ok(())
    }
}
