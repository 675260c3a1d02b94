//! The store that is served: what its database says, asked by many threads.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use windrow_components::store_path::StoreDir;
use windrow_store::{Database, PathInfo, Result};
use windrow_sys::mutex;

use super::Offer;

/// How long a connection to the database is used. One that was opened where nothing may be written
/// may not see what others write since, and the store may have been replaced.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// A store that is only read.
pub(super) struct Store {
    pub(super) offer: Offer,
    pub(super) dir: StoreDir,
    /// Connections that nobody uses at present.
    idle: Mutex<Vec<Open>>,
}

struct Open {
    database: Database,
    since: Instant,
}

impl Open {
    fn is_good(&self) -> bool {
        self.since.elapsed() < KEPT_FOR
    }
}

impl Store {
    /// The store of an offer, if its database can be read.
    ///
    /// # Errors
    /// Those of opening the database.
    pub(super) fn open(offer: Offer) -> Result<Self> {
        let store = Self {
            dir: StoreDir::new(&offer.layout.store_dir),
            offer,
            idle: Mutex::default(),
        };
        store.ask(|_| Ok(()))?;
        Ok(store)
    }

    /// What is known of the valid path with that hash part.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) fn info(&self, hash_part: &str) -> Result<Option<PathInfo>> {
        self.ask(|database| match database.path_from_hash_part(hash_part)? {
            Some(path) => database.path_info(&path),
            None => Ok(None),
        })
    }

    fn ask<T>(&self, question: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let idle = mutex::lock(&self.idle).pop().filter(Open::is_good);
        let open = match idle {
            Some(open) => open,
            None => self.connect()?,
        };
        let answer = question(&open.database)?;
        let mut idle = mutex::lock(&self.idle);
        idle.retain(Open::is_good);
        idle.push(open);
        Ok(answer)
    }

    fn connect(&self) -> Result<Open> {
        /// How much of the database each connection may keep in memory, in KiB.
        const CACHE_KIB: u32 = 2 << 10;
        let layout = &self.offer.layout;
        let since = Instant::now();
        let database = match self.offer.read_only {
            true => Database::open_untouched(layout)?,
            false => Database::open_read_only(layout)?,
        };
        database.limit_cache(CACHE_KIB)?;
        Ok(Open { database, since })
    }
}
