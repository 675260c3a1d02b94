//! The threads that work for the scheduler, what is handed to them, and what comes back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bevy_ecs::prelude::{Component, Entity};
use windrow_components::building::{BuilderProcess, Deadlines};
use windrow_components::goal::BuildMode;
use windrow_components::request::ChildLimits;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::process::launch::Spawned;
use windrow_sandbox::{BuildEnv, MountTemplate};
use windrow_store::files::beside;
use windrow_sys::tree::delete_path;

use crate::error::Result;
use crate::failure::Failure;
use crate::outputs::MismatchedOutput;
use crate::process::log_writer::LogThread;
use crate::process::pool::Pool;
use crate::process::reactor::{Reactor, Readable};
use crate::spawn::PendingStart;
use crate::world::{Alarms, BuilderConfig, BuiltOutput, Condemned};

/// Outputs that the pool has looked at, or why they can't be registered.
#[derive(Debug)]
pub struct Collected {
    /// The goal they belong to.
    pub goal: Entity,
    /// The outputs, or the failure and what can be kept nevertheless.
    pub result: Result<Vec<BuiltOutput>, (Failure, Option<Box<MismatchedOutput>>)>,
    /// What to warn of.
    pub warnings: Vec<String>,
    /// The build directory, if it was kept although the build had an environment of its own.
    pub kept: Option<PathBuf>,
}

/// The threads that hash, and the one that deletes, so that nothing waits for a large tree to go.
pub struct PoolHandle(pub Pool<Collected>, pub Deleter);

/// A thread that deletes. What can't be deleted stays where nobody looks for it. Clones are the
/// same; the last one to go waits for all that was asked for.
#[derive(Clone)]
pub struct Deleter(Arc<Pool<()>>);

impl Deleter {
    /// Starts the thread.
    pub fn new() -> Self {
        Self(Arc::new(Pool::new(1, || {})))
    }

    /// Deletes a tree when there is time.
    pub fn delete(&self, path: PathBuf) {
        self.run(move || drop(delete_path(&path)));
    }

    /// Deletes what the job deletes when there is time.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.0.submit(move || {
            job();
            None
        });
    }
}

impl Default for Deleter {
    fn default() -> Self {
        Self::new()
    }
}

impl PoolHandle {
    /// Deletes a tree when there is time.
    pub fn delete(&self, path: PathBuf) {
        self.1.delete(path);
    }

    /// Ends the build environment of a process that was not started.
    pub fn leave(&self, env: Option<BuildEnv>) {
        if let Some(env) = env {
            let deleter = self.1.clone();
            self.0.submit(move || {
                let left = env.leave();
                deleter.run(|| left.delete());
                None
            });
        }
    }

    /// Takes what lies in the store without being valid from its place, and deletes it when there
    /// is time.
    ///
    /// # Errors
    /// When it can't be renamed.
    pub fn discard_invalid(&self, real_path: &Path) -> std::io::Result<()> {
        let trash = beside::trash(real_path);
        std::fs::rename(real_path, &trash)?;
        self.delete(trash);
        Ok(())
    }
}

/// A process that was made for a goal, or why it could not be.
#[derive(Debug)]
pub struct Launched {
    /// The goal it belongs to.
    pub goal: Entity,
    /// When its process began to be made.
    pub began: Instant,
    /// The process, or the failure.
    pub result: Result<(Spawned, Option<PendingStart>), Failure>,
    /// Where it runs, if it has an environment of its own.
    pub env: Option<BuildEnv>,
}

/// The thread that makes processes in a mount template.
pub struct MountTemplateHandle {
    /// The thread.
    pub pool: Pool<Launched>,
    /// The template, once the thread has entered it. For that thread only.
    pub entered: Arc<Mutex<Option<MountTemplate>>>,
}

/// The environment of a running builder, until it is left.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct ChildEnv(pub Option<BuildEnv>);

/// A child that was waited for, whose build is still to be looked after.
#[derive(Debug)]
pub struct ReapedBuild {
    pub(crate) goal: Entity,
    pub(crate) mode: BuildMode,
    pub(crate) status: i32,
    /// Why it could not run its builder, if that is so.
    pub(crate) exec_error: Option<Failure>,
    pub(crate) condemned: Option<Condemned>,
}

impl ReapedBuild {
    pub(crate) fn is_good(&self) -> bool {
        self.status == 0 && self.exec_error.is_none() && self.condemned.is_none()
    }
}

/// What the real world has beside goals: the event loop, the threads, and what has come back from
/// them.
pub struct Host {
    /// What builders need to know of this machine and of the settings.
    pub config: BuilderConfig,
    /// When the run began.
    pub began: Instant,
    /// The event loop.
    pub reactor: Reactor,
    /// The threads that scan outputs, and the one that deletes.
    pub pool: PoolHandle,
    /// The thread that makes processes which it takes more than a moment to make.
    pub launcher: Pool<Launched>,
    /// The thread that makes processes in a mount namespace which it prepared once.
    pub template: MountTemplateHandle,
    /// The thread that writes logs.
    pub logs: LogThread,
    /// Build directories of builders without a sandbox.
    pub dirs: SpareDirs,
    /// Processes that were made without waiting for them, and those that could not be, until they
    /// are taken up.
    pub launched: Vec<Launched>,
    /// Outputs that have been scanned.
    pub scanned: Vec<Collected>,
    /// Builds that ended well while something else could start: their slots are given away before
    /// their outputs are looked at.
    pub deferred: Vec<ReapedBuild>,
    /// When children are to be looked at although nothing happens to them.
    pub alarms: Alarms,
    /// Goals whose children are over, and to be reaped.
    pub over: Vec<Entity>,
    /// Goals whose pipes were not read to their end.
    pub unread: Vec<Entity>,
    /// Goals whose pipes are not read just now, because their logs can't be written that fast.
    pub held_back: Vec<Entity>,
    /// What is readable or writable of helpers beside their logs.
    pub events: HelperEvents,
}

impl Host {
    /// The time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Has a child reaped if it has exited and its log is at its end, or was given time enough to
    /// be.
    pub fn note_if_over(&mut self, goal: Entity, process: &mut BuilderProcess, log_ended: bool) {
        if process.exited && log_ended && !process.over {
            process.over = true;
            self.over.push(goal);
        }
    }

    /// Has a child looked at when it may have taken too long.
    pub fn watch_time(&mut self, limits: ChildLimits, goal: Entity, deadlines: &Deadlines) {
        let next = deadlines.next(limits);
        if let Some(at) = next {
            self.alarms.set(at, goal);
        }
    }

    /// Ends a build directory: kept for the next build if nothing was done to it, else deleted.
    pub fn retire(&self, dir: &Path) {
        if !self.dirs.take_back(dir) {
            let (dirs, dir) = (self.dirs.clone(), dir.to_owned());
            self.pool.1.run(move || dirs.delete(&dir));
        }
    }
}

/// What is readable or writable of helpers beside their logs, for who talks with them.
#[derive(Debug, Default)]
pub struct HelperEvents {
    /// What is to be looked at in this tick.
    pub now: Vec<Readable>,
    /// What was not read to its end, for the poll tells of changes only.
    pub unread: Vec<Readable>,
    /// What is not read just now, for nobody takes what it says.
    pub held_back: Vec<Readable>,
}

impl HelperEvents {
    /// Begins a tick: looks at what was not read to its end, or held back, in the last one.
    pub fn turn(&mut self) {
        self.now.clear();
        self.now.append(&mut self.unread);
        self.now.append(&mut self.held_back);
    }
}
