//! The real world as a plugin: children are processes, the store is SQLite and a folder, time is the clock.

pub mod helpers;

use std::sync::Arc;
use std::time::Instant;

use bevy_ecs::prelude::{Entity, World};
use windrow_components::goal::BuildMode;
use windrow_components::graph::BuildGraph;

use crate::error::{Error, Result};
use crate::process::BuildDirs;
use crate::process::build_dir::SpareDirs;
use crate::process::log_writer::LogThread;
use crate::process::pool::Pool;
use crate::process::reactor::Reactor;
use crate::process::run_dir::delete_dead;
use crate::report::{Event, Level};
use crate::sandbox::Room;
use crate::sandbox::process::kill::{kill_and_reap, kill_group};
use crate::store::dead_runs;
use crate::world::{
    BuilderConfig, Clock, CollectedQueue, Departures, Estates, HelperEvents, Janitor,
    LauncherHandle, Lodging, Parts, PoolHandle, ReporterHandle, RunState, StoreHandle, Verifier,
    WorkshopHandle,
};

/// Adds the systems and resources of the real world.
///
/// # Errors
/// When the event loop can't be made.
pub fn plug_in(world: &mut World, config: BuilderConfig) -> Result<()> {
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
    world.insert_resource(Estates::default());
    world.insert_resource(HelperEvents::default());
    world.insert_resource(Clock(Instant::now()));
    let mut parts = world.resource_mut::<Parts>();
    (parts.others, parts.processes) = (true, true);
    if world.resource::<RunState>().mode == BuildMode::Repair {
        world.resource_mut::<Parts>().repair = true;
        world.insert_non_send(Verifier::new(wake));
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
    helpers::clean_up(world);
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
