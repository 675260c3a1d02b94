//! How SQLite waits for the transactions of other processes: until they end, or work is to end, and
//! with a word about them when it takes long.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use windrow_sys::mutex;
use windrow_sys::waiting::{Wait, holder_elsewhere};

thread_local! {
    /// The wait under way.
    static WAIT: RefCell<Option<Wait>> = const { RefCell::new(None) };
}

/// The databases that this process has opened: SQLite does not say which one it waits for.
static OPENED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Takes note of a database that is opened.
pub(super) fn note(path: &Path) {
    let mut opened = mutex::lock(&OPENED);
    if !opened.iter().any(|known| known == path) {
        opened.push(path.to_owned());
    }
}

/// Called by SQLite when another process is in the way, for the `count`th time in one wait, from 0:
/// sleeps for a moment. Whether to try again.
pub(super) fn wait(count: i32) -> bool {
    let slice = Duration::from_millis(u64::from(count.clamp(1, 20).unsigned_abs()));
    let mut wait = match count {
        0 => Wait::new(),
        _ => WAIT.take().unwrap_or_else(Wait::new),
    };
    let goes_on = wait.sleep(slice, any_database).is_ok();
    WAIT.set(Some(wait));
    goes_on
}

fn any_database() -> String {
    let opened = mutex::lock(&OPENED);
    let is_held = |path: &&PathBuf| holder_of(path).is_some();
    match opened.iter().find(is_held) {
        Some(path) => database(path),
        None => "a database of the store, whose user cannot be seen from here".to_owned(),
    }
}

/// What to say of a wait for a database.
pub(super) fn database(path: &Path) -> String {
    let shown = path.display();
    match holder_of(path) {
        Some(holder) => format!("the database '{shown}', in use by {holder}"),
        None => format!("the database '{shown}', whose user cannot be seen from here"),
    }
}

/// Who has a lock on a database: on the index of its log, if it has one, or on its file.
fn holder_of(path: &Path) -> Option<String> {
    let mut index = path.as_os_str().to_owned();
    index.push("-shm");
    holder_elsewhere(Path::new(&index)).or_else(|| holder_elsewhere(path))
}
