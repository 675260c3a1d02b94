//! What was built and is yet to be pushed to binary caches: a queue for each cache, in windrow's
//! own database, and a lock for whoever pushes to one. What is pushed how, and when, is up to the
//! caller.

use std::fs::File;
use std::path::PathBuf;

use windrow_components::hash::sha256;
use windrow_sys::flock;

use crate::Layout;
use crate::error::{Error, Result};
use crate::own::OwnDatabase;

/// Its tables.
pub(crate) const TABLES: &str = "
create table if not exists UploadCaches (
    id  integer primary key not null,
    key text unique not null,
    url text not null
);
create table if not exists Uploads (
    cache integer not null,
    path  text not null,
    primary key (cache, path),
    foreign key (cache) references UploadCaches(id) on delete cascade
) without rowid;
";

/// A cache that paths wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// What it is called, however its URL is spelt.
    pub key: String,
    /// Its URL with all parameters, as it was last named. The database may be read by others, so it
    /// must hold no password.
    pub url: String,
}

/// The queues of one store.
#[derive(Debug)]
pub struct UploadQueue {
    database: OwnDatabase,
}

impl UploadQueue {
    /// The queues that a database holds, which was opened for writing.
    pub fn new(database: OwnDatabase) -> Self {
        Self { database }
    }

    /// Opens the queues for looking only; `None` if nothing ever waited.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn open_read_only(layout: &Layout) -> Result<Option<Self>> {
        let Some(database) = OwnDatabase::open_read_only(layout)? else {
            return Ok(None);
        };
        let there = database.read("look for what waits to be pushed", |connection| {
            connection.table_exists(None, "Uploads")
        })?;
        Ok(there.then_some(Self { database }))
    }

    /// Has full paths wait for each of the caches. Those that wait already do so once.
    ///
    /// # Errors
    /// When the database can't be written; nothing has changed then.
    pub fn add(&self, caches: &[Cache], paths: &[&str]) -> Result<()> {
        self.database.write("note what is to be pushed", |db| {
            let mut name = db.prepare_cached(
                "insert into UploadCaches (key, url) values (?1, ?2) on conflict (key) do update \
                 set url = ?2 returning id",
            )?;
            let sql = "insert or ignore into Uploads (cache, path) values (?, ?)";
            let mut add = db.prepare_cached(sql)?;
            for Cache { key, url } in caches {
                let id: i64 = name.query_row([key, url], |row| row.get(0))?;
                for path in paths {
                    add.execute((id, path))?;
                }
            }
            Ok(())
        })
    }

    /// The paths that wait for the cache of that key, sorted.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn waiting(&self, key: &str) -> Result<Vec<String>> {
        self.database.read("read what is to be pushed", |db| {
            let mut list = db.prepare_cached(
                "select path from Uploads join UploadCaches on id = cache where key = ? \
                 order by path",
            )?;
            list.query_map([key], |row| row.get(0))?.collect()
        })
    }

    /// Forgets that these paths wait for the cache of that key.
    ///
    /// # Errors
    /// When the database can't be written; nothing has changed then.
    pub fn remove(&self, key: &str, paths: &[String]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.database.write("note what was pushed", |db| {
            let mut remove = db.prepare_cached(
                "delete from Uploads where path = ?2 and \
                 cache = (select id from UploadCaches where key = ?1)",
            )?;
            for path in paths {
                remove.execute([key, path])?;
            }
            Ok(())
        })
    }

    /// The caches that something waits for, in the order of their keys.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn caches(&self) -> Result<Vec<Cache>> {
        self.database.read("read what is to be pushed", |db| {
            let mut list = db.prepare(
                "select key, url from UploadCaches where id in (select cache from Uploads) \
                 order by key",
            )?;
            let cache = |row: &rusqlite::Row<'_>| {
                Ok(Cache {
                    key: row.get(0)?,
                    url: row.get(1)?,
                })
            };
            list.query_map([], cache)?.collect()
        })
    }
}

/// The right to push to one cache what waits in the queue of one store: nobody else does so while
/// this lives, which a process that is killed does not.
#[derive(Debug)]
pub struct PushLock {
    _file: File,
}

impl PushLock {
    fn open(layout: &Layout, key: &str) -> Result<(File, PathBuf)> {
        let hash: String = sha256(key.as_bytes())[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = layout.db_dir().join(format!("windrow-push-{hash}.lock"));
        let file = flock::open_private(&path)?;
        Ok((file, path))
    }

    /// Takes the lock for the cache of that key if nobody holds it.
    ///
    /// # Errors
    /// When its file can't be opened or locked.
    pub fn try_take(layout: &Layout, key: &str) -> Result<Option<Self>> {
        let (file, path) = Self::open(layout, key)?;
        let taken = flock::try_lock_exclusive(&file).map_err(Error::io("lock", path))?;
        Ok(taken.then_some(Self { _file: file }))
    }

    /// Waits for the lock for the cache of that key.
    ///
    /// # Errors
    /// When its file can't be opened or locked, or the wait is to end.
    pub fn take(layout: &Layout, key: &str) -> Result<Self> {
        let (file, path) = Self::open(layout, key)?;
        flock::lock_exclusive(&file, &path).map_err(Error::io("lock", &path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseOptions;
    use crate::layout::tests::{scratch, store_path};

    fn cache(key: &str, url: &str) -> Cache {
        Cache {
            key: key.to_owned(),
            url: url.to_owned(),
        }
    }

    #[test]
    fn each_cache_has_a_queue_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        assert!(UploadQueue::open_read_only(&layout).unwrap().is_none());
        let open = || {
            let database = OwnDatabase::open(&layout, &DatabaseOptions::default());
            UploadQueue::new(database.unwrap())
        };
        let (one, other) = (store_path(1), store_path(2));
        let (near, far) = (cache("http://n", "http://n?x=1"), cache("s3://f", "s3://f"));
        let queue = open();
        queue.add(&[near.clone(), far.clone()], &[&one]).unwrap();
        let renamed = cache("http://n", "http://n?x=2");
        queue
            .add(std::slice::from_ref(&renamed), &[&other, &one])
            .unwrap();
        let again = UploadQueue::open_read_only(&layout).unwrap().unwrap();
        assert_eq!(again.caches().unwrap(), [renamed, far.clone()]);
        let mut both = [one.clone(), other.clone()];
        both.sort_unstable();
        assert_eq!(again.waiting("http://n").unwrap(), both);
        assert_eq!(again.waiting("s3://f").unwrap(), [one]);
        assert!(again.waiting("http://other").unwrap().is_empty());
        open().remove("http://n", &both).unwrap();
        assert_eq!(again.caches().unwrap(), [far]);
    }

    #[test]
    fn one_at_a_time_pushes_to_a_cache() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let lock = PushLock::try_take(&layout, "http://n").unwrap().unwrap();
        assert!(PushLock::try_take(&layout, "http://n").unwrap().is_none());
        assert!(PushLock::try_take(&layout, "http://f").unwrap().is_some());
        drop(lock);
        PushLock::take(&layout, "http://n").unwrap();
    }
}
