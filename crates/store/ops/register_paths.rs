//! Makes valid what is in the store directory already, with the checks that Nix makes
//! (`registerValidPaths`). Derivations are read, and must state the output paths that their
//! contents give.

use std::time::{SystemTime, UNIX_EPOCH};

use windrow_components::derivation::Derivation;

use crate::db::{PathInfo, Registration};
use crate::error::{Error, Result};
use crate::files::canonical::{InodesSeen, canonicalise};
use crate::local::LocalStore;
use crate::nar::digest::hash_nar;

impl LocalStore {
    /// Registers paths whose files are in place, all or none; a time of 0 becomes the present.
    ///
    /// # Errors
    /// When a derivation among them can't be read or states wrong outputs, a reference is not
    /// valid, or the database can't be written.
    pub fn register_paths(&mut self, infos: Vec<PathInfo>) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let mut batch = Vec::with_capacity(infos.len());
        for mut info in infos {
            if info.registration_time == 0 {
                info.registration_time = now;
            }
            let outputs = if info.path.ends_with(".drv") {
                self.stated_outputs(&info.path)?
            } else {
                Vec::new()
            };
            batch.push(Registration { info, outputs });
        }
        self.register(&batch)
    }

    fn stated_outputs(&mut self, path: &str) -> Result<Vec<(String, String)>> {
        let text = self.read_derivation(path)?;
        let drv = Derivation::parse(&text).map_err(|source| Error::Derivation {
            path: path.to_owned(),
            source,
        })?;
        self.check_derivation(path, &drv)?;
        let outputs = drv.outputs.iter();
        Ok(outputs
            .map(|output| (output.name.to_string(), output.path.to_string()))
            .collect())
    }

    /// Gives the files of a path canonical metadata, and fills in the hash and size of its NAR.
    ///
    /// # Errors
    /// When they are not there, or can't be changed or read.
    pub fn take_in(&self, info: &mut PathInfo, with_hash: bool) -> Result<()> {
        let real = self.layout().real_path(&info.path);
        canonicalise(&real, None, &mut InodesSeen::default())?;
        if with_hash {
            (info.nar_hash, info.nar_size) = hash_nar(&real)?;
        }
        Ok(())
    }
}
