//! Substituters and the build hook in the real world: what they are, and what of them comes back
//! from other threads.

use std::path::PathBuf;
use std::sync::Arc;

use bevy_ecs::prelude::Entity;
use crossbeam_channel::{Receiver, Sender, unbounded};
use windrow_sandbox::process::launch::{SpawnError, Spawned};

use crate::process::helper::HelperEnv;
use crate::world::BuiltOutput;

/// Which helpers a run has.
#[derive(Debug, Clone)]
pub struct HelperConfig {
    /// The substituters' programs, in the order in which they are tried.
    pub substituters: Vec<PathBuf>,
    /// The build hook's program.
    pub hook: Option<PathBuf>,
    /// What the hook is started with: the system, the seconds of silence, whether traces are
    /// printed, and the seconds that a build may take.
    pub hook_args: Vec<String>,
    /// Their environment.
    pub env: HelperEnv,
    /// How many seconds a substituter's answer may take; 0 for any time.
    pub patience_s: u64,
}

/// Where a thread leaves what it has done, and wakes the scheduler.
pub struct Inbox<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl<T: Send + 'static> Inbox<T> {
    /// An empty inbox; `wake` is called after each item is there to be taken.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, receiver) = unbounded();
        let wake = Arc::new(wake);
        Self {
            sender,
            receiver,
            wake,
        }
    }

    /// What a thread hands its items in with.
    pub fn sender(&self) -> impl Fn(T) + Send + 'static {
        let (sender, wake) = (self.sender.clone(), Arc::clone(&self.wake));
        move |item| {
            if sender.send(item).is_ok() {
                wake();
            }
        }
    }

    /// The next item.
    pub fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// Something that a thread has done for a substituter.
#[derive(Debug)]
pub enum FetchNews {
    /// A substituter was started to fetch a path, or could not be.
    Started {
        /// The path's goal.
        goal: Entity,
        /// Its process.
        result: Result<Spawned, SpawnError>,
    },
    /// What a substituter has fetched was looked at.
    Received(Received),
}

/// What a substituter has fetched.
#[derive(Debug)]
pub struct Received {
    /// The path's goal.
    pub goal: Entity,
    /// The substituter's raw wait status.
    pub status: i32,
    /// The path, ready to be registered, or what is wrong with it.
    pub result: Result<BuiltOutput, String>,
    /// What went wrong beside that.
    pub warnings: Vec<String>,
}

/// The fetches of a run: their environment, and what comes back of them.
pub struct Fetches {
    /// The environment of every substituter.
    pub env: HelperEnv,
    /// What threads have done for them.
    pub inbox: Inbox<FetchNews>,
    /// Paths that were looked at since the last tick.
    pub received: Vec<Received>,
}
