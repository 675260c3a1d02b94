//! Whether valid paths still have the contents they were registered with (Nix 1.8:
//! `pathContentsGood`). Hashes whole trees, several at a time, so it is nothing for the scheduler's
//! thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use windrow_sys::interrupt;
use windrow_sys::mutex;
use windrow_sys::{limits, threads as workers};

use crate::Layout;
use crate::PathInfo;
use crate::nar::digest::hash_nar;

/// What is known of contents, so that each path is hashed once a run.
#[derive(Debug, Default)]
pub struct Contents {
    known: Mutex<HashMap<String, bool>>,
}

impl Contents {
    /// Which of the paths are there and have the contents that their hashes say, in their order.
    ///
    /// Nix 1.8: `DerivationGoal::checkPathValidity`, `checkHash`.
    pub fn are_good(&self, layout: &Layout, paths: &[&PathInfo]) -> Vec<bool> {
        let unknown: Vec<&PathInfo> = {
            let known = self.known();
            let new = paths.iter().filter(|info| !known.contains_key(&info.path));
            new.copied().collect()
        };
        let next = AtomicUsize::new(0);
        let threads = limits::processors(8).min(unknown.len());
        let work = || {
            while let Some(info) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                // What can't be read is as bad as what is not there.
                let hash = hash_nar(&layout.real_path(&info.path));
                if interrupt::has_come() {
                    // It may be good all the same; nobody wants to know any more.
                    return;
                }
                let good = hash.is_ok_and(|(hash, _)| hash == info.nar_hash);
                self.known().insert(info.path.clone(), good);
            }
        };
        std::thread::scope(|scope| {
            workers::share_work(scope, threads.saturating_sub(1), || work);
            work();
        });
        let known = self.known();
        paths
            .iter()
            .map(|info| known.get(&info.path).is_some_and(|&good| good))
            .collect()
    }

    /// Takes note that a path has just been made (`markContentsGood`).
    pub fn mark_good(&self, path: String) {
        self.known().insert(path, true);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        mutex::lock(&self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{scratch, store_path};

    #[test]
    fn what_was_changed_or_is_gone_is_told_from_what_is_good() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let info = |number: usize| {
            let path = store_path(number);
            std::fs::write(layout.real_path(&path), format!("contents {number}")).unwrap();
            let (nar_hash, nar_size) = hash_nar(&layout.real_path(&path)).unwrap();
            PathInfo {
                path,
                nar_hash,
                nar_size,
                registration_time: 1,
                deriver: None,
                references: Vec::new(),
                ultimate: true,
                sigs: Vec::new(),
                ca: None,
            }
        };
        let infos: Vec<PathInfo> = (0..20).map(info).collect();
        std::fs::write(layout.real_path(&store_path(3)), "contents 4").unwrap();
        std::fs::remove_file(layout.real_path(&store_path(7))).unwrap();
        let contents = Contents::default();
        let all: Vec<&PathInfo> = infos.iter().collect();
        let good = contents.are_good(&layout, &all);
        let bad: Vec<usize> = (0..20).filter(|&number| !good[number]).collect();
        assert_eq!(bad, [3, 7]);
        // Known is known, until it is said to be otherwise.
        std::fs::remove_file(layout.real_path(&store_path(5))).unwrap();
        assert_eq!(contents.are_good(&layout, &all[5..8]), [true, true, false]);
        contents.mark_good(store_path(7));
        assert_eq!(contents.are_good(&layout, &all[7..8]), [true]);
    }
}
