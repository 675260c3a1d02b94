//! Opens SQLite's connections, for writing and for reading, with the settings Nix gives them.
//! Knows files and pragmas; tables are not looked at.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::failure::failed_to;
use super::transaction::retry_while_busy;
use super::{DatabaseOptions, busy};
use crate::error::{Error, Result};

/// How much of the database may be kept in memory; taken only as it is needed.
const CACHE_KIB: i64 = 64 << 10;

/// Opens and configures a connection like the constructor of Nix's `SQLite` and
/// `LocalStore::openDB`.
pub(crate) fn connect(
    path: &Path,
    create: OpenFlags,
    options: &DatabaseOptions,
) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let vfs = if options.use_wal {
        c"unix"
    } else {
        c"unix-dotfile"
    };
    busy::note(path);
    let opened = retry_while_busy(|| {
        Connection::open_with_flags_and_vfs(path, flags, vfs)
            .and_then(|mut connection| configure(&mut connection, options).map(|()| connection))
            .map_err(failed_to("open it", path))
    });
    match opened {
        Err(Error::DatabaseForbidden { path, .. }) if !options.use_wal && is_in_wal_mode(&path) => {
            Err(Error::DatabaseNeedsWal { path })
        }
        answer => answer,
    }
}

/// Whether the file's header says that it can only be read together with a log.
fn is_in_wal_mode(path: &Path) -> bool {
    const READ_VERSION: u64 = 19;
    let mut version = [0];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut version, READ_VERSION))
        .is_ok()
        && version == [2]
}

fn configure(connection: &mut Connection, options: &DatabaseOptions) -> rusqlite::Result<()> {
    tune(connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let synchronous = if options.fsync_metadata {
        "normal"
    } else {
        "off"
    };
    connection.pragma_update(None, "synchronous", synchronous)?;

    // Setting the mode needs the database for oneself, so it is only set where it differs.
    let wanted = if options.use_wal { "wal" } else { "truncate" };
    let mode: String =
        connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0))?;
    if mode != wanted {
        connection.pragma_update_and_check(Some("main"), "journal_mode", wanted, |_| Ok(()))?;
    }
    if options.use_wal {
        // Rarer checkpoints than SQLite's default: they are what makes a registration slow.
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 40_000, |_| Ok(()))?;
        // The log and its index stay when the last user leaves, so that those who may not create
        // files can still read; the limit makes the last user empty the log.
        connection.pragma_update_and_check(None, "journal_size_limit", 1_i64 << 40, |_| Ok(()))?;
        connection.file_control(Some(c"main"), rusqlite::FileControl::PersistWal(&mut 1))?;
    }
    Ok(())
}

/// What concerns this process alone, not the file.
fn tune(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(busy::wait))?;
    // SQLite would compile cached statements again for each value bound to them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Kibibytes are negative here. The default of 2 MiB is less than the indices of a large
    // store, so pages would be read again for every path.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

pub(crate) fn connect_read_only(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    busy::note(path);
    retry_while_busy(|| {
        let shared = Connection::open_with_flags(path, flags)
            .and_then(readable)
            .map_err(failed_to("open it", path));
        match shared {
            Err(Error::DatabaseForbidden { .. } | Error::DatabaseReadOnly { .. })
                if log_is_empty(path) =>
            {
                connect_immutable(path)
            }
            answer => answer,
        }
    })
}

/// Opens a database for reading without a file being made beside it, which SQLite does where it
/// finds no log. With a log there is something to read in that, or somebody who writes.
pub(crate) fn connect_untouched(path: &Path) -> Result<Connection> {
    match log_of(path).exists() {
        true => connect_read_only(path),
        false => connect_immutable(path),
    }
}

fn connect_immutable(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(immutable_uri(path), flags)
        .and_then(readable)
        .map_err(failed_to("open it", path))
}

/// SQLite opens files late; the first read tells whether it could.
fn readable(mut connection: Connection) -> rusqlite::Result<Connection> {
    tune(&mut connection)?;
    connection.query_row("select count(*) from sqlite_master", [], |_| Ok(()))?;
    Ok(connection)
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn log_is_empty(path: &Path) -> bool {
    match log_of(path).metadata() {
        Ok(metadata) => metadata.size() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri + "?immutable=1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_hide_what_sqlite_would_interpret() {
        assert_eq!(
            immutable_uri(Path::new("/a b?c#d%")),
            "file:/a%20b%3fc%23d%25?immutable=1"
        );
    }
}
