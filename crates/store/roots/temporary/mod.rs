//! Temporary roots: what keeps the paths this process works on safe from any collector.
//! The protocol of Nix's `LocalStore::addTempRoot`; knows paths, not whether they are valid.

mod collector;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use windrow_components::store_path::StorePath;

use crate::Layout;
use crate::error::{Error, Result};
use crate::roots::local_socket::{LIMIT, check};
use windrow_sys::flock;
use windrow_sys::waiting::{Wait, lock_on};

/// How long to wait before asking again whether a collector is reachable or gone.
const COLLECTOR_WAIT: Duration = Duration::from_millis(20);
/// One more than the largest process id that Linux can give.
const PID_LIMIT: u32 = 1 << 22;

/// The temporary roots of this process, which last until it is dropped or the process ends.
///
/// They are full paths, each followed by a zero byte, in a file named by the process id, locked
/// for as long as its owner lives. If that name is taken (by a second `TempRoots` here or by a
/// process of another PID namespace), a multiple of `PID_LIMIT` is added: collectors read the
/// name as a number and make nothing of its value.
#[derive(Debug)]
pub struct TempRoots {
    layout: Layout,
    file: File,
    path: PathBuf,
    length: u64,
    gc_lock: File,
    /// Hash parts of the roots that are remembered here: a collector looks at nothing else of them.
    hash_parts: HashSet<[u8; 32]>,
}

impl TempRoots {
    /// Creates this process's file of roots, empty.
    ///
    /// # Errors
    /// [`Error::File`] if the file or the collector's lock can't be opened.
    pub fn open(layout: &Layout) -> Result<Self> {
        let gc_lock_path = layout.gc_lock();
        let gc_lock = flock::open_private(&gc_lock_path)?;
        let mut number = std::process::id();
        loop {
            let path = layout.temproots_dir().join(number.to_string());
            let file = flock::open_private(&path)?;
            // Nobody who holds this lock gives it back soon, except a collector.
            if !flock::try_lock_exclusive(&file).map_err(Error::io("lock", &path))? {
                // Collectors before Nix 2.35 read a signed number of 32 bits.
                number = (number + PID_LIMIT) & (u32::MAX >> 1);
                continue;
            }
            // A collector may have deleted the file between the two calls.
            if file
                .metadata()
                .map_err(Error::io("look at", &path))?
                .nlink()
                == 0
            {
                continue;
            }
            // What a dead process left under our number keeps nothing alive.
            file.set_len(0).map_err(Error::io("empty", &path))?;
            return Ok(Self {
                layout: layout.clone(),
                file,
                path,
                length: 0,
                gc_lock,
                hash_parts: HashSet::new(),
            });
        }
    }

    /// Keeps the paths from being collected from now on. A deletion under way is waited for, so
    /// whether a path is valid must be asked after this.
    ///
    /// # Errors
    /// [`Error::NotAStorePath`]; [`Error::File`] if the roots can't be written or no connection to
    /// a running collector can be made. None of the paths may then be relied on.
    pub fn add(&mut self, paths: &[&str]) -> Result<()> {
        let mut new_paths = Vec::new();
        let mut new_parts = HashSet::new();
        for &path in paths {
            let part = *self.layout.hash_part(path)?;
            if !self.hash_parts.contains(&part) && new_parts.insert(part) {
                new_paths.push(path);
            }
        }
        self.add_once(&new_paths)?;
        self.hash_parts.extend(new_parts);
        Ok(())
    }

    /// The same for a caller who remembers what it has added: it stands in the file as often as it
    /// is given.
    ///
    /// # Errors
    /// As [`TempRoots::add`].
    pub fn add_once(&mut self, paths: &[&str]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let mut records = Vec::new();
        for &path in paths {
            self.check(path)?;
            records.extend_from_slice(path.as_bytes());
            records.push(0);
        }
        // Written before the collector's lock is looked at, unlike Nix: so a collection that
        // begins right after the one that is told still finds the roots.
        self.append(&records)?;
        self.wait_until_known(paths)
    }

    /// Tells a collector that has begun since of paths that were added before: to be called
    /// when links have been made that are to keep them for longer. Nix's collectors look for links
    /// first, so when this process ends they could have missed both.
    ///
    /// # Errors
    /// [`Error::File`] if no connection to a running collector can be made.
    pub fn remind(&self, paths: &[&str]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.wait_until_known(paths)
    }

    /// One line of a file of roots that is no store path would keep Nix's collectors from working
    /// at all.
    fn check(&self, path: &str) -> Result<()> {
        self.layout.hash_part(path)?;
        let base = path.rsplit('/').next().unwrap_or_default();
        StorePath::from_base_name(base).map_err(|_| Error::NotAStorePath {
            path: path.to_owned(),
            store_dir: self.layout.store_dir.clone(),
        })?;
        Ok(())
    }

    /// Writes at the known end, so that a write cut short by a full disk leaves no half root
    /// in front of the next one.
    fn append(&mut self, records: &[u8]) -> Result<()> {
        self.file
            .write_all_at(records, self.length)
            .map_err(Error::io("write", &self.path))?;
        self.length += records.len() as u64;
        Ok(())
    }

    /// Returns when no collector runs that might not have seen the roots.
    fn wait_until_known(&self, paths: &[&str]) -> Result<()> {
        let lock_path = self.layout.gc_lock();
        let socket_path = self.layout.gc_socket();
        let until = Instant::now() + LIMIT;
        let mut wait = Wait::new();
        loop {
            // Got, it says that no collector runs; the next one will read the file.
            if flock::try_lock_shared(&self.gc_lock).map_err(Error::io("lock", &lock_path))? {
                return self
                    .gc_lock
                    .unlock()
                    .map_err(Error::io("unlock", &lock_path));
            }
            if collector::tell(&socket_path, paths, until)? {
                return Ok(());
            }
            check(until)
                .and_then(|()| wait.sleep(COLLECTOR_WAIT, || lock_on(&lock_path)))
                .map_err(Error::io("reach the collector at", &socket_path))?;
        }
    }
}

impl Drop for TempRoots {
    fn drop(&mut self) {
        // Deleted while locked, and marked for whoever has it open, as collectors do it.
        if fs::remove_file(&self.path).is_ok() {
            let _ = self.file.write_all_at(b"d", self.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::layout::tests::{scratch, store_path};

    fn store(directory: &tempfile::TempDir) -> Layout {
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        layout
    }

    fn records(numbers: &[usize]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|&it| (store_path(it) + "\0").into_bytes())
            .collect()
    }

    #[test]
    fn roots_stand_in_the_file_once_and_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let mut roots = TempRoots::open(&layout).unwrap();
        let file = layout.temproots_dir().join(std::process::id().to_string());
        assert_eq!(roots.path, file);
        let paths = [1, 2, 3].map(store_path);
        roots.add(&[&paths[0], &paths[1], &paths[0]]).unwrap();
        roots.add(&[&paths[1], &paths[2]]).unwrap();
        roots.add(&[&paths[2]]).unwrap();
        assert_eq!(fs::read(&file).unwrap(), records(&[1, 2, 3]));
        roots.add_once(&[]).unwrap();
        roots.add_once(&[&paths[0]]).unwrap();
        assert_eq!(fs::read(&file).unwrap(), records(&[1, 2, 3, 1]));
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);

        let collector = File::open(&file).unwrap();
        assert!(!flock::try_lock_exclusive(&collector).unwrap());
        drop(roots);
        assert!(!file.exists());
        assert_eq!(
            collector.metadata().unwrap().size(),
            records(&[1, 2, 3, 1]).len() as u64 + 1
        );
    }

    #[test]
    fn what_a_dead_process_left_is_wiped_however_it_was_cut() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let left = [records(&[7, 8]), b"d".to_vec()].concat();
        for length in 0..=left.len() {
            let file = layout.temproots_dir().join(std::process::id().to_string());
            fs::write(&file, &left[..length]).unwrap();
            let mut roots = TempRoots::open(&layout).unwrap();
            roots.add(&[&store_path(1)]).unwrap();
            assert_eq!(fs::read(&file).unwrap(), records(&[1]));
        }
    }

    #[test]
    fn a_taken_name_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let mut all: Vec<_> = (0..4).map(|_| TempRoots::open(&layout).unwrap()).collect();
        for (number, roots) in all.iter_mut().enumerate() {
            roots.add(&[&store_path(number)]).unwrap();
        }
        for (number, roots) in all.iter().enumerate() {
            assert_eq!(fs::read(&roots.path).unwrap(), records(&[number]));
            let name = roots.path.file_name().unwrap().to_str().unwrap();
            let name: i32 = name.parse().unwrap();
            assert_eq!(name as u32 % PID_LIMIT, std::process::id());
        }
    }

    #[test]
    fn a_bad_path_adds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut roots = TempRoots::open(&store(&directory)).unwrap();
        let long = store_path(2) + &"x".repeat(211);
        for bad in [
            "/etc/passwd",
            "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-name",
            "/nix/store/00000000000000000000000000000000-a name",
            &long,
        ] {
            let error = roots.add(&[&store_path(1), bad]).unwrap_err();
            assert!(matches!(error, Error::NotAStorePath { .. }), "{error}");
        }
        assert!(fs::read(&roots.path).unwrap().is_empty());
    }

    #[test]
    fn a_running_collector_is_told_every_root() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let mut roots = TempRoots::open(&layout).unwrap();
        let collector_lock = File::open(layout.gc_lock()).unwrap();
        assert!(flock::try_lock_exclusive(&collector_lock).unwrap());
        let paths: Vec<String> = (0..1000).map(store_path).collect();
        let told = std::thread::scope(|scope| {
            let collector = scope.spawn(|| {
                // Not there yet when the first attempt is made.
                thread::sleep(2 * COLLECTOR_WAIT);
                let socket = layout.gc_socket();
                fs::create_dir(socket.parent().unwrap()).unwrap();
                let listener = UnixListener::bind(socket).unwrap();
                // The first connection breaks after some answers, like a collector that ends.
                let (mut cut, _) = listener.accept().unwrap();
                cut.write_all(b"11").unwrap();
                drop(cut);
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut told = vec![];
                for line in lines {
                    told.push(line.unwrap());
                    stream.write_all(b"1").unwrap();
                }
                told
            });
            let asked: Vec<&str> = paths.iter().map(String::as_str).collect();
            roots.add(&asked).unwrap();
            collector.join().unwrap()
        });
        assert_eq!(told, paths);
        assert_eq!(
            fs::read(&roots.path).unwrap(),
            records(&(0..1000).collect::<Vec<_>>())
        );
    }

    #[test]
    fn a_collector_that_began_later_is_reminded() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let mut roots = TempRoots::open(&layout).unwrap();
        roots.add(&[&store_path(1)]).unwrap();
        // Nobody is there to be told.
        roots.remind(&[&store_path(1)]).unwrap();
        let collector_lock = File::open(layout.gc_lock()).unwrap();
        assert!(flock::try_lock_exclusive(&collector_lock).unwrap());
        let socket = layout.gc_socket();
        fs::create_dir(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::scope(|scope| {
            let reminding = scope.spawn(|| roots.remind(&[&store_path(1)]).unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, store_path(1) + "\n");
            assert!(!reminding.is_finished());
            stream.write_all(b"1").unwrap();
        });
        assert_eq!(fs::read(&roots.path).unwrap(), records(&[1]));
    }

    #[test]
    fn a_collector_that_ends_without_an_answer_is_waited_out() {
        let directory = tempfile::tempdir().unwrap();
        let layout = store(&directory);
        let mut roots = TempRoots::open(&layout).unwrap();
        let collector_lock = File::open(layout.gc_lock()).unwrap();
        assert!(flock::try_lock_exclusive(&collector_lock).unwrap());
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| roots.add(&[&store_path(1)]).unwrap());
            thread::sleep(3 * COLLECTOR_WAIT);
            assert!(!adding.is_finished());
            collector_lock.unlock().unwrap();
        });
    }
}
