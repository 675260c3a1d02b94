//! Is the database file sound? Asked before anything is deleted for not being in it.

use rusqlite::ffi;

use super::{Database, failure};
use crate::error::Result;

impl Database {
    /// Looks at every page (SQLite's `quick_check`); if `thorough`, also compares the table of
    /// paths with its index, so that no valid path can be overlooked.
    ///
    /// # Errors
    /// [`crate::Error::DatabaseCorrupt`] with the first damage found.
    pub fn check(&self, thorough: bool) -> Result<()> {
        const ACTION: &str = "check it";
        let thorough = thorough.then_some("pragma integrity_check('ValidPaths')");
        for sql in ["pragma quick_check(1)"].into_iter().chain(thorough) {
            self.read(|| {
                let found: rusqlite::Result<String> =
                    self.connection.query_row(sql, [], |row| row.get(0));
                let found = found.map_err(self.failed_to(ACTION))?;
                if found == "ok" {
                    return Ok(());
                }
                let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
                let damage = rusqlite::Error::SqliteFailure(code, Some(found.replace('\n', "; ")));
                Err(failure::failed_to(ACTION, &self.path)(damage))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::super::tests::{fresh, registration};
    use super::super::{Database, DatabaseOptions};
    use crate::error::Error;

    #[test]
    fn a_row_that_an_index_lacks_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        let rows: Vec<_> = (0..500).map(|number| registration(number, &[])).collect();
        database.register(&rows).unwrap();
        database.check(true).unwrap();
        database
            .connection
            .execute_batch("pragma wal_checkpoint(truncate)")
            .unwrap();
        drop(database);
        let file = std::fs::File::options()
            .write(true)
            .read(true)
            .open(layout.db_dir().join("db.sqlite"))
            .unwrap();
        let length = file.metadata().unwrap().len();
        let mut found = 0;
        for page in 1..length / 4096 {
            let mut old = [0; 4096];
            file.read_exact_at(&mut old, page * 4096).unwrap();
            // A cell of another length, or with other bytes.
            file.write_all_at(&[0x55; 512], page * 4096 + 3500).unwrap();
            let checked = Database::open(&layout, &DatabaseOptions::default())
                .and_then(|database| database.check(true));
            if let Err(error) = checked {
                assert!(matches!(error, Error::DatabaseCorrupt { .. }), "{error}");
                found += 1;
            }
            file.write_all_at(&old, page * 4096).unwrap();
        }
        assert!(found > 20, "{found} of {} damaged pages", length / 4096 - 1);
        Database::open(&layout, &DatabaseOptions::default())
            .unwrap()
            .check(true)
            .unwrap();
    }
}
