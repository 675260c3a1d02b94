//! Substituters and the build hook in the real world: what they are, and what of them comes back from other threads.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bevy_ecs::prelude::Entity;
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::helpers::hook::instance::{HookError, Instance};
use crate::process::helper::HelperEnv;
use crate::process::launch::{SpawnError, Spawned};
use crate::world::BuiltOutput;

/// Which helpers a run has.
#[derive(Debug, Clone)]
pub struct HelperConfig {
    /// The substituters' programs, in the order in which they are tried.
    pub substituters: Vec<PathBuf>,
    /// The build hook's program.
    pub hook: Option<PathBuf>,
    /// What the hook is started with: the system, the seconds of silence, whether traces are printed, and the seconds
    /// that a build may take.
    pub hook_args: Vec<String>,
    /// Their environment.
    pub env: HelperEnv,
    /// How many seconds a substituter's answer may take; 0 for any time.
    pub patience_s: u64,
}

/// Something that a thread has done for a helper.
#[derive(Debug)]
pub enum HelperNews {
    /// The hook was started, or could not be.
    Hook(Result<Instance, HookError>),
    /// A substituter was started to fetch a path, or could not be.
    Started {
        /// The path's goal.
        goal: Entity,
        /// Its process.
        result: Result<Spawned, SpawnError>,
    },
    /// What a substituter has fetched was looked at.
    Received {
        /// The path's goal.
        goal: Entity,
        /// The substituter's raw wait status.
        status: i32,
        /// The path, ready to be registered, or what is wrong with it.
        result: Result<BuiltOutput, String>,
        /// What went wrong beside that.
        warnings: Vec<String>,
    },
}

/// Where such news arrive.
pub struct News {
    pub(crate) sender: Sender<HelperNews>,
    pub(crate) receiver: Receiver<HelperNews>,
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
    pub(crate) hooks: VecDeque<Result<Instance, HookError>>,
    pub(crate) fetches: VecDeque<HelperNews>,
    /// The environment of every helper.
    pub env: HelperEnv,
}

impl News {
    pub(crate) fn new(env: HelperEnv, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, receiver) = unbounded();
        Self {
            sender,
            receiver,
            wake: Arc::new(wake),
            hooks: VecDeque::new(),
            fetches: VecDeque::new(),
            env,
        }
    }

    /// What a thread tells its news with.
    pub fn teller(&self) -> impl Fn(HelperNews) + Send + 'static {
        let (sender, wake) = (self.sender.clone(), Arc::clone(&self.wake));
        move |news| {
            if sender.send(news).is_ok() {
                wake();
            }
        }
    }

    pub(crate) fn sort(&mut self) {
        for news in self.receiver.try_iter() {
            match news {
                HelperNews::Hook(result) => self.hooks.push_back(result),
                other => self.fetches.push_back(other),
            }
        }
    }

    /// The next news of a hook.
    pub fn take_hook(&mut self) -> Option<Result<Instance, HookError>> {
        self.sort();
        self.hooks.pop_front()
    }

    /// The next news of a path that is fetched.
    pub fn take_fetch(&mut self) -> Option<HelperNews> {
        self.sort();
        self.fetches.pop_front()
    }
}
