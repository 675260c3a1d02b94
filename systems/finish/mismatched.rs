//! Keeps a fixed output that has another hash than it should have: valid at the path of the hash
//! that it has, so that whoever corrects the derivation need not fetch it again. Rare, and a few
//! calls only: nothing is copied or hashed.

use windrow_components::graph::BuildGraph;
use windrow_store::files::replace::move_tree;
use windrow_sys::tree::delete_path;

use crate::error::Result;
use crate::outputs::MismatchedOutput;
use crate::world::{BuilderConfig, BuiltOutput, PoolHandle, Store};

/// Registers it, unless somebody works at that path. The answer is what to say of it after the
/// failure.
///
/// Nix 1.8: `DerivationGoal::registerOutputs`.
pub(super) fn keep(
    mismatched: MismatchedOutput,
    world: (&mut BuildGraph, &mut (dyn Store + 'static)),
    config: &BuilderConfig,
    pool: &PoolHandle,
) -> String {
    let path = mismatched.store_path.clone();
    match register(mismatched, world, config, pool) {
        Ok(true) => format!("\n  what was made is kept as '{path}'"),
        // The failure that brought us here is what counts; of this one only the garbage stays.
        Ok(false) | Err(_) => String::new(),
    }
}

fn register(
    mismatched: MismatchedOutput,
    (graph, store): (&mut BuildGraph, &mut (dyn Store + 'static)),
    config: &BuilderConfig,
    pool: &PoolHandle,
) -> Result<bool> {
    let path = graph.path(&mismatched.store_path)?;
    store.add_temp_roots(graph, &[path])?;
    if store.valid(graph, &[path])?[0] {
        return Ok(true);
    }
    // Never waited for: its holder may in turn be waiting for the locks of this very goal.
    let Some(locks) = store.try_lock(graph, &[path])? else {
        return Ok(false);
    };
    let place = config.layout.real_path(&mismatched.store_path);
    let mut put = || -> Result<()> {
        if store.valid(graph, &[path])?[0] {
            return Ok(());
        }
        if std::fs::symlink_metadata(&place).is_ok() && !pool.put_aside(&place) {
            delete_path(&place)?;
        }
        move_tree(&mismatched.real_path, &place)?;
        // The contents are on disk, so this is quick: it writes the new name.
        config.durability.write_out(&[&place])?;
        let output = BuiltOutput {
            path,
            ..mismatched.output.clone()
        };
        store.register(graph, &[output.into()])
    };
    let result = put();
    store.unlock(locks, result.is_ok());
    result.map(|()| true)
}
