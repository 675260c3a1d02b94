//! `windrow log`: the log of a build, by derivation or by output.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write as _};
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use clap::Args;
use windrow_systems::process::log_writer::log_path;

use super::CommonArgs;
use crate::error::{Error, Result};
use crate::target::Target;
use crate::terminal::Out;

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// A derivation, or a path that was built from one
    what: String,

    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &LogArgs) -> Result<()> {
    let session = args.common.session(None)?;
    let store_dir = session.store_dir();
    let no_log = |path: &str| Error::NoLog {
        path: path.to_owned(),
    };
    let drv = match Target::parse(&args.what, &store_dir, &session.layout.real_store_dir)? {
        Target::Derivation { path, .. } => path,
        Target::Path(path) => {
            let store = session.open_read_only()?;
            let info = store.database.path_info(&path)?;
            info.and_then(|info| info.deriver)
                .ok_or_else(|| no_log(&path))?
        }
        Target::Graph(file) => {
            return Err(Error::BadTarget {
                what: file.display().to_string(),
                reason: "a graph has no log; name one of its derivations".to_owned(),
            });
        }
    };
    let base = store_dir.strip(&drv).unwrap_or(&drv);
    match open(&session.layout.log_dir, base)? {
        Some(mut log) => print(&mut *log, &drv),
        None => Err(no_log(&drv)),
    }
}

fn print(log: &mut dyn Read, drv: &str) -> Result<()> {
    let mut out = Out::new();
    match copy(log, drv, &mut out).and_then(|()| out.flush().map_err(print_failed)) {
        // A reader that has had enough is no error.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            std::mem::forget(out);
            Ok(())
        }
        other => other,
    }
}

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

fn print_failed(source: io::Error) -> Error {
    Error::io("write to", "standard output")(source)
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
