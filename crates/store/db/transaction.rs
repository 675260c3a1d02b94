//! Transactions that are tried again as a whole while another process is in the way.
//! Mirrors Nix's `retrySQLite`; knows nothing of what a transaction does.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use windrow_sys::waiting::Wait;

use super::{Database, busy};
use crate::error::{Error, Result};

impl Database {
    /// Runs a body that only reads, on one state of the database.
    pub(super) fn read<T>(&self, body: impl Fn() -> Result<T>) -> Result<T> {
        retry_while_busy(|| self.transaction("begin deferred", &body))
    }

    /// Runs a body that writes. The write lock is taken at once: a transaction that begins by
    /// reading would have to start over whenever another process writes in between.
    pub(super) fn write<T>(&self, body: impl Fn() -> Result<T>) -> Result<T> {
        retry_while_busy(|| self.transaction("begin immediate", &body))
    }

    fn transaction<T>(&self, begin: &str, body: &impl Fn() -> Result<T>) -> Result<T> {
        self.execute("begin a transaction", begin)?;
        let result = body().and_then(|value| {
            self.execute("commit a transaction", "commit")
                .map(|()| value)
        });
        // Some failures, such as a full disk, end the transaction on their own.
        if result.is_err() && !self.connection.is_autocommit() {
            self.execute("roll a transaction back", "rollback")?;
        }
        result
    }

    fn execute(&self, action: &'static str, sql: &str) -> Result<()> {
        let mut statement = self.statement(action, sql)?;
        statement
            .execute([])
            .map(|_| ())
            .map_err(self.failed_to(action))
    }
}

/// Tries again for as long as the answer is that the database is busy, and work is not to end.
pub(crate) fn retry_while_busy<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut wait = Wait::new();
    loop {
        match attempt() {
            Err(Error::DatabaseBusy { path, .. }) => wait
                .sleep(random_wait(), || busy::database(&path))
                .map_err(Error::io("wait for the database", &path))?,
            answer => return answer,
        }
    }
}

/// A wait below a tenth of a second, random so that processes in each other's way part.
pub(super) fn random_wait() -> Duration {
    Duration::from_micros(RandomState::new().hash_one(()) % 100_000)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::tests::{fresh, registration};
    use super::*;
    use crate::layout::tests::store_path;

    #[test]
    fn a_busy_transaction_runs_again_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (_, database) = fresh(&directory);
        let attempts = Cell::new(0);
        let insert = "insert into ValidPaths (path, hash, registrationTime) values (?, 'h', 1)";
        database
            .write(|| {
                attempts.set(attempts.get() + 1);
                let inserted = database.connection.execute(insert, [store_path(1)]);
                inserted.map_err(database.failed_to("insert"))?;
                if attempts.get() == 1 {
                    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                    let busy = rusqlite::Error::SqliteFailure(code, None);
                    return Err(database.failed_to("insert")(busy));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(attempts.get(), 2);
        assert!(database.is_valid(&store_path(1)).unwrap());
    }

    #[test]
    fn a_full_disk_leaves_the_database_usable() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let pages: i64 = database
            .connection
            .query_row("pragma page_count", [], |row| row.get(0))
            .unwrap();
        let limit = |pages: i64| {
            let set = |_: &rusqlite::Row<'_>| Ok(());
            database
                .connection
                .pragma_update_and_check(None, "max_page_count", pages, set)
                .unwrap();
        };
        limit(pages + 2);
        let many: Vec<_> = (0..1000).map(|number| registration(number, &[])).collect();
        let error = database.write(|| database.insert_all(&many)).unwrap_err();
        assert!(matches!(error, Error::DatabaseFull { .. }), "{error}");
        assert!(database.all_valid_paths().unwrap().is_empty());
        limit(1 << 20);
        database.register(&many).unwrap();
        assert_eq!(database.all_valid_paths().unwrap().len(), 1000);
    }
}
