//! The collector: deletes what nothing needs, while builds by anybody go on (Nix's
//! `collectGarbage`). Here is the order of its steps; roots, the socket, liveness and the deletion
//! itself have files of their own.

pub mod auto;
mod by_use;
mod collection;
mod liveness;
mod noted;
pub mod roots;
pub mod runtime;
mod server;
mod survey;
mod sweep;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Database;
use crate::DatabaseOptions;
use crate::Layout;
use crate::db::Keep;
use crate::error::{Error, Result};
pub use by_use::ByUse;
use collection::Collection;
use liveness::Liveness;
use noted::Noted;
use server::{HashPart, Server, Shared};
pub use survey::{Amount, Survey};
use sweep::{Entry, Sweep};
use windrow_sys::flock;
use windrow_sys::interrupt::{self, Stop};

/// How long to wait before a lock is tried again by a collection that may be stopped.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// What is to be done with what nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// List what is alive.
    ListLive,
    /// List what is dead.
    ListDead,
    /// Delete what is dead.
    DeleteDead,
    /// Delete these paths, or fail.
    Delete(Vec<String>),
}

/// How garbage is collected.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// What to do.
    pub action: Action,
    /// Delete given paths although there are roots that lead to them. Temporary roots count all the
    /// same.
    pub ignore_liveness: bool,
    /// Stop after more than this many bytes.
    pub max_freed: u64,
    /// Go on, however many bytes that frees, until this many inodes are free.
    pub min_inodes: u64,
    /// Whether derivations keep their outputs alive, except from [`Action::Delete`].
    pub keep_outputs: bool,
    /// Whether paths keep the derivation alive that built them, except from [`Action::Delete`].
    pub keep_derivations: bool,
    /// Has the last use decide what of the dead goes, or is listed, and in which order; there is a
    /// survey then. Not for [`Action::Delete`].
    pub by_use: Option<ByUse>,
    /// How windrow's own database is opened, in which uses are noted.
    pub database: DatabaseOptions,
    /// Ends the deletion early, and in good order, when it is set.
    pub stop: Option<Stop>,
}

impl GcOptions {
    /// Without any limit, and with nothing kept that roots don't need.
    pub fn new(action: Action, database: DatabaseOptions) -> Self {
        Self {
            action,
            ignore_liveness: false,
            max_freed: u64::MAX,
            min_inodes: 0,
            keep_outputs: false,
            keep_derivations: false,
            by_use: None,
            database,
            stop: None,
        }
    }

    /// In which ways paths keep others. Who names paths wants them gone, so only what is needed
    /// holds them back, not what is kept for convenience (Nix 2.35).
    fn keep(&self) -> Keep {
        let collects = !matches!(self.action, Action::Delete(_));
        Keep {
            outputs: self.keep_outputs && collects,
            derivations: self.keep_derivations && collects,
        }
    }
}

/// What came of it, as far as it went.
#[derive(Debug, Default)]
pub struct Collected {
    /// The paths that were asked for, sorted, or in the order of their deletion if the last use
    /// decides that; none when paths are deleted.
    pub paths: Vec<String>,
    /// How many paths were deleted.
    pub deleted: u64,
    /// How many bytes that freed.
    pub bytes: u64,
    /// What there was and what went of it, if the last use decided that.
    pub survey: Option<Survey>,
}

/// What is said on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step begins, said in Nix's words.
    Step(&'static str),
    /// A path is being deleted.
    Deleting {
        /// The path.
        path: &'a str,
        /// How many were deleted before it.
        done: u64,
        /// How many there are, as far as is known.
        of: u64,
    },
    /// Enough was deleted.
    LimitReached(u64),
    /// How many bytes hard links save.
    LinksSave(i64),
    /// When paths were last used could not be noted.
    NotNoted(&'a Error),
}

/// Opens the database for a collection that deletes, on a disk that may be full: what was kept in
/// reserve for it is given back first (Nix 1.8: `reserveSpace`). Whoever opens the store next keeps
/// something anew.
///
/// # Errors
/// Those of [`Database::open`]; [`Error::NoRoomToCollect`] if even that is no room.
pub fn open_database(layout: &Layout, options: &DatabaseOptions) -> Result<Database> {
    give_back_reserve(layout);
    let options = DatabaseOptions {
        gc_reserved_space: 0,
        ..options.clone()
    };
    Database::open(layout, &options).map_err(|error| no_room(layout, error))
}

fn give_back_reserve(layout: &Layout) {
    // Where there is none it was used before, or never asked for.
    let _ = fs::remove_file(layout.reserve());
}

/// Says of a want of space that there is nothing to give back.
fn no_room(layout: &Layout, error: Error) -> Error {
    if !error.is_want_of_space() {
        return error;
    }
    Error::NoRoomToCollect {
        state_dir: layout.state_dir.clone(),
        source: Box::new(error),
    }
}

/// Collects garbage. Waits for other collections to end.
///
/// # Errors
/// [`Error::StillAlive`] for a path that can't be deleted; what can't be read, deleted or locked;
/// [`Error::NoRoomToCollect`]. `collected` tells how far it came.
pub fn collect(
    layout: &Layout,
    database: &mut Database,
    options: &GcOptions,
    collected: &mut Collected,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let done = collect_here(layout, database, options, collected, tell);
    done.map_err(|error| no_room(layout, error))
}

fn collect_here(
    layout: &Layout,
    database: &mut Database,
    options: &GcOptions,
    collected: &mut Collected,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let deletes = matches!(options.action, Action::DeleteDead | Action::Delete(_));
    if deletes {
        // What a damaged database does not show would be deleted.
        database.check(true)?;
        give_back_reserve(layout);
    }
    server::prepare(layout)?;
    let Some(_lock) = lock(layout, options.stop.as_ref(), tell)? else {
        return Ok(());
    };
    let shared = Arc::new(Shared::default());
    // From here on, new roots are told to the server.
    let server = Server::start(layout, Arc::clone(&shared))?;

    tell(Event::Step("finding garbage collector roots..."));
    let roots = find_roots(layout, database, &shared, options.ignore_liveness)?;
    // Not before: a process notes what it has used while it still has its temporary roots.
    let noted = Noted::read(layout, options)?;
    let (keep, by_use) = (options.keep(), options.by_use.is_some());
    let ways = Keep {
        outputs: keep.outputs || by_use,
        derivations: keep.derivations || by_use,
    };
    let whole = database.whole(ways, by_use)?;
    let live = Liveness::mark(layout, (&whole, keep), &roots, &shared.roots());
    let sweep = Sweep {
        layout,
        database,
        shared: &shared,
        max_freed: options.max_freed,
        min_inodes: options.min_inodes,
        excess: None,
        stop: options.stop.as_ref(),
        collected,
        gone: Vec::new(),
        tell,
    };
    let collection = Collection {
        options,
        noted: &noted,
        whole: &whole,
        keep,
        live: &live,
        sweep,
    };
    collection.run()?;
    drop(server);
    if deletes {
        tell(Event::Step("deleting unused links..."));
        let saved = sweep::delete_unused_links(layout)?;
        tell(Event::LinksSave(saved));
    }
    settle(layout, &shared)
}

/// The roots that are links or in use by processes, none with `ignore_liveness`. Temporary roots
/// are added to what is shared with the server.
fn find_roots(
    layout: &Layout,
    database: &mut Database,
    shared: &Shared,
    ignore_liveness: bool,
) -> Result<Vec<String>> {
    // First those of processes: one that ends after this has made its links by then.
    let temporary = roots::temporary(layout)?;
    let parts = temporary
        .iter()
        .filter_map(|(path, _)| layout.hash_part(path).ok());
    shared.add_roots(parts.copied());
    let mut roots = Vec::new();
    if !ignore_liveness {
        roots.extend(roots::links(layout, database)?.into_keys());
        roots.extend(runtime::find(layout, database)?.into_keys());
    }
    Ok(roots)
}

/// Waits a moment for clients that were answered just now to write their roots down, as those of
/// Nix before 2.35 do only then: a collection that begins right after this one would not know of
/// them.
fn settle(layout: &Layout, shared: &Shared) -> Result<()> {
    loop {
        let recent = shared.recent();
        if recent.is_empty() {
            return Ok(());
        }
        let written = roots::temporary(layout)?;
        let written: hashbrown::HashSet<&[u8; 32]> = written
            .iter()
            .filter_map(|(path, _)| layout.hash_part(path).ok())
            .collect();
        if recent.iter().all(|part| written.contains(part)) {
            return Ok(());
        }
        interrupt::check().map_err(Error::io("wait for users of", layout.temproots_dir()))?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes the collector's lock for oneself; none if the collection is to stop before it begins.
fn lock(
    layout: &Layout,
    stop: Option<&Stop>,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Option<File>> {
    let path = layout.gc_lock();
    let lock = flock::open_private(&path)?;
    if flock::try_lock_exclusive(&lock).map_err(Error::io("lock", &path))? {
        return Ok(Some(lock));
    }
    tell(Event::Step("waiting for the big garbage collector lock..."));
    let Some(stop) = stop else {
        flock::lock_exclusive(&lock, &path).map_err(Error::io("lock", &path))?;
        return Ok(Some(lock));
    };
    // Whoever waits for this thread to end must not have to wait for another's collection.
    while !stop.is_set() {
        if flock::try_lock_exclusive(&lock).map_err(Error::io("lock", &path))? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOCK_POLL);
    }
    Ok(None)
}

/// All that lies in the store directory.
fn entries(layout: &Layout) -> Result<Vec<Entry>> {
    let dir: &Path = &layout.real_store_dir;
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        if name != ".links" {
            entries.push(Entry::unknown(layout, name));
        }
    }
    Ok(entries)
}

/// What the collector answers to a client that sends these bytes and nothing more.
pub(crate) fn answers_to_client(layout: &Layout, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    server::answers_to_client(layout, bytes)
}

#[cfg(test)]
mod tests;
