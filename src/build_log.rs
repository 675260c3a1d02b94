//! Logs of builds: where they lie, and how they are printed.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use windrow_systems::process::log_writer::log_path;

use crate::error::{Error, Result, print_failed};
use crate::terminal::Out;

/// Prints a log.
pub(crate) fn copy(log: &mut dyn Read, of: &str, out: &mut Out) -> Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = log.read(&mut chunk);
        let read = read.map_err(Error::io("read the log of", of))?;
        if read == 0 {
            return out.end_log().map_err(print_failed);
        }
        out.write_log(&chunk[..read]).map_err(print_failed)?;
    }
}

/// The log under any of the names that releases of Nix gave it.
pub(crate) fn open(log_dir: &Path, base: &str) -> Result<Option<Box<dyn Read>>> {
    let flat = log_dir.join("drvs").join(base);
    let candidates = [
        (log_path(log_dir, base, false), false),
        (log_path(log_dir, base, true), true),
        (flat.clone(), false),
        (flat.with_added_extension("bz2"), true),
    ];
    for (path, compressed) in candidates {
        match File::open(&path) {
            Ok(file) if compressed => return Ok(Some(Box::new(MultiBzDecoder::new(file)))),
            Ok(file) => return Ok(Some(Box::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open the log", path)(error)),
        }
    }
    Ok(None)
}
