//! `windrow log`: the log of a build, by derivation or by output; one that runs can be followed.

use std::io::{ErrorKind, Write as _};

use clap::Args;

use super::CommonArgs;
use crate::build_log::{Log, copy, open};
use crate::error::{Error, Result, print_failed};
use crate::installable::{self, Installable, Word};
use crate::running::{Followed, builder_of, follow};
use crate::session::Session;
use crate::terminal::{Out, complain};
use crate::wanted::{look_up, one_derivation};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// A derivation, a path that was built from one, or a name in a graph (x.json#name, #name)
    what: String,

    /// Follow a build that runs, or that a running windrow is about to begin, to its end; the exit
    /// status is 0 if it succeeds, else that of a build that fails so
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &LogArgs) -> Result<()> {
    let words = installable::gather(&[&args.what]).map_err(Error::not_to_build)?;
    let session = args.common.session_for(&[], &words)?;
    let drv =
        derivation((&args.what, &words), &session, args.follow).map_err(Error::not_to_build)?;
    let store_dir = session.store_dir();
    let base = store_dir.strip(&drv).unwrap_or(&drv);
    if args.follow {
        match unless_closed(Out::new(), |out| follow(&session, &drv, out))? {
            Some(Followed::NotRunning) => {
                complain(&format!(
                    "nobody builds '{drv}' now: this is what was logged"
                ));
            }
            Some(Followed::ToItsEnd) | None => return Ok(()),
        }
    }
    match open(&session.layout.log_dir, base)? {
        Some(mut log) => print(&mut log, &drv),
        None => Err(Error::NoLog {
            path: args.what.clone(),
        }),
    }
}

/// The derivation whose log is asked for; of one that may run, by an output that is not there yet.
fn derivation((what, words): (&str, &[Word]), session: &Session, may_run: bool) -> Result<String> {
    let found = installable::parse(words, session)?;
    if let ([Installable::Path(path)], true) = (found.as_slice(), may_run)
        && let Some(drv) = builder_of(session, path)?
    {
        return Ok(drv);
    }
    if let [Installable::Derivation { path, .. }] = found.as_slice() {
        // It may be known no more, and its log be there.
        return Ok(path.clone());
    }
    let (store, wanted) = look_up(&found, session)?;
    one_derivation(what, &store, &wanted)?.ok_or_else(|| Error::NoLog {
        path: what.to_owned(),
    })
}

fn print(log: &mut Log, drv: &str) -> Result<()> {
    let printed = unless_closed(Out::new(), |out| {
        copy(log, drv, out).and_then(|()| out.flush().map_err(print_failed))
    });
    printed.map(drop)
}

/// Prints something, or finds that nobody reads it any more, which is no error.
fn unless_closed<T>(mut out: Out, print: impl FnOnce(&mut Out) -> Result<T>) -> Result<Option<T>> {
    match print(&mut out) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            std::mem::forget(out);
            Ok(None)
        }
        other => other.map(Some),
    }
}
