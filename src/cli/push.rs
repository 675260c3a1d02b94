//! `windrow push`: pushes what builds left waiting for binary caches.

use clap::Args;

use super::{CommonArgs, print_lines};
use crate::error::Result;
use crate::pushing::{self, Push};

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// Only what waits for that cache; may be repeated [default: all caches]
    #[arg(long, value_name = "URL")]
    to: Vec<String>,

    /// Print what waits, each path with the cache that it waits for
    #[arg(long)]
    list: bool,

    /// Forget what waits, and push nothing
    #[arg(long, conflicts_with = "list")]
    forget: bool,
}

pub(super) fn run(args: &PushArgs) -> Result<()> {
    let session = args.common.session()?;
    let what = Push {
        to: args.to.clone(),
        forget: args.forget,
        style: args.common.style(false),
    };
    match args.list {
        false => pushing::run(&session, &what),
        true => {
            let waiting = pushing::list(&session, &what)?;
            print_lines(waiting.iter().map(|(path, url)| format!("{path} {url}")))
        }
    }
}
