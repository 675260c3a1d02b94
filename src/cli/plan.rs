//! `windrow plan`: what would be built, in order, how many and how deep; also what a dry run says.

use std::ffi::OsString;

use clap::Args;

use super::build::names_a_graph;
use super::{CommonArgs, complain, print_lines};
use crate::error::Result;
use crate::realise::{Wanted, make_plan, understand};
use crate::session::Session;
use windrow_systems::store::local::LocalStore;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// x.drv, x.drv^out,dev, a store path, a graph (x.json), or - for a list on standard input
    #[arg(required = true)]
    what: Vec<OsString>,

    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let session = args.common.session(None)?;
    // A graph must be written to the store before its derivations have paths.
    let graph = names_a_graph(&args.what);
    let mut store = if graph {
        session.open()?
    } else {
        session.open_read_only()?
    };
    let wanted = understand(&args.what, &session, &mut store)?;
    describe(&session, store, &wanted, true)
}

/// Prints the plan: with `on_stdout` the derivations on standard output and the numbers on standard error, else all
/// on standard error, as a dry run does.
pub(super) fn describe(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
    on_stdout: bool,
) -> Result<()> {
    let (graph, plan) = make_plan(session, store, wanted)?;
    let paths = plan
        .builds
        .iter()
        .map(|&drv| graph.full_path(graph.drv_path(drv)));
    let count = plan.builds.len();
    let summary = match count {
        0 => "nothing would be built".to_owned(),
        1 => "this derivation would be built:".to_owned(),
        _ => format!("these {count} derivations would be built:"),
    };
    if on_stdout {
        print_lines(paths)?;
        let chain = plan.depth;
        complain(&match count {
            0 => summary,
            1 => "1 derivation would be built".to_owned(),
            _ => format!("{count} derivations would be built, at most {chain} one after the other"),
        });
    } else {
        complain(&summary);
        paths.for_each(|path| complain(&format!("  {path}")));
    }
    Ok(())
}
