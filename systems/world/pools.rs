//! The threads that work for the scheduler, what is handed to them, and what comes back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bevy_ecs::prelude::{Component, Entity, Resource};

use crate::error::Result;
use crate::failure::Failure;
use crate::process::build_dir::SpareDirs;
use crate::process::launch::Spawned;
use crate::process::pool::Pool;
use crate::sandbox::{Room, Workshop};
use crate::spawn::Aloft;
use crate::store::beside;
use crate::store::collect::Mislaid;
use crate::store::tree::delete_path;
use crate::world::BuiltOutput;

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
