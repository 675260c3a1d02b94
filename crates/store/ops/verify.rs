//! Whether the store is what its database says (Nix's `verifyStore`): what has disappeared, what
//! was modified. Finds and tells; only rows of paths that are gone, and damaged links, are taken
//! away here.

use std::sync::atomic::{AtomicUsize, Ordering};

use windrow_components::hash::Hash;

use crate::db::{Edges, Registration, WalkRoot};
use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::nar::digest::hash_nar;
use crate::text::transfer;
use windrow_sys::flock;
use windrow_sys::{limits, threads};

/// How the store is verified.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyOptions {
    /// Read and hash every path.
    pub check_contents: bool,
    /// Take away links that were modified. Paths are for the caller to repair.
    pub repair: bool,
}

/// What is found on the way.
#[derive(Debug)]
pub enum Finding {
    /// A step begins, said in Nix's words.
    Step(&'static str),
    /// How many of how many paths have been read.
    Progress {
        /// Paths read.
        done: usize,
        /// All paths.
        of: usize,
    },
    /// A path was gone, as was all that referred to it; its row is deleted.
    Removed(String),
    /// A path is gone that others refer to.
    Missing(String),
    /// A path's files are not what was registered; the error is [`Error::PathModified`].
    Modified {
        /// The path.
        path: String,
        /// What to say of it.
        error: Error,
    },
    /// An entry of `.links` is not what its name says.
    LinkModified {
        /// Where it lies.
        link: std::path::PathBuf,
        /// Its name.
        expected: String,
        /// The hash of what is there.
        found: String,
        /// Whether it was taken away.
        removed: bool,
    },
    /// A path can't be read.
    Unreadable {
        /// The path.
        path: String,
        /// Why not.
        error: Error,
    },
}

/// Compares the store's database with its files. Waits for a running collection, and holds up the
/// next one, unless the store was opened for looking only.
///
/// # Errors
/// When the database or the store directory can't be read. What is wrong with paths is told to
/// `tell`.
pub fn verify_store(
    store: &mut LocalStore,
    options: VerifyOptions,
    tell: &mut dyn FnMut(Finding),
) -> Result<()> {
    store.database.check(false)?;
    tell(Finding::Step("reading the Nix store..."));
    let _no_collection = match store.is_read_only() {
        true => None,
        false => Some(hold_up_collections(store)?),
    };
    // The valid paths come first: nothing is deleted while it holds the lock, so what is valid now
    // must be in the directory after it.
    let valid = store.database.all_valid_paths()?;
    let real = store.layout().real_store_dir.clone();
    let mut there = hashbrown::HashSet::with_capacity(valid.len());
    for entry in std::fs::read_dir(&real).map_err(Error::io("list", &real))? {
        let name = entry.map_err(Error::io("list", &real))?.file_name();
        there.insert(name.into_encoded_bytes());
    }
    tell(Finding::Step("checking path existence..."));
    let (mut present, mut gone) = (Vec::with_capacity(valid.len()), Vec::new());
    for path in valid {
        let name = path.rsplit('/').next().unwrap_or_default();
        if there.contains(name.as_bytes()) {
            present.push(path);
        } else if let Err(error) = store.layout().real_path(&path).symlink_metadata() {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(Error::io("look at", store.layout().real_path(&path))(error));
            }
            gone.push(path);
        }
    }
    drop(there);
    if !gone.is_empty() {
        forget(store, &gone, tell)?;
    }
    if options.check_contents {
        check_links(store, options.repair, tell)?;
        tell(Finding::Step("checking store hashes..."));
        let incomplete = check_contents(store, &present, tell)?;
        // Old releases of Nix left hash or size out.
        for registration in &incomplete {
            store
                .database
                .register(std::slice::from_ref(registration))?;
        }
    }
    Ok(())
}

fn hold_up_collections(store: &LocalStore) -> Result<std::fs::File> {
    let lock_path = store.layout().gc_lock();
    let gc_lock = flock::open_private(&lock_path)?;
    flock::lock_shared(&gc_lock, &lock_path).map_err(Error::io("lock", &lock_path))?;
    Ok(gc_lock)
}

/// Deletes the rows of paths that are gone, if all that refers to them is gone as well.
fn forget(store: &mut LocalStore, gone: &[String], tell: &mut dyn FnMut(Finding)) -> Result<()> {
    let seeds: Vec<WalkRoot<'_>> = gone.iter().map(|path| WalkRoot::Closure(path)).collect();
    let edges = Edges {
        referrers: true,
        ..Edges::default()
    };
    let graph = store.database.walk(&seeds, edges)?;
    let mut kept = vec![false; graph.len()];
    let order = graph.sorted()?;
    for &at in order.iter().rev() {
        let path = graph.path(at);
        let is_gone = gone
            .binary_search_by(|other| other.as_str().cmp(path))
            .is_ok();
        // Set by a referrer that stays, which came before.
        let needed = kept[at as usize];
        if is_gone && !needed {
            store.database.invalidate(path)?;
            tell(Finding::Removed(path.to_owned()));
            continue;
        }
        kept[at as usize] = true;
        for &reference in graph.references(at) {
            kept[reference as usize] = true;
        }
        if is_gone {
            tell(Finding::Missing(path.to_owned()));
        }
    }
    Ok(())
}

fn check_links(store: &LocalStore, repair: bool, tell: &mut dyn FnMut(Finding)) -> Result<()> {
    tell(Finding::Step("checking link hashes..."));
    let dir = store.layout().real_store_dir.join(".links");
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("list", &dir))?,
    };
    for entry in entries {
        let link = entry.map_err(Error::io("list", &dir))?.path();
        let expected = link
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (hash, _) = match hash_nar(&link) {
            // Somebody who optimises may have taken it away.
            Err(_) if link.symlink_metadata().is_err() => continue,
            other => other?,
        };
        let found = Hash::sha256(&hash).base32();
        if found != expected {
            if repair {
                std::fs::remove_file(&link).map_err(Error::io("delete", &link))?;
            }
            tell(Finding::LinkModified {
                link,
                expected,
                found,
                removed: repair,
            });
        }
    }
    Ok(())
}

/// Hashes every path, on all processors; findings come in the order of the paths' ends. Returns
/// what should be registered anew of paths that lack hash or size.
fn check_contents(
    store: &LocalStore,
    paths: &[String],
    tell: &mut dyn FnMut(Finding),
) -> Result<Vec<Registration>> {
    const AHEAD: usize = 64;
    let next = AtomicUsize::new(0);
    let layout = store.layout();
    std::thread::scope(|scope| {
        let (results, arriving) = crossbeam_channel::bounded(AHEAD);
        let hash_next = move |next: &AtomicUsize| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let path = paths.get(at)?;
            Some((at, hash_nar(&layout.real_path(path))))
        };
        let started = threads::share_work(scope, limits::processors(8), || {
            let (results, next) = (results.clone(), &next);
            move || {
                while let Some(hash) = hash_next(next)
                    && results.send(hash).is_ok()
                {}
            }
        });
        drop(results);
        // Without threads, this one does the work as the results are asked for.
        let ours = std::iter::from_fn(|| if started == 0 { hash_next(&next) } else { None });
        let mut incomplete = Vec::new();
        for (done, (at, hash)) in arriving.iter().chain(ours).enumerate() {
            let path = &paths[at];
            tell(Finding::Progress {
                done: done + 1,
                of: paths.len(),
            });
            let Some(mut info) = store.database.path_info(path)? else {
                continue;
            };
            match hash {
                Ok((found, size)) if found == info.nar_hash || info.nar_hash == [0; 32] => {
                    if info.nar_size == 0 || info.nar_hash == [0; 32] {
                        (info.nar_hash, info.nar_size) = (found, size);
                        incomplete.push(Registration {
                            info,
                            outputs: Vec::new(),
                        });
                    }
                }
                Ok((found, _)) => tell(Finding::Modified {
                    path: path.clone(),
                    error: transfer::modified(path, &info.nar_hash, &found),
                }),
                Err(error) => tell(Finding::Unreadable {
                    path: path.clone(),
                    error,
                }),
            }
        }
        Ok(incomplete)
    })
}

/// Compares one valid path with what was registered.
///
/// # Errors
/// [`Error::PathModified`], [`Error::PathNotValid`], or that it can't be read.
pub fn verify_path(store: &LocalStore, path: &str) -> Result<()> {
    let info = store.database.path_info(path)?;
    let info = info.ok_or_else(|| Error::PathNotValid {
        path: path.to_owned(),
    })?;
    let (found, _) = hash_nar(&store.layout().real_path(path))?;
    if found == info.nar_hash {
        Ok(())
    } else {
        Err(transfer::modified(path, &info.nar_hash, &found))
    }
}
