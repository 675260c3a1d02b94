//! The tables: simulations of every graph by every policy, and what comes of them, as Markdown.

use std::thread;

use windrow::components::task_graph::TaskGraph;
use windrow::systems::policy::Policy;
use windrow::systems::simulate::{Simulation, peak_outputs, simulate};

use crate::corpus::Corpus;

const SLOTS: [u32; 3] = [4, 16, 64];
/// The numbers of processors that optima are published for.
const PROCESSORS: [u32; 4] = [2, 4, 8, 16];

pub(crate) struct Table {
    title: String,
    head: String,
    /// One a policy.
    pub(crate) rows: Vec<String>,
}

impl Table {
    pub(crate) fn print(&self) -> String {
        let rule = "| --- ".repeat(self.head.matches('|').count() - 1) + "|";
        let rows = self.rows.join("\n");
        format!("{}\n\n{}\n{rule}\n{rows}", self.title, self.head)
    }
}

pub(crate) fn all(corpus: &Corpus, policies: &[Policy]) -> Vec<Table> {
    let workflows: Vec<&TaskGraph> = corpus.workflows.iter().map(|(_, graph)| graph).collect();
    let mut tables = vec![bounds(
        &format!("Workflows, {} graphs:", workflows.len()),
        "workflows",
        &workflows,
        policies,
    )];
    if let Some(nixpkgs) = &corpus.nixpkgs {
        let title = format!(
            "nixpkgs, {} derivations in one graph, unit times:",
            nixpkgs.len()
        );
        tables.push(bounds(&title, "nixpkgs", &[nixpkgs], policies));
        tables.push(kept(nixpkgs, policies));
    }
    if !corpus.closures.is_empty() {
        let closures: Vec<&TaskGraph> = corpus.closures.iter().collect();
        let title = format!("The closures of its {} roots, unit times:", closures.len());
        tables.push(bounds(&title, "closures", &closures, policies));
    }
    tables.push(optima(corpus, policies));
    tables
}

/// A row for each policy; they are worked out side by side.
fn rows(policies: &[Policy], row: impl Fn(&Policy) -> String + Sync) -> Vec<String> {
    let row = &row;
    thread::scope(|scope| {
        let policies = policies.iter();
        let running: Vec<_> = policies
            .map(|policy| scope.spawn(move || row(policy)))
            .collect();
        let rows = running.into_iter().map(|row| row.join().expect("a row"));
        rows.collect()
    })
}

fn makespan(graph: &TaskGraph, jobs: u32, policy: &Policy) -> u64 {
    let outcome = simulate(graph, &Simulation::new(jobs, policy.clone())).expect("a simulation");
    assert_eq!(outcome.succeeded, graph.len() as u64);
    outcome.makespan
}

/// The mean and the worst of some ratios, three digits behind the point.
fn mean_and_worst(ratios: impl Iterator<Item = f64>) -> String {
    let ratios: Vec<f64> = ratios.collect();
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    format!("{mean:.3} | {worst:.3}")
}

/// Makespans over their lower bounds.
fn bounds(title: &str, name: &str, graphs: &[&TaskGraph], policies: &[Policy]) -> Table {
    let single = graphs.len() == 1;
    let head: String = SLOTS
        .iter()
        .map(|jobs| match single {
            true => format!(" M = {jobs} |"),
            false => format!(" M = {jobs}, mean | worst |"),
        })
        .collect();
    Table {
        title: title.to_owned(),
        head: format!("| {name} |{head}"),
        rows: rows(policies, |policy| {
            let cells = SLOTS.map(|jobs| {
                let ratio = |graph: &&TaskGraph| {
                    let bound = graph.stats().lower_bound(u64::from(jobs));
                    makespan(graph, jobs, policy) as f64 / bound as f64
                };
                match single {
                    true => format!("{:.3}", ratio(&graphs[0])),
                    false => mean_and_worst(graphs.iter().map(ratio)),
                }
            });
            format!("| `{}` | {} |", policy.name(), cells.join(" | "))
        }),
    }
}

/// Outputs kept at a time.
fn kept(graph: &TaskGraph, policies: &[Policy]) -> Table {
    let jobs = [1, 4, 16, 64];
    let head: String = jobs.iter().map(|jobs| format!(" M = {jobs} |")).collect();
    Table {
        title: "The most outputs of nixpkgs kept at a time:".to_owned(),
        head: format!("| outputs kept |{head}"),
        rows: rows(policies, |policy| {
            let cells = jobs.map(|jobs| {
                let mut simulation = Simulation::new(jobs, policy.clone());
                simulation.record_runs = true;
                let outcome = simulate(graph, &simulation).expect("a simulation");
                peak_outputs(graph, &outcome.runs).to_string()
            });
            format!("| `{}` | {} |", policy.name(), cells.join(" | "))
        }),
    }
}

/// Makespans over published optima.
fn optima(corpus: &Corpus, policies: &[Policy]) -> Table {
    let head: String = PROCESSORS
        .iter()
        .map(|jobs| format!(" M = {jobs}, mean | worst |"))
        .collect();
    Table {
        title: format!(
            "Makespan over the optimum, where one is published ({} of them):",
            corpus.optima.len()
        ),
        head: format!("| optimum |{head}"),
        rows: rows(policies, |policy| {
            let cells = PROCESSORS.map(|jobs| {
                let known = corpus.workflows.iter().filter_map(|(file, graph)| {
                    let optimum = corpus.optima.get(&(file.clone(), jobs))?;
                    Some(makespan(graph, jobs, policy) as f64 / *optimum as f64)
                });
                mean_and_worst(known)
            });
            format!("| `{}` | {} |", policy.name(), cells.join(" | "))
        }),
    }
}
