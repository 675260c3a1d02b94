//! Answers of caches, kept for later runs in the file that Nix keeps them in, so that each profits
//! from what the other has asked: `binary-cache-v6.sqlite` of Nix 2.2 to 2.30, `-v7` of 2.31 to
//! 2.34 and `-v8` of 2.35, whose tables of paths are the same.
//!
//! What is known is read from all and written to all, as far as they exist; the first is made if
//! there is none. Nothing depends on the files: one that is broken, locked or not to be written is
//! warned of and left alone for the rest of the run.

mod file;
mod row;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use windrow_components::store_path::StoreDir;

use crate::cache_info::CacheInfo;
use crate::narinfo::NarInfo;
use file::File;

/// The files' names; the first is the one that is made.
const NAMES: [&str; 3] = [
    "binary-cache-v6.sqlite",
    "binary-cache-v7.sqlite",
    "binary-cache-v8.sqlite",
];

/// How long answers hold, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// That a cache has a path (`narinfo-cache-positive-ttl`).
    pub positive: u64,
    /// That a cache does not have a path (`narinfo-cache-negative-ttl`).
    pub negative: u64,
    /// What a cache says of itself (`narinfo-cache-meta-ttl`).
    pub meta: u64,
}

impl Default for Ttl {
    fn default() -> Self {
        Self {
            positive: 30 * 24 * 3600,
            negative: 3600,
            meta: 7 * 24 * 3600,
        }
    }
}

/// What is known of a path in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing that still holds.
    Unknown,
    /// The cache does not have it.
    Absent,
    /// The cache has it.
    Present(Box<NarInfo>),
}

/// A cache that has been asked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRow {
    /// What it says of itself.
    pub info: CacheInfo,
    url: String,
    /// When it said so, in seconds since 1970.
    time: i64,
    /// Its number in each file that has it.
    ids: [Option<i64>; NAMES.len()],
}

/// The files with answers.
#[derive(Debug)]
pub struct Lookup {
    files: [Option<File>; NAMES.len()],
    store_dir: StoreDir,
    ttl: Ttl,
    warnings: Vec<String>,
}

impl Lookup {
    /// Opens the files in `dir`, `$XDG_CACHE_HOME/nix` or `~/.cache/nix`, for caches of the store
    /// at `store_dir`. Old rows are deleted if nobody has done so for a day.
    pub fn open(dir: &Path, store_dir: &StoreDir, ttl: Ttl) -> Self {
        let mut this = Self {
            files: [const { None }; NAMES.len()],
            store_dir: store_dir.clone(),
            ttl,
            warnings: Vec::new(),
        };
        let paths = NAMES.map(|name| dir.join(name));
        let are_there = paths.each_ref().map(|path| path.exists());
        for (at, path) in paths.iter().enumerate() {
            let opened = match are_there[at] || (at == 0 && !are_there.contains(&true)) {
                true => File::open(path).map(Some),
                false => Ok(None),
            };
            match opened {
                Ok(file) => this.files[at] = file,
                Err(warning) => this.warnings.push(warning),
            }
        }
        this.each(|_, file| file.purge(now(), ttl));
        this
    }

    /// What is to be warned of and has not been yet.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The cache with that key ([`crate::store_url::StoreUrl::key`]), if what it says of itself is
    /// known and still holds.
    pub fn cache(&mut self, url: &str) -> Option<CacheRow> {
        let oldest = oldest(self.ttl.meta);
        let mut best: Option<CacheRow> = None;
        let mut ids = [None; NAMES.len()];
        self.each(|at, file| {
            let Some((id, time, info)) = file.cache(url, oldest)? else {
                return Ok(());
            };
            ids[at] = Some(id);
            if best.as_ref().is_none_or(|best| best.time < time) {
                best = Some(CacheRow {
                    info,
                    url: url.to_owned(),
                    time,
                    ids,
                });
            }
            Ok(())
        });
        best.map(|row| CacheRow { ids, ..row })
    }

    /// Takes note of what a cache says of itself. What is known of its paths stays known.
    pub fn put_cache(&mut self, url: &str, info: &CacheInfo) -> CacheRow {
        let mut row = CacheRow {
            info: info.clone(),
            url: url.to_owned(),
            time: now(),
            ids: [None; NAMES.len()],
        };
        self.put_row(&mut row);
        row
    }

    fn put_row(&mut self, row: &mut CacheRow) {
        let default_dir = self.store_dir.clone();
        self.each(|at, file| {
            if row.ids[at].is_none() {
                let dir = row
                    .info
                    .store_dir
                    .as_deref()
                    .unwrap_or(default_dir.as_str());
                row.ids[at] = Some(file.put_cache(&row.url, row.time, dir, &row.info)?);
            }
            Ok(())
        });
    }

    /// What is known of the path with that hash part in a cache.
    pub fn narinfo(&mut self, cache: &CacheRow, hash_part: &str) -> Known {
        let mut answers = self.narinfos(cache, &[hash_part]);
        answers.pop().unwrap_or(Known::Unknown)
    }

    /// As [`Lookup::narinfo`], for many at once; the answers are in the order of the hash parts.
    pub fn narinfos(&mut self, cache: &CacheRow, hash_parts: &[&str]) -> Vec<Known> {
        let (positive, negative) = (oldest(self.ttl.positive), oldest(self.ttl.negative));
        let mut answers = vec![(i64::MIN, Known::Unknown); hash_parts.len()];
        self.each(|at, file| {
            let Some(id) = cache.ids[at] else {
                return Ok(());
            };
            file.narinfos(id, hash_parts, [negative, positive], |at, time, known| {
                if known != Known::Unknown && answers[at].0 < time {
                    answers[at] = (time, known);
                }
            })
        });
        answers.into_iter().map(|(_, known)| known).collect()
    }

    /// Takes note of answers of a cache, all in one transaction: what it has, or that it does not
    /// have the path with that hash part.
    pub fn put(&mut self, cache: &CacheRow, answers: &[(&str, Option<&NarInfo>)]) {
        let mut row = cache.clone();
        self.put_row(&mut row);
        self.each(|at, file| match row.ids[at] {
            Some(id) => file.put(id, now(), answers),
            None => Ok(()),
        });
    }

    /// Forgets what is known of a path in a cache, because it has proved wrong.
    pub fn forget(&mut self, cache: &CacheRow, hash_part: &str) {
        self.each(|at, file| match cache.ids[at] {
            Some(id) => file.forget(id, hash_part),
            None => Ok(()),
        });
    }

    /// Does something with each file that works. One that fails is not used any more.
    fn each(&mut self, mut act: impl FnMut(usize, &mut File) -> rusqlite::Result<()>) {
        for (at, slot) in self.files.iter_mut().enumerate() {
            let Some(file) = slot else {
                continue;
            };
            if let Err(error) = act(at, file) {
                self.warnings.push(file.warning(&error));
                *slot = None;
            }
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX))
}

/// The time after which rows must have been written that are no older than `ttl`.
fn oldest(ttl: u64) -> i64 {
    now().saturating_sub_unsigned(ttl)
}
