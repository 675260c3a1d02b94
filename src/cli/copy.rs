//! `windrow copy`: copies store paths into another store, or from there.

use std::ffi::OsString;

use clap::{ArgGroup, Args};

use super::CommonArgs;
use crate::copying::{Copy, Other, run as copy};
use crate::error::{Error, Result};
use crate::installable::{self, EmptyList};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("stores").args(["from", "to"]).required(true).multiple(true)))]
pub(super) struct CopyArgs {
    /// Store paths, links to them, x.drv or x.drv^out for outputs, graphs (x.json) or names in them
    /// (x.json#name), or - for a list or a graph on standard input
    #[arg(required = true)]
    what: Vec<OsString>,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// Copy into that store: a binary cache (file:///DIR, https://HOST, s3://BUCKET), a store on
    /// this machine (/DIR, local?root=/DIR), or one that a Nix serves (ssh-ng://HOST, daemon)
    #[arg(long, value_name = "URL")]
    to: Option<String>,

    /// Copy from that store instead of the usual one
    #[arg(long, value_name = "URL")]
    from: Option<String>,

    /// Copy derivations instead of their outputs
    #[arg(long)]
    derivation: bool,

    /// Copy these paths alone, without what they refer to
    #[arg(long)]
    no_recursive: bool,

    /// Have a store take paths that no trusted key has signed
    #[arg(long)]
    no_check_sigs: bool,
}

pub(super) fn run(args: &CopyArgs) -> Result<()> {
    let words =
        installable::gather_from(&args.what, EmptyList::Allowed).map_err(Error::not_to_build)?;
    let session = args.common.session_for(&[], &words)?;
    let other = |url: &Option<String>| url.as_deref().map(Other::parse).transpose();
    let what = Copy {
        what: words,
        derivation: args.derivation,
        recursive: !args.no_recursive,
        check_sigs: !args.no_check_sigs,
        style: args.common.style(false),
    };
    copy(
        session,
        (other(&args.from)?, other(&args.to)?),
        &what,
        |url| Session::new(&args.common.pairs(), Some(url)),
    )
}
