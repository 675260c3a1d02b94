//! Collections while builds run, when the disk gets full (Nix's `autoGC`, settings min-free and
//! max-free). A thread of its own looks now and then; what builds need is protected as from any
//! other collection.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::{Action, Collected, GcOptions, collect};
use crate::DatabaseOptions;
use crate::Layout;
use crate::db::reserve_space;
use crate::error::{Error, Result};
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::space::Room;
use windrow_sys::threads::spawn;

/// Where inodes were few, a collection goes on until there are this many times as many.
const INODES_WANTED: u64 = 4;

/// When to collect, and how much. Where there are few inodes left it is time as well, however many
/// bytes are free: without inodes nothing can be built.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Collect when fewer bytes than this are free.
    pub min_free: u64,
    /// Until this many are.
    pub max_free: u64,
    /// How long to wait between two looks.
    pub interval: Duration,
    /// As in [`GcOptions`].
    pub keep_outputs: bool,
    /// As in [`GcOptions`].
    pub keep_derivations: bool,
    /// A file that says how many bytes are free, for tests (`_NIX_TEST_FREE_SPACE_FILE`).
    pub free_space_file: Option<PathBuf>,
}

/// The thread that watches. Dropped, it ends, and a collection under way with it.
#[derive(Debug)]
pub struct AutoGc {
    stop: Stop,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AutoGc {
    /// Begins to watch a store. `say` gets a line when a collection starts, or when one fails.
    ///
    /// # Errors
    /// When there are no threads left.
    pub fn start(
        layout: Layout,
        database: DatabaseOptions,
        limits: Limits,
        say: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Stop::default();
        let (wake, woken) = bounded::<()>(0);
        let stopping = stop.clone();
        let thread = spawn("auto-gc", move || {
            let _entered = stopping.enter();
            let mut after_last = None;
            loop {
                let watched = look(
                    &layout,
                    &database,
                    &limits,
                    &stopping,
                    &mut after_last,
                    &say,
                );
                if let Err(error) = watched
                    && !interrupt::is_cause_of(&error)
                {
                    say(&format!(
                        "warning: cannot collect garbage to free disk space: {error}"
                    ));
                }
                match woken.recv_timeout(limits.interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        })?;
        Ok(Self {
            stop,
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl Drop for AutoGc {
    fn drop(&mut self) {
        self.stop.set();
        self.wake.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(
    layout: &Layout,
    database: &DatabaseOptions,
    limits: &Limits,
    stop: &Stop,
    after_last: &mut Option<Free>,
    say: &impl Fn(&str),
) -> Result<()> {
    let free = Free::now(layout, limits)?;
    let few_bytes = free.bytes < limits.min_free && free.bytes < limits.max_free;
    let few_inodes = free.inodes < free.inodes_low;
    // What a collection could not better is not tried again at once.
    let little_less = |now: u64, last: u64| now > last / 100 * 97;
    let bytes = few_bytes && !after_last.is_some_and(|last| little_less(free.bytes, last.bytes));
    let inodes =
        few_inodes && !after_last.is_some_and(|last| little_less(free.inodes, last.inodes));
    if !bytes && !inodes {
        return Ok(());
    }
    let max_freed = if few_bytes {
        limits.max_free - free.bytes
    } else {
        1
    };
    if bytes {
        say(&format!("running auto-GC to free {max_freed} bytes"));
    } else {
        say("running auto-GC to free inodes");
    }
    let options = GcOptions {
        max_freed,
        min_inodes: if few_inodes {
            free.inodes_low * INODES_WANTED
        } else {
            0
        },
        keep_outputs: limits.keep_outputs,
        keep_derivations: limits.keep_derivations,
        stop: Some(stop.clone()),
        ..GcOptions::new(Action::DeleteDead, database.clone())
    };
    let collected = super::open_database(layout, database).and_then(|mut database| {
        let mut collected = Collected::default();
        collect(layout, &mut database, &options, &mut collected, &mut |_| ())
    });
    // For the next one, now that there may be room.
    reserve_space(&layout.reserve(), database.gc_reserved_space);
    collected?;
    *after_last = Some(Free::now(layout, limits)?);
    Ok(())
}

/// What is free where the store lies.
#[derive(Debug, Clone, Copy)]
struct Free {
    bytes: u64,
    inodes: u64,
    inodes_low: u64,
}

impl Free {
    fn now(layout: &Layout, limits: &Limits) -> Result<Self> {
        let dir = &layout.real_store_dir;
        let room = Room::of(dir).map_err(Error::io("look at the file system of", dir))?;
        let mut free = Self {
            bytes: room.bytes,
            inodes: room.inodes.unwrap_or(u64::MAX),
            inodes_low: room.inodes_low(),
        };
        if let Some(file) = &limits.free_space_file {
            let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
            free.bytes = text.trim().parse().unwrap_or(u64::MAX);
        }
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::tests::{fresh, registration};
    use crate::layout::tests::store_path;
    use crate::roots::temporary::TempRoots;

    #[test]
    fn it_collects_below_the_limit_and_only_what_is_dead() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        database
            .register(&[registration(1, &[]), registration(2, &[])])
            .unwrap();
        for number in [1, 2] {
            std::fs::write(layout.real_path(&store_path(number)), "x").unwrap();
        }
        let mut roots = TempRoots::open(&layout).unwrap();
        roots.add(&[&store_path(2)]).unwrap();
        let file = directory.path().join("free");
        std::fs::write(&file, "1000").unwrap();
        let limits = Limits {
            min_free: 500,
            max_free: 2000,
            interval: Duration::from_millis(5),
            keep_outputs: false,
            keep_derivations: false,
            free_space_file: Some(file.clone()),
        };
        let (said, hear) = crossbeam_channel::unbounded();
        let say = move |line: &str| drop(said.send(line.to_owned()));
        let watcher =
            AutoGc::start(layout.clone(), DatabaseOptions::default(), limits, say).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(database.is_valid(&store_path(1)).unwrap());
        std::fs::write(&file, "400").unwrap();
        let line = hear.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(line, "running auto-GC to free 1600 bytes");
        while database.is_valid(&store_path(1)).unwrap() {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(watcher);
        assert!(database.is_valid(&store_path(2)).unwrap());
        assert!(
            hear.try_recv().is_err(),
            "it tried again although nothing had changed"
        );
    }
}
