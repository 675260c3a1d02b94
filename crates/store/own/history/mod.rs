//! The history of builds: what each builder took, by derivation name and platform, in windrow's own
//! database beside Nix's. Only reads and writes records; what they are used for is up to the
//! policies.

mod estimate;

use rusqlite::{Connection, params};

use crate::Layout;
use crate::error::Result;
use crate::own::OwnDatabase;

pub use estimate::{History, family};

/// How many builds of one derivation name and platform are kept; the next one takes the place of
/// the oldest.
pub const KEPT: u32 = 16;

/// Its tables.
pub(crate) const TABLES: &str = "
create table if not exists Derivations (
    id       integer primary key not null,
    name     text not null,
    system   text not null,
    builds   integer not null,
    estimate integer,
    unique (name, system)
);
create table if not exists Builds (
    derivation integer not null,
    slot       integer not null,
    ended      integer not null,
    wall       integer not null,
    cpu        integer not null,
    memory     integer,
    succeeded  integer not null,
    primary key (derivation, slot),
    foreign key (derivation) references Derivations(id) on delete cascade
) without rowid;
";

/// A good build's time counts three tenths in its derivation's estimate, what was known before the
/// rest.
const COUNT_BUILD: &str = "
insert into Derivations (name, system, builds, estimate) values (?1, ?2, 1, iif(?4, ?3, null))
    on conflict (name, system) do update set
        builds = builds + 1,
        estimate = iif(?4, coalesce(estimate + (?3 - estimate) * 3 / 10, ?3), estimate)
    returning id, (builds - 1) % ?5
";

const KEEP_BUILD: &str = "
insert or replace into Builds (derivation, slot, ended, wall, cpu, memory, succeeded)
    values (?, ?, ?, ?, ?, ?, ?)
";

/// What one builder took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// When it ended, in seconds since 1970.
    pub ended_s: u64,
    /// From its start to its end, in microseconds.
    pub wall_us: u64,
    /// Processor time of it and the processes it waited for, user and system, in microseconds.
    pub cpu_us: u64,
    /// The most memory that it, or one of the processes it waited for, had resident at a time, in
    /// bytes; `None` if that was less than the engine had itself.
    pub peak_memory: Option<u64>,
    /// Whether it ended well.
    pub succeeded: bool,
}

/// A build, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The derivation's name.
    pub name: String,
    /// The platform it was built for.
    pub system: String,
    /// What it took.
    pub build: Build,
}

/// Adds builds, inside a transaction.
pub(super) fn add(connection: &Connection, batch: &[Record]) -> rusqlite::Result<()> {
    let mut count = connection.prepare_cached(COUNT_BUILD)?;
    let mut keep = connection.prepare_cached(KEEP_BUILD)?;
    for Record {
        name,
        system,
        build,
    } in batch
    {
        let row = params![name, system, build.wall_us, build.succeeded, KEPT];
        let (id, slot): (i64, i64) = count.query_row(row, |row| Ok((row.get(0)?, row.get(1)?)))?;
        keep.execute(params![
            id,
            slot,
            build.ended_s,
            build.wall_us,
            build.cpu_us,
            build.peak_memory,
            build.succeeded,
        ])?;
    }
    Ok(())
}

/// All that is known of a derivation name on a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The derivation's name.
    pub name: String,
    /// The platform.
    pub system: String,
    /// How often it was built in all.
    pub count: u64,
    /// How long the next build is thought to take, in microseconds; none if it was never built
    /// well.
    pub estimate_us: Option<u64>,
    /// The last builds, oldest first.
    pub builds: Vec<Build>,
}

/// The database, open.
struct Records {
    database: OwnDatabase,
}

impl Records {
    /// Opens the database for looking only; `None` if nothing was ever recorded.
    fn open_read_only(layout: &Layout) -> Result<Option<Self>> {
        let Some(database) = OwnDatabase::open_read_only(layout)? else {
            return Ok(None);
        };
        let there = database.read("look for the history", |connection| {
            connection.table_exists(None, "Builds")
        })?;
        Ok(there.then_some(Self { database }))
    }

    /// Adds builds, all in one transaction.
    #[cfg(test)]
    fn add(&self, batch: &[Record]) -> Result<()> {
        self.database
            .write("record builds", |connection| add(connection, batch))
    }

    fn known(&self, pattern: Option<&str>) -> Result<Vec<Known>> {
        self.database.read("read the history", |connection| {
            let mut derivations = connection.prepare(
                "select id, name, system, builds, estimate from Derivations
                 where ?1 is null or name glob ?1 order by name, system",
            )?;
            let mut builds = connection.prepare(
                "select ended, wall, cpu, memory, succeeded, slot from Builds where derivation = ?",
            )?;
            let rows = derivations.query_map([pattern], |row| {
                let known = Known {
                    name: row.get(1)?,
                    system: row.get(2)?,
                    count: row.get(3)?,
                    estimate_us: row.get(4)?,
                    builds: Vec::new(),
                };
                Ok((row.get::<_, i64>(0)?, known))
            })?;
            let mut all = Vec::new();
            for row in rows {
                let (id, mut known) = row?;
                let rows = builds.query_map([id], |row| {
                    let build = Build {
                        ended_s: row.get(0)?,
                        wall_us: row.get(1)?,
                        cpu_us: row.get(2)?,
                        peak_memory: row.get(3)?,
                        succeeded: row.get(4)?,
                    };
                    Ok((row.get::<_, u64>(5)?, build))
                })?;
                let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
                // The slots are a ring: the oldest stands where the next build goes.
                let next = known.count % u64::from(KEPT);
                found.sort_unstable_by_key(|&(slot, _)| (slot < next, slot));
                known.builds = found.into_iter().map(|(_, build)| build).collect();
                all.push(known);
            }
            Ok(all)
        })
    }
}

/// What is known of derivations whose name matches the pattern (`*`, `?` and `[…]` as in a shell),
/// or of all, in the order of their names. Nothing if no build was ever recorded.
///
/// # Errors
/// When the database can't be read, or was made by a newer program.
pub fn known(layout: &Layout, pattern: Option<&str>) -> Result<Vec<Known>> {
    match Records::open_read_only(layout)? {
        Some(records) => records.known(pattern),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::DatabaseOptions;

    pub(crate) fn record(name: &str, wall_us: u64, succeeded: bool) -> Record {
        Record {
            name: name.to_owned(),
            system: "x86_64-linux".to_owned(),
            build: Build {
                ended_s: 1_000_000 + wall_us,
                wall_us,
                cpu_us: wall_us / 2,
                peak_memory: Some(1 << 20),
                succeeded,
            },
        }
    }

    pub(crate) fn layout(directory: &Path) -> Layout {
        let layout = Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: directory.join("store"),
            state_dir: directory.join("state"),
            log_dir: directory.join("log"),
        };
        std::fs::create_dir_all(layout.db_dir()).unwrap();
        layout
    }

    fn open(layout: &Layout) -> Records {
        let database = OwnDatabase::open(layout, &DatabaseOptions::default()).unwrap();
        Records { database }
    }

    #[test]
    fn what_was_added_is_known_and_the_oldest_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(directory.path());
        assert_eq!(known(&layout, None).unwrap(), []);
        let records = open(&layout);
        let batch: Vec<Record> = (1..=20).map(|n| record("a-1", n * 100, true)).collect();
        records.add(&batch[..3]).unwrap();
        records.add(&batch[3..]).unwrap();
        records.add(&[record("b-1", 7, false)]).unwrap();
        let all = known(&layout, None).unwrap();
        assert_eq!((all[0].name.as_str(), all[0].count), ("a-1", 20));
        let walls: Vec<u64> = all[0].builds.iter().map(|build| build.wall_us).collect();
        assert_eq!(walls, (5..=20).map(|n| n * 100).collect::<Vec<_>>());
        assert_eq!(all[0].builds[15], batch[19].build);
        assert_eq!(
            (all[1].count, all[1].estimate_us),
            (1, None),
            "it never ended well"
        );
        assert_eq!(known(&layout, Some("a*")).unwrap(), all[..1]);
        assert_eq!(known(&layout, Some("c*")).unwrap(), []);
    }

    #[test]
    fn an_estimate_follows_the_good_builds() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(directory.path());
        let records = open(&layout);
        let estimate = || known(&layout, None).unwrap()[0].estimate_us;
        records.add(&[record("a-1", 5, false)]).unwrap();
        assert_eq!(estimate(), None);
        records.add(&[record("a-1", 1000, true)]).unwrap();
        assert_eq!(estimate(), Some(1000));
        records
            .add(&[record("a-1", 2000, true), record("a-1", 9, false)])
            .unwrap();
        assert_eq!(estimate(), Some(1300));
        records.add(&[record("a-1", 300, true)]).unwrap();
        assert_eq!(estimate(), Some(1000));
    }

    #[test]
    fn two_make_the_same_database_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| open(&layout).add(&[record("a-1", 1, true)]).unwrap());
            }
        });
        assert_eq!(known(&layout, None).unwrap()[0].count, 4);
    }
}
