//! The one error type of this crate: what failed, on which path, and why.

use std::io;
use std::path::PathBuf;
use windrow_sys::interrupt;

use windrow_components::signing_key::KeyError;

use crate::nar::NarFault;

/// Everything that can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is wrong with a file.
    #[error(transparent)]
    File(#[from] windrow_sys::Error),

    /// An archive does not follow the NAR format.
    #[error("the NAR is damaged at byte {offset}: {fault}; fetch or make it again")]
    NarDamaged {
        /// How many bytes of the archive were read up to the fault.
        offset: u64,
        /// What is wrong there.
        fault: NarFault,
    },

    /// A file that something is to be signed with has no key.
    #[error("the file '{}', which is to hold a secret key, has none: {reason}", path.display())]
    SecretKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: KeyError,
    },

    /// The source of an archive could not be read.
    #[error("cannot read the NAR at byte {offset}: {source}")]
    NarUnreadable {
        /// How many bytes of the archive had been read.
        offset: u64,
        /// The source's answer.
        source: io::Error,
    },

    /// The store directory is reached through a symbolic link.
    #[error(
        "the store '{}' is reached through the symbolic link '{}', so its paths would not mean the \
         same on other machines; use the real path, or set NIX_IGNORE_SYMLINK_STORE=1",
        store.display(), link.display()
    )]
    SymlinkedStore {
        /// The store directory as it was given.
        store: PathBuf,
        /// The component of it that is a link.
        link: PathBuf,
    },

    /// The database was made by a newer program than this one.
    #[error(
        "this store's database '{}' has schema {found}, this program knows {known}; use a newer \
         windrow or another store", path.display()
    )]
    SchemaTooNew {
        /// The database file.
        path: PathBuf,
        /// The schema version of the store.
        found: u32,
        /// The schema version this program reads and writes.
        known: u32,
    },

    /// The database was made by an old Nix and has not been upgraded.
    #[error(
        "this store's database '{}' has schema {found}, this program needs {known}; let Nix 2.0 or \
         later open the store once to upgrade it, or use another store", path.display()
    )]
    SchemaTooOld {
        /// The database file.
        path: PathBuf,
        /// The schema version of the store.
        found: u32,
        /// The schema version this program reads and writes.
        known: u32,
    },

    /// The file that records the schema version holds something else.
    #[error(
        "'{}' should hold the database's schema version but holds '{content}'; restore it from a \
         backup, or write 10 into it if Nix 2 made the database", path.display()
    )]
    SchemaUnreadable {
        /// The version file.
        path: PathBuf,
        /// What it holds, cut to a readable length.
        content: String,
    },

    /// A store that is only to be read has no database.
    #[error("there is no store database at '{}'; give another store, or create one", path.display())]
    DatabaseMissing {
        /// Where the database would be.
        path: PathBuf,
    },

    /// Another process holds the big lock but makes no database.
    #[error(
        "the store's database is still missing after {seconds} s, and another process holds '{}'; \
         end that process and try again", lock.display()
    )]
    DatabaseInUse {
        /// The big lock.
        lock: PathBuf,
        /// How long was waited, in seconds.
        seconds: u64,
    },

    /// Another process holds the database's own locks; transactions are retried on this.
    #[error("the store database '{}' is busy: {source}", path.display())]
    DatabaseBusy {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },

    /// No room is left where the database lies.
    #[error(
        "the disk is full{note}: nothing can be added to the store database '{}'; free some space \
         on its file system, or collect garbage", path.display()
    )]
    DatabaseFull {
        /// The database file.
        path: PathBuf,
        /// What it is full of, if not of data.
        note: &'static str,
    },

    /// A collector lacks what little space it needs itself, and there is no reserve left.
    #[error(
        "{source}\nno room is left for the collector itself, and nothing in reserve that it could \
         give back; delete something by hand that is no store path on the file system of '{}', such \
         as old logs, and start it again", state_dir.display()
    )]
    NoRoomToCollect {
        /// Where the database and the reserve lie.
        state_dir: PathBuf,
        /// What could not be done.
        source: Box<Error>,
    },

    /// The database can be read but not written.
    #[error(
        "the store database '{}' is read-only; run as the store's owner, remount its file system \
         writable, or use another store", path.display()
    )]
    DatabaseReadOnly {
        /// The database file.
        path: PathBuf,
    },

    /// The database file can't be opened.
    #[error(
        "the store database '{}' cannot be opened ({source}); check the permissions of the file \
         and of its directory, or use another store", path.display()
    )]
    DatabaseForbidden {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },

    /// The database is in write-ahead mode, which the VFS for `use-sqlite-wal = false` can't read.
    #[error(
        "the store database '{}' uses a write-ahead log, so it cannot be opened without one; set \
         use-sqlite-wal to true",
        path.display()
    )]
    DatabaseNeedsWal {
        /// The database file.
        path: PathBuf,
    },

    /// The database file is damaged.
    #[error(
        "the store database '{}' is damaged ({source}); restore it from a backup, or save what \
         'sqlite3 {} .recover' still finds", path.display(), path.display()
    )]
    DatabaseCorrupt {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },

    /// The database refused something for another reason.
    #[error("cannot {action} in the store database '{}': {source}", path.display())]
    Database {
        /// What was tried, as an infinitive: "look up a path".
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },

    /// A row of the database holds a value that Nix never writes.
    #[error(
        "the store database '{}' holds '{value}' as {column} of '{store_path}'; delete that path \
         or restore the database from a backup", path.display()
    )]
    DatabaseValue {
        /// The database file.
        path: PathBuf,
        /// The store path whose row it is.
        store_path: String,
        /// The column of `ValidPaths`.
        column: &'static str,
        /// The value found.
        value: String,
    },

    /// A path was to be registered whose reference isn't valid.
    #[error(
        "cannot register '{path}': its reference '{reference}' is not valid in this store; build \
         or copy the reference first"
    )]
    ReferenceNotValid {
        /// The path that was to be registered.
        path: String,
        /// The reference without a row.
        reference: String,
    },

    /// Paths that were to be registered together refer to each other in a circle.
    #[error("cycle detected in the references of '{path}' from '{parent}'")]
    ReferenceCycle {
        /// The path at which the circle closes.
        path: String,
        /// The path whose reference closes it.
        parent: String,
    },

    /// A path was to be invalidated that others refer to.
    #[error("cannot delete '{path}' because it is in use by {}", .referrers.join(", "))]
    PathInUse {
        /// The path that was to go.
        path: String,
        /// The valid paths that refer to it, sorted.
        referrers: Vec<String>,
    },

    /// Something was asked about a path that isn't valid.
    #[error("path '{path}' is not valid")]
    PathNotValid {
        /// The path.
        path: String,
    },

    /// A path that was to be deleted is needed.
    #[error(
        "cannot delete path '{path}' since it is still alive; to find out why, use \
         'nix-store --query --roots' and '--query --referrers'"
    )]
    StillAlive {
        /// The path.
        path: String,
    },

    /// A path's files are no longer the ones that were registered.
    #[error("path '{path}' was modified! expected hash '{expected}', got '{found}'")]
    PathModified {
        /// The path.
        path: String,
        /// The registered hash of its NAR.
        expected: String,
        /// The hash of what is there.
        found: String,
    },

    /// What should be an export of store paths can't be read as one.
    #[error(
        "cannot import path number {number} of the export: {reason}; those before it are in the store"
    )]
    BadExport {
        /// Which path of the export, counted from 1.
        number: u64,
        /// What is wrong.
        reason: String,
    },

    /// Registrations given as text can't be read.
    #[error("line {line} of the registrations is wrong: {reason}; nothing was registered")]
    BadRegistration {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },

    /// A string that should be a store path is not one.
    #[error("'{path}' is not a path in the store '{store_dir}'")]
    NotAStorePath {
        /// The string.
        path: String,
        /// The logical store directory.
        store_dir: String,
    },

    /// A root's link would replace something that is not a link into the store.
    #[error(
        "cannot create the symbolic link '{}': something that does not point into the store is \
         already there; move it away or choose another name", link.display()
    )]
    RootExists {
        /// The link.
        link: PathBuf,
    },

    /// A root's link would lie in the store.
    #[error(
        "cannot create the garbage collector root '{}' inside the store; run from, or name, a \
         directory outside it", link.display()
    )]
    RootInStore {
        /// The link.
        link: PathBuf,
    },

    /// A file that should be a derivation can't be used as one.
    #[error("cannot use derivation '{path}': {source}")]
    Derivation {
        /// The derivation's store path.
        path: String,
        /// What is wrong with it.
        source: windrow_components::derivation::DerivationError,
    },

    /// Derivations that build on each other don't add up.
    #[error("cannot compute the output paths of a derivation: {0}")]
    DerivationInputs(#[from] windrow_components::derivation::DerivationError),

    /// A derivation's contents are not the ones its path was made of.
    #[error(
        "derivation '{path}' is corrupt: its contents give the path '{expected}'; delete it, and          make or fetch it again"
    )]
    DerivationCorrupt {
        /// The path it lies at.
        path: String,
        /// The path that its contents give.
        expected: String,
    },

    /// Plain data was malformed.
    #[error(transparent)]
    Data(#[from] windrow_components::Error),
}

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error with what was being done and to which path.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let wrap = windrow_sys::Error::io(action, path);
        move |source| wrap(source).into()
    }

    /// Whether there is no space left, no inode, or no quota.
    pub fn is_want_of_space(&self) -> bool {
        match self {
            Self::DatabaseFull { .. } => true,
            Self::File(windrow_sys::Error::Io { source, .. }) => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Whether it concerns the store as a whole, so that nobody can go on with it; or a signal has
    /// ended the wait for the store.
    pub fn is_fatal(&self) -> bool {
        let is_signalled = interrupt::is_signalled() && interrupt::is_cause_of(self);
        is_signalled || self.is_of_store()
    }

    fn is_of_store(&self) -> bool {
        matches!(
            self,
            Self::DatabaseMissing { .. }
                | Self::DatabaseInUse { .. }
                | Self::DatabaseBusy { .. }
                | Self::DatabaseFull { .. }
                | Self::DatabaseReadOnly { .. }
                | Self::DatabaseForbidden { .. }
                | Self::DatabaseNeedsWal { .. }
                | Self::DatabaseCorrupt { .. }
                | Self::Database { .. }
        )
    }
}
