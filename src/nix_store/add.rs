//! `--add`, `--add-fixed`, `--print-fixed-path`: files into the store, and where they would go.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::store_path::HashMode;

use super::Call;
use super::optimise::added;
use crate::error::{Error, Result};

pub(super) fn add(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    add_all(call, HashMode::Recursive, HashAlgo::Sha256)
}

pub(super) fn add_fixed(call: &mut Call) -> Result<()> {
    let mode = mode(call)?;
    let algo = call.command.args.pop_front();
    let algo =
        algo.ok_or_else(|| Error::Usage("first argument must be hash algorithm".to_owned()))?;
    add_all(call, mode, algorithm(&algo)?)
}

fn add_all(call: &mut Call, mode: HashMode, algo: HashAlgo) -> Result<()> {
    let mut store = call.session.open()?;
    for arg in std::mem::take(&mut call.command.args) {
        let name = base_name(&arg);
        let name = name.to_str().ok_or_else(|| Error::BadName {
            name: name.to_string_lossy().into_owned(),
        })?;
        let path = store.add_fixed(Path::new(&arg), name, mode, algo)?;
        let path = store.store_dir().display(&path);
        added(call, &store, &path)?;
        call.print(path)?;
    }
    Ok(())
}

pub(super) fn print_fixed_path(call: &mut Call) -> Result<()> {
    let mode = mode(call)?;
    let args: Vec<String> = call
        .command
        .args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let [algo, hash, name] = &args[..] else {
        return Err(Error::Usage(
            "'--print-fixed-path' requires three arguments".to_owned(),
        ));
    };
    let hash = Hash::parse(hash, Some(algorithm(OsStr::new(algo))?))?;
    let store_dir = call.session.store_dir();
    let path = store_dir.fixed_path(name, mode, &hash)?;
    call.print(store_dir.display(&path))
}

fn mode(call: &Call) -> Result<HashMode> {
    let [recursive] = call.switches(["--recursive"])?;
    Ok(if recursive {
        HashMode::Recursive
    } else {
        HashMode::Flat
    })
}

fn algorithm(name: &OsStr) -> Result<HashAlgo> {
    name.to_str().and_then(HashAlgo::from_name).ok_or_else(|| {
        Error::Usage(format!(
            "unknown hash algorithm '{}'; use {}",
            name.to_string_lossy(),
            HashAlgo::NAMES
        ))
    })
}

/// What follows the last slash, or stands before it if nothing follows (Nix's `baseNameOf`).
fn base_name(path: &OsStr) -> &OsStr {
    let bytes = path.as_bytes();
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    OsStr::from_bytes(bytes.rsplit(|&byte| byte == b'/').next().unwrap_or(bytes))
}
