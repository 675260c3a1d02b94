//! What comes of the program of `pre-build-hook`: its build is started, with a sandbox that shows
//! what it named, or fails.

use std::path::Path;

use windrow_components::building::BuildLog;
use windrow_sandbox::paths::SandboxPath;

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
            Ok(paths) => self.show(&paths)?,
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

    /// Looks at what a sandbox is to show, and keeps what that takes of the store.
    fn show(&mut self, paths: &[SandboxPath]) -> Result<std::result::Result<PreBuilt, String>> {
        let mut pre_built = PreBuilt::default();
        let layout = &self.host.config.layout;
        let store_dir = Path::new(&layout.store_dir);
        for path in paths {
            let mut path = path.clone();
            let mut in_store: Vec<String> = path.store_path(store_dir).into_iter().collect();
            if path.source.starts_with(store_dir) {
                path.source = layout.real_path(&path.source.to_string_lossy());
            }
            in_store.extend(path.store_path(store_dir));
            let kind = match path.kind(store_dir) {
                Ok(kind) => kind,
                Err(error) => {
                    let source = path.source.display();
                    return Ok(Err(format!(
                        "wants '{source}' shown in the sandbox: {error}"
                    )));
                }
            };
            for full in in_store {
                match self.graph.path(&full) {
                    Ok(known) => pre_built.inputs.push(known),
                    Err(error) => {
                        return Ok(Err(format!("wants '{full}' shown in the sandbox: {error}")));
                    }
                }
            }
            pre_built.shown.push((path, kind));
        }
        let store = &mut self.services.store;
        store.add_temp_roots(&self.graph, &pre_built.inputs)?;
        let valid = store.valid(&self.graph, &pre_built.inputs)?;
        let mut invalid = pre_built.inputs.iter().zip(valid);
        if let Some((&path, _)) = invalid.find(|(_, valid)| !valid) {
            let path = self.graph.full_path(path);
            return Ok(Err(format!(
                "wants '{path}' shown in the sandbox, which is not valid"
            )));
        }
        pre_built.inputs = store.closure(&mut self.graph, &pre_built.inputs)?;
        Ok(Ok(pre_built))
    }
}
