//! `--dump`, `--restore`, `--export`, `--import`: archives and streams of paths on standard input
//! and output.

use std::io::{BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use windrow_store::nar;
use windrow_store::text::transfer;

use windrow_sys::interrupt;

use super::{Call, print_failed};
use crate::error::{Error, Result};

fn stdin() -> Result<interrupt::Input<std::fs::File>> {
    interrupt::stdin().map_err(Error::io("read", "standard input"))
}

fn one_path(call: &Call) -> Result<PathBuf> {
    call.no_flags()?;
    match call.command.args.iter().collect::<Vec<_>>()[..] {
        [path] => Ok(path.into()),
        _ => Err(Error::Usage("only one argument allowed".to_owned())),
    }
}

pub(super) fn dump(call: &mut Call) -> Result<()> {
    let path = one_path(call)?;
    Ok(nar::dump(&path, &mut call.out)?)
}

pub(super) fn restore(call: &mut Call) -> Result<()> {
    let path = one_path(call)?;
    let name = path.as_os_str().as_bytes();
    if name.ends_with(b"/") || name.ends_with(b"/.") {
        return Err(Error::BadArgument {
            what: path.display().to_string(),
            reason: "what is restored is made under that very name; write it without '/' or '/.' at its end"
                .to_owned(),
        });
    }
    let mut input = BufReader::with_capacity(256 << 10, stdin()?);
    Ok(nar::restore(&mut input, &path)?)
}

pub(super) fn export(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let store = call.look()?;
    let mut paths = call.store_paths()?;
    paths.sort_unstable();
    paths.dedup();
    Ok(transfer::export(&store, &paths, &mut call.out)?)
}

pub(super) fn import(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    call.no_args()?;
    let mut store = call.session.open()?;
    let mut input = BufReader::with_capacity(256 << 10, stdin()?);
    let out = &mut call.out;
    let mut printed = Ok(());
    let mut imported = Vec::new();
    transfer::import(&mut store, &mut input, |path| {
        // Readers of the output may use the path from here on.
        if printed.is_ok() {
            printed = writeln!(out, "{path}")
                .and_then(|()| out.flush())
                .map_err(print_failed);
        }
        imported.push(path.to_owned());
        Ok(())
    })?;
    imported
        .iter()
        .try_for_each(|path| super::optimise::added(call, &store, path))?;
    printed
}
