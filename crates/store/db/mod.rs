//! Nix's SQLite database of valid paths, schema 10, shared with any Nix 2 at the same time.
//! Knows rows and locks; files in the store directory are none of its business.

mod busy;
mod closure;
mod connection;
mod cycles;
pub(crate) mod failure;
mod integrity;
pub mod path_graph;
mod query;
pub mod reader;
mod register;
mod schema;
mod transaction;
mod walk;
mod whole;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{CachedStatement, Connection, OpenFlags};

use crate::Layout;
use crate::error::{Error, Result};
use connection::connect_untouched;
pub(crate) use connection::{connect, connect_read_only};
pub(crate) use failure::failed_to;
pub(crate) use transaction::retry_while_busy;
pub use walk::{Edges, WalkRoot};
pub use whole::{Facts, Keep, StoreGraph};

/// More than the number of different statements, so that none is ever compiled twice.
const CACHED_STATEMENTS: usize = 64;

/// How the database is opened; the defaults are Nix's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// Nix's `fsync-metadata`: a power cut can't damage the database.
    pub fsync_metadata: bool,
    /// Nix's `use-sqlite-wal`. Without it the locks are files beside the database, which exclude
    /// only others that do the same, so all users of one store must agree on it.
    pub use_wal: bool,
    /// Nix's `gc-reserved-space`, in bytes: a file that the collector can delete to have room to
    /// work when the disk is full.
    pub gc_reserved_space: u64,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            fsync_metadata: true,
            use_wal: true,
            gc_reserved_space: 8 << 20,
        }
    }
}

/// What the database records of a valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The store path.
    pub path: String,
    /// SHA-256 of the path's NAR.
    pub nar_hash: [u8; 32],
    /// Size of the NAR in bytes; 0 if unknown.
    pub nar_size: u64,
    /// When the path first became valid here, in seconds since 1970.
    pub registration_time: i64,
    /// The derivation that built it; need not exist.
    pub deriver: Option<String>,
    /// The paths it refers to, itself perhaps among them; sorted where a query returns them.
    pub references: Vec<String>,
    /// Built in this store, so trusted without a signature.
    pub ultimate: bool,
    /// Signatures, each `NAME:BASE64`.
    pub sigs: Vec<String>,
    /// The content address, such as `fixed:r:sha256:NIX32`.
    pub ca: Option<String>,
}

impl PathInfo {
    /// A path that refers to nothing and comes from somewhere else, not registered yet.
    pub(crate) fn of(path: String, nar_hash: [u8; 32], nar_size: u64) -> Self {
        Self {
            path,
            nar_hash,
            nar_size,
            registration_time: 0,
            deriver: None,
            references: Vec::new(),
            ultimate: false,
            sigs: Vec::new(),
            ca: None,
        }
    }
}

/// A path that is to become valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What to record of it.
    pub info: PathInfo,
    /// If it is a derivation, the name and path of each output known beforehand.
    pub outputs: Vec<(String, String)>,
}

/// An open database. Holds the store's big lock, shared, for as long as it lives.
#[derive(Debug)]
pub struct Database {
    // Closed before the lock below it is given back.
    connection: Connection,
    path: PathBuf,
    store_dir: String,
    _big_lock: Option<File>,
}

impl Database {
    /// Opens the database of a store, and creates it if there is none; any number of processes
    /// may do so at once. The directories must exist ([`Layout::create_directories`]).
    ///
    /// # Errors
    /// [`Error::SchemaTooNew`], [`Error::SchemaTooOld`], [`Error::SchemaUnreadable`];
    /// [`Error::DatabaseInUse`] if another process keeps the store from being created; those of
    /// a damaged or unwritable database; [`Error::File`] for the files beside it.
    pub fn open(layout: &Layout, options: &DatabaseOptions) -> Result<Self> {
        let db_dir = layout.db_dir();
        reserve_space(&layout.reserve(), options.gc_reserved_space);
        let path = db_dir.join("db.sqlite");
        let big_lock = schema::lock_and_create(&db_dir, || {
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_CREATE, options)?;
            let new = Self::new(connection, path.clone(), layout, None)?;
            new.write(|| schema::create_tables(&new))
        })?;
        let connection = connect(&path, OpenFlags::empty(), options)?;
        Self::new(connection, path, layout, Some(big_lock))
    }

    /// Opens the database of a store that this process may not or will not write. Where not even
    /// SQLite's own files can be made beside it, and no transaction is waiting in them, it is
    /// read as if nobody could change it.
    ///
    /// # Errors
    /// [`Error::DatabaseMissing`] if there is none, else as [`Database::open`].
    pub fn open_read_only(layout: &Layout) -> Result<Self> {
        Self::open_to_read(layout, connect_read_only)
    }

    /// As [`Database::open_read_only`], for a database that nobody changes meanwhile: SQLite makes
    /// no files beside it.
    ///
    /// # Errors
    /// The same.
    pub fn open_untouched(layout: &Layout) -> Result<Self> {
        Self::open_to_read(layout, connect_untouched)
    }

    /// A database without paths that is in no file, for a store that does not exist yet.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory(layout: &Layout) -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory();
        let connection = connection.map_err(failed_to("open it", &path))?;
        let new = Self::new(connection, path, layout, None)?;
        schema::create_tables(&new)?;
        Ok(new)
    }

    fn open_to_read(
        layout: &Layout,
        connect: impl FnOnce(&Path) -> Result<Connection>,
    ) -> Result<Self> {
        let db_dir = layout.db_dir();
        let path = db_dir.join("db.sqlite");
        let big_lock = schema::lock_shared_if_readable(&db_dir)?;
        if schema::checked_version(&db_dir)?.is_none() || !path.exists() {
            return Err(Error::DatabaseMissing { path });
        }
        let connection = connect(&path)?;
        Self::new(connection, path, layout, big_lock)
    }

    fn new(
        connection: Connection,
        path: PathBuf,
        layout: &Layout,
        big_lock: Option<File>,
    ) -> Result<Self> {
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        let store_dir = layout.store_dir.clone();
        Ok(Self {
            connection,
            path,
            store_dir,
            _big_lock: big_lock,
        })
    }

    /// Keeps no more of the database in memory from now on than this many KiB. For callers that
    /// touch a few pages for each of very many paths, and has better use for the memory.
    ///
    /// # Errors
    /// Those of a damaged database.
    pub fn limit_cache(&self, kib: u32) -> Result<()> {
        let set = self
            .connection
            .pragma_update(None, "cache_size", -i64::from(kib));
        set.map_err(self.failed_to("limit its cache"))
    }

    fn statement(&self, action: &'static str, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection
            .prepare_cached(sql)
            .map_err(self.failed_to(action))
    }

    fn failed_to(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
        failure::failed_to(action, &self.path)
    }
}

/// Makes sure of some space that a collector can free. Best effort, as in Nix: the store is of
/// use without it.
pub(crate) fn reserve_space(path: &Path, bytes: u64) {
    let is_enough = |metadata: std::fs::Metadata| metadata.size() >= bytes;
    if bytes == 0 || path.metadata().is_ok_and(is_enough) {
        return;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    if let (Ok(file), Ok(length)) = (file, i64::try_from(bytes)) {
        let _ = nix::fcntl::posix_fallocate(&file, 0, length);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;
    use crate::layout::tests::{scratch, store_path};
    use windrow_sys::flock;

    pub(crate) fn registration(number: usize, references: &[usize]) -> Registration {
        let info = PathInfo {
            path: store_path(number),
            nar_hash: [7; 32],
            nar_size: 120,
            registration_time: 1000,
            deriver: None,
            references: references.iter().map(|&it| store_path(it)).collect(),
            ultimate: false,
            sigs: vec![],
            ca: None,
        };
        Registration {
            info,
            outputs: vec![],
        }
    }

    pub(crate) fn fresh(directory: &tempfile::TempDir) -> (Layout, Database) {
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let database = Database::open(&layout, &DatabaseOptions::default()).unwrap();
        (layout, database)
    }

    #[test]
    fn a_new_database_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, database) = fresh(&directory);
        let db_dir = layout.db_dir();
        assert_eq!(fs::read(db_dir.join("schema")).unwrap(), b"10");
        assert_eq!(db_dir.join("reserved").metadata().unwrap().size(), 8 << 20);
        let pragma = |name| -> String {
            database
                .connection
                .pragma_query_value(None, name, |row| {
                    row.get_ref(0)?
                        .as_str()
                        .map(str::to_owned)
                        .or_else(|_| Ok(row.get::<_, i64>(0)?.to_string()))
                })
                .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("synchronous"), "1");
        assert_eq!(pragma("foreign_keys"), "1");
        assert_eq!(pragma("wal_autocheckpoint"), "40000");
        assert_eq!(pragma("user_version"), "0");

        let big_lock = File::open(db_dir.join("big-lock")).unwrap();
        assert!(!flock::try_lock_exclusive(&big_lock).unwrap());
        drop(database);
        assert!(flock::try_lock_exclusive(&big_lock).unwrap());
        assert!(
            db_dir.join("db.sqlite-wal").exists(),
            "the log should persist"
        );
    }

    #[test]
    fn a_fresh_store_opened_by_many_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let layout = &layout;
                scope.spawn(move || {
                    layout.create_directories(None, false).unwrap();
                    let mut database = Database::open(layout, &DatabaseOptions::default()).unwrap();
                    for number in (number..80).step_by(8) {
                        database.register(&[registration(number, &[])]).unwrap();
                    }
                });
            }
        });
        let database = Database::open(&layout, &DatabaseOptions::default()).unwrap();
        assert_eq!(database.all_valid_paths().unwrap().len(), 80);
    }

    #[test]
    fn without_a_log_the_journal_is_truncated() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let options = DatabaseOptions {
            use_wal: false,
            fsync_metadata: false,
            ..Default::default()
        };
        let mut database = Database::open(&layout, &options).unwrap();
        database.register(&[registration(1, &[])]).unwrap();
        assert!(!layout.db_dir().join("db.sqlite-wal").exists());
        drop(database);
        let database = Database::open(&layout, &options).unwrap();
        assert!(database.is_valid(&store_path(1)).unwrap());
        drop(database);

        drop(Database::open(&layout, &DatabaseOptions::default()).unwrap());
        let error = Database::open(&layout, &options).unwrap_err();
        assert!(matches!(error, Error::DatabaseNeedsWal { .. }), "{error}");
    }

    #[test]
    fn other_schemas_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, database) = fresh(&directory);
        drop(database);
        let refusal = |version: &str| {
            fs::write(layout.db_dir().join("schema"), version).unwrap();
            let error = Database::open_read_only(&layout).unwrap_err().to_string();
            let again = Database::open(&layout, &DatabaseOptions::default()).unwrap_err();
            assert_eq!(again.to_string(), error);
            error
        };
        assert!(
            refusal("11").contains("has schema 11, this program knows 10; use a newer windrow")
        );
        assert!(refusal("9").contains("has schema 9, this program needs 10"));
        assert!(refusal("ten").contains("holds 'ten'"));
    }

    #[test]
    fn a_damaged_database_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, database) = fresh(&directory);
        drop(database);
        for name in ["db.sqlite-wal", "db.sqlite-shm"] {
            fs::remove_file(layout.db_dir().join(name)).unwrap();
        }
        fs::write(layout.db_dir().join("db.sqlite"), [b'x'; 8192]).unwrap();
        let error = Database::open(&layout, &DatabaseOptions::default()).unwrap_err();
        assert!(matches!(error, Error::DatabaseCorrupt { .. }), "{error}");
        assert!(
            error.to_string().contains("db.sqlite' is damaged"),
            "{error}"
        );
        let error = Database::open_read_only(&layout).unwrap_err();
        assert!(matches!(error, Error::DatabaseCorrupt { .. }), "{error}");
    }

    #[test]
    fn a_database_damaged_inside_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        let many: Vec<_> = (0..2000).map(|number| registration(number, &[])).collect();
        database.register(&many).unwrap();
        drop(database);
        let file = layout.db_dir().join("db.sqlite");
        let mut bytes = fs::read(&file).unwrap();
        bytes[16384..].fill(0xff);
        fs::write(&file, bytes).unwrap();
        let mut database = Database::open(&layout, &DatabaseOptions::default()).unwrap();
        let error = database.register(&many).unwrap_err();
        assert!(matches!(error, Error::DatabaseCorrupt { .. }), "{error}");
    }

    #[test]
    fn a_missing_database_is_not_created_by_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        let error = Database::open_read_only(&layout).unwrap_err();
        assert!(matches!(error, Error::DatabaseMissing { .. }), "{error}");
        assert!(!layout.state_dir.exists());
    }

    #[test]
    fn a_reader_sees_what_is_committed_and_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        database.register(&[registration(1, &[])]).unwrap();
        let mut reader = Database::open_read_only(&layout).unwrap();
        assert!(reader.is_valid(&store_path(1)).unwrap());
        let error = reader.register(&[registration(2, &[])]).unwrap_err();
        assert!(matches!(error, Error::DatabaseReadOnly { .. }), "{error}");
    }

    /// The body of the test below, in a process of its own that is not root.
    #[test]
    #[ignore = "run by a_store_without_write_permission"]
    fn as_a_user_without_write_permission() {
        let layout = scratch(Path::new(&std::env::var_os("WINDROW_TEST_STORE").unwrap()));
        let error = Database::open(&layout, &DatabaseOptions::default()).unwrap_err();
        assert!(error.to_string().contains("big-lock"), "{error}");
        let database = Database::open_read_only(&layout).unwrap();
        assert!(database.is_valid(&store_path(1)).unwrap());
    }

    #[test]
    fn a_store_without_write_permission() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root, to make a store that this user may not write");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (layout, mut database) = fresh(&directory);
        database.register(&[registration(1, &[])]).unwrap();
        drop(database);
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), open_to_all).unwrap();
        for without_log in [false, true] {
            if without_log {
                for name in ["db.sqlite-wal", "db.sqlite-shm"] {
                    fs::remove_file(layout.db_dir().join(name)).unwrap();
                }
            }
            let name = "db::tests::as_a_user_without_write_permission";
            let run = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--ignored", name])
                .env("WINDROW_TEST_STORE", directory.path())
                .uid(65534)
                .gid(65534)
                .output();
            match run {
                // The build directory may lie where only root can go.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    eprintln!("skipped: another user cannot run this test program");
                    return;
                }
                run => {
                    let run = run.unwrap();
                    let output = String::from_utf8_lossy(&run.stdout).into_owned();
                    assert!(output.contains("1 passed"), "{without_log}: {output}");
                }
            }
        }
    }
}
