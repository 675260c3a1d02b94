//! What SQLite's answers mean for the user of a store, as errors of this crate.
//! Knows result codes only; the database file is named in every message.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::Error;
use windrow_sys::limits;
use windrow_sys::space::Room;

/// Turns SQLite's answer to an action on a database into the error to report.
pub(crate) fn failed_to(action: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> Error {
    move |source| {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed) => {
                Error::DatabaseBusy { path, source }
            }
            Some(ErrorCode::DiskFull) => Error::DatabaseFull { path, note: "" },
            // SQLite says so when its own files can't be made or grown.
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) if is_full(&path) => {
                Error::DatabaseFull { path, note: "" }
            }
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) if has_no_inodes(&path) => {
                let note = " (there are no inodes left)";
                Error::DatabaseFull { path, note }
            }
            Some(ErrorCode::SystemIoFailure) if is_too_large(&path) => {
                let note = " (the limit on the size of files is reached: raise it, 'ulimit -f')";
                Error::DatabaseFull { path, note }
            }
            Some(ErrorCode::ReadOnly) => Error::DatabaseReadOnly { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::DatabaseCorrupt { path, source }
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Error::DatabaseForbidden { path, source }
            }
            _ => Error::Database {
                action,
                path,
                source,
            },
        }
    }
}

fn is_full(file: &Path) -> bool {
    room_beside(file).is_some_and(|room| room.bytes == 0)
}

/// Whether the database or its journal may not grow by a page.
fn is_too_large(file: &Path) -> bool {
    const PAGE: u64 = 64 << 10;
    let Some(limit) = limits::file_size() else {
        return false;
    };
    let mut journal = file.as_os_str().to_owned();
    journal.push("-wal");
    let sizes = [file.as_os_str(), &journal].map(|it| std::fs::metadata(it).map(|it| it.len()));
    let mut sizes = sizes.into_iter().flatten();
    sizes.any(|size| size.saturating_add(PAGE) > limit)
}

fn has_no_inodes(file: &Path) -> bool {
    room_beside(file).is_some_and(|room| room.inodes == Some(0))
}

fn room_beside(file: &Path) -> Option<Room> {
    Room::of(file.parent()?).ok()
}

impl Error {
    /// What a result code of SQLite means (its `SQLITE_IOERR`, `SQLITE_BUSY`, ...), for stores that
    /// fail on purpose.
    pub fn of_sqlite_code(action: &'static str, path: &Path, code: i32) -> Self {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        failed_to(action, path)(source)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn each_cause_says_what_to_do() {
        let message = |code| {
            let path = Path::new("/s/db.sqlite");
            Error::of_sqlite_code("look up a path", path, code).to_string()
        };
        for (code, expected) in [
            (ffi::SQLITE_FULL, "the disk is full"),
            (ffi::SQLITE_READONLY_DIRECTORY, "is read-only; run as"),
            (ffi::SQLITE_CORRUPT, "is damaged"),
            (ffi::SQLITE_NOTADB, "is damaged"),
            (ffi::SQLITE_CANTOPEN, "check the permissions"),
            (ffi::SQLITE_PROTOCOL, "is busy"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "is busy"),
            (ffi::SQLITE_IOERR, "cannot look up a path in"),
        ] {
            let message = message(code);
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("'/s/db.sqlite'"), "{message}");
        }
    }
}
