//! What waits for one cache, pushed together: kept from collection, looked up, copied with all that
//! it refers to, and taken from the queue as far as it has arrived.

use std::collections::HashSet;

use windrow_net::copy::{CopyError, Destination, Event, Outcome, copy};
use windrow_store::locks::path_lock;
use windrow_store::own::uploads::UploadQueue;
use windrow_store::roots::temporary::TempRoots;
use windrow_store::{Database, Layout, Result as StoreResult};

/// How many paths are locked at a time: each takes a descriptor.
const LOCKED_AT_ONCE: usize = 64;

/// What became of paths that waited.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// Those that are not in the store any more, and so do not wait any more.
    pub(super) gone: Vec<String>,
    /// Those that could not be pushed and wait on.
    pub(super) left: Vec<String>,
    /// How the copy went, of them and all that they refer to.
    pub(super) outcome: Outcome,
}

/// A cache, its queue, and what is known to be there.
pub(super) struct Batches<'b> {
    pub(super) queue: &'b UploadQueue,
    pub(super) layout: &'b Layout,
    pub(super) key: &'b str,
    pub(super) to: Box<dyn Destination>,
    /// What this program has found or put there.
    pub(super) there: HashSet<String>,
}

impl Batches<'_> {
    /// Pushes paths that wait. The caller has the lock of the cache.
    ///
    /// # Errors
    /// When the store can't be read, or the cache not be asked; all of them wait on.
    pub(super) fn push(
        &mut self,
        paths: &[String],
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Pushed, CopyError> {
        let mut roots = TempRoots::open(self.layout)?;
        roots.add(&paths.iter().map(String::as_str).collect::<Vec<_>>())?;
        let database = Database::open_read_only(self.layout)?;
        let Sorted { valid, gone } = self.sort(&database, paths)?;
        let mut infos = database.closure(valid.iter().map(String::as_str))?;
        // With a path all that it refers to is there.
        infos.retain(|info| !self.there.contains(&info.path));
        let names: Vec<String> = infos.iter().map(|info| info.path.clone()).collect();
        let outcome = copy(&mut *self.to, infos, self.layout, tell)?;
        let not_there: HashSet<&String> = outcome.left.iter().collect();
        let arrived = names.into_iter().filter(|path| !not_there.contains(path));
        self.there.extend(arrived);
        // What refers to something that is left is left itself.
        let (left, pushed): (Vec<_>, Vec<_>) =
            valid.into_iter().partition(|path| not_there.contains(path));
        self.queue.remove(self.key, &pushed)?;
        Ok(Pushed {
            gone,
            left,
            outcome,
        })
    }

    /// Which of the paths are valid; those that are not leave the queue, unless they are about to
    /// be registered.
    fn sort(&self, database: &Database, paths: &[String]) -> StoreResult<Sorted> {
        let mut sorted = Sorted::default();
        let mut others = Vec::new();
        for path in paths {
            match database.is_valid(path)? {
                true => sorted.valid.push(path.clone()),
                false => others.push(path),
            }
        }
        for paths in others.chunks(LOCKED_AT_ONCE) {
            self.sort_locked(database, paths, &mut sorted)?;
        }
        Ok(sorted)
    }

    /// Sorts paths that may have been registered just now, each under its lock.
    fn sort_locked(
        &self,
        database: &Database,
        paths: &[&String],
        sorted: &mut Sorted,
    ) -> StoreResult<()> {
        let mut locks = Vec::new();
        let gone_before = sorted.gone.len();
        for &path in paths {
            // Whoever builds a path has it wait, registers it and gives up its lock, in this order.
            let real = self.layout.real_path(path);
            let Some(lock) = path_lock::try_lock(&real)? else {
                continue;
            };
            match database.is_valid(path)? {
                true => sorted.valid.push(path.clone()),
                false => sorted.gone.push(path.clone()),
            }
            locks.push((real, lock));
        }
        self.queue.remove(self.key, &sorted.gone[gone_before..])?;
        for (real, lock) in locks {
            drop(lock);
            // What stays is only litter, which the collector sweeps up.
            let _ = path_lock::delete_retired(&real);
        }
        Ok(())
    }
}

/// Paths that wait, by what they are.
#[derive(Default)]
struct Sorted {
    valid: Vec<String>,
    gone: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use windrow_store::own::OwnDatabase;
    use windrow_store::own::uploads::Cache;
    use windrow_store::{DatabaseOptions, PathInfo, Registration};

    use super::*;

    /// A cache that takes all but one path, and what refers to that.
    #[derive(Default)]
    struct Picky {
        refused: String,
        taken: Vec<String>,
    }

    impl Destination for Picky {
        fn has(&mut self, paths: &[&str]) -> Result<Vec<bool>, CopyError> {
            let taken = |path: &&str| self.taken.iter().any(|it| it == path);
            Ok(paths.iter().map(taken).collect())
        }

        fn take(
            &mut self,
            paths: &[PathInfo],
            _: Vec<(usize, String)>,
            _: &Layout,
            outcome: &mut Outcome,
            _: &mut dyn FnMut(Event<'_>),
        ) {
            for info in paths {
                let refused = |path: &String| *path == self.refused;
                match refused(&info.path) || info.references.iter().any(refused) {
                    true => outcome.left.push(info.path.clone()),
                    false => self.taken.push(info.path.clone()),
                }
            }
        }
    }

    fn layout(dir: &Path) -> Layout {
        let layout = Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: dir.join("store"),
            state_dir: dir.join("state"),
            log_dir: dir.join("log"),
        };
        layout.create_directories(None, true).unwrap();
        layout
    }

    fn path(letter: &str) -> String {
        format!("/nix/store/{}-{letter}", letter.repeat(32))
    }

    fn registration(letter: &str, references: &[&str]) -> Registration {
        Registration {
            info: PathInfo {
                path: path(letter),
                nar_hash: [0; 32],
                nar_size: 1,
                registration_time: 0,
                deriver: None,
                references: references.iter().map(|it| path(it)).collect(),
                ultimate: true,
                sigs: Vec::new(),
                ca: None,
            },
            outputs: Vec::new(),
        }
    }

    #[test]
    fn what_is_valid_is_pushed_what_is_locked_waits_and_what_is_gone_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let layout = layout(directory.path());
        let options = DatabaseOptions::default();
        let mut database = Database::open(&layout, &options).unwrap();
        let valid = [
            registration("a", &[]),
            registration("b", &["a"]),
            registration("c", &[]),
            registration("d", &["c"]),
        ];
        database.register(&valid).unwrap();
        let queue = UploadQueue::new(OwnDatabase::open(&layout, &options).unwrap());
        let cache = Cache {
            key: "k".to_owned(),
            url: "k".to_owned(),
        };
        let [b, d, gone, coming] = ["b", "d", "f", "g"].map(path);
        queue.add(&[cache], &[&b, &d, &gone, &coming]).unwrap();
        let builder = path_lock::try_lock(&layout.real_path(&coming)).unwrap();
        let refused = path("c");
        let mut batches = Batches {
            queue: &queue,
            layout: &layout,
            key: "k",
            to: Box::new(Picky {
                refused,
                taken: Vec::new(),
            }),
            there: HashSet::new(),
        };
        let waiting = queue.waiting("k").unwrap();
        let pushed = batches.push(&waiting, &mut |_| ()).unwrap();
        assert_eq!((pushed.gone, pushed.left), (vec![gone], vec![d.clone()]));
        assert_eq!(queue.waiting("k").unwrap(), [d, coming.clone()]);
        let mut there: Vec<_> = batches.there.iter().cloned().collect();
        there.sort_unstable();
        assert_eq!(there, [path("a"), b]);

        database.register(&[registration("g", &["a"])]).unwrap();
        drop(builder);
        let coming = [coming];
        let pushed = batches.push(&coming, &mut |_| ()).unwrap();
        assert!(pushed.gone.is_empty() && pushed.left.is_empty());
        assert!(!queue.waiting("k").unwrap().contains(&coming[0]));
        assert_eq!(pushed.outcome.there, 0, "what is known is not asked for");
    }
}
