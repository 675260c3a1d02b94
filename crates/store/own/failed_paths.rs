//! Remembers which outputs failed to build, so that nobody tries again in vain (Nix 1.8:
//! `hasPathFailed` and `registerFailedPath`). When that is asked for and for which failures is the
//! systems' part.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::OptionalExtension as _;

use crate::error::Result;
use crate::own::OwnDatabase;

/// The table, as Nix 1.8 had it in its own database.
pub(crate) const TABLE: &str = "create table if not exists FailedPaths \
     (path text primary key not null, time integer not null) without rowid";

/// The memory of failed builds of one store.
#[derive(Debug)]
pub struct FailedPaths {
    database: OwnDatabase,
}

impl FailedPaths {
    /// The memory that a database holds.
    pub fn new(database: OwnDatabase) -> Self {
        Self { database }
    }

    /// Whether an output failed to build before (`hasPathFailed`).
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn has_failed(&self, path: &str) -> Result<bool> {
        self.database.read("look up a failed path", |db| {
            let mut find = db.prepare_cached("select 1 from FailedPaths where path = ?")?;
            let found = find.query_row([path], |_| Ok(())).optional()?;
            Ok(found.is_some())
        })
    }

    /// Remembers that outputs failed to build (`registerFailedPath`). One that failed before keeps
    /// its time.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn register(&self, paths: &[String]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        self.database.write("remember failed paths", |db| {
            let sql = "insert or ignore into FailedPaths (path, time) values (?, ?)";
            let mut insert = db.prepare_cached(sql)?;
            for path in paths {
                insert.execute((path, now))?;
            }
            Ok(())
        })
    }

    /// All outputs that failed, sorted (`queryFailedPaths`).
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn all(&self) -> Result<Vec<String>> {
        self.database.read("list failed paths", |db| {
            let mut list = db.prepare("select path from FailedPaths order by path")?;
            list.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Forgets that outputs failed (`clearFailedPaths`), and says how many of them were known.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn clear(&self, paths: &[String]) -> Result<usize> {
        self.database.write("forget failed paths", |db| {
            let mut delete = db.prepare_cached("delete from FailedPaths where path = ?")?;
            let mut count = 0;
            for path in paths {
                count += delete.execute([path])?;
            }
            Ok(count)
        })
    }

    /// Forgets every failure, and says how many there were.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn clear_all(&self) -> Result<usize> {
        self.database.write("forget failed paths", |db| {
            db.execute("delete from FailedPaths", [])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseOptions;
    use crate::layout::tests::{scratch, store_path};

    #[test]
    fn failures_are_remembered_until_they_are_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let open = || OwnDatabase::open(&layout, &DatabaseOptions::default()).unwrap();
        let (one, other, third) = (store_path(1), store_path(2), store_path(3));
        let failed = FailedPaths::new(open());
        failed.register(&[one.clone(), other.clone()]).unwrap();
        failed.register(std::slice::from_ref(&other)).unwrap();
        let again = FailedPaths::new(open());
        assert!(again.has_failed(&one).unwrap() && again.has_failed(&other).unwrap());
        assert!(!again.has_failed(&third).unwrap());
        assert_eq!(again.all().unwrap().len(), 2);
        assert_eq!(again.clear(&[one.clone(), third]).unwrap(), 1);
        assert_eq!(failed.all().unwrap(), [other]);
        assert_eq!(failed.clear_all().unwrap(), 1);
        assert!(failed.all().unwrap().is_empty());
    }
}
