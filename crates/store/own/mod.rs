//! windrow's own database, which lies beside Nix's so that Nix's schema stays untouched: failed
//! paths and the like. Knows how it is opened and shared; what its tables mean is for the modules
//! that own them.

pub mod failed_paths;
pub mod history;
pub mod recorder;
pub mod uploads;
pub(crate) mod uses;

use std::path::PathBuf;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::Layout;
use crate::db::{DatabaseOptions, connect, connect_read_only, failed_to, retry_while_busy};
use crate::error::Result;

/// All tables. Older and newer releases share one file, so a table only ever gets columns that may
/// be null.
const TABLES: &[&str] = &[
    failed_paths::TABLE,
    history::TABLES,
    uploads::TABLES,
    uses::TABLE,
];

/// How much of it is kept in memory, in KiB: it is written a row here and a row there, and hardly
/// read.
const CACHE_KIB: i64 = 2 << 10;

/// An open database. Any number of processes, and of connections in one, may use it at the same
/// time.
#[derive(Debug)]
pub struct OwnDatabase {
    connection: Connection,
    path: PathBuf,
}

impl OwnDatabase {
    /// Opens the database of a store, and creates it if there is none. The directories must exist.
    ///
    /// # Errors
    /// Those of a damaged, full or unwritable database.
    pub fn open(layout: &Layout, options: &DatabaseOptions) -> Result<Self> {
        let path = path(layout);
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_CREATE, options)?;
        // The log is written into the database now and then, not at the end of every run, which
        // would have to wait for the disk.
        let setting = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection
            .set_db_config(setting, true)
            .and_then(|_| connection.pragma_update(None, "cache_size", -CACHE_KIB))
            .map_err(failed_to("open it", &path))?;
        let database = Self { connection, path };
        database.write("create its tables", |connection| {
            TABLES
                .iter()
                .try_for_each(|sql| connection.execute_batch(sql))
        })?;
        Ok(database)
    }

    /// Opens the database for reading, if there is one.
    ///
    /// # Errors
    /// Those of a damaged or unreadable database.
    pub fn open_read_only(layout: &Layout) -> Result<Option<Self>> {
        let path = path(layout);
        if !path.exists() {
            return Ok(None);
        }
        let connection = connect_read_only(&path)?;
        Ok(Some(Self { connection, path }))
    }

    /// Runs a body that only reads; `action` says what for, as an infinitive.
    ///
    /// # Errors
    /// Those of a damaged or unreadable database.
    pub fn read<T>(
        &self,
        action: &'static str,
        body: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        retry_while_busy(|| body(&self.connection).map_err(failed_to(action, &self.path)))
    }

    /// Runs a body in a transaction of its own, again while others are in the way.
    ///
    /// # Errors
    /// Those of a damaged, full or unwritable database; nothing has changed then.
    pub fn write<T>(
        &self,
        action: &'static str,
        body: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let once = || {
            let behavior = TransactionBehavior::Immediate;
            let transaction = Transaction::new_unchecked(&self.connection, behavior)?;
            let value = body(&transaction)?;
            transaction.commit().map(|()| value)
        };
        retry_while_busy(|| once().map_err(failed_to(action, &self.path)))
    }
}

fn path(layout: &Layout) -> PathBuf {
    layout.db_dir().join("windrow.sqlite")
}

/// Whether a store has such a database.
pub(crate) fn exists(layout: &Layout) -> bool {
    path(layout).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::scratch;

    #[test]
    fn many_may_open_it_at_once_and_a_failed_write_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        assert!(OwnDatabase::open_read_only(&layout).unwrap().is_none());
        layout.create_directories(None, false).unwrap();
        assert!(OwnDatabase::open_read_only(&layout).unwrap().is_none());
        std::thread::scope(|scope| {
            for number in 0..6 {
                let layout = &layout;
                scope.spawn(move || {
                    let database = OwnDatabase::open(layout, &DatabaseOptions::default()).unwrap();
                    let sql = "insert into FailedPaths (path, time) values (?1, ?1)";
                    for path in (number..60).step_by(6) {
                        let added = database.write("add", |db| db.execute(sql, [path]));
                        assert_eq!(added.unwrap(), 1);
                    }
                });
            }
        });
        let count = |database: &OwnDatabase| {
            let sql = "select count(*) from FailedPaths";
            database.read("count", |db| {
                db.query_row(sql, [], |row| row.get::<_, i64>(0))
            })
        };
        let database = OwnDatabase::open(&layout, &DatabaseOptions::default()).unwrap();
        assert_eq!(count(&database).unwrap(), 60);
        let half = database.write("do half of it", |db| {
            db.execute("delete from FailedPaths", [])?;
            db.execute("delete from NoSuchTable", [])
        });
        assert!(
            half.unwrap_err()
                .to_string()
                .contains("cannot do half of it")
        );
        assert_eq!(count(&database).unwrap(), 60);
        let reader = OwnDatabase::open_read_only(&layout).unwrap().unwrap();
        assert_eq!(count(&reader).unwrap(), 60);
    }
}
