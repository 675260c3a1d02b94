//! The database's tables, its version file, and the big lock under which both are made.
//! Knows schema 10 alone; older ones are Nix's to upgrade.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Database, transaction::random_wait};
use crate::error::{Error, Result};
use windrow_sys::flock;
use windrow_sys::waiting::{Wait, lock_on};

const VERSION: u32 = 10;
/// How long another process may hold the big lock without making the database.
const CREATION_WAIT: Duration = Duration::from_secs(60);

/// Nix before 2.36 creates the tables under a lock that others share, so each may exist already.
const TABLES: &str = r#"
create table if not exists ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null,
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer,
    sigs             text,
    ca               text
);
create table if not exists Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
create index if not exists IndexReferrer on Refs(referrer);
create index if not exists IndexReference on Refs(reference);
create trigger if not exists DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
create table if not exists DerivationOutputs (
    drv  integer not null,
    id   text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
create index if not exists IndexDerivationOutputs on DerivationOutputs(path);
"#;

/// Creates what is missing of the tables; to be called in a transaction.
pub(super) fn create_tables(database: &Database) -> Result<()> {
    database
        .connection
        .execute_batch(TABLES)
        .map_err(database.failed_to("create the tables"))
}

/// The version of the store's database if it is the one this program knows, or none if there is
/// no database; an error for any other.
pub(super) fn checked_version(db_dir: &Path) -> Result<Option<u32>> {
    let file = db_dir.join("schema");
    let content = match fs::read(&file) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", file)(error)),
    };
    let content = String::from_utf8_lossy(&content);
    // Nix truncates this file before it writes, so an empty one is one that isn't there yet.
    if content.is_empty() {
        return Ok(None);
    }
    let path = db_dir.join("db.sqlite");
    match content.trim_ascii().parse() {
        Ok(VERSION) => Ok(Some(VERSION)),
        Ok(found) if found > VERSION => Err(Error::SchemaTooNew {
            path,
            found,
            known: VERSION,
        }),
        Ok(found) => Err(Error::SchemaTooOld {
            path,
            found,
            known: VERSION,
        }),
        Err(_) => {
            let content = content.chars().take(40).collect();
            Err(Error::SchemaUnreadable {
                path: file,
                content,
            })
        }
    }
}

/// Takes the big lock, shared, of a store whose database exists; `create` is called under the
/// exclusive lock if it doesn't.
pub(super) fn lock_and_create(db_dir: &Path, create: impl Fn() -> Result<()>) -> Result<File> {
    let path = db_dir.join("big-lock");
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    let failed = || Error::io("lock", &path);
    let start = Instant::now();
    let mut wait = Wait::new();
    loop {
        flock::lock_shared(&lock, &path).map_err(failed())?;
        if checked_version(db_dir)?.is_some() {
            return Ok(lock);
        }
        // Never waited for: the holder may be a Nix that creates the database under its shared
        // lock and then keeps that for as long as it runs.
        lock.unlock().map_err(failed())?;
        if flock::try_lock_exclusive(&lock).map_err(failed())? {
            if checked_version(db_dir)?.is_none() {
                create()?;
                write_version(db_dir)?;
            }
            lock.unlock().map_err(failed())?;
        } else if start.elapsed() > CREATION_WAIT {
            return Err(Error::DatabaseInUse {
                lock: path,
                seconds: CREATION_WAIT.as_secs(),
            });
        } else {
            let what = || lock_on(&path);
            wait.sleep(random_wait() / 4, what).map_err(failed())?;
        }
    }
}

/// Takes the big lock, shared, if this user may open it.
pub(super) fn lock_shared_if_readable(db_dir: &Path) -> Result<Option<File>> {
    let path = db_dir.join("big-lock");
    let Ok(lock) = File::open(&path) else {
        return Ok(None);
    };
    flock::lock_shared(&lock, &path).map_err(Error::io("lock", &path))?;
    Ok(Some(lock))
}

/// The version is what says that the tables are complete, so it appears last and at once.
fn write_version(db_dir: &Path) -> Result<()> {
    let new = db_dir.join("schema.new");
    fs::write(&new, VERSION.to_string()).map_err(Error::io("write", &new))?;
    fs::rename(&new, db_dir.join("schema")).map_err(Error::io("rename", &new))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, registration};
    use super::super::{Database, DatabaseOptions};
    use super::*;
    use crate::layout::tests::store_path;

    #[test]
    fn a_creation_cut_short_is_completed() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        database.register(&[registration(1, &[])]).unwrap();
        drop(database);
        for torn in [true, false] {
            let file = layout.db_dir().join("schema");
            if torn {
                fs::write(&file, "").unwrap();
            } else {
                fs::remove_file(&file).unwrap();
            }
            let database = Database::open(&layout, &DatabaseOptions::default()).unwrap();
            assert!(database.is_valid(&store_path(1)).unwrap());
            assert_eq!(fs::read(&file).unwrap(), b"10");
        }
    }

    #[test]
    fn a_creator_that_keeps_a_shared_lock_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let layout = crate::layout::tests::scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let db_dir = layout.db_dir();
        // What Nix 2.8 does: shared lock, tables, version file, and the lock stays.
        let nix = File::create(db_dir.join("big-lock")).unwrap();
        flock::lock_shared(&nix, &db_dir).unwrap();
        std::thread::scope(|scope| {
            let opening =
                scope.spawn(|| Database::open(&layout, &DatabaseOptions::default()).unwrap());
            std::thread::sleep(Duration::from_millis(100));
            assert!(!opening.is_finished());
            let connection = rusqlite::Connection::open(db_dir.join("db.sqlite")).unwrap();
            connection.execute_batch(TABLES).unwrap();
            fs::write(db_dir.join("schema"), "10").unwrap();
            assert!(
                opening
                    .join()
                    .unwrap()
                    .all_valid_paths()
                    .unwrap()
                    .is_empty()
            );
        });
    }
}
