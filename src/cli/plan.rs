//! `windrow plan`, and what a dry run prints: what would be built, in order, how long that takes by
//! the history, and what would be fetched.

mod times;

use std::ffi::OsString;

use clap::Args;
use windrow_components::count::count;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_store::local::LocalStore;
use windrow_systems::plan::Plan;
use windrow_systems::policy::Policy;

use super::{CommonArgs, print_lines};
use crate::error::Result;
use crate::installable;
use crate::realise::{Planned, Wanted, make_plan};
use crate::session::{Session, build_policy};
use crate::terminal::complain;
use crate::wanted::look_up;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// x.drv, x.drv^out,dev, a store path, a graph (x.json), a name in it (x.json#name, #name^dev),
    /// or - for a list or a graph on standard input [default: windrow.json of this directory]
    what: Vec<OsString>,

    #[command(flatten)]
    common: CommonArgs,

    /// Say how long it takes with N builders at a time [default: one per CPU]
    #[arg(short = 'j', long, visible_alias = "max-jobs", value_name = "N")]
    jobs: Option<String>,

    /// Say how long it takes in this order [default: setting policy, fifo]
    #[arg(long, value_name = "POLICY", value_parser = build_policy)]
    policy: Option<Policy>,
}

pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let words = installable::gather(&args.what)?;
    let jobs = args.jobs.iter().map(|jobs| ("max-jobs", jobs.as_str()));
    let jobs: Vec<(&str, &str)> = jobs.collect();
    let mut session = args.common.session_for(&jobs, &words)?;
    if let Some(policy) = &args.policy {
        session.policy = policy.clone();
    }
    let what = installable::parse(&words, &session)?;
    let (store, wanted) = look_up(&what, &session)?;
    describe(&session, store, &wanted)
}

/// Prints the derivations that would be built on standard output, and all else on standard error.
pub(super) fn describe(session: &Session, store: LocalStore, wanted: &[Wanted]) -> Result<()> {
    let Planned {
        graph,
        plan,
        complaints,
        ..
    } = make_plan(session, store, wanted)?;
    for complaint in &complaints {
        complain(complaint);
    }
    let paths = plan.builds.iter();
    print_lines(paths.map(|&drv| graph.full_path(graph.drv_path(drv))))?;
    let builds = count(plan.builds.len(), "derivation");
    complain(&match (plan.builds.len(), plan.depth) {
        (0, _) => "nothing would be built".to_owned(),
        (1, _) => format!("{builds} would be built"),
        (_, depth) => format!("{builds} would be built, at most {depth} one after the other"),
    });
    match times::estimate(session, &graph, &plan) {
        Ok(Some(times)) => complain(&times),
        Ok(None) => {}
        Err(error) => {
            complain(&format!(
                "warning: it is not known what builds took before: {error}"
            ));
        }
    }
    describe_fetches(&graph, &plan);
    describe_unknown(&graph, &plan);
    Ok(())
}

/// Says on standard error what would be fetched, as nix-store's dry run does.
fn describe_fetches(graph: &BuildGraph, plan: &Plan) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let what = match plan.fetches.len() {
        0 => return,
        1 => "this path".to_owned(),
        count => format!("these {count} paths"),
    };
    complain(&format!(
        "{what} would be fetched ({:.2} MiB download, {:.2} MiB unpacked):",
        mib(plan.download_size),
        mib(plan.nar_size)
    ));
    list(graph, &plan.fetches);
}

/// Says on standard error what is needed and nowhere to be had.
fn describe_unknown(graph: &BuildGraph, plan: &Plan) {
    let what = match plan.unknown.len() {
        0 => return,
        1 => "this path is".to_owned(),
        count => format!("these {count} paths are"),
    };
    complain(&format!(
        "{what} neither in the store nor to be had from a substituter:"
    ));
    list(graph, &plan.unknown);
}

fn list(graph: &BuildGraph, paths: &[PathId]) {
    let mut paths: Vec<String> = paths.iter().map(|&path| graph.full_path(path)).collect();
    paths.sort_unstable();
    paths.iter().for_each(|path| complain(&format!("  {path}")));
}
