//! When store paths were last used, for collections that go by that: by builds, and by what roots
//! led to. What is not in the table was last used when it was registered, which Nix's database
//! knows.

use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use rusqlite::Connection;

use crate::error::Result;
use crate::layout::Layout;
use crate::own::OwnDatabase;

/// The table, with times in seconds since 1970.
pub(crate) const TABLE: &str = "create table if not exists Uses \
     (path text primary key not null, time integer not null) without rowid";

/// The last uses of paths, in seconds since 1970.
pub(crate) type LastUses = HashMap<Box<str>, i64>;

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// By how many seconds a use must be later than the one that is noted to be noted in its place.
/// What is built again and again writes nothing.
const GRAIN: i64 = 60;

/// Notes that paths were used at a time, inside a transaction. A later use stays noted.
pub(crate) fn note<'p>(
    connection: &Connection,
    uses: impl IntoIterator<Item = (&'p str, i64)>,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "insert into Uses (path, time) values (?1, ?2)
             on conflict (path) do update set time = ?2 where time <= ?2 - ?3",
    )?;
    for (path, time) in uses {
        insert.execute((path, time, GRAIN))?;
    }
    Ok(())
}

/// Forgets the uses of paths that are not in the store any more, inside a transaction.
pub(crate) fn forget<'p>(
    connection: &Connection,
    paths: impl IntoIterator<Item = &'p str>,
) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("delete from Uses where path = ?")?;
    for path in paths {
        delete.execute([path])?;
    }
    Ok(())
}

/// All uses that are noted. Nothing if none ever was.
///
/// # Errors
/// When the database can't be read.
pub(crate) fn all(layout: &Layout) -> Result<LastUses> {
    let Some(database) = OwnDatabase::open_read_only(layout)? else {
        return Ok(LastUses::new());
    };
    database.read("read when paths were last used", |connection| {
        if !connection.table_exists(None, "Uses")? {
            return Ok(LastUses::new());
        }
        let mut list = connection.prepare("select path, time from Uses")?;
        let rows = list.query_map([], |row| {
            Ok((Box::from(row.get_ref(0)?.as_str()?), row.get(1)?))
        })?;
        rows.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseOptions;
    use crate::layout::tests::{scratch, store_path};

    #[test]
    fn the_last_use_counts_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        assert!(all(&layout).unwrap().is_empty());
        let database = OwnDatabase::open(&layout, &DatabaseOptions::default()).unwrap();
        assert!(all(&layout).unwrap().is_empty());
        let [one, other] = [1, 2].map(store_path);
        let add = |uses: &[(&str, i64)]| {
            let write = database.write("note", |db| note(db, uses.iter().copied()));
            write.unwrap();
        };
        add(&[(&one, 500), (&other, 700)]);
        add(&[(&one, 900), (&other, 600)]);
        add(&[(&one, 959), (&other, 760)]);
        let known = all(&layout).unwrap();
        assert_eq!((known[&*one], known[&*other]), (900, 760));
        let gone = [&*one, "/nix/store/unknown"];
        database.write("forget", |db| forget(db, gone)).unwrap();
        let left = all(&layout).unwrap();
        assert!(left.len() == 1 && left[&*other] == 760);
    }
}
