//! What the real world has beside goals: the event loop, the threads that work for the scheduler,
//! and what has come back from them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bevy_ecs::prelude::Entity;
use windrow_components::building::{Child, Deadlines};
use windrow_components::request::ChildLimits;
use windrow_sandbox::cgroups::Cgroup;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::{BuildEnv, MountTemplate};
use windrow_store::files::beside;
use windrow_sys::interrupt::{Grace, Stop};
use windrow_sys::tree::delete_path;

use crate::process::ahead::NextBuilds;
use crate::process::kill;
use crate::process::log_writer::LogThread;
use crate::process::pool::Pool;
use crate::process::reactor::{Reactor, Readable};
use crate::process::spare::Spare;
use crate::world::children::{ChildSetup, Launched, Made, Maker, ReapedChild, Scanned};
use crate::world::scans::Scans;
use crate::world::{Alarms, BuilderConfig, Scheduler};

/// The threads that hash, and the one that deletes, so that nothing waits for a large tree to go.
pub struct PoolHandle(pub Pool<Scanned>, pub Deleter);

/// A thread that deletes. What can't be deleted stays where nobody looks for it. Clones are the
/// same; the last one to go waits for all that was asked for.
#[derive(Clone)]
pub struct Deleter(Arc<Pool<()>>);

impl Deleter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there are no threads left.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(Pool::new("deleter", 1, || {})?)))
    }

    /// Deletes a tree when there is time.
    pub fn delete(&self, path: PathBuf) {
        self.run(move || drop(delete_path(&path)));
    }

    /// Deletes what the job deletes when there is time.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.0.submit(move || {
            // One moment for all that this thread still has to do when the run is to end early.
            Grace::for_thread();
            job();
            None
        });
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
    /// is time. False if it can't be renamed, as a directory of an overlay's lower layer can't:
    /// then it is to be deleted where it lies, by a thread that may take a while.
    #[must_use]
    pub fn put_aside(&self, real_path: &Path) -> bool {
        let trash = beside::trash(real_path);
        let renamed = std::fs::rename(real_path, &trash).is_ok();
        if renamed {
            self.delete(trash);
        }
        renamed
    }
}

/// The thread that makes processes in a mount template.
pub struct MountTemplateHandle {
    /// The thread.
    pub pool: Pool<Launched>,
    /// The template, once the thread has entered it. For that thread only.
    pub entered: Arc<Mutex<Option<MountTemplate>>>,
}

/// What the real world has beside goals: the event loop, the threads, and what has come back from
/// them.
pub struct Host {
    /// What builders need to know of this machine and of the settings.
    pub config: BuilderConfig,
    /// When the run began.
    pub began: Instant,
    /// Whether the engine was stopped while it last slept.
    pub was_stopped: bool,
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
    /// A builder's process made in advance.
    pub spare: Spare,
    /// What there is of builds that are next.
    pub ahead: NextBuilds,
    /// Build directories of builders without a sandbox.
    pub dirs: SpareDirs,
    /// Processes that were made without waiting for them, and those that could not be, until they
    /// are taken up.
    pub launched: VecDeque<Launched>,
    /// What other threads look at.
    pub scans: Scans,
    /// What was scanned.
    pub scanned: Vec<Scanned>,
    /// Builds that ended well while something else could start: their slots are given away before
    /// their outputs are looked at.
    pub deferred: Vec<ReapedChild>,
    /// When children are to be looked at although nothing happens to them.
    pub alarms: Alarms,
    /// When whoever is told of output hears next that a second has passed.
    pub next_second: Duration,
    /// Whether that is so in this tick.
    pub second_passed: bool,
    /// Goals whose children are over, and to be reaped.
    pub over: Vec<Entity>,
    /// Goals whose pipes were not read to their end.
    pub unread: Vec<Entity>,
    /// Goals whose pipes are not read just now, because their logs can't be written that fast.
    pub held_back: Vec<Entity>,
    /// What is readable or writable of helpers beside their logs.
    pub events: HelperEvents,
}

/// What the pool does before a process is made, if anything: what may take a while, or needs to see
/// the store.
type First<L> = Option<fn(L) -> L>;

impl Host {
    /// The time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Has a child's process made, after what `first` does in the pool, if anything.
    /// [`take_launched`](crate::poll_io::launched::take_launched) takes it up.
    pub fn launch<L: Send + 'static>(
        &mut self,
        scheduler: &mut Scheduler,
        setup: ChildSetup,
        (maker, first): (Maker, First<L>),
        launch: L,
        make: impl FnOnce(L) -> Made + Send + 'static,
    ) {
        scheduler.launch();
        let run = move |launch| {
            let began = Instant::now();
            Launched {
                began,
                made: make(launch),
                setup,
            }
        };
        let launcher = match maker {
            Maker::Here => return self.launched.push_back(run(launch)),
            Maker::Thread => &self.launcher,
            Maker::InTemplate => &self.template.pool,
        };
        let Some(first) = first else {
            return launcher.submit(move || Some(run(launch)));
        };
        let launcher = launcher.remote();
        self.pool.0.submit(move || {
            let launch = first(launch);
            launcher.submit(move || Some(run(launch)));
            None
        });
    }

    /// Has a child reaped if it has exited and its log is at its end, or was given time enough to
    /// be.
    pub fn note_if_over(&mut self, goal: Entity, child: &mut Child, log_ended: bool) {
        if child.deadlines.exited.is_some() && log_ended && !child.over {
            child.over = true;
            self.over.push(goal);
        }
    }

    /// Ends a child that nobody wants any more. Its exit is noticed as any other.
    pub fn cancel(
        &mut self,
        goal: Entity,
        (child, cgroup): (&Child, Option<&Cgroup>),
        now: Duration,
    ) {
        if let Some(at) = kill::cancel(child, cgroup, now) {
            self.alarms.set(at, goal);
        }
    }

    /// Begins to scan what a goal's child made. What is done for that is to be done under what is
    /// returned; the limit on the child's time holds for it too.
    pub fn begin_scan(&mut self, limits: ChildLimits, reaped: &ReapedChild) -> Stop {
        if let Some(at) = reaped.deadlines.timeout(limits) {
            self.alarms.set(at, reaped.goal);
        }
        self.scans.begin(reaped.goal, reaped.deadlines)
    }

    /// Has a child looked at when it may have taken too long.
    pub fn watch_time(&mut self, limits: ChildLimits, goal: Entity, deadlines: &Deadlines) {
        let next = deadlines.next(limits);
        if let Some(at) = next {
            self.alarms.set(at, goal);
        }
    }

    /// Ends what was made in advance, for its descriptors and its process are needed. Tells whether
    /// other threads are about to give some back as well.
    pub fn save_means(&mut self) -> bool {
        self.spare.give_up();
        self.ahead.give_up_held();
        let PoolHandle(pool, deleter) = &self.pool;
        !(pool.is_idle() && deleter.0.is_idle() && self.logs.is_idle())
    }

    /// Ends a build directory: kept for the next build if nothing was done to it, else deleted.
    pub fn retire(&self, dir: &Path) {
        if !self.dirs.take_back(dir) {
            let (dirs, dir) = (self.dirs.clone(), dir.to_owned());
            self.pool.1.run(move || dirs.delete(&dir));
        }
    }
}

/// What is readable or writable of helpers beside their logs, for whoever talks with them.
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
        // Something may have been written since, of which the last tick was told as well.
        self.now.sort_unstable();
        self.now.dedup();
    }
}
