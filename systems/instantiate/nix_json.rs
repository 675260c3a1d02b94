//! The derivations that Nix prints as JSON, added to the store.

use windrow_components::derivation::{Derivation, output_paths};
use windrow_store::Error as StoreError;
use windrow_store::local::LocalStore;

use super::{fill_in_paths, new_derivation};
use crate::error::{Error, Result};

/// Adds derivations given as Nix's JSON, in any order. Missing output paths are computed, stated
/// ones checked.
///
/// # Errors
/// When one is malformed, states wrong output paths, or needs a derivation that is neither in the
/// store nor among them.
pub fn add_nix_json(store: &mut LocalStore, value: &serde_json::Value) -> Result<Vec<String>> {
    let mut left = windrow_components::derivation::from_json(value, store.store_dir())?;
    let mut added = Vec::new();
    while !left.is_empty() {
        let mut stuck = Vec::new();
        let before = left.len();
        for (name, drv) in left {
            let inputs: Vec<&str> = drv.input_drvs.iter().map(|input| &*input.path).collect();
            let valid = store.database.valid_paths(&inputs)?;
            if let Some(missing) = valid.iter().position(|valid| !valid) {
                let missing = inputs[missing].to_owned();
                stuck.push((name, drv, missing));
                continue;
            }
            added.push(add_nix_derivation(store, &name, drv)?);
        }
        if stuck.len() == before {
            let (name, _, missing) = stuck.swap_remove(0);
            return Err(Error::MissingInput { name, missing });
        }
        left = stuck
            .into_iter()
            .map(|(name, drv, _)| (name, drv))
            .collect();
    }
    Ok(added)
}

fn add_nix_derivation(
    store: &mut LocalStore,
    name: &str,
    mut drv: Derivation<'static>,
) -> Result<String> {
    let inputs: Vec<String> = drv
        .input_drvs
        .iter()
        .map(|input| input.path.to_string())
        .collect();
    store.complete_modulo(&inputs.iter().map(String::as_str).collect::<Vec<_>>())?;
    let wrong = |source| StoreError::Derivation {
        path: name.to_owned(),
        source,
    };
    let paths =
        output_paths(&drv, store.store_dir(), name, |path| store.modulo(path)).map_err(wrong)?;
    let paths: Vec<String> = paths
        .iter()
        .map(|path| store.store_dir().display(path))
        .collect();
    if drv.outputs.iter().all(|output| output.path.is_empty()) {
        fill_in_paths(&mut drv, paths.into_iter());
    }
    drv.check_output_paths(store.store_dir(), name, |path| store.modulo(path))
        .map_err(wrong)?;
    let new = new_derivation(store.store_dir(), name, &drv)?;
    let path = store.store_dir().display(&new.path);
    store.add_derivations([new])?;
    Ok(path)
}
