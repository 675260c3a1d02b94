//! The directory of a run in the store, for what builders in a sandbox make. A temporary root of its own, which ends with the
//! run, keeps it from every collector: Nix's up to 2.3 look for `ROOT.chroot`, later ones for the hash part of a root.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use windrow_components::nix32;

use crate::process::run_dir::{IN_STORE_SUFFIX, RunDir};
use crate::store::Layout;
use crate::store::temp_roots::TempRoots;
use crate::store::tree::delete_path;

/// How many bytes the hash part of a store path stands for.
const HASH_BYTES: usize = 20;

/// The directory. Dropped, it goes with all that is in it.
#[derive(Debug)]
pub struct InStore {
    path: PathBuf,
    _root: TempRoots,
}

impl InStore {
    /// Makes it, for nobody but us, under a name that nobody has, and notes it in the run's directory.
    ///
    /// # Errors
    /// When it can't be made, or not be kept from collectors.
    pub fn create(layout: &Layout, run: &RunDir) -> io::Result<Self> {
        let mut hash = [0; HASH_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut hash)?;
        let name = format!("{}{IN_STORE_SUFFIX}", nix32::encode(&hash));
        let path = layout.real_store_dir.join(&name);
        run.note_in_store(&path)?;
        let root = name.strip_suffix(".chroot").unwrap_or(&name);
        let root = format!("{}/{root}", layout.store_dir);
        let mut roots = TempRoots::open(layout).map_err(io::Error::other)?;
        roots.add(&[&root]).map_err(io::Error::other)?;
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, _root: roots })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for InStore {
    fn drop(&mut self) {
        // What can't be deleted has no root any more, so the next collector tries.
        let _ = delete_path(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::gc::{Action, Collected, GcOptions, collect};
    use crate::store::{Database, DatabaseOptions};

    #[test]
    fn collectors_keep_it_until_the_run_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let layout = Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: path.join("store"),
            state_dir: path.join("var"),
            log_dir: path.join("log"),
        };
        layout.create_directories(None, false).unwrap();
        let mut database = Database::open(&layout, &DatabaseOptions::default()).unwrap();
        let run = RunDir::create(&path).unwrap();
        let in_store = InStore::create(&layout, &run).unwrap();
        let dir = in_store.path().to_owned();
        let mut run_collector = || {
            let options = GcOptions {
                action: Action::DeleteDead,
                ignore_liveness: false,
                max_freed: u64::MAX,
                keep_outputs: false,
                keep_derivations: false,
                stop: None,
            };
            let mut collected = Collected::default();
            collect(
                &layout,
                &mut database,
                &options,
                &mut collected,
                &mut |_| (),
            )
            .unwrap();
        };
        run_collector();
        assert!(dir.exists());
        // The form that Nix's collectors up to 2.3 know: a root whose name and `.chroot` is the directory's.
        let name = dir.file_name().unwrap().to_str().unwrap();
        let root = name.strip_suffix(".chroot").unwrap();
        let roots = layout.temproots_dir().read_dir().unwrap();
        let texts = roots.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        assert_eq!(texts.collect::<String>(), format!("/nix/store/{root}\0"));

        drop(in_store);
        assert!(!dir.exists());
        let in_store = InStore::create(&layout, &run).unwrap_err();
        assert!(
            in_store.to_string().contains("exists"),
            "one for a run: {in_store}"
        );
        // That of a run that was killed has no root any more.
        std::fs::create_dir(&dir).unwrap();
        run_collector();
        assert!(!dir.exists());
    }
}
