//! Links equal files of all valid paths (`optimiseStore`), several paths at a time.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use windrow_sys::mutex;
use windrow_sys::{limits, threads};

use super::{Optimised, Optimiser};
use crate::error::Result;
use crate::local::LocalStore;

/// How many paths are kept from collection at a time.
const AT_ONCE: usize = 512;

/// Optimises every valid path of the store; with `verify`, entries of `.links` that don't have the
/// contents their name says are made anew. `progress` is told how many paths of how many are done.
///
/// # Errors
/// The first that a path gives, or when the database can't be read.
pub fn optimise_store(
    store: &mut LocalStore,
    verify: bool,
    mut progress: impl FnMut(usize, usize),
) -> Result<Optimised> {
    let optimiser = Optimiser::open_for_all(store.layout(), verify)?;
    let all = store.database.all_valid_paths()?;
    let mut total = Optimised::default();
    let mut done = 0;
    for paths in all.chunks(AT_ONCE) {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        // A path may have been collected since it was listed; from here on it can't be.
        store.keep(&paths)?;
        let valid = store.database.valid_paths(&paths)?;
        let there = paths.iter().zip(valid).filter(|(_, valid)| *valid);
        let real: Vec<PathBuf> = there
            .map(|(path, _)| store.layout().real_path(path))
            .collect();
        let optimised = optimise_all(&optimiser, &real)?;
        total.saved += optimised.saved;
        total.warnings.extend(optimised.warnings);
        done += paths.len();
        progress(done, all.len());
    }
    Ok(total)
}

fn optimise_all(optimiser: &Optimiser, paths: &[PathBuf]) -> Result<Optimised> {
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Ok(Optimised::default()));
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = optimiser.optimise(path);
            let mut total = mutex::lock(&total);
            match (&mut *total, one) {
                (Ok(total), Ok(one)) => {
                    total.saved += one.saved;
                    total.warnings.extend(one.warnings);
                }
                (total @ Ok(_), Err(error)) => *total = Err(error.into()),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        threads::share_work(scope, limits::processors(8) - 1, || work);
        work();
    });
    total
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
