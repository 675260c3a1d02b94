//! `windrow log`: the log of a build, by derivation or by output.

use std::io::{ErrorKind, Write as _};

use clap::Args;

use super::CommonArgs;
use crate::build_log::{Log, copy, open};
use crate::error::{Error, Result, print_failed};
use crate::installable::Installable;
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
    let drv = match Installable::parse(&args.what, &store_dir, &session.layout.real_store_dir)
        .map_err(Error::not_to_build)?
    {
        Installable::Derivation { path, .. } => path,
        Installable::Path(path) => {
            let store = session.open_read_only()?;
            let info = store.database.path_info(&path)?;
            info.and_then(|info| info.deriver)
                .ok_or_else(|| no_log(&path))?
        }
        Installable::Graph(file) => {
            return Err(Error::BadArgument {
                what: file.display().to_string(),
                reason: "a graph has no log; name one of its derivations".to_owned(),
            });
        }
    };
    let base = store_dir.strip(&drv).unwrap_or(&drv);
    match open(&session.layout.log_dir, base)? {
        Some(mut log) => print(&mut log, &drv),
        None => Err(no_log(&drv)),
    }
}

fn print(log: &mut Log, drv: &str) -> Result<()> {
    let mut out = Out::new();
    match copy(log, drv, &mut out).and_then(|()| out.flush().map_err(print_failed)) {
        // A closed pipe is no error.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            std::mem::forget(out);
            Ok(())
        }
        other => other,
    }
}
