//! `windrow plan`: what would be built, in order, how many and how deep; also what a dry run says.

use std::ffi::OsString;

use clap::Args;
use windrow_store::local::LocalStore;

use super::{CommonArgs, print_lines};
use crate::error::Result;
use crate::installable;
use crate::realise::{Planned, Wanted, make_plan};
use crate::session::Session;
use crate::terminal::complain;
use crate::wanted::look_up;
use windrow_components::graph::BuildGraph;
use windrow_systems::plan::Plan;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// x.drv, x.drv^out,dev, a store path, a graph (x.json), a name in it (x.json#name, #name^dev),
    /// or - for a list or a graph on standard input [default: windrow.json of this directory]
    what: Vec<OsString>,

    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let session = args.common.session(None)?;
    let what = installable::read(&args.what, &session)?;
    let (store, wanted) = look_up(&what, &session)?;
    describe(&session, store, &wanted, true)
}

/// Prints the plan: with `on_stdout` the derivations on standard output and the numbers on standard
/// error, else all on standard error, as a dry run does.
pub(super) fn describe(
    session: &Session,
    store: LocalStore,
    wanted: &[Wanted],
    on_stdout: bool,
) -> Result<()> {
    let Planned {
        graph,
        plan,
        complaints,
        ..
    } = make_plan(session, store, wanted)?;
    for complaint in &complaints {
        complain(complaint);
    }
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
    describe_fetches(&graph, &plan);
    Ok(())
}

/// Says on standard error what would be fetched, and what is nowhere to be had, as nix-store's dry
/// run does.
fn describe_fetches(graph: &BuildGraph, plan: &Plan) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let count = plan.fetches.len();
    if count > 0 {
        let what = match count {
            1 => "this path".to_owned(),
            _ => format!("these {count} paths"),
        };
        complain(&format!(
            "{what} would be fetched ({:.2} MiB download, {:.2} MiB unpacked):",
            mib(plan.download_size),
            mib(plan.nar_size)
        ));
        let mut paths: Vec<String> = plan.fetches.iter().map(|&p| graph.full_path(p)).collect();
        paths.sort_unstable();
        paths.iter().for_each(|path| complain(&format!("  {path}")));
    }
}
