//! Deletes dead entries: first their rows, some at a time, then their files, on several threads.
//! Whatever has become a root or is referred to since is left alone; cut short, it leaves only
//! what is dead.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use super::by_use::enough;
use super::server::{HashPart, Shared};
use super::{Collected, Event};
use crate::Database;
use crate::Layout;
use crate::db::StoreGraph;
use crate::error::{Error, Result};
use windrow_sys::flock;
use windrow_sys::interrupt::{self, Stop};
use windrow_sys::space::Room;
use windrow_sys::tree::delete_store_path;
use windrow_sys::{limits, threads as workers};

/// How many entries lose their rows together; a process that wants one of them waits for no more
/// than these.
const BATCH: usize = 64;
/// File systems gain nothing from more threads than this.
const THREADS: usize = 4;

/// Something in the store directory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    name: OsString,
    /// If its name begins like a store path's.
    pub(super) part: Option<HashPart>,
    was_valid: bool,
    /// Its place in the graph of the store, if it has one.
    place: Option<u32>,
    /// The size of its NAR, where that matters.
    nar_size: u64,
}

impl Entry {
    /// An entry of which only the name is known.
    pub(super) fn unknown(layout: &Layout, name: OsString) -> Self {
        let path = format!("{}/{}", layout.store_dir, name.to_string_lossy());
        Self {
            part: layout.hash_part(&path).ok().copied(),
            name,
            was_valid: false,
            place: None,
            nar_size: 0,
        }
    }

    /// The entry of a path that is, or may be, valid.
    pub(super) fn valid(layout: &Layout, path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        Self {
            was_valid: true,
            ..Self::unknown(layout, name.into())
        }
    }

    /// The entry of the valid path at a place of the store's graph.
    pub(super) fn at(layout: &Layout, whole: &StoreGraph, at: u32) -> Self {
        Self {
            place: Some(at),
            nar_size: whole.facts.get(at as usize).map_or(0, |it| it.nar_size),
            ..Self::valid(layout, whole.graph.path(at))
        }
    }

    /// Its path in the logical store.
    pub(super) fn path(&self, layout: &Layout) -> String {
        format!("{}/{}", layout.store_dir, self.name.to_string_lossy())
    }

    /// Whether it is the scratch directory of a process that lives, which locks it (Nix since
    /// 2.12).
    pub(super) fn is_held(&self, layout: &Layout) -> bool {
        if !self.name.as_encoded_bytes().starts_with(b"tmp-") {
            return false;
        }
        File::open(layout.real_store_dir.join(&self.name))
            .is_ok_and(|dir| !flock::try_lock_exclusive(&dir).unwrap_or(true))
    }
}

/// A deletion under way.
pub(super) struct Sweep<'a, 't> {
    pub(super) layout: &'a Layout,
    pub(super) database: &'a mut Database,
    pub(super) shared: &'a Shared,
    pub(super) max_freed: u64,
    pub(super) min_inodes: u64,
    /// How many bytes of NARs are to go, if not all.
    pub(super) excess: Option<u64>,
    pub(super) stop: Option<&'a Stop>,
    pub(super) collected: &'a mut Collected,
    /// The places of what lost its row.
    pub(super) gone: Vec<u32>,
    pub(super) tell: &'a mut (dyn FnMut(Event<'_>) + 't),
}

impl Sweep<'_, '_> {
    /// Deletes the entries in their order, until enough is freed.
    pub(super) fn delete(&mut self, entries: Vec<Entry>) -> Result<()> {
        // What exceeds the limit should be little.
        let (batch, threads) = match self.max_freed {
            u64::MAX => (BATCH, limits::processors(THREADS)),
            _ => (1, 1),
        };
        let total = self.collected.deleted + self.enough(&entries) as u64;
        let (layout, shared) = (self.layout, self.shared);
        std::thread::scope(|scope| {
            let (jobs, waiting) = crossbeam_channel::unbounded::<Entry>();
            let (results, done) = crossbeam_channel::unbounded();
            let delete = move |entry: Entry| {
                let freed = delete_store_path(&layout.real_store_dir.join(&entry.name));
                shared.end(entry.part);
                freed
            };
            let started = workers::share_work(scope, threads, || {
                let (mut waiting, results) = (waiting.clone().into_iter(), results.clone());
                move || {
                    while waiting
                        .next()
                        .is_some_and(|it| results.send(delete(it)).is_ok())
                    {}
                }
            });
            let mut left = &*entries;
            loop {
                let next = &left[..left.len().min(batch)];
                let (some, rest) = left.split_at(self.enough(next));
                left = rest;
                if some.is_empty() || self.stop.is_some_and(Stop::is_set) {
                    break;
                }
                may_go_on(layout)?;
                let mut under_way = 0;
                for entry in self.invalidate(some)? {
                    let path = entry.path(layout);
                    (self.tell)(Event::Deleting {
                        path: &path,
                        done: self.collected.deleted + under_way,
                        of: total,
                    });
                    under_way += 1;
                    // The threads live as long as this sender.
                    let _ = jobs.send(entry);
                }
                if started == 0 {
                    let ours = waiting.try_iter().map(delete);
                    ours.for_each(|freed| drop(results.send(freed)));
                }
                self.count(done.iter().take(under_way as usize))?;
                if self.collected.bytes > self.max_freed && self.has_inodes() {
                    (self.tell)(Event::LimitReached(self.max_freed));
                    break;
                }
            }
            Ok(())
        })
    }

    /// Counts what was deleted; all of it, although something could not be.
    fn count(&mut self, deleted: impl Iterator<Item = windrow_sys::Result<u64>>) -> Result<()> {
        let mut failed = None;
        for freed in deleted {
            match freed {
                Ok(bytes) => {
                    self.collected.deleted += 1;
                    self.collected.bytes += bytes;
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// How many of the first entries are to go.
    fn enough(&self, entries: &[Entry]) -> usize {
        self.excess.map_or(entries.len(), |excess| {
            enough(entries.iter().map(|entry| entry.nar_size), excess)
        })
    }

    /// Whether as many inodes are free as are wanted.
    fn has_inodes(&self) -> bool {
        let few = |room: Room| room.inodes.is_some_and(|free| free < self.min_inodes);
        self.min_inodes == 0 || !Room::of(&self.layout.real_store_dir).is_ok_and(few)
    }

    /// Takes away the rows of entries, and returns those whose files may be deleted.
    fn invalidate(&mut self, entries: &[Entry]) -> Result<Vec<Entry>> {
        let parts: Vec<Option<HashPart>> = entries.iter().map(|entry| entry.part).collect();
        let free = self.shared.begin(&parts);
        let free: Vec<&Entry> = entries
            .iter()
            .zip(free)
            .filter(|(_, free)| *free)
            .map(|(entry, _)| entry)
            .collect();
        let paths: Vec<String> = free.iter().map(|entry| entry.path(self.layout)).collect();
        let asked: Vec<(&str, bool)> = paths
            .iter()
            .zip(&free)
            .map(|(path, entry)| (path.as_str(), entry.was_valid))
            .collect();
        let may_go = match self.database.invalidate_unneeded(&asked) {
            Ok(may_go) => may_go,
            Err(error) => {
                free.iter().for_each(|entry| self.shared.end(entry.part));
                return Err(error);
            }
        };
        let mut doomed = Vec::with_capacity(free.len());
        for (entry, may_go) in free.into_iter().zip(may_go) {
            if may_go {
                self.gone.extend(entry.place);
                if let Some(excess) = &mut self.excess {
                    *excess = excess.saturating_sub(entry.nar_size);
                }
                doomed.push(entry.clone());
            } else {
                self.shared.end(entry.part);
            }
        }
        Ok(doomed)
    }
}

fn may_go_on(layout: &Layout) -> Result<()> {
    interrupt::check().map_err(Error::io("go on deleting from", &layout.real_store_dir))
}

/// Deletes the entries of `.links` that no path shares any more; returns how many bytes the others
/// save.
pub(super) fn delete_unused_links(layout: &Layout) -> Result<i64> {
    let dir = layout.real_store_dir.join(".links");
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        other => other.map_err(Error::io("list", &dir))?,
    };
    let mut saved = 0;
    for entry in entries {
        may_go_on(layout)?;
        let path = entry.map_err(Error::io("list", &dir))?.path();
        let metadata = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(Error::io("look at", &path))?,
        };
        if metadata.nlink() == 1 {
            fs::remove_file(&path).map_err(Error::io("delete", &path))?;
        } else {
            // The link itself is one of the names.
            saved += (metadata.nlink() as i64 - 2) * metadata.size() as i64;
        }
    }
    let overhead = dir
        .metadata()
        .map_or(0, |metadata| metadata.blocks() as i64 * 512);
    Ok(saved - overhead)
}
