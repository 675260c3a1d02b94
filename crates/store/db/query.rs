//! Questions to the database: validity of many paths at once, and what is known of each.
//! Only reads; each answer comes from one state of the database.

use rusqlite::{OptionalExtension, Row};

use super::{Database, PathInfo};
use crate::error::{Error, Result};

impl Database {
    /// Whether each of the paths is valid, all judged at one moment.
    ///
    /// # Errors
    /// Those of a damaged or unreadable database.
    pub fn valid_paths(&self, paths: &[&str]) -> Result<Vec<bool>> {
        const ACTION: &str = "look up paths";
        self.read(|| {
            let mut find = self.statement(ACTION, "select 1 from ValidPaths where path = ?")?;
            let valid: rusqlite::Result<_> = paths.iter().map(|path| find.exists([path])).collect();
            valid.map_err(self.failed_to(ACTION))
        })
    }

    /// Whether the path is valid.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn is_valid(&self, path: &str) -> Result<bool> {
        Ok(self.valid_paths(&[path])?[0])
    }

    /// What is recorded of a path, or none if it isn't valid (`queryPathInfoUncached` in Nix).
    ///
    /// # Errors
    /// [`Error::DatabaseValue`] for a row that Nix can't have written, else as
    /// [`Database::valid_paths`].
    pub fn path_info(&self, path: &str) -> Result<Option<PathInfo>> {
        const ACTION: &str = "look up a path";
        const SQL: &str = "select hash, narSize, registrationTime, deriver, ultimate, sigs, ca \
                           from ValidPaths where path = ?";
        self.read(|| {
            let mut find = self.statement(ACTION, SQL)?;
            let row = find.query_row([path], RawInfo::read).optional();
            let Some(row) = row.map_err(self.failed_to(ACTION))? else {
                return Ok(None);
            };
            let references = self.references_in_transaction(path)?;
            self.info(path.to_owned(), row, references).map(Some)
        })
    }

    /// A row as what it means.
    pub(super) fn info(
        &self,
        path: String,
        row: RawInfo,
        references: Vec<String>,
    ) -> Result<PathInfo> {
        let bad = |column, value: String| Error::DatabaseValue {
            path: self.path.clone(),
            store_path: path.clone(),
            column,
            value,
        };
        let nar_hash = parse_sha256(&row.hash).ok_or_else(|| bad("hash", row.hash))?;
        let nar_size = row.nar_size.unwrap_or_default();
        let nar_size = u64::try_from(nar_size).map_err(|_| bad("narSize", nar_size.to_string()))?;
        let sigs = row.sigs.unwrap_or_default();
        Ok(PathInfo {
            path,
            nar_hash,
            nar_size,
            registration_time: row.registration_time,
            deriver: row.deriver,
            references,
            ultimate: row.ultimate == Some(1),
            sigs: sigs.split_ascii_whitespace().map(str::to_owned).collect(),
            ca: row.ca,
        })
    }

    /// The paths that a valid path refers to, sorted; none if it isn't valid.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn references(&self, path: &str) -> Result<Vec<String>> {
        self.read(|| self.references_in_transaction(path))
    }

    fn references_in_transaction(&self, path: &str) -> Result<Vec<String>> {
        let sql = "select other.path from ValidPaths this \
                   join Refs on referrer = this.id join ValidPaths other on other.id = reference \
                   where this.path = ?";
        self.sorted_paths("look up references", sql, path)
    }

    /// The valid paths that refer to a path, itself perhaps among them, sorted.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn referrers(&self, path: &str) -> Result<Vec<String>> {
        self.read(|| self.referrers_in_transaction(path))
    }

    pub(super) fn referrers_in_transaction(&self, path: &str) -> Result<Vec<String>> {
        let sql = "select other.path from ValidPaths this \
                   join Refs on reference = this.id join ValidPaths other on other.id = referrer \
                   where this.path = ?";
        self.sorted_paths("look up referrers", sql, path)
    }

    /// The valid derivations that have a path as an output, sorted.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn valid_derivers(&self, path: &str) -> Result<Vec<String>> {
        let sql = "select v.path from DerivationOutputs d join ValidPaths v on v.id = d.drv \
                   where d.path = ?";
        self.read(|| self.sorted_paths("look up derivers", sql, path))
    }

    /// The name and path of each output of a valid derivation, by name.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn derivation_outputs(&self, drv_path: &str) -> Result<Vec<(String, String)>> {
        const ACTION: &str = "look up outputs";
        const SQL: &str = "select d.id, d.path from DerivationOutputs d \
                           join ValidPaths v on v.id = d.drv where v.path = ? order by d.id";
        self.read(|| {
            let mut find = self.statement(ACTION, SQL)?;
            let outputs = find
                .query_map([drv_path], |row| Ok((row.get(0)?, row.get(1)?)))
                .and_then(Iterator::collect);
            outputs.map_err(self.failed_to(ACTION))
        })
    }

    /// The valid path with a 32-character hash part.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn path_from_hash_part(&self, hash_part: &str) -> Result<Option<String>> {
        const ACTION: &str = "look up a hash part";
        let prefix = format!("{}/{hash_part}", self.store_dir);
        self.read(|| {
            let sql = "select path from ValidPaths where path >= ? order by path limit 1";
            let mut find = self.statement(ACTION, sql)?;
            let path = find
                .query_row([&prefix], |row| row.get::<_, String>(0))
                .optional();
            let path = path.map_err(self.failed_to(ACTION))?;
            Ok(path.filter(|path| path.starts_with(&prefix)))
        })
    }

    /// Every valid path, sorted.
    ///
    /// # Errors
    /// As [`Database::valid_paths`].
    pub fn all_valid_paths(&self) -> Result<Vec<String>> {
        const ACTION: &str = "list the valid paths";
        self.read(|| {
            let mut list = self.statement(ACTION, "select path from ValidPaths order by path")?;
            let paths = list
                .query_map([], |row| row.get(0))
                .and_then(Iterator::collect);
            paths.map_err(self.failed_to(ACTION))
        })
    }

    fn sorted_paths(&self, action: &'static str, sql: &str, path: &str) -> Result<Vec<String>> {
        let mut find = self.statement(action, sql)?;
        let paths = find
            .query_map([path], |row| row.get(0))
            .and_then(Iterator::collect);
        let mut paths: Vec<String> = paths.map_err(self.failed_to(action))?;
        paths.sort_unstable();
        Ok(paths)
    }
}

/// The columns of `ValidPaths` as they stand there.
pub(super) struct RawInfo {
    hash: String,
    nar_size: Option<i64>,
    registration_time: i64,
    deriver: Option<String>,
    ultimate: Option<i64>,
    sigs: Option<String>,
    ca: Option<String>,
}

impl RawInfo {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            hash: row.get(0)?,
            nar_size: row.get(1)?,
            registration_time: row.get(2)?,
            deriver: row.get(3)?,
            ultimate: row.get(4)?,
            sigs: row.get(5)?,
            ca: row.get(6)?,
        })
    }
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let mut hash = [0; 32];
    if pairs.len() != hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, registration};
    use super::*;
    use crate::layout::tests::store_path;

    #[test]
    fn validity_is_answered_in_the_order_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        database
            .register(&[registration(1, &[]), registration(3, &[])])
            .unwrap();
        let paths = [3, 2, 1, 3].map(store_path);
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(
            database.valid_paths(&paths).unwrap(),
            [true, false, true, true]
        );
        assert!(database.valid_paths(&[]).unwrap().is_empty());
    }

    #[test]
    fn hash_parts_are_found_exactly() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        database
            .register(&[registration(1, &[]), registration(3, &[])])
            .unwrap();
        let hash = |number| store_path(number)[11..43].to_owned();
        assert_eq!(
            database.path_from_hash_part(&hash(3)).unwrap(),
            Some(store_path(3))
        );
        assert_eq!(database.path_from_hash_part(&hash(2)).unwrap(), None);
        assert_eq!(database.path_from_hash_part(&hash(4)).unwrap(), None);
    }

    #[test]
    fn a_row_nix_never_writes_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        database.register(&[registration(1, &[])]).unwrap();
        for (set, column) in [("hash = 'md5:00'", "hash"), ("narSize = -1", "narSize")] {
            database.register(&[registration(1, &[])]).unwrap();
            database
                .connection
                .execute(&format!("update ValidPaths set {set}"), [])
                .unwrap();
            let error = database.path_info(&store_path(1)).unwrap_err();
            assert!(
                error.to_string().contains(&format!("as {column} of")),
                "{error}"
            );
        }
    }

    #[test]
    fn hashes_are_parsed_strictly() {
        let good = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(parse_sha256(&good), Some([15; 32]));
        let uneven = &good[..70];
        for bad in [
            "",
            "sha256:",
            uneven,
            &good.replace('f', "g"),
            &good.replace("256", "1"),
        ] {
            assert_eq!(parse_sha256(bad), None, "{bad}");
        }
        assert_eq!(parse_sha256(&(good + "00")), None);
    }
}
