//! `windrow shell`: a shell, or another program, where a derivation is built.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use windrow_store::local::LocalStore;
use windrow_systems::spawn::shell::Run;

use super::{BuildOptions, CommonArgs};
use crate::error::{Error, Result};
use crate::installable::{self, Word};
use crate::session::Session;
use crate::shell::{Request, open};
use crate::wanted::{one_derivation, understand};

#[derive(Debug, Args)]
pub(super) struct ShellArgs {
    /// A derivation, a path that was built from one, or a name in a graph (x.json#name, #name)
    /// [default: windrow.json of this directory]
    what: Option<OsString>,

    /// A program to run instead of a shell, with its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,

    /// Run LINE in the shell, and end
    #[arg(long, value_name = "LINE", conflicts_with = "program")]
    command: Option<OsString>,

    /// Work in DIR, the directory of a build that was kept by --keep-failed; it stays
    #[arg(long = "in", value_name = "DIR")]
    kept: Option<PathBuf>,

    /// Keep the new build directory; -K does the same
    #[arg(long, conflicts_with = "kept")]
    keep: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    #[command(flatten)]
    options: BuildOptions,
}

pub(super) fn run(args: &ShellArgs) -> Result<ExitCode> {
    let what: Vec<&OsString> = args.what.iter().collect();
    let words = installable::gather(&what).map_err(Error::not_to_build)?;
    let session = args.common.session_for(&args.options.settings(), &words)?;
    let run = match (&args.command, args.program.is_empty()) {
        (Some(line), _) => Run::Line(line.clone()),
        (None, false) => Run::Program(args.program.clone()),
        (None, true) => Run::Shell,
    };
    let mut store = session.open()?;
    let drv = derivation(&words, &session, &mut store).map_err(Error::not_to_build)?;
    let request = Request {
        drv,
        run,
        kept: args.kept.clone(),
        keep: args.keep || args.options.keep_failed,
    };
    let status = open(&session, store, request, &args.common.style(false))?;
    Ok(ExitCode::from(status))
}

/// The derivation that was named, which is in the store afterwards.
fn derivation(words: &[Word], session: &Session, store: &mut LocalStore) -> Result<String> {
    let found = installable::parse(words, session)?;
    let wanted = understand(&found, session, store)?;
    let what = installable::shown(words);
    let found = one_derivation(&what, store, &wanted)?;
    found.ok_or_else(|| Error::BadArgument {
        what,
        reason: "it is not known which derivation it was built from; name that".to_owned(),
    })
}
