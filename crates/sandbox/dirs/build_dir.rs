//! The directory a builder without a sandbox works in: made private, named after the derivation,
//! gone afterwards.
//!
//! One to which its builder did nothing is renamed for the next: file systems such as ext4 look for
//! a new inode past every one that was freed in the last seconds, so removing and making
//! directories is costly. Each is known by its inode, not its name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashMap;

use super::run_dir::{BUILD_PREFIX, RunDir, Stamp, rename_new};
use windrow_sys::mutex;
use windrow_sys::{Error, Result};

/// How many spare directories are kept at most.
const SPARE_MAX: usize = 64;

/// The build directories of a run, and those of builds that are over, for the next ones. Clones are
/// the same.
#[derive(Debug, Clone)]
pub struct SpareDirs {
    parent: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Made together with the first build directory.
    run: Option<Arc<RunDir>>,
    /// Those of builds, as they were when these began.
    live: HashMap<PathBuf, Stamp>,
    spare: Vec<(PathBuf, Stamp)>,
    /// Spare ones that somebody did something to, which go when the run ends: what they hold may be
    /// large.
    spoilt: Vec<(PathBuf, Stamp)>,
}

impl SpareDirs {
    /// Without any directory yet; they will be made in `parent`.
    pub fn new(parent: &Path) -> Self {
        Self {
            parent: parent.into(),
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        mutex::lock(&self.state)
    }

    /// Makes `PARENT/nix-build-NAME.drv-N` with the first free N, for nobody but us (Nix 1.8:
    /// `createTempDir`).
    ///
    /// # Errors
    /// When the parent can't be written, or all numbers are taken.
    ///
    /// Nix 1.8: `chmod_`.
    pub fn create(&self, drv_file_name: &str) -> Result<PathBuf> {
        let about = Error::io("create a build directory in", &*self.parent);
        let mut state = self.state();
        let run = match &state.run {
            Some(run) => Arc::clone(run),
            None => {
                let run = RunDir::create(&self.parent);
                let run = Arc::new(run.map_err(about)?);
                Arc::clone(state.run.insert(run))
            }
        };
        let (path, stamp) = match state.reuse(&run, &self.parent, drv_file_name) {
            Some(made) => made,
            None => {
                let about = Error::io("create a build directory in", &*self.parent);
                new(&run, drv_file_name).map_err(about)?
            }
        };
        state.live.insert(path.clone(), stamp);
        Ok(path)
    }

    /// Makes one for a build that has not begun, if it will be seen then whether somebody did
    /// something to it ([`SpareDirs::is_untouched`]).
    pub fn create_ahead(&self, drv_file_name: &str) -> Option<PathBuf> {
        let run = self.state().run.clone();
        let tells_apart = run.is_some_and(|run| run.tells_changes_apart());
        let made = tells_apart.then(|| self.create(drv_file_name).ok());
        made.flatten()
    }

    /// Whether a directory is provably as it was made. Else the caller must delete it.
    pub fn is_untouched(&self, path: &Path) -> bool {
        let state = self.state();
        let tells_apart = (state.run.as_ref()).is_some_and(|run| run.tells_changes_apart());
        let before = state.live.get(path).filter(|_| tells_apart);
        before.is_some_and(|before| Stamp::of(path).is_ok_and(|now| now == *before))
    }

    /// Takes a directory back if it is provably as it was when its build began. Tells whether it
    /// did; else the caller must delete it.
    pub fn take_back(&self, path: &Path) -> bool {
        let mut state = self.state();
        let State {
            run, live, spare, ..
        } = &mut *state;
        let tells_apart = run.as_ref().is_some_and(|run| run.tells_changes_apart());
        let untouched = live
            .get(path)
            .filter(|before| Stamp::of(path).is_ok_and(|now| now == **before));
        let Some(&stamp) = untouched.filter(|_| tells_apart && spare.len() < SPARE_MAX) else {
            return false;
        };
        live.remove(path);
        spare.push((path.to_owned(), stamp));
        true
    }

    /// Deletes the directory of a build.
    pub fn delete(&self, path: &Path) {
        if let (Some(run), Some(stamp)) = self.release(path) {
            run.delete_build_dir(path, &stamp);
        }
    }

    /// Lets the directory of a build stay, whatever becomes of this run.
    pub fn keep(&self, path: &Path) {
        if let (Some(run), Some(stamp)) = self.release(path) {
            // It would be deleted only if the run is killed, too.
            let _ = run.forget(&stamp);
        }
    }

    fn release(&self, path: &Path) -> (Option<Arc<RunDir>>, Option<Stamp>) {
        let mut state = self.state();
        (state.run.clone(), state.live.remove(path))
    }

    /// Deletes all directories that are not kept.
    pub fn close(&self) {
        let state = std::mem::take(&mut *self.state());
        if let Some(run) = state.run {
            let others = state.spare.into_iter().chain(state.spoilt);
            for (path, stamp) in state.live.into_iter().chain(others) {
                run.delete_build_dir(&path, &stamp);
            }
        }
    }
}

impl State {
    /// Gives the name to a spare directory, if there is one that is still what it was.
    fn reuse(
        &mut self,
        run: &RunDir,
        parent: &Path,
        drv_file_name: &str,
    ) -> Option<(PathBuf, Stamp)> {
        let first = parent.join(format!("{BUILD_PREFIX}{drv_file_name}-0"));
        let has_name = |(path, _): &(PathBuf, Stamp)| path.as_os_str() == first.as_os_str();
        if let Some(index) = self.spare.iter().position(has_name) {
            let (path, stamp) = self.spare.swap_remove(index);
            if Stamp::of(&path).is_ok_and(|now| now == stamp) {
                return Some((path, stamp));
            }
            self.spoilt.push((path, stamp));
        }
        while let Some((path, stamp)) = self.spare.pop() {
            // Others may have done something to it, or have something of their own under its name.
            if !Stamp::of(&path).is_ok_and(|now| now == stamp) {
                self.spoilt.push((path, stamp));
                continue;
            }
            let Ok(public) = run.publish(&path, drv_file_name) else {
                self.spoilt.push((path, stamp));
                continue;
            };
            match Stamp::of(&public) {
                Ok(now) if now.is_same_directory(&stamp) => return Some((public, now)),
                _ => {
                    // Exchanged at the last moment: it goes back to whoever it belongs to.
                    let _ = rename_new(&public, &path);
                    let _ = run.forget(&stamp);
                }
            }
        }
        None
    }
}

fn new(run: &RunDir, drv_file_name: &str) -> std::io::Result<(PathBuf, Stamp)> {
    let (path, stamp) = run.make_build_dir()?;
    let Ok(public) = run.publish(&path, drv_file_name) else {
        run.delete_build_dir(&path, &stamp);
        return run.make_public(drv_file_name);
    };
    match Stamp::of(&public) {
        Ok(now) if now.is_same_directory(&stamp) => Ok((public, now)),
        Ok(_) => Err(std::io::ErrorKind::ResourceBusy.into()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn inode(path: &Path) -> u64 {
        path.metadata().unwrap().ino()
    }

    #[test]
    fn the_first_free_number_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = SpareDirs::new(parent.path());
        let first = dirs.create("x.drv").unwrap();
        let second = dirs.create("x.drv").unwrap();
        assert!(first.ends_with("nix-build-x.drv-0") && second.ends_with("nix-build-x.drv-1"));
        assert_eq!(
            first.metadata().unwrap().permissions().mode() & 0o7777,
            0o700
        );
        fs::write(first.join("file"), "").unwrap();
        dirs.delete(&first);
        assert!(!first.exists());
        dirs.keep(&second);
        dirs.close();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        assert!(second.exists());
        let error = SpareDirs::new(&parent.path().join("absent"))
            .create("x.drv")
            .unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn only_untouched_directories_are_used_again_and_none_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = SpareDirs::new(parent.path());
        let touch = |path: &Path| {
            let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
            fs::File::open(path).unwrap().set_times(times).unwrap();
        };
        let again =
            |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        let file = |path: &Path| {
            fs::write(path.join("file"), "").unwrap();
            fs::remove_file(path.join("file")).unwrap();
        };
        let read = |path: &Path| assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        let deeds: [&dyn Fn(&Path); 4] = [&touch, &again, &file, &read];
        for deed in deeds {
            let made = dirs.create("a.drv").unwrap();
            deed(&made);
            assert!(!dirs.take_back(&made));
            dirs.delete(&made);
        }

        let made = dirs.create("a.drv").unwrap();
        let before = inode(&made);
        if !dirs.take_back(&made) {
            eprintln!("skipped: this file system does not tell changes apart");
            return;
        }
        // It keeps its name where it can.
        assert_eq!(dirs.create("a.drv").unwrap(), made);
        assert!(dirs.take_back(&made));
        let others = parent.path().join("nix-build-b.drv-0");
        fs::create_dir(&others).unwrap();
        let renamed = dirs.create("b.drv").unwrap();
        assert!(renamed.ends_with("nix-build-b.drv-1") && others.exists());
        assert_eq!(inode(&renamed), before);
        assert!(dirs.take_back(&renamed));
        dirs.close();
        assert!(!renamed.exists() && others.exists());
    }

    #[test]
    fn a_directory_of_somebody_else_in_the_place_of_a_spare_one_is_left_alone() {
        for same_name in [false, true] {
            let parent = tempfile::tempdir().unwrap();
            let dirs = SpareDirs::new(parent.path());
            let spare = dirs.create("a.drv").unwrap();
            if !dirs.take_back(&spare) {
                return;
            }
            fs::rename(&spare, parent.path().join("moved")).unwrap();
            fs::create_dir(&spare).unwrap();
            let theirs = inode(&spare);
            let name = if same_name { "a.drv" } else { "b.drv" };
            let made = dirs.create(name).unwrap();
            assert_ne!(inode(&made), theirs);
            assert_eq!(inode(&spare), theirs);
            dirs.delete(&made);
            dirs.close();
            assert_eq!(inode(&spare), theirs);
        }
    }

    #[test]
    fn a_directory_put_in_the_place_of_a_build_is_not_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = SpareDirs::new(parent.path());
        let made = dirs.create("a.drv").unwrap();
        fs::rename(&made, parent.path().join("moved")).unwrap();
        fs::create_dir(&made).unwrap();
        assert!(!dirs.take_back(&made));
        dirs.delete(&made);
        dirs.close();
        assert!(made.exists());
    }
}
