//! `--print-env` and `--read-log`: a derivation's environment for a shell, and the logs of builds.

use std::io::{Read as _, Write as _};

use super::paths::with_derivation;
use super::{Call, print_failed};
use crate::cli::log;
use crate::error::{Error, Result};

pub(super) fn print_env(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let args = &call.command.args;
    let [drv] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(Error::Usage(
            "'--print-env' requires one derivation store path".to_owned(),
        ));
    };
    let store = call.look()?;
    let drv = store.store_dir().parse(&drv.to_string_lossy())?;
    let text = with_derivation(&store, &store.store_dir().display(&drv), |contents| {
        let mut text = Vec::new();
        for (name, value) in &contents.env {
            text.extend(b"export ");
            text.extend(&**name);
            text.extend(b"; ");
            text.extend(&**name);
            text.push(b'=');
            quote(value, &mut text);
            text.push(b'\n');
        }
        text.extend(b"export _args; _args='");
        for (number, arg) in contents.args.iter().enumerate() {
            if number > 0 {
                text.push(b' ');
            }
            quote(arg, &mut text);
        }
        text.extend(b"'\n");
        text
    })?;
    call.out.write_all(&text).map_err(print_failed)
}

/// Puts a value into single quotes, as a shell reads it.
fn quote(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in value {
        match byte {
            b'\'' => out.extend(b"'\\''"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}

pub(super) fn read_log(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let store = call.look()?;
    for arg in std::mem::take(&mut call.command.args) {
        let path = call.store_path(&arg)?;
        let drv = if path.ends_with(".drv") {
            Some(path.clone())
        } else {
            store
                .database
                .path_info(&path)?
                .and_then(|info| info.deriver)
        };
        let found = match &drv {
            Some(drv) => {
                let base = store.store_dir().strip(drv).unwrap_or(drv);
                log::open(&store.layout().log_dir, base)?
            }
            None => None,
        };
        let mut found = found.ok_or_else(|| Error::NoLog { path: path.clone() })?;
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = found
                .read(&mut chunk)
                .map_err(Error::io("read the log of", &path))?;
            if read == 0 {
                break;
            }
            call.out.write_all(&chunk[..read]).map_err(print_failed)?;
        }
    }
    Ok(())
}
