//! All that is recorded of a closure, in two queries however large it is.
//! Only reads, from one state of the database.

use hashbrown::HashMap;
use rusqlite::Row;

use super::query::RawInfo;
use super::{Database, PathInfo};
use crate::error::Result;

const ACTION: &str = "look up a closure";

/// The closure's rows, given a JSON list of the paths it starts from.
const MEMBERS: &str = "with recursive member(id) as (\
     select id from ValidPaths where path in (select value from json_each(?1)) \
     union select reference from Refs join member on referrer = member.id) ";

impl Database {
    /// What is recorded of every path in the closure of `roots`, sorted by path. Roots that are not
    /// valid are left out.
    ///
    /// # Errors
    /// As [`Database::path_info`].
    pub fn closure<'p>(&self, roots: impl IntoIterator<Item = &'p str>) -> Result<Vec<PathInfo>> {
        let roots = serde_json::Value::from_iter(roots).to_string();
        self.read(|| {
            let mut references: HashMap<i64, Vec<String>> = HashMap::new();
            let sql = format!(
                "{MEMBERS} select referrer, path from member join Refs on referrer = member.id \
                 join ValidPaths v on v.id = reference order by path"
            );
            let mut find = self.statement(ACTION, &sql)?;
            let pairs = find.query_map([&roots], |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?)));
            for pair in pairs.map_err(self.failed_to(ACTION))? {
                let (referrer, path): (i64, String) = pair.map_err(self.failed_to(ACTION))?;
                references.entry(referrer).or_default().push(path);
            }
            let sql = format!(
                "{MEMBERS} select hash, narSize, registrationTime, deriver, ultimate, sigs, ca, path, v.id \
                 from member join ValidPaths v on v.id = member.id order by path"
            );
            let mut find = self.statement(ACTION, &sql)?;
            let rows = find.query_map([&roots], |row| {
                Ok((RawInfo::read(row)?, row.get(7)?, row.get(8)?))
            });
            let mut infos = Vec::new();
            for row in rows.map_err(self.failed_to(ACTION))? {
                let (raw, path, id): (RawInfo, String, i64) = row.map_err(self.failed_to(ACTION))?;
                infos.push(self.info(path, raw, references.remove(&id).unwrap_or_default())?);
            }
            Ok(infos)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, registration};
    use crate::layout::tests::store_path;

    #[test]
    fn a_closure_is_whole_sorted_and_holds_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        database
            .register(&[
                registration(1, &[]),
                registration(2, &[1, 2]),
                registration(3, &[2, 1]),
                registration(4, &[3]),
                registration(5, &[1]),
            ])
            .unwrap();
        let roots = [store_path(3), store_path(9)];
        let infos = database.closure(roots.iter().map(String::as_str)).unwrap();
        let mut expected: Vec<_> = [1, 2, 3]
            .map(|number| database.path_info(&store_path(number)).unwrap().unwrap())
            .into();
        expected.sort_by(|one, other| one.path.cmp(&other.path));
        assert_eq!(infos, expected);
        assert!(database.closure([]).unwrap().is_empty());
    }
}
