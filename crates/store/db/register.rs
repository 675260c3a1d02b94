//! Makes paths valid and invalid again, in the steps of Nix's `LocalStore::registerValidPaths`
//! and `invalidatePathChecked`. Whether the files are on disk is for the caller to know.

use hashbrown::HashMap;
use rusqlite::{CachedStatement, OptionalExtension, params};

use super::{Database, PathInfo, Registration, cycles};
use crate::error::{Error, Result};

const ACTION: &str = "register paths";

impl Database {
    /// Makes all the paths valid in one transaction, or none of them. Paths registered together
    /// may refer to each other, but not in a circle. Of a path that is valid already, deriver,
    /// registration time and references stay; new references are added.
    ///
    /// # Errors
    /// [`Error::ReferenceNotValid`] and [`Error::ReferenceCycle`]; those of a damaged, full or
    /// unwritable database.
    ///
    /// Nix 1.8: `DerivationGoal::registerOutputs`.
    pub fn register(&mut self, batch: &[Registration]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        cycles::refuse_cycles(batch)?;
        self.write(|| self.insert_all(batch))
    }

    /// The body of [`Database::register`].
    pub(super) fn insert_all(&self, batch: &[Registration]) -> Result<()> {
        let mut statements = Statements::prepare(self)?;
        // References often recur within a batch, so each is looked up once.
        let mut ids = HashMap::with_capacity(batch.len());
        for registration in batch {
            let id = statements
                .upsert(registration)
                .map_err(self.failed_to(ACTION))?;
            ids.insert(registration.info.path.as_str(), id);
        }
        for Registration { info, .. } in batch {
            let referrer = ids[info.path.as_str()];
            for reference in &info.references {
                let id = match ids.get(reference.as_str()) {
                    Some(&id) => id,
                    None => {
                        let found = statements.find(reference).map_err(self.failed_to(ACTION))?;
                        let id = found.ok_or_else(|| Error::ReferenceNotValid {
                            path: info.path.clone(),
                            reference: reference.clone(),
                        })?;
                        ids.insert(reference, id);
                        id
                    }
                };
                let added = statements.add_reference.execute([referrer, id]);
                added.map_err(self.failed_to(ACTION))?;
            }
        }
        Ok(())
    }

    /// Makes a path invalid, before its files are deleted. Nothing happens if it isn't valid.
    ///
    /// # Errors
    /// [`Error::PathInUse`] if other valid paths refer to it; those of a damaged, full or
    /// unwritable database.
    pub fn invalidate(&mut self, path: &str) -> Result<()> {
        const ACTION: &str = "invalidate a path";
        self.write(|| {
            let mut referrers = self.referrers_in_transaction(path)?;
            referrers.retain(|referrer| referrer != path);
            if !referrers.is_empty() {
                return Err(Error::PathInUse {
                    path: path.to_owned(),
                    referrers,
                });
            }
            let mut delete = self.statement(ACTION, "delete from ValidPaths where path = ?")?;
            delete
                .execute([path])
                .map(|_| ())
                .map_err(self.failed_to(ACTION))
        })
    }
}

/// What a registration runs for each path, taken from the cache once a batch.
struct Statements<'a> {
    database: &'a Database,
    find: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    add_reference: CachedStatement<'a>,
    add_output: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    fn prepare(database: &'a Database) -> Result<Self> {
        let statement = |sql| database.statement(ACTION, sql);
        Ok(Self {
            database,
            find: statement("select id from ValidPaths where path = ?")?,
            insert: statement(
                "insert into ValidPaths \
                 (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            update: statement(
                "update ValidPaths set hash = ?2, narSize = ?3, ultimate = ?4, sigs = ?5, ca = ?6 \
                 where id = ?1",
            )?,
            // The whole row is the key, so there is nothing in an existing one to replace.
            add_reference: statement(
                "insert or ignore into Refs (referrer, reference) values (?, ?)",
            )?,
            add_output: statement(
                "insert or replace into DerivationOutputs (drv, id, path) values (?, ?, ?)",
            )?,
        })
    }

    fn find(&mut self, path: &str) -> rusqlite::Result<Option<i64>> {
        self.find.query_row([path], |row| row.get(0)).optional()
    }

    /// Writes a path's row and returns its number.
    fn upsert(&mut self, registration: &Registration) -> rusqlite::Result<i64> {
        let PathInfo {
            path,
            registration_time,
            deriver,
            ca,
            ..
        } = &registration.info;
        let hash = render_sha256(&registration.info.nar_hash);
        let nar_size = Some(registration.info.nar_size).filter(|&size| size != 0);
        let ultimate = registration.info.ultimate.then_some(1);
        let sigs = Some(registration.info.sigs.join(" ")).filter(|sigs| !sigs.is_empty());
        if let Some(id) = self.find(path)? {
            self.update
                .execute(params![id, hash, nar_size, ultimate, sigs, ca])?;
            return Ok(id);
        }
        self.insert.execute(params![
            path,
            hash,
            registration_time,
            deriver,
            nar_size,
            ultimate,
            sigs,
            ca
        ])?;
        let id = self.database.connection.last_insert_rowid();
        for (name, output) in &registration.outputs {
            self.add_output.execute(params![id, name, output])?;
        }
        Ok(id)
    }
}

fn render_sha256(hash: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut text = String::with_capacity("sha256:".len() + 2 * hash.len());
    text.push_str("sha256:");
    text.extend(digits.map(|digit| char::from(DIGITS[usize::from(digit)])));
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fresh, registration};
    use super::*;
    use crate::layout::tests::store_path;

    #[test]
    fn what_is_registered_is_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let mut full = registration(2, &[1, 2]);
        full.info = PathInfo {
            nar_hash: std::array::from_fn(|it| it as u8 * 7),
            nar_size: i64::MAX as u64,
            deriver: Some(store_path(9) + ".drv"),
            ultimate: true,
            sigs: vec!["a:b==".to_owned(), "c:d==".to_owned()],
            ca: Some("fixed:r:sha256:0".to_owned()),
            ..full.info
        };
        let mut bare = registration(1, &[]);
        bare.info.nar_size = 0;
        database.register(&[full.clone(), bare.clone()]).unwrap();
        assert_eq!(
            database.path_info(&full.info.path).unwrap(),
            Some(full.info)
        );
        assert_eq!(
            database.path_info(&bare.info.path).unwrap(),
            Some(bare.info)
        );
        assert_eq!(database.path_info(&store_path(3)).unwrap(), None);
        assert_eq!(
            database.references(&store_path(2)).unwrap(),
            [1, 2].map(store_path)
        );
        assert_eq!(database.referrers(&store_path(1)).unwrap(), [store_path(2)]);
        let nulls = "select count(*) from ValidPaths where narSize is null and ultimate is null \
                     and sigs is null and ca is null and deriver is null";
        assert_eq!(
            database.connection.query_row(nulls, [], |row| row.get(0)),
            Ok(1)
        );
    }

    #[test]
    fn an_update_keeps_deriver_time_and_references() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let mut first = registration(3, &[1]);
        first.info.deriver = Some(store_path(9));
        let base = [registration(1, &[]), registration(2, &[])];
        database.register(&base).unwrap();
        database.register(std::slice::from_ref(&first)).unwrap();

        let mut second = registration(3, &[2]);
        second.info.registration_time = 2000;
        second.info.deriver = Some(store_path(8));
        second.info.nar_size = 240;
        second.info.sigs = vec!["a:b".to_owned()];
        database.register(&[second]).unwrap();
        let info = database.path_info(&store_path(3)).unwrap().unwrap();
        assert_eq!(info.deriver, first.info.deriver);
        assert_eq!(info.registration_time, 1000);
        assert_eq!(info.references, [1, 2].map(store_path));
        assert_eq!((info.nar_size, info.sigs.len()), (240, 1));
    }

    #[test]
    fn an_invalid_reference_aborts_all() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let error = database
            .register(&[registration(1, &[]), registration(2, &[1, 5])])
            .unwrap_err();
        assert!(
            matches!(&error, Error::ReferenceNotValid { path, reference }
                if *path == store_path(2) && *reference == store_path(5)),
            "{error}"
        );
        assert!(database.all_valid_paths().unwrap().is_empty());
    }

    #[test]
    fn a_cycle_leaves_nothing_behind_but_a_self_reference_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let circle = [
            registration(1, &[2]),
            registration(2, &[3]),
            registration(3, &[1, 3]),
        ];
        let error = database.register(&circle).unwrap_err();
        let expected = format!(
            "cycle detected in the references of '{}' from '{}'",
            store_path(1),
            store_path(3)
        );
        assert_eq!(error.to_string(), expected);
        assert!(database.all_valid_paths().unwrap().is_empty());
        database
            .register(&[registration(1, &[1, 2]), registration(2, &[2])])
            .unwrap();
        assert_eq!(
            database.references(&store_path(1)).unwrap(),
            [1, 2].map(store_path)
        );
    }

    #[test]
    fn outputs_of_a_derivation_are_found_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        let mut drv = registration(1, &[]);
        drv.outputs = vec![
            ("out".to_owned(), store_path(2)),
            ("dev".to_owned(), store_path(3)),
        ];
        database.register(&[drv]).unwrap();
        let outputs = database.derivation_outputs(&store_path(1)).unwrap();
        assert_eq!(
            outputs,
            [("dev", 3), ("out", 2)].map(|(id, it)| (id.to_owned(), store_path(it)))
        );
        assert_eq!(
            database.valid_derivers(&store_path(3)).unwrap(),
            [store_path(1)]
        );
        database.invalidate(&store_path(1)).unwrap();
        assert!(
            database
                .derivation_outputs(&store_path(1))
                .unwrap()
                .is_empty()
        );
        assert!(database.valid_derivers(&store_path(3)).unwrap().is_empty());
    }

    #[test]
    fn a_path_in_use_stays_valid() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut database) = fresh(&directory);
        database
            .register(&[registration(1, &[1]), registration(2, &[1, 2])])
            .unwrap();
        let error = database.invalidate(&store_path(1)).unwrap_err();
        assert!(
            matches!(&error, Error::PathInUse { referrers, .. } if *referrers == [store_path(2)]),
            "{error}"
        );
        database.invalidate(&store_path(2)).unwrap();
        database.invalidate(&store_path(1)).unwrap();
        database.invalidate(&store_path(1)).unwrap();
        assert!(database.all_valid_paths().unwrap().is_empty());
    }
}
