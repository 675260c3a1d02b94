//! The report of simulations and the picture of one, which are kept until the last has ended.

use std::path::PathBuf;

use clap::Args;
use windrow_components::task_graph::TaskGraph;
use windrow_report::page::html;
use windrow_report::plots::gantt;

use super::machine_result;
use super::report::SimulationResult;
use crate::error::Result;
use crate::reports::{Simulations, WholeFile};

#[derive(Debug, Args)]
pub(super) struct PageArgs {
    /// Write a report: one HTML file with a timeline for each simulation, the critical path,
    /// utilisation, and pictures that compare the simulations
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Write the timeline as an SVG picture; for one policy and one number of slots
    #[arg(long, value_name = "FILE")]
    pub(super) gantt: Option<PathBuf>,
}

impl PageArgs {
    /// Whether there is anything to write.
    pub(super) fn are_wanted(&self) -> bool {
        self.report.is_some() || self.gantt.is_some()
    }
}

/// The report and the picture, if they are wanted.
pub(super) struct Pages<'g> {
    report: Option<WholeFile>,
    gantt: Option<WholeFile>,
    simulations: Option<Simulations<'g>>,
}

impl<'g> Pages<'g> {
    /// Nothing yet. That one of them can't be written is told before a long simulation.
    pub(super) fn begin(args: &PageArgs, graph: &'g TaskGraph, name: &str) -> Result<Self> {
        let expect = |file: &Option<PathBuf>, action| {
            let file = file.as_deref();
            file.map(|file| WholeFile::expect(file, action)).transpose()
        };
        let report = expect(&args.report, "write the report")?;
        let gantt = expect(&args.gantt, "write the picture")?;
        Ok(Self {
            report,
            gantt,
            simulations: args.are_wanted().then(|| Simulations::new(graph, name)),
        })
    }

    pub(super) fn add(&mut self, result: &SimulationResult<'_>) -> Result<()> {
        let Some(simulations) = &mut self.simulations else {
            return Ok(());
        };
        let machines = machine_result(result);
        let json = machines.map_or_else(|| result.as_json(), |machines| machines.as_json());
        simulations.add(result.simulation, result.outcome, json)
    }

    pub(super) fn write(self) -> Result<()> {
        let Some(simulations) = self.simulations else {
            return Ok(());
        };
        if let Some(file) = &self.gantt
            && let Some((run, names)) = simulations.last()
        {
            file.write(&gantt(run, names)?)?;
        }
        match &self.report {
            Some(file) => file.write(&html(&simulations.report()?)?),
            None => Ok(()),
        }
    }
}
