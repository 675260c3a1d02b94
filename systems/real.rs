//! The real world as a plugin: children are processes, the store is SQLite and a folder, time is the clock.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bevy_ecs::prelude::{Entity, IntoScheduleConfigs as _, Resource, Schedule, World};

use crate::builtin::Builtins;
use crate::engine::TickSet;
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::finish::reap;
use crate::poll_io::{Clock, HelperEvents, poll_children};
use crate::process::build_dir::SpareDirs;
use crate::process::launch::{Spawned, StoreMount, UserNamespace};
use crate::process::log_writer::LogThread;
use crate::process::pool::Pool;
use crate::process::reactor::Reactor;
use crate::spawn::{spawn_builders, take_launched};
use crate::store::collect::Mislaid;
use crate::store::layout::Layout;
use crate::store::optimise::Optimiser;
use crate::store::reader::Reader;
use crate::store::tree::delete_path;
use crate::world::BuiltOutput;

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
        let c_string = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| Error::NoMountPoint {
                store_dir: logical.to_owned(),
            })
        };
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let user_namespace = if uid.is_root() {
            None
        } else {
            let uid_map = c_string(format!("{uid} {uid} 1").as_bytes())?;
            let gid_map = c_string(format!("{gid} {gid} 1").as_bytes())?;
            Some(UserNamespace { uid_map, gid_map })
        };
        Ok(Some(StoreMount {
            source: c_string(layout.real_store_dir.as_os_str().as_bytes())?,
            target: c_string(layout.store_dir.as_bytes())?,
            user_namespace,
        }))
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
}

/// The threads that hash and delete.
pub struct PoolHandle(pub Pool<Collected>);

impl PoolHandle {
    /// Deletes a tree when there is time. What can't be deleted stays where nobody looks for it.
    pub fn delete(&self, path: PathBuf) {
        self.0.submit(move || {
            let _ = delete_path(&path);
            None
        });
    }

    /// Takes what lies in the store without being valid from its place, and deletes it when there is time.
    ///
    /// # Errors
    /// When it can't be renamed.
    pub fn discard_invalid(&self, real_path: &Path) -> std::io::Result<()> {
        let name = real_path.file_name().unwrap_or_default();
        // A name that starts with a dot is no store path, so collectors delete it if we do not.
        let mut trash = OsString::from(format!(".windrow-trash-{}-", std::process::id()));
        trash.push(name);
        let trash = real_path.with_file_name(trash);
        std::fs::rename(real_path, &trash)?;
        self.delete(trash);
        Ok(())
    }

    /// Ends a build folder: kept for the next build if it is as it was made, else deleted.
    pub fn retire(&self, dir: &Path, spare: &mut SpareDirs) {
        if !spare.take_back(dir) {
            self.delete(dir.to_owned());
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
    pub result: Result<Spawned, Failure>,
}

/// The thread that makes processes.
pub struct LauncherHandle(pub Pool<Launched>);

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
    let launcher = Pool::new(1, wake);
    world.insert_non_send(reactor);
    world.insert_non_send(PoolHandle(pool));
    world.insert_non_send(LauncherHandle(launcher));
    world.insert_non_send(LogThread::default());
    world.insert_resource(config);
    world.insert_resource(CollectedQueue::default());
    world.insert_resource(SpareDirs::default());
    world.insert_resource(HelperEvents::default());
    world.insert_resource(Clock(Instant::now()));
    schedule.add_systems((
        spawn_builders.in_set(TickSet::Spawn),
        (poll_children, take_launched)
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
    Ok(())
}

/// Ends every child that still runs, deletes the build folders and gives up all locks: what a run that stops early
/// owes the machine. Nothing half done is registered.
pub fn clean_up(world: &mut World) {
    use crate::store::path_lock::OutputLocks;
    use windrow_components::building::{BuildDir, BuilderProcess};
    if let Some(launcher) = world.remove_non_send::<LauncherHandle>() {
        for launched in launcher.0.finish() {
            if let Ok(spawned) = launched.result {
                reap::kill_and_reap(spawned.pid);
            }
        }
    }
    let mut children = world.query::<(Entity, &BuilderProcess)>();
    let pids: Vec<(Entity, i32)> = children
        .iter(world)
        .map(|(e, child)| (e, child.pid))
        .collect();
    for &(_, pid) in &pids {
        reap::kill_group(pid);
    }
    for &(_, pid) in &pids {
        reap::kill_and_reap(pid);
    }
    let mut logs = world.query::<&mut crate::process::log_writer::LogFile>();
    if let Some(thread) = world.remove_non_send::<LogThread>() {
        for mut log in logs.iter_mut(world) {
            thread.close(&mut log);
        }
    }
    // Waits for what is being hashed, whose folders could not be deleted under it.
    drop(world.remove_non_send::<PoolHandle>());
    let mut dirs = world.query::<&BuildDir>();
    for dir in dirs.iter(world) {
        // What can't be deleted stays in the temporary folder, which is no harm to the store.
        let _ = delete_path(&dir.0);
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
    world.non_send_mut::<crate::world::StoreHandle>().0.close();
    if let Some(mut spare) = world.remove_resource::<SpareDirs>() {
        spare.delete();
    }
}
