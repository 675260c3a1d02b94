//! The real world as a plugin: children are processes, the store is SQLite and a folder, time is the clock.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bevy_ecs::prelude::{Component, Entity, IntoScheduleConfigs as _, Resource, Schedule, World};
use windrow_components::goal::BuildMode;
use windrow_components::graph::BuildGraph;

use crate::builtin::Builtins;
use crate::engine::TickSet;
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::finish::reap;
use crate::poll_io::{Clock, HelperEvents, poll_children};
use crate::process::BuildDirs;
use crate::process::build_dir::SpareDirs;
use crate::process::launch::Spawned;
use crate::process::log_writer::LogThread;
use crate::process::pool::Pool;
use crate::process::reactor::Reactor;
use crate::process::run_dir::delete_dead;
use crate::report::{Event, Level};
use crate::sandbox::action::Action;
use crate::sandbox::process::kill::{kill_and_reap, kill_group};
use crate::sandbox::user_ns::IdMap;
use crate::sandbox::users::UserPool;
use crate::sandbox::{Isolation, Limits, Room, Workshop};
use crate::spawn::{Aloft, spawn_builders, take_launched};
use crate::store::beside;
use crate::store::collect::Mislaid;
use crate::store::dead_runs;
use crate::store::layout::Layout;
use crate::store::optimise::Optimiser;
use crate::store::reader::Reader;
use crate::store::tree::delete_path;
use crate::world::{BuiltOutput, ReporterHandle, RunState, StoreHandle};

/// What builders need to know of this machine and these settings.
#[derive(Debug, Clone, Resource)]
pub struct BuilderConfig {
    /// Where the store and its state lie.
    pub layout: Layout,
    /// Platforms whose programs run here, this machine's own first.
    pub platforms: Vec<String>,
    /// Builders that come with the engine; `None` where a derivation that wants one is refused.
    pub builtins: Option<Arc<Builtins>>,
    /// Features that derivations may require.
    pub system_features: Vec<String>,
    /// Whether 64-bit and 32-bit x86 builders are to see a Linux 2.6.
    pub impersonate_linux_26: bool,
    /// Values for `impureEnvVars`, before those of the engine's own environment.
    pub impure_env: Arc<BTreeMap<String, String>>,
    /// The database, for what is looked up beside the scheduler.
    pub reader: Arc<Reader>,
    /// `NIX_BUILD_CORES`.
    pub cores: u32,
    /// Where build folders are made.
    pub build_folder: PathBuf,
    /// Where logs are kept; `None` if they are not.
    pub log_dir: Option<PathBuf>,
    /// Whether logs are compressed.
    pub compress_log: bool,
    /// Whether the build folders of failed builds are kept.
    pub keep_failed: bool,
    /// Links equal files of new outputs, if that is wanted.
    pub optimiser: Option<Arc<Optimiser>>,
    /// How many lines of a failed build's log to show.
    pub log_lines: usize,
    /// Whether the reporter wants the builders' output.
    pub report_output: bool,
    /// For a store that lies elsewhere than builders see it.
    pub store_mount: Option<StoreMount>,
    /// What no builder may do.
    pub limits: Limits,
    /// The sandbox, for builds that have one.
    pub sandbox: Option<Isolation>,
    /// Who runs builders, if not whoever runs the engine.
    pub users: Option<UserPool>,
    /// What to warn of as the run begins.
    pub notice: Option<String>,
}

/// How a builder without a sandbox comes to see a store at another place than it lies at.
#[derive(Debug, Clone)]
pub struct StoreMount {
    /// The namespaces it takes.
    pub namespaces: c_int,
    /// What the builder does first.
    pub actions: Vec<Action>,
}

impl BuilderConfig {
    /// What to mount for builders if the store lies at `real` and they see it at `logical`.
    ///
    /// # Errors
    /// When `logical` is no folder on this machine, for nothing can then be mounted there.
    pub fn store_mount_for(layout: &Layout) -> Result<Option<StoreMount>> {
        let logical = std::path::Path::new(&layout.store_dir);
        if layout.real_store_dir == logical {
            return Ok(None);
        }
        if !logical.is_dir() {
            return Err(Error::NoMountPoint {
                store_dir: logical.to_owned(),
            });
        }
        let mut mount = StoreMount {
            namespaces: libc::CLONE_NEWNS,
            actions: Vec::new(),
        };
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if !uid.is_root() {
            mount.namespaces |= libc::CLONE_NEWUSER;
            mount
                .actions
                .extend(crate::sandbox::user_ns::own_user_namespace(&IdMap {
                    uid: uid.as_raw(),
                    gid: gid.as_raw(),
                    outer_uid: uid.as_raw(),
                    outer_gid: gid.as_raw(),
                    count: 1,
                }));
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let bind = libc::MS_BIND | libc::MS_REC;
        let source = Some(layout.real_store_dir.as_path());
        mount.actions.extend([
            Action::mount(None, "/", None, private, None),
            Action::mount(source, logical, None, bind, None),
        ]);
        Ok(Some(mount))
    }
}

/// Outputs that the pool has looked at, or why they can't be registered.
#[derive(Debug)]
pub struct Collected {
    /// The goal they belong to.
    pub goal: Entity,
    /// The outputs, or the failure and what can be kept nevertheless.
    pub result: Result<Vec<BuiltOutput>, (Failure, Option<Box<Mislaid>>)>,
    /// What to warn of.
    pub warnings: Vec<String>,
    /// The build directory, if it was kept although the build had a room.
    pub kept: Option<PathBuf>,
}

/// The threads that hash, and the one that deletes, so that nothing waits for a large tree to go.
pub struct PoolHandle(pub Pool<Collected>, pub Janitor);

/// A thread that deletes. What can't be deleted stays where nobody looks for it. Clones are the same; the last one to go
/// waits for all that was asked for.
#[derive(Clone)]
pub struct Janitor(Arc<Pool<()>>);

impl Janitor {
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

impl Default for Janitor {
    fn default() -> Self {
        Self::new()
    }
}

impl PoolHandle {
    /// Deletes a tree when there is time.
    pub fn delete(&self, path: PathBuf) {
        self.1.delete(path);
    }

    /// Ends the room of a process that was not started.
    pub fn leave(&self, room: Option<Room>) {
        if let Some(room) = room {
            let janitor = self.1.clone();
            self.0.submit(move || {
                let left = room.leave();
                janitor.run(|| left.delete());
                None
            });
        }
    }

    /// Takes what lies in the store without being valid from its place, and deletes it when there is time.
    ///
    /// # Errors
    /// When it can't be renamed.
    pub fn discard_invalid(&self, real_path: &Path) -> std::io::Result<()> {
        let trash = beside::trash(real_path);
        std::fs::rename(real_path, &trash)?;
        self.delete(trash);
        Ok(())
    }

    /// Ends a build directory: kept for the next build if nothing was done to it, else deleted.
    pub fn retire(&self, dir: &Path, dirs: &SpareDirs) {
        if !dirs.take_back(dir) {
            let (dirs, dir) = (dirs.clone(), dir.to_owned());
            self.1.run(move || dirs.delete(&dir));
        }
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
    pub result: Result<(Spawned, Option<Aloft>), Failure>,
    /// Where it runs, if it has a room.
    pub room: Option<Room>,
}

/// The thread that makes processes which it takes more than a moment to make.
pub struct LauncherHandle(pub Pool<Launched>);

/// Processes that were made without waiting for them, and those that could not be, until they are taken up.
#[derive(Debug, Default, Resource)]
pub struct Departures(pub Vec<Launched>);

/// The thread that makes processes in a workshop, and its workshop once it has entered it.
pub struct WorkshopHandle {
    /// The thread.
    pub pool: Pool<Launched>,
    /// For that thread only.
    pub workshop: Arc<Mutex<Option<Workshop>>>,
}

/// The room of a build, until it is left.
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct Lodging(pub Option<Room>);

/// What has come back from the pool, and pipes with more to read, since the last tick.
#[derive(Debug, Default, Resource)]
pub struct CollectedQueue {
    /// Outputs hashed.
    pub done: Vec<Collected>,
    /// Goals whose pipes were not read to their end.
    pub unread: Vec<Entity>,
    /// Goals whose pipes are not read just now, for their logs can't be written that fast.
    pub held_back: Vec<Entity>,
}

/// Adds the systems and resources of the real world.
///
/// # Errors
/// When the event loop can't be made.
pub fn plug_in(world: &mut World, schedule: &mut Schedule, config: BuilderConfig) -> Result<()> {
    let reactor = Reactor::new().map_err(|source| Error::Poll { source })?;
    let waker = reactor.waker();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Should the kernel refuse to wake, the next event or heartbeat brings the result.
    let wake = move || drop(waker.wake());
    let pool = Pool::new(threads.min(8), wake.clone());
    let launcher = Pool::new(1, wake.clone());
    let janitor = Janitor::new();
    let dirs = SpareDirs::new(&config.build_folder);
    let (builds, store) = (
        config.build_folder.clone(),
        config.layout.real_store_dir.clone(),
    );
    janitor.run(move || delete_dead(&builds, &store));
    if let Some(text) = &config.notice {
        let level = Level::Warn;
        let mut reporter = world.non_send_mut::<ReporterHandle>();
        reporter.0.report(&Event::Message { level, text });
    }
    world.insert_non_send(WorkshopHandle {
        pool: Pool::new(1, wake.clone()),
        workshop: Arc::default(),
    });
    world.insert_non_send(reactor);
    world.insert_non_send(PoolHandle(pool, janitor));
    world.insert_non_send(LauncherHandle(launcher));
    world.insert_non_send(LogThread::default());
    world.insert_resource(config);
    world.insert_resource(CollectedQueue::default());
    world.insert_resource(Departures::default());
    world.insert_resource(BuildDirs(dirs));
    world.insert_resource(reap::Estates::default());
    world.insert_resource(HelperEvents::default());
    world.insert_resource(Clock(Instant::now()));
    crate::engine::plug_in_others(schedule);
    schedule.add_systems((
        spawn_builders.in_set(TickSet::Spawn),
        (take_launched, poll_children)
            .chain()
            .in_set(TickSet::PollIo),
        reap::kill_condemned
            .in_set(TickSet::Timeout)
            .after(crate::timeout::condemn),
        (reap::reap, reap::take_collected)
            .chain()
            .in_set(TickSet::Finish)
            .before(crate::finish::register),
    ));
    if world.resource::<RunState>().mode == BuildMode::Repair {
        crate::repair::plug_in(world, schedule, wake);
    }
    Ok(())
}

/// Ends every child that still runs, deletes the build folders and gives up all locks: what a run that stops early
/// owes the machine. Nothing half done is registered.
pub fn clean_up(world: &mut World) {
    use crate::store::path_lock::OutputLocks;
    use windrow_components::building::{BuildDir, BuilderProcess};
    let mut rooms: Vec<Room> = Vec::new();
    let plain = world.remove_non_send::<LauncherHandle>();
    let workshop = world.remove_non_send::<WorkshopHandle>();
    let launchers = [
        plain.map(|handle| handle.0),
        workshop.map(|handle| handle.pool),
    ];
    let departures = world.remove_resource::<Departures>();
    let mut untaken = departures.unwrap_or_default().0;
    // Not to be dropped before the children are dead: a hook is asked to end first.
    let mut threads = Vec::new();
    for launcher in launchers.into_iter().flatten() {
        let (launched, finished) = launcher.finish();
        untaken.extend(launched);
        threads.push(finished);
    }
    for launched in untaken {
        if let Ok((spawned, _)) = launched.result {
            kill_and_reap(spawned.pid);
        }
        rooms.extend(launched.room);
    }
    crate::helpers::clean_up(world);
    let mut children = world.query::<(Entity, &BuilderProcess)>();
    let pids: Vec<(Entity, i32)> = children
        .iter(world)
        .map(|(e, child)| (e, child.pid))
        .collect();
    for &(_, pid) in &pids {
        kill_group(pid);
    }
    for &(_, pid) in &pids {
        kill_and_reap(pid);
    }
    drop(threads);
    let mut logs = world.query::<&mut crate::process::log_writer::LogFile>();
    if let Some(thread) = world.remove_non_send::<LogThread>() {
        for mut log in logs.iter_mut(world) {
            thread.close(&mut log);
        }
    }
    // Waits for what is being hashed, whose folders could not be deleted under it.
    drop(world.remove_non_send::<PoolHandle>());
    let mut lodgings = world.query::<&mut Lodging>();
    rooms.extend(
        lodgings
            .iter_mut(world)
            .filter_map(|mut lodging| lodging.0.take()),
    );
    for room in &rooms {
        // What does not die now is what the user must look after.
        let _ = room.kill_processes();
    }
    for room in rooms {
        room.leave().delete();
    }
    if let Some(sandbox) = &world.resource::<BuilderConfig>().sandbox {
        sandbox.close();
    }
    for (goal, _) in pids {
        world
            .entity_mut(goal)
            .remove::<(BuilderProcess, BuildDir)>();
    }
    let mut locks = world.query::<&mut OutputLocks>();
    for mut held in locks.iter_mut(world) {
        held.locks.clear();
    }
    // Not before, for who wants a lock must not find it taken by this.
    dead_runs::clear(&world.resource::<BuilderConfig>().layout);
    world.resource_scope::<BuildGraph, _>(|world, graph| {
        world.non_send_mut::<StoreHandle>().0.close(&graph);
    });
    if let Some(BuildDirs(dirs)) = world.remove_resource::<BuildDirs>() {
        dirs.close();
    }
}
