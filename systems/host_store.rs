//! The store as sandboxes know it, whose directories in it are kept from collectors by temporary
//! roots of their own.

use std::io;
use std::sync::Arc;

use windrow_sandbox::dirs::in_store::{HostStore, KeepPath, Kept};
use windrow_store::Layout;
use windrow_store::roots::temporary::TempRoots;

/// What sandboxes need to know of a store.
pub fn host_store(layout: &Layout) -> HostStore {
    HostStore {
        store_dir: layout.store_dir.clone(),
        real_store_dir: layout.real_store_dir.clone(),
        keeper: Arc::new(Keeper(layout.clone())),
    }
}

#[derive(Debug)]
struct Keeper(Layout);

/// A file of temporary roots for one path, which goes when it is dropped.
#[derive(Debug)]
struct OwnRoot(#[expect(dead_code, reason = "held for as long as the path is kept")] TempRoots);

impl Kept for OwnRoot {}

impl KeepPath for Keeper {
    fn keep(&self, store_path: &str) -> io::Result<Box<dyn Kept>> {
        let mut roots = TempRoots::open(&self.0).map_err(io::Error::other)?;
        roots.add(&[store_path]).map_err(io::Error::other)?;
        Ok(Box::new(OwnRoot(roots)))
    }
}

#[cfg(test)]
mod tests {
    use windrow_sandbox::dirs::in_store::InStore;
    use windrow_sandbox::dirs::run_dir::RunDir;
    use windrow_store::gc::{Action, Collected, GcOptions, collect};
    use windrow_store::{Database, DatabaseOptions};

    use super::*;

    #[test]
    fn collectors_keep_it_until_the_run_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let layout = Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: path.join("store"),
            state_dir: path.join("var"),
            log_dir: path.join("log"),
        };
        layout.create_directories(None, false).unwrap();
        let mut database = Database::open(&layout, &DatabaseOptions::default()).unwrap();
        let run = RunDir::create(&path).unwrap();
        let in_store = InStore::create(&host_store(&layout), &run).unwrap();
        let dir = in_store.path().to_owned();
        let mut run_collector = || {
            let options = GcOptions::new(Action::DeleteDead, DatabaseOptions::default());
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
        // The form that Nix's collectors up to 2.3 know: a root whose name and `.chroot` is the
        // directory's.
        let name = dir.file_name().unwrap().to_str().unwrap();
        let root = name.strip_suffix(".chroot").unwrap();
        let roots = layout.temproots_dir().read_dir().unwrap();
        let texts = roots.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        assert_eq!(texts.collect::<String>(), format!("/nix/store/{root}\0"));

        drop(in_store);
        assert!(!dir.exists());
        let in_store = InStore::create(&host_store(&layout), &run).unwrap_err();
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
