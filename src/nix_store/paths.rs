//! What the user calls a store path: a path in the store, below one, or a link that leads there.
//! The rules are those of Nix's `followLinksToStorePath`; nothing is asked of the database.

use std::ffi::OsStr;
use std::path::Path;

use windrow_components::derivation::Derivation;
use windrow_store::layout::lexical;

use super::Call;
use super::queryable::Queryable;
use crate::error::{Error, Result};
use crate::realise::Wanted;

impl Call {
    /// The store path that an argument means.
    pub(super) fn store_path(&self, what: &OsStr) -> Result<String> {
        let store_dir = self.session.store_dir();
        let here = std::env::current_dir().map_err(Error::io("find", "the current directory"))?;
        let mut path = lexical(&here.join(what));
        // As many links as the kernel follows.
        for _ in 0..40 {
            if is_below(&path, store_dir.as_str()) {
                break;
            }
            let Ok(target) = std::fs::read_link(&path) else {
                break;
            };
            path = lexical(&path.parent().unwrap_or(Path::new("/")).join(target));
        }
        let text = path.to_string_lossy();
        if !is_below(&path, store_dir.as_str()) {
            return Err(Error::NotInStore {
                path: text.into_owned(),
            });
        }
        let enclosing = store_dir.enclosing(&text)?;
        Ok(store_dir.display(&enclosing))
    }

    /// The store paths that the arguments mean.
    pub(super) fn store_paths(&self) -> Result<Vec<String>> {
        self.command
            .args
            .iter()
            .map(|arg| self.store_path(arg))
            .collect()
    }
}

/// The path that an argument named.
pub(super) fn path_of(wanted: &Wanted) -> &String {
    match wanted {
        Wanted::Derivation { path, .. } | Wanted::Path(path) | Wanted::Repair(path) => path,
    }
}

/// The outputs that a derivation states, by name.
pub(super) fn outputs_of(store: &dyn Queryable, drv: &str) -> Result<Vec<(String, String)>> {
    with_derivation(store, drv, |contents| {
        let outputs = contents.outputs.iter();
        outputs
            .map(|output| (output.name.to_string(), output.path.to_string()))
            .collect()
    })
}

/// Reads a derivation, which must be valid.
pub(super) fn with_derivation<T>(
    store: &dyn Queryable,
    drv: &str,
    use_it: impl FnOnce(&Derivation<'_>) -> T,
) -> Result<T> {
    if !store.is_valid(drv)? {
        return Err(not_valid(drv));
    }
    let text = store.derivation(drv)?;
    let contents = Derivation::parse(&text).map_err(|source| windrow_store::Error::Derivation {
        path: drv.to_owned(),
        source,
    })?;
    Ok(use_it(&contents))
}

pub(super) fn not_valid(path: &str) -> Error {
    windrow_store::Error::PathNotValid {
        path: path.to_owned(),
    }
    .into()
}

fn is_below(path: &Path, dir: &str) -> bool {
    path.starts_with(dir) && path != Path::new(dir)
}
