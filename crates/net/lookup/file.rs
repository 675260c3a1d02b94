//! One file with answers: its tables and statements, which are those of Nix's
//! `NarInfoDiskCache`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Known, Ttl, row};
use crate::cache_info::CacheInfo;
use crate::narinfo::NarInfo;

/// How long is waited for others that write the file.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often old rows are deleted, in seconds.
const PURGE_INTERVAL: i64 = 24 * 3600;

/// Nix's tables, in the first of the files: only that is made. `Realisations` is not used here, but
/// Nix expects it.
const TABLES: &str = r"
create table if not exists BinaryCaches (
    id            integer primary key autoincrement not null,
    url           text unique not null,
    timestamp     integer not null,
    storeDir      text not null,
    wantMassQuery integer not null,
    priority      integer not null
);
create table if not exists NARs (
    cache       integer not null,
    hashPart    text not null,
    namePart    text,
    url         text,
    compression text,
    fileHash    text,
    fileSize    integer,
    narHash     text,
    narSize     integer,
    refs        text,
    deriver     text,
    sigs        text,
    ca          text,
    timestamp   integer not null,
    present     integer not null,
    primary key (cache, hashPart),
    foreign key (cache) references BinaryCaches(id) on delete cascade
);
create table if not exists Realisations (
    cache     integer not null,
    outputId  text not null,
    content   blob,
    timestamp integer not null,
    primary key (cache, outputId),
    foreign key (cache) references BinaryCaches(id) on delete cascade
);
create table if not exists LastPurge (
    dummy text primary key,
    value integer
);
";

const PUT_CACHE: &str = "insert into BinaryCaches (url, timestamp, storeDir, wantMassQuery, priority) \
    values (?1, ?2, ?3, ?4, ?5) on conflict (url) do update \
    set timestamp = ?2, storeDir = ?3, wantMassQuery = ?4, priority = ?5 returning id";

const PUT: &str = "insert or replace into NARs (cache, hashPart, namePart, url, compression, fileHash, \
    fileSize, narHash, narSize, refs, deriver, sigs, ca, timestamp, present) \
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)";

const PUT_ABSENT: &str =
    "insert or replace into NARs (cache, hashPart, timestamp, present) values (?, ?, ?, 0)";

const GET: &str = "select present, timestamp, namePart, url, compression, fileHash, fileSize, narHash, \
    narSize, refs, deriver, sigs, ca from NARs where cache = ?1 and hashPart = ?2 \
    and ((present = 0 and timestamp > ?3) or (present = 1 and timestamp > ?4))";

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    connection: Connection,
    path: PathBuf,
}

impl File {
    /// Opens the file, and makes it if there is none; fails with the warning to give.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| warning(path, &error))?;
        }
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            // What a power cut takes is asked for again.
            connection.pragma_update(None, "synchronous", "off")?;
            let tables = "select count(*) from sqlite_master where name in \
                ('BinaryCaches', 'NARs', 'LastPurge')";
            // Others may be reading, which the creation of tables would wait for.
            if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? < 3 {
                connection.execute_batch(TABLES)?;
            }
            Ok(connection)
        };
        let connection = open().map_err(|error: rusqlite::Error| warning(path, &error))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    /// What to warn of when the file has failed.
    pub(super) fn warning(&self, error: &rusqlite::Error) -> String {
        warning(&self.path, error)
    }

    fn write(
        &self,
        body: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        body(&transaction)?;
        transaction.commit()
    }

    /// Deletes what no longer holds, if nobody has done so for a day. Never what is younger than
    /// Nix's own times, which others may still want.
    pub(super) fn purge(&self, now: i64, ttl: Ttl) -> rusqlite::Result<()> {
        let last: Option<i64> = self
            .connection
            .query_row("select value from LastPurge", [], |row| row.get(0))
            .optional()?
            .flatten();
        if last.is_some_and(|last| last >= now - PURGE_INTERVAL && last <= now) {
            return Ok(());
        }
        let least = Ttl::default();
        let negative = now.saturating_sub_unsigned(ttl.negative.max(least.negative));
        let positive = now.saturating_sub_unsigned(ttl.positive.max(least.positive));
        self.write(|connection| {
            let old = "delete from NARs where (present = 0 and timestamp < ?1) \
                or (present = 1 and timestamp < ?2)";
            connection.execute(old, [negative, positive])?;
            let note = "insert or replace into LastPurge (dummy, value) values ('', ?)";
            connection.execute(note, [now]).map(drop)
        })
    }

    /// The number of the cache with that key, when it was asked, and what it says of itself.
    pub(super) fn cache(
        &self,
        url: &str,
        oldest: i64,
    ) -> rusqlite::Result<Option<(i64, i64, CacheInfo)>> {
        let sql = "select id, timestamp, storeDir, wantMassQuery, priority from BinaryCaches \
            where url = ?1 and timestamp > ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![url, oldest], |row| {
            let info = CacheInfo {
                store_dir: row.get(2)?,
                want_mass_query: row.get::<_, i64>(3)? != 0,
                priority: row.get(4)?,
            };
            Ok((row.get(0)?, row.get(1)?, info))
        });
        found.optional()
    }

    /// Takes note of a cache, and returns its number.
    pub(super) fn put_cache(
        &self,
        url: &str,
        time: i64,
        store_dir: &str,
        info: &CacheInfo,
    ) -> rusqlite::Result<i64> {
        let mut statement = self.connection.prepare_cached(PUT_CACHE)?;
        let values = params![url, time, store_dir, info.want_mass_query, info.priority];
        statement.query_row(values, |row| row.get(0))
    }

    /// Tells `found` of each hash part that something is known of: where it is in the list, when
    /// the cache was asked, and what it said. `oldest` are those of absent and of present rows.
    pub(super) fn narinfos(
        &self,
        cache: i64,
        hash_parts: &[&str],
        oldest: [i64; 2],
        mut found: impl FnMut(usize, i64, Known),
    ) -> rusqlite::Result<()> {
        // Locks are taken once for all of them.
        let _reading = self.connection.unchecked_transaction()?;
        let mut statement = self.connection.prepare_cached(GET)?;
        for (at, part) in hash_parts.iter().enumerate() {
            let mut rows = statement.query(params![cache, part, oldest[0], oldest[1]])?;
            if let Some(row) = rows.next()? {
                let known = match row.get::<_, i64>(0)? {
                    0 => Known::Absent,
                    _ => row::read(row, part)?
                        .map_or(Known::Unknown, |info| Known::Present(Box::new(info))),
                };
                found(at, row.get(1)?, known);
            }
        }
        Ok(())
    }

    /// Takes note of answers.
    pub(super) fn put(
        &self,
        cache: i64,
        now: i64,
        answers: &[(&str, Option<&NarInfo>)],
    ) -> rusqlite::Result<()> {
        self.write(|connection| {
            let mut present = connection.prepare_cached(PUT)?;
            let mut absent = connection.prepare_cached(PUT_ABSENT)?;
            for (part, info) in answers {
                match info {
                    Some(info) => row::write(&mut present, cache, part, now, info)?,
                    None => drop(absent.execute(params![cache, part, now])?),
                }
            }
            Ok(())
        })
    }

    pub(super) fn forget(&self, cache: i64, hash_part: &str) -> rusqlite::Result<()> {
        let sql = "delete from NARs where cache = ?1 and hashPart = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![cache, hash_part]).map(drop)
    }
}

fn warning(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!(
        "cannot use '{}', so answers of binary caches are not kept: {error}; delete it if it is \
         damaged",
        path.display()
    )
}
